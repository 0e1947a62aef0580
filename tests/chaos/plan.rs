//! One call, drawn from the seed and its number alone: its script, its deadline, and the patience of its caller.

use std::time::Duration;

use testkit::rng::Rng;

use super::fault::Fault;

/// More attempts than any configuration allows.
const MOST_ATTEMPTS: usize = 8;

/// The project of all calls.
pub(crate) const PROJECT: &str = "chaos-project";

/// The kind of calls in a configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mix {
    /// Everything that can go wrong.
    Everything,
    /// Changes that are made, with responses that do not arrive.
    LostResponses,
    /// Slow and silent responses, for callers that leave.
    Cancels,
}

/// One call to be.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The faults of the attempts, in their order.
    pub(crate) script: Vec<Fault>,
    /// The caller's own deadline.
    pub(crate) deadline: Option<Duration>,
    /// When the caller leaves, if it does.
    pub(crate) leaves: Option<Duration>,
    pub(crate) certificate: String,
}

impl Plan {
    /// Draws the call with this number. Calls share `certificates`, or each has its own.
    pub(crate) fn of(seed: u64, number: u64, mix: Mix, certificates: Option<u64>) -> Self {
        let mut rng = Rng::of(seed, number);
        let certificate = format!("certificate-{}", certificates.map_or(number, |many| rng.below(many)));
        let mut draw = || match mix {
            Mix::Everything => Fault::draw(&mut rng),
            Mix::LostResponses => Fault::draw_lost_after_apply(&mut rng),
            Mix::Cancels => Fault::draw_slow(&mut rng),
        };
        let script: Vec<Fault> = (0..MOST_ATTEMPTS).map(|_| draw()).collect();
        let mut plan = Self { script, deadline: None, leaves: None, certificate };
        match mix {
            Mix::Everything => {
                // A script that ends in silence ends with the deadline, and should not keep the caller for long.
                let silent = plan.script.iter().take(3).any(Fault::stalls);
                plan.deadline = match rng.below(10) {
                    0 => Some(rng.millis(1, 30)),
                    _ if silent => Some(rng.millis(30, 400)),
                    1 | 2 => Some(rng.millis(50, 500)),
                    3..7 => Some(rng.millis(1_000, 5_000)),
                    _ => None,
                };
                plan.leaves = rng.percent(8).then(|| rng.millis(0, 60));
            }
            Mix::LostResponses => {}
            Mix::Cancels => plan.leaves = Some(rng.millis(0, 80)),
        }
        plan
    }

    /// The fault of the attempt with this index.
    pub(crate) fn fault(&self, attempt: usize) -> Fault {
        self.script[attempt.min(MOST_ATTEMPTS - 1)]
    }
}
