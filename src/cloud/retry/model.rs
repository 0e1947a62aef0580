use std::sync::Arc;

use shuttle::thread;

use super::*;
use crate::model::{Time, explore, finds};

const BELOW_ZERO: &str = "the budget is below zero";
const OVERSPENT: &str = "more repeats than the budget gives";

trait Spend: Send + Sync + 'static {
    fn new(now: Instant) -> Self;
    fn deposit(&self, now: Instant);
    fn withdraw(&self, price: u32) -> bool;
    fn amount(&self) -> f64;
}

impl Spend for Budget {
    fn new(now: Instant) -> Self {
        Self::new(now)
    }

    fn deposit(&self, now: Instant) {
        self.deposit(now);
    }

    fn withdraw(&self, price: u32) -> bool {
        self.withdraw(price)
    }

    fn amount(&self) -> f64 {
        self.0.lock().unwrap().amount
    }
}

/// Four calls share a budget that is nearly used up, while a second passes.
fn scenario<B: Spend>() {
    let time = Time::new();
    let budget = Arc::new(B::new(time.now()));
    let mut spent = 0;
    while budget.amount() >= 2.0 {
        assert!(budget.withdraw(1));
        spent += 1;
    }
    let calls: Vec<_> = (1..=4)
        .map(|number| {
            let (budget, time) = (Arc::clone(&budget), time.clone());
            thread::spawn(move || {
                budget.deposit(time.now());
                let mut spent = 0;
                for price in [1 + number % 2, 1, 2] {
                    spent += if budget.withdraw(price) { price } else { 0 };
                    let amount = budget.amount();
                    assert!(amount >= 0.0, "{BELOW_ZERO}: {amount}");
                    assert!(amount <= Budget::MOST, "the budget is above its bound: {amount}");
                }
                spent
            })
        })
        .collect();
    time.advance(Duration::from_secs(1));
    spent += calls.into_iter().map(|call| call.join().unwrap()).sum::<u32>();
    let given = Budget::MOST + 4.0 * Budget::SHARE + Budget::FLOOR;
    assert!(f64::from(spent) <= given + 1e-9, "{OVERSPENT}: {spent} of {given}");
}

#[test]
fn the_budget_gives_no_more_than_it_has() {
    explore(scenario::<Budget>);
}

/// Looks and takes in two steps.
struct LooksFirst(Budget);

impl Spend for LooksFirst {
    fn new(now: Instant) -> Self {
        Self(Budget::new(now))
    }

    fn deposit(&self, now: Instant) {
        self.0.deposit(now);
    }

    fn withdraw(&self, price: u32) -> bool {
        let price = f64::from(price);
        if self.amount() < price {
            return false;
        }
        self.0.0.lock().unwrap().amount -= price;
        true
    }

    fn amount(&self) -> f64 {
        Spend::amount(&self.0)
    }
}

#[test]
fn a_budget_that_looks_first_is_found() {
    finds(BELOW_ZERO, scenario::<LooksFirst>);
}

/// Lets a caller that read the clock before another move the time of the last filling back.
struct MovesBack(Budget);

impl Spend for MovesBack {
    fn new(now: Instant) -> Self {
        Self(Budget::new(now))
    }

    fn deposit(&self, now: Instant) {
        self.0.deposit(now);
        self.0.0.lock().unwrap().filled = now;
    }

    fn withdraw(&self, price: u32) -> bool {
        self.0.withdraw(price)
    }

    fn amount(&self) -> f64 {
        Spend::amount(&self.0)
    }
}

#[test]
fn a_budget_that_fills_twice_for_one_second_is_found() {
    finds(OVERSPENT, scenario::<MovesBack>);
}
