//! The permit of one call: its charges against the accounts of process, connection and caller.

use std::time::Instant;

use super::{
    Admission, Bound, CALL_COST, Connection, MAX_STREAMS_PER_CONNECTION, Rejected, Scope, Unfinished,
    sync::{Arc, AtomicBool, AtomicUsize, Ordering},
};
use crate::call::Account;

/// The class of a call, which selects its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A call of our service.
    Call,
    /// A health check or an unknown method: short, small, and served even while calls of our service are shed.
    Auxiliary,
    /// A streaming call.
    Stream,
}

/// The charges of one call, returned on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    pub(super) connection: Arc<Connection>,
    class: Class,
    /// Another identity called within the last minute.
    is_shared: bool,
    /// The charge for the duration of the call.
    fixed: usize,
    /// All bytes charged to this permit. While the request is unfinished, they are charged to the registry instead.
    pub(super) bytes: AtomicUsize,
    pub(super) is_started: AtomicBool,
    is_running: AtomicBool,
    is_stream: bool,
}

impl Connection {
    /// Starts a call with a head of `head` bytes.
    ///
    /// # Errors
    ///
    /// [`Rejected`], at once: no call waits for a permit.
    pub(crate) fn admit(self: &Arc<Self>, class: Class, head: usize, now: Instant) -> Result<Permit, Rejected> {
        let admission = &self.admission;
        let is_shared = admission.has_others(self.caller.id(), now, class == Class::Call);
        // A connection serves its calls on one thread, so that its first and its last call can't cross.
        if self.calls.fetch_add(1, Ordering::Relaxed) == 0 {
            admission.active.count(1);
        }
        let mut permit = Permit {
            connection: Arc::clone(self),
            class,
            is_shared,
            fixed: CALL_COST + head,
            bytes: AtomicUsize::new(0),
            is_started: AtomicBool::new(false),
            is_running: AtomicBool::new(false),
            is_stream: false,
        };
        if class == Class::Stream {
            permit.open_stream()?;
        } else {
            let limit = permit.with_reserve(admission.limits.started());
            while !admission.started.take(1, limit) {
                if !admission.evict_oldest() {
                    let bound = Bound { limit: admission.limits.concurrency, scope: Scope::Process };
                    return Err(Rejected::AtCapacity(bound));
                }
            }
            *permit.is_started.get_mut() = true;
        }
        permit.charge(permit.fixed)?;
        Ok(permit)
    }
}

impl Permit {
    pub(super) fn admission(&self) -> &Admission {
        &self.connection.admission
    }

    fn open_stream(&mut self) -> Result<(), Rejected> {
        let connection = &self.connection;
        let too_many = |limit, scope| Err(Rejected::TooManyStreams(Bound { limit, scope }));
        if !connection.streams.take(1, MAX_STREAMS_PER_CONNECTION) {
            return too_many(MAX_STREAMS_PER_CONNECTION, Scope::Connection);
        }
        let limit = connection.admission.limits.streams();
        let share = self.share_of(limit);
        let caller = &connection.caller;
        if !caller.streams.take(1, share) {
            connection.streams.give(1);
            let scope = if share < limit { Scope::Caller } else { Scope::Process };
            return too_many(share, scope);
        }
        if !connection.admission.streams.take(1, limit) {
            caller.streams.give(1);
            connection.streams.give(1);
            return too_many(limit, Scope::Process);
        }
        self.is_stream = true;
        Ok(())
    }

    /// The part of a limit that the caller may take: three quarters while other identities call too.
    pub(crate) fn share_of(&self, limit: usize) -> usize {
        if self.is_shared { limit.saturating_sub(limit / 4) } else { limit }
    }

    /// The limit for this class: a little higher for health checks, which are served even while calls are shed.
    pub(super) fn with_reserve(&self, limit: usize) -> usize {
        if self.class == Class::Call { limit } else { limit.saturating_add(limit / 16).saturating_add(1) }
    }

    /// The memory limit of the caller. Health checks are served even if their caller has used up its share.
    pub(super) fn memory_share(&self) -> usize {
        if self.is_shared && self.class == Class::Call {
            self.share_of(self.admission().limits.memory)
        } else {
            usize::MAX
        }
    }

    /// Charges more bytes. Evicts unfinished requests if needed, longest without progress first.
    ///
    /// # Errors
    ///
    /// [`Rejected::MemoryExhausted`]: nothing was charged.
    pub(crate) fn charge(&self, bytes: usize) -> Result<(), Rejected> {
        let admission = self.admission();
        let caller = &self.connection.caller;
        let is_taken = caller.memory.take(bytes, self.memory_share());
        if !is_taken || !admission.memory.take(bytes, self.with_reserve(admission.limits.memory)) {
            if is_taken {
                caller.memory.give(bytes);
            }
            admission.evict_and_take_memory(self, bytes)?;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Returns part of the charges.
    pub(crate) fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.refund(bytes);
    }

    pub(super) fn refund(&self, bytes: usize) {
        self.admission().memory.give(bytes);
        self.connection.caller.memory.give(bytes);
    }

    /// Replaces the charge for the body by the weight of its message.
    ///
    /// # Errors
    ///
    /// [`Rejected::MemoryExhausted`]: the charge is as before, and the call has to end.
    pub(crate) fn settle(&self, weight: usize) -> Result<(), Rejected> {
        self.hold(self.fixed.saturating_add(weight))
    }

    /// Replaces all charges by a charge of `bytes`.
    ///
    /// # Errors
    ///
    /// [`Rejected::MemoryExhausted`]: the charge is as before, and the call has to end.
    pub(crate) fn hold(&self, bytes: usize) -> Result<(), Rejected> {
        let charged = self.bytes.load(Ordering::Relaxed);
        if bytes > charged {
            return self.charge(bytes - charged);
        }
        self.release(charged - bytes);
        Ok(())
    }

    /// Takes the concurrency permit of a call with a complete message, if it has none yet.
    ///
    /// # Errors
    ///
    /// [`Rejected::AtCapacity`].
    pub(crate) fn run(&self) -> Result<(), Rejected> {
        if self.is_running.load(Ordering::Relaxed) {
            return Ok(());
        }
        let admission = self.admission();
        let limit = admission.limits.concurrency;
        let share = self.share_of(limit);
        if !self.connection.caller.running.take(1, share) {
            let scope = if share < limit { Scope::Caller } else { Scope::Process };
            return Err(Rejected::AtCapacity(Bound { limit: share, scope }));
        }
        if !admission.running.take(1, limit) {
            self.connection.caller.running.give(1);
            return Err(Rejected::AtCapacity(Bound { limit, scope: Scope::Process }));
        }
        self.is_running.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Account for Permit {
    fn charge(&self, bytes: usize) -> bool {
        Self::charge(self, bytes).is_ok()
    }

    fn charge_spare(&self, bytes: usize) -> bool {
        let (admission, caller) = (self.admission(), &self.connection.caller);
        let limit = admission.limits.memory;
        let spare = limit - limit / 4;
        if !caller.memory.take(bytes, self.memory_share().min(spare)) {
            return false;
        }
        if !admission.memory.take(bytes, spare) {
            caller.memory.give(bytes);
            return false;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    fn release(&self, bytes: usize) {
        Self::release(self, bytes);
    }

    fn share_of(&self, limit: usize) -> usize {
        Self::share_of(self, limit)
    }

    fn caller(&self) -> u64 {
        self.connection.caller.id()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Connection { admission, caller, streams, calls, .. } = &*self.connection;
        if calls.fetch_sub(1, Ordering::Relaxed) == 1 {
            admission.active.give(1);
        }
        let bytes = *self.bytes.get_mut();
        admission.memory.give(bytes);
        caller.memory.give(bytes);
        if *self.is_running.get_mut() {
            admission.running.give(1);
            caller.running.give(1);
        }
        if *self.is_started.get_mut() {
            admission.started.give(1);
        }
        if self.is_stream {
            admission.streams.give(1);
            caller.streams.give(1);
            streams.give(1);
        }
    }
}

/// An account for the memory of a body: the permit, or the registry while the request is unfinished.
pub(crate) trait Ledger {
    /// Charges more bytes.
    ///
    /// # Errors
    ///
    /// [`Rejected`]: nothing was charged, and the call has to end.
    fn charge(&mut self, bytes: usize) -> Result<(), Rejected>;

    /// Returns a part of the charges.
    fn release(&mut self, bytes: usize);
}

impl Ledger for &Permit {
    fn charge(&mut self, bytes: usize) -> Result<(), Rejected> {
        Permit::charge(self, bytes)
    }

    fn release(&mut self, bytes: usize) {
        Permit::release(self, bytes);
    }
}

impl Ledger for Unfinished<'_> {
    fn charge(&mut self, bytes: usize) -> Result<(), Rejected> {
        Unfinished::charge(self, bytes)
    }

    fn release(&mut self, bytes: usize) {
        Unfinished::release(self, bytes);
    }
}
