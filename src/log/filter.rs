//! The filter of log lines. Its level can be raised and set back while the program runs.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tracing::{Metadata, Subscriber, callsite, level_filters::LevelFilter, subscriber::Interest, warn};
use tracing_subscriber::{
    Layer,
    filter::{ParseError, Targets},
    layer::Context,
};

/// The levels, each more verbose than the one before it.
const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// The configured filter and the levels above it. Clones share the choice.
///
/// Every filter exists from the start and the choice is an atomic number, which is read when places that log are registered:
/// calls pay nothing. A filter behind a lock, as `reload` of tracing-subscriber has it, is locked for each line.
#[derive(Debug, Clone)]
pub struct Levels(Arc<Steps>);

#[derive(Debug)]
struct Steps {
    configured: Targets,
    raised: Vec<(&'static str, Targets)>,
    /// 0: the configured filter; else the number of the step in `raised`, from 1.
    current: AtomicUsize,
}

impl Levels {
    /// The levels of a configuration that names `level`, or levels of modules.
    ///
    /// # Errors
    ///
    /// It is not a valid filter.
    pub(super) fn of(level: &str) -> Result<Self, String> {
        let configured = filter(level)?;
        let most = most_verbose(&configured);
        let above = LEVELS.into_iter().filter(|(_, level)| *level > most);
        let raised = above.map(|(name, _)| Ok((name, filter(name)?))).collect::<Result<_, String>>()?;
        Ok(Self(Arc::new(Steps { configured, raised, current: AtomicUsize::new(0) })))
    }

    /// Raises the level by one step, for all modules.
    pub fn raise(&self) {
        let next = (self.0.current.load(Ordering::Relaxed) + 1).min(self.0.raised.len());
        self.choose(next);
        if let Some((level, _)) = next.checked_sub(1).and_then(|at| self.0.raised.get(at)) {
            warn!(log_level = level, "log level raised");
        }
    }

    /// Sets the configured level again.
    pub fn reset(&self) {
        // Before the change: the configured level may be one that hides it.
        warn!("log level set back to the configured one");
        self.choose(0);
    }

    fn choose(&self, step: usize) {
        self.0.current.store(step, Ordering::Relaxed);
        // Each place that logs remembers whether it is wanted.
        callsite::rebuild_interest_cache();
    }

    fn current(&self) -> &Targets {
        let raised = self.0.current.load(Ordering::Relaxed).checked_sub(1).and_then(|at| self.0.raised.get(at));
        raised.map_or(&self.0.configured, |(_, filter)| filter)
    }
}

/// The filter of a level, or of levels of modules.
fn filter(level: &str) -> Result<Targets, String> {
    // A peer that violates the protocol must not be able to fill the log, except at a debug level.
    let quiet = if matches!(level, "error" | "warn" | "info") { ",h2=off,hyper=error" } else { "" };
    format!("{level}{quiet}").parse().map_err(|fault: ParseError| fault.to_string())
}

/// The level of the most verbose part of a filter.
fn most_verbose(filter: &Targets) -> LevelFilter {
    let modules = filter.iter().map(|(_, level)| level);
    modules.chain(filter.default_level()).max().unwrap_or(LevelFilter::OFF)
}

impl<S: Subscriber> Layer<S> for Levels {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        Layer::<S>::register_callsite(self.current(), metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        Layer::<S>::enabled(self.current(), metadata, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(most_verbose(self.current()))
    }
}

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled, subscriber::with_default};
    use tracing_subscriber::prelude::*;

    use super::*;

    fn raised(level: &str) -> Vec<&'static str> {
        Levels::of(level).unwrap().0.raised.iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn the_steps_are_the_levels_above_the_most_verbose_part_of_the_filter() {
        assert_eq!(raised("off"), ["error", "warn", "info", "debug", "trace"]);
        assert_eq!(raised("warn"), ["info", "debug", "trace"]);
        assert_eq!(raised("warn,apig_grpc_gateway::server=debug"), ["trace"]);
        assert!(raised("trace").is_empty());
        assert!(Levels::of("a=b=c").is_err());
    }

    #[test]
    fn a_raised_level_stays_at_the_highest_and_can_be_set_back() {
        let levels = Levels::of("info").unwrap();
        with_default(tracing_subscriber::registry().with(levels.clone()), || {
            assert!(!enabled!(Level::DEBUG));
            levels.raise();
            assert!(enabled!(Level::DEBUG) && !enabled!(Level::TRACE));
            for _ in 0..3 {
                levels.raise();
            }
            assert!(enabled!(Level::TRACE));
            levels.reset();
            assert!(enabled!(Level::INFO) && !enabled!(Level::DEBUG));
        });
    }
}
