//! The model: the ends that the contract allows for one call, by its script, its deadline and the configuration.

use std::time::{Duration, Instant};

use tonic::Code;

use super::{
    driver::{CallEnd, Record},
    fault::{Fault, Outcome, Verdict},
    plan::Plan,
    scene::{Attempt, Scene},
};

/// The settings that bear on the end of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// The deadline of calls that bring none, and the most that one may bring.
    pub(crate) timeout: Duration,
    /// Tries in all.
    pub(crate) attempts: usize,
    pub(crate) hazards: &'static [Hazard],
    /// The addition to bounds on time.
    pub(crate) allowance: Duration,
}

/// A condition that allows more ends than the script alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hazard {
    /// The upstream's listener closes now and then.
    Closures,
    /// Connections of callers are cut now and then.
    Cuts,
    /// The circuit breaker may open.
    Breaker,
    /// There are fewer permits than callers.
    FewPermits,
    /// Calls wait for one another, since they change the same certificates.
    Queues,
    /// The token is the gateway's own.
    OwnToken,
    /// It is in a file, which is replaced all the time.
    TokenReplaced,
}

/// The delay that the contract allows after a deadline, without the allowance.
const LATE: Duration = Duration::from_millis(50);

/// A call with all that is known of it.
#[derive(Debug)]
pub(crate) struct Case<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) record: &'a Record,
    pub(crate) attempts: &'a [Attempt],
    pub(crate) scene: &'a Scene,
    pub(crate) rules: &'a Rules,
}

impl Case<'_> {
    /// Finds the first deviation from the model.
    pub(crate) fn judge(&self) -> Result<(), String> {
        self.judge_repeats()?;
        self.judge_effects()?;
        match &self.record.end {
            CallEnd::Left => self.judge_silence(),
            CallEnd::Broken(how) => Err(format!("the call had no answer: {how}")),
            CallEnd::Responded { verdict, pushback } => {
                let allowed = self.allowed();
                if !allowed.contains(verdict) {
                    return Err(format!("told {verdict:?}, allowed are {allowed:?}"));
                }
                let no_repeat = verdict.code == Code::Unavailable && verdict.outcome == Outcome::Unknown;
                if no_repeat && pushback.as_deref() != Some("-1") {
                    return Err(format!("the outcome is unknown, and the pushback is {pushback:?}"));
                }
                self.judge_times(verdict)
            }
        }
    }

    /// The deadline that the gateway holds the call to.
    pub(crate) fn deadline(&self) -> Duration {
        self.plan.deadline.map_or(self.rules.timeout, |asked| asked.min(self.rules.timeout))
    }

    fn elapsed(&self) -> Duration {
        self.record.ended - self.record.began
    }

    fn judge_repeats(&self) -> Result<(), String> {
        // A new token earns one more exchange, in each attempt.
        let most = if self.has(Hazard::TokenReplaced) { 2 * self.rules.attempts } else { self.rules.attempts };
        if self.attempts.len() > most {
            return Err(format!("{} requests, at most {most} are allowed", self.attempts.len()));
        }
        for three in self.attempts.windows(3) {
            if let [first, second, _] = three
                && first.fault.blames_token()
                && second.fault.blames_token()
            {
                return Err("repeated after a second refusal of the token".to_owned());
            }
        }
        for pair in self.attempts.windows(2) {
            let [before, after] = pair else { continue };
            if !self.may_repeat(&before.fault) {
                return Err(format!("repeated after {:?}", before.fault));
            }
            let waited = after.read.saturating_duration_since(before.answered.unwrap_or(before.read));
            if let Some(asked) = before.fault.retry_after()
                && waited + Duration::from_millis(5) < asked
            {
                return Err(format!("repeated after {waited:?}, Retry-After was {asked:?}"));
            }
        }
        let end = self.record.began + self.deadline() + LATE + self.rules.allowance;
        match self.attempts.last() {
            Some(last) if last.read > end => Err(format!("sent {:?} after the deadline", last.read - end)),
            _ => Ok(()),
        }
    }

    /// Whether another request may follow.
    fn may_repeat(&self, fault: &Fault) -> bool {
        fault.is_repeatable() || self.has(Hazard::TokenReplaced) && fault.blames_token()
    }

    fn judge_effects(&self) -> Result<(), String> {
        let effects = self.attempts.iter().filter(|attempt| attempt.fault.applies()).count();
        let wrong = match &self.record.end {
            _ if effects > 1 => true,
            CallEnd::Responded { verdict, .. } => match verdict.outcome {
                Outcome::Plain if verdict.code == Code::Ok => effects != 1,
                Outcome::Plain | Outcome::NotSent => effects != 0,
                Outcome::Unknown => false,
            },
            CallEnd::Left | CallEnd::Broken(_) => false,
        };
        if wrong { Err(format!("{effects} effects, and the answer was {:?}", self.record.end)) } else { Ok(()) }
    }

    /// Nothing is done for a caller that has left.
    fn judge_silence(&self) -> Result<(), String> {
        let end = self.record.ended + self.rules.allowance;
        match self.attempts.last() {
            Some(last) if last.read > end => {
                Err(format!("sent {:?} after the caller had left", last.read - self.record.ended))
            }
            _ => Ok(()),
        }
    }

    fn judge_times(&self, verdict: &Verdict) -> Result<(), String> {
        let (elapsed, deadline) = (self.elapsed(), self.deadline());
        if elapsed > deadline + LATE + self.rules.allowance {
            return Err(format!("answered after {elapsed:?}, the deadline was {deadline:?}"));
        }
        if *verdict == deadline_passed(verdict.outcome) {
            // The gateway responds a little before the caller's own timer.
            let margin = self.plan.deadline.map_or(Duration::ZERO, |asked| (asked / 20).min(Duration::from_millis(20)));
            if elapsed + Duration::from_millis(1) < deadline.saturating_sub(margin) {
                return Err(format!("the deadline of {deadline:?} is said to have passed after {elapsed:?}"));
            }
        } else if let Some(Attempt { answered: Some(answered), fault, .. }) = self.attempts.last()
            && fault.verdicts().contains(verdict)
        {
            // A failure without a repeat goes back at once; a repeat that could not be made comes after its backoff.
            let kept = self.record.ended.saturating_duration_since(*answered);
            // A body that stalls is waited for until shortly before the deadline.
            let may_wait = self.was_closed() || self.has(Hazard::Breaker) || fault.stalls();
            if kept > Duration::from_millis(500) + self.rules.allowance && !may_wait {
                return Err(format!("the last answer was kept for {kept:?}"));
            }
        }
        Ok(())
    }

    fn has(&self, hazard: Hazard) -> bool {
        self.rules.hazards.contains(&hazard)
    }

    fn was_closed(&self) -> bool {
        self.scene.was_closed(self.record.began, self.record.ended)
    }

    /// Whether nothing of an attempt is with the upstream any more, so that another request may follow: it has been turned
    /// away, by its whole answer, or by the status of one with a body that was not waited for.
    fn is_turned_away(&self, attempt: &Attempt) -> bool {
        let Attempt { fault, answered, .. } = attempt;
        let by_answer = answered.is_some() && fault.is_settled() && self.may_repeat(fault);
        by_answer || fault.trickles() && self.is_cut_short(*answered) && fault.is_turned_away_by_status()
    }

    /// Whether the body of an answer came too shortly before the deadline to be waited for; `None`: it had not come whole when
    /// the call ended.
    fn is_cut_short(&self, answered: Option<Instant>) -> bool {
        let margin = Duration::from_millis(100) + self.rules.allowance;
        answered.unwrap_or(self.record.ended) + margin > self.record.began + self.deadline()
    }

    /// The ends that are allowed.
    pub(crate) fn allowed(&self) -> Vec<Verdict> {
        let mut allowed = Vec::new();
        let last = self.attempts.last();
        if let Some(last) = last.filter(|last| last.answered.is_some() || last.fault.trickles()) {
            // A body in pieces may have been on its way.
            if self.is_cut_short(last.answered) {
                allowed.extend(last.fault.verdict_by_status());
            }
            if last.answered.is_some() {
                allowed.extend(last.fault.verdicts());
            }
            if self.has(Hazard::OwnToken) && last.fault.blames_token() {
                for verdict in allowed.iter_mut().filter(|verdict| verdict.code == Code::Unauthenticated) {
                    *verdict = Verdict::new(Code::Internal, "CREDENTIALS_REFUSED", Outcome::Plain);
                }
            }
        }
        let all_turned_away = self.attempts.iter().all(|attempt| self.is_turned_away(attempt));
        let in_flight = match last {
            Some(Attempt { answered: Some(answered), .. }) => self.is_recent(*answered),
            _ => true,
        };
        if in_flight {
            allowed.push(deadline_passed(Outcome::Unknown));
        }
        if all_turned_away {
            allowed.push(deadline_passed(Outcome::NotSent));
            // It hides no response that came before.
            if self.has(Hazard::Breaker) && self.attempts.is_empty() {
                allowed.push(Verdict::new(Code::Unavailable, "CIRCUIT_OPEN", Outcome::NotSent));
            }
            if self.was_closed() {
                allowed.push(Verdict::new(Code::Unavailable, "UPSTREAM_UNREACHABLE", Outcome::NotSent));
                // The listener's last connections end with it, whether or not a request was on them.
                allowed.push(Verdict::interrupted());
            }
        }
        if self.attempts.is_empty() && (self.has(Hazard::FewPermits) || self.has(Hazard::Queues)) {
            allowed.push(Verdict::new(Code::Unavailable, "OVERLOADED", Outcome::NotSent));
        }
        allowed
    }

    /// Whether a response came so late that the gateway may not have seen it when the call ended.
    fn is_recent(&self, answered: Instant) -> bool {
        answered + Duration::from_millis(20) + self.rules.allowance > self.record.ended
    }
}

/// The deadline has passed.
pub(crate) fn deadline_passed(outcome: Outcome) -> Verdict {
    Verdict::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", outcome)
}
