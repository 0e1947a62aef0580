//! Admission: the memory, the concurrency permit and the fair share of each call, counted for the whole process.
//!
//! Every call is charged for its task and its head when it starts, for the bytes of its body as they arrive and as they
//! are unpacked, and for its message once it is complete. A [`Permit`] carries the charges and returns them on drop.
//! [`Unfinished`] adds the rules for calls that still wait for their body; [`Caller`] has the accounts of an identity.
//! All operations return at once: no call queues for a permit.

mod caller;
mod permit;
mod unfinished;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use self::{
    caller::Caller,
    permit::{Class, Ledger, Permit},
    unfinished::Unfinished,
};
use self::{
    caller::{Callers, Recent},
    sync::{Arc, AtomicUsize, Mutex, Ordering},
    unfinished::Registry,
};
use crate::peer::Peer;

/// The synchronization primitives, in one place so that a model checker can replace them.
mod sync {
    pub(super) use std::sync::{Arc, PoisonError, Weak, atomic::Ordering};

    pub(super) use crate::sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard};
}

/// The memory of a call without its head and body: task, stream, span and record. 4,000 calls that wait for their bodies
/// on 16 connections take 6.8 KiB each.
pub(crate) const CALL_COST: usize = 8 * 1024;

/// The ratio of started to running calls: a call that waits for its body costs little.
const STARTED_PER_RUNNING: usize = 16;

/// Streaming calls (health's `Watch`, reflection) in the whole process.
const MAX_STREAMS: usize = 256;

/// A lower bound of a stream's memory: all streams together may use a quarter of the memory.
const STREAM_COST: usize = 32 * 1024;

/// Streaming calls on one connection.
const MAX_STREAMS_PER_CONNECTION: usize = 8;

/// The memory of a connection besides its largest message: the head, the call, and the state of an inflater.
const CONNECTION_ALLOWANCE: usize = 256 * 1024;

/// The limits of the whole process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Calls with a complete message.
    pub(crate) concurrency: usize,
    /// The memory of all calls together, in bytes.
    pub(crate) memory: usize,
    /// The length of one message in bytes.
    pub(crate) message: usize,
}

impl Limits {
    /// Lowers the message limit so that the largest message fits the memory of unfinished requests. Otherwise it would be
    /// refused as a temporary lack of memory, and retries could never succeed.
    pub(crate) fn new(concurrency: usize, memory: usize, message: usize) -> Self {
        Self { concurrency, memory, message: message.min((memory / 2).saturating_sub(2 * CALL_COST)) }
    }

    /// The part of the memory for all unfinished requests together.
    const fn unfinished(self) -> usize {
        self.memory / 2
    }

    /// The part of it for one connection.
    fn connection(self) -> usize {
        (self.unfinished() / 4).max(self.message.saturating_add(CONNECTION_ALLOWANCE))
    }

    fn streams(self) -> usize {
        (self.memory / 4 / STREAM_COST).clamp(1, MAX_STREAMS)
    }

    const fn started(self) -> usize {
        self.concurrency.saturating_mul(STARTED_PER_RUNNING)
    }
}

/// The accounts of the process.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: Limits,
    memory: Account,
    started: Account,
    running: Account,
    streams: Account,
    /// Connections with a call or a stream.
    active: Account,
    unfinished: Mutex<Registry>,
    callers: Callers,
    recent: Mutex<Recent>,
}

/// The accounts of one connection.
#[derive(Debug)]
pub(crate) struct Connection {
    admission: Arc<Admission>,
    caller: Arc<Caller>,
    /// Bytes of unfinished requests. It changes under the registry's lock only.
    unfinished: AtomicUsize,
    streams: Account,
    /// Calls and streams.
    calls: AtomicUsize,
}

/// The use of the limits at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// The memory of all calls.
    pub(crate) memory: usize,
    /// Calls in progress, without streams.
    pub(crate) started: usize,
    /// Calls with a complete message.
    pub(crate) running: usize,
    /// Connections with a call or a stream.
    pub(crate) active: usize,
    pub(crate) limits: Limits,
}

/// The limit that rejected a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// Too many calls in progress.
    AtCapacity(Bound),
    /// The memory for messages is exhausted.
    MemoryExhausted(Bound),
    /// Too many streams.
    TooManyStreams(Bound),
    /// The memory was needed, and of all unfinished requests this one had been without progress for the longest time.
    Evicted,
}

/// A limit and its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) limit: usize,
    pub(crate) scope: Scope,
}

/// The scope of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Process,
    /// The share of one identity while other identities call too.
    Caller,
    Connection,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            memory: Account::default(),
            started: Account::default(),
            running: Account::default(),
            streams: Account::default(),
            active: Account::default(),
            unfinished: Mutex::default(),
            callers: Callers::default(),
            recent: Mutex::default(),
        }
    }

    /// Opens the accounts of a connection.
    pub(crate) fn connect(self: &Arc<Self>, peer: &Peer) -> Arc<Connection> {
        Arc::new(Connection {
            admission: Arc::clone(self),
            caller: self.caller(peer),
            unfinished: AtomicUsize::new(0),
            streams: Account::default(),
            calls: AtomicUsize::new(0),
        })
    }

    /// The state for metrics.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            memory: self.memory.amount(),
            started: self.started.amount(),
            running: self.running.amount(),
            active: self.active.amount(),
            limits: self.limits,
        }
    }

    #[cfg(test)]
    pub(crate) fn memory_in_use(&self) -> usize {
        self.memory.amount()
    }

    /// The number of calls in progress, without streams.
    pub(crate) fn started(&self) -> usize {
        self.started.amount()
    }
}

/// An amount that never exceeds the limits under which it is taken.
#[derive(Debug, Default)]
struct Account(AtomicUsize);

impl Account {
    /// Adds, unless the sum would exceed the limit.
    fn take(&self, amount: usize, limit: usize) -> bool {
        let sum = |now: usize| now.checked_add(amount).filter(|sum| *sum <= limit);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok()
    }

    fn give(&self, amount: usize) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    /// Adds without a limit.
    fn count(&self, amount: usize) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    fn amount(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
