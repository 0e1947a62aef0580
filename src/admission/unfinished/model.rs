use std::sync::Arc;

use shuttle::thread;

use super::{
    super::{Account, CALL_COST, Class, Limits, tests::assert_idle},
    *,
};
use crate::{
    model::{explore, finds},
    peer::{Identity, Peer},
};

const LIMIT: usize = 3;
const EXCEEDED: &str = "more than the limit";
const MEMORY: &str = "memory";

/// An account as the scenario uses it.
trait Take: Default + Send + Sync + 'static {
    fn account(&self) -> &Account;

    fn take(&self, amount: usize, limit: usize) -> bool {
        self.account().take(amount, limit)
    }
}

impl Take for Account {
    fn account(&self) -> &Account {
        self
    }
}

/// Looks at the amount and adds in two steps.
#[derive(Default)]
struct LooksFirst(Account);

impl Take for LooksFirst {
    fn account(&self) -> &Account {
        &self.0
    }

    fn take(&self, amount: usize, limit: usize) -> bool {
        let fits = self.0.amount() + amount <= limit;
        if fits {
            self.0.0.fetch_add(amount, Ordering::Relaxed);
        }
        fits
    }
}

/// Threads that take and give more than fits at once.
fn account<A: Take>() {
    let shared = Arc::new(A::default());
    let threads: Vec<_> = [1, 2, 3]
        .map(|amount| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for _ in 0..2 {
                    if shared.take(amount, LIMIT) {
                        assert!(shared.account().amount() <= LIMIT, "{EXCEEDED}");
                        shared.account().give(amount);
                    }
                }
            })
        })
        .into();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(shared.account().amount(), 0, "an amount is left behind");
}

#[test]
fn an_account_keeps_its_limit() {
    explore(account::<Account>);
}

#[test]
fn an_account_that_looks_first_is_found() {
    finds(EXCEEDED, account::<LooksFirst>);
}

/// How an unfinished request becomes a complete one.
trait Complete: 'static {
    fn complete(unfinished: Unfinished<'_>) -> Result<(), Rejected>;
}

struct AtOnce;

impl Complete for AtOnce {
    fn complete(unfinished: Unfinished<'_>) -> Result<(), Rejected> {
        unfinished.complete()
    }
}

/// Reads the charges and takes them over in two steps, between which an eviction can return them.
struct TwoSteps;

impl Complete for TwoSteps {
    fn complete(unfinished: Unfinished<'_>) -> Result<(), Rejected> {
        let permit = unfinished.permit;
        let charged = {
            let registry = permit.admission().registry();
            let entry = registry.entries.get(&unfinished.key).ok_or(Rejected::Evicted)?;
            (entry.bytes, entry.is_started)
        };
        drop(permit.admission().registry().remove(unfinished.key));
        permit.bytes.store(charged.0, Ordering::Relaxed);
        permit.is_started.store(charged.1, Ordering::Relaxed);
        Ok(())
    }
}

/// Calls of two callers, more than fit. Bodies arrive, one caller leaves, and unfinished requests are evicted.
fn requests<C: Complete>() {
    let limits = Limits { concurrency: 1, memory: 4 * CALL_COST, message: 4 * 1024 };
    let admission = Arc::new(Admission::new(limits));
    let threads: Vec<_> = (0..3)
        .map(|number| {
            let admission = Arc::clone(&admission);
            thread::spawn(move || {
                let peer = Peer { identity: Identity::Uid(number / 2), address: None };
                let connection = admission.connect(&peer);
                let check = || {
                    let bytes = admission.memory.amount();
                    assert!(bytes <= limits.memory, "{MEMORY} of {bytes} bytes is {EXCEEDED}");
                    assert!(admission.running.amount() <= limits.concurrency, "calls: {EXCEEDED}");
                };
                let Ok(permit) = connection.admit(Class::Call, 0, std::time::Instant::now()) else { return };
                check();
                let Ok(mut unfinished) = permit.unfinished() else { return };
                if unfinished.charge(CALL_COST / 2).is_ok() {
                    unfinished.release(100);
                }
                check();
                if number == 1 || C::complete(unfinished).is_err() {
                    return;
                }
                let _ = permit.run();
                let _ = permit.settle(CALL_COST);
                check();
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_idle(&admission);
}

#[test]
fn every_charge_is_returned_once_and_no_limit_is_exceeded() {
    explore(requests::<AtOnce>);
}

#[test]
fn requests_that_complete_in_two_steps_are_found() {
    finds(MEMORY, requests::<TwoSteps>);
}
