//! Requests with an incomplete message: limits their total memory, and evicts the ones without progress.
//!
//! Only a request that had to wait for its body is registered. Its charges belong to the registry until it is complete,
//! so that an eviction removes them from every account at once, before the evicted call itself runs again.

use std::{collections::BTreeMap, task::Waker};

use super::{
    Admission, Bound, Caller, Connection, Permit, Rejected, Scope,
    sync::{Arc, MutexGuard, Ordering, PoisonError},
};

/// The unfinished requests, in the order of their last progress.
#[derive(Debug, Default)]
pub(super) struct Registry {
    entries: BTreeMap<u64, Entry>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    connection: Arc<Connection>,
    bytes: usize,
    is_started: bool,
    /// Wakes the call after its eviction.
    waker: Option<Waker>,
}

/// An unfinished request in the registry. Dropped, it returns its charges.
#[derive(Debug)]
pub(crate) struct Unfinished<'a> {
    permit: &'a Permit,
    key: u64,
}

impl Permit {
    /// Registers the call as waiting for its body.
    ///
    /// # Errors
    ///
    /// [`Rejected::MemoryExhausted`]: the connection has used up its share, or there is no other request to evict.
    pub(crate) fn unfinished(&self) -> Result<Unfinished<'_>, Rejected> {
        let admission = self.admission();
        let bytes = self.bytes.load(Ordering::Relaxed);
        let mut evicted = Wakers::default();
        let mut registry = admission.registry();
        admission.make_room(&mut registry, self, bytes, None, &mut evicted)?;
        self.bytes.store(0, Ordering::Relaxed);
        let is_started = self.is_started.swap(false, Ordering::Relaxed);
        let entry = Entry { connection: Arc::clone(&self.connection), bytes, is_started, waker: None };
        let key = registry.insert(entry);
        registry.bytes += bytes;
        self.connection.unfinished.fetch_add(bytes, Ordering::Relaxed);
        self.connection.caller.unfinished.fetch_add(bytes, Ordering::Relaxed);
        Ok(Unfinished { permit: self, key })
    }
}

impl Unfinished<'_> {
    /// Charges more bytes.
    ///
    /// # Errors
    ///
    /// [`Rejected`]: nothing was charged, and the call has to end.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<(), Rejected> {
        if bytes == 0 {
            // A peer may send byte by byte, and few bytes need new memory. `watch` detects evictions.
            return Ok(());
        }
        let permit = self.permit;
        let admission = permit.admission();
        let mut evicted = Wakers::default();
        let mut registry = admission.registry();
        if !registry.entries.contains_key(&self.key) {
            return Err(Rejected::Evicted);
        }
        admission.make_room(&mut registry, permit, bytes, Some(self.key), &mut evicted)?;
        admission.take_memory(&mut registry, permit, bytes, Some(self.key), &mut evicted)?;
        let caller = &permit.connection.caller;
        registry.bytes += bytes;
        permit.connection.unfinished.fetch_add(bytes, Ordering::Relaxed);
        caller.unfinished.fetch_add(bytes, Ordering::Relaxed);
        if let Some(entry) = registry.entries.get_mut(&self.key) {
            entry.bytes += bytes;
        }
        Ok(())
    }

    /// Returns a part of the charges.
    pub(crate) fn release(&mut self, bytes: usize) {
        let permit = self.permit;
        let mut registry = permit.admission().registry();
        // An evicted request has returned all of them.
        let Some(entry) = registry.entries.get_mut(&self.key) else { return };
        entry.bytes -= bytes;
        registry.bytes -= bytes;
        permit.connection.unfinished.fetch_sub(bytes, Ordering::Relaxed);
        permit.connection.caller.unfinished.fetch_sub(bytes, Ordering::Relaxed);
        drop(registry);
        permit.refund(bytes);
    }

    /// Puts the request behind all others in the order of eviction.
    pub(crate) fn progress(&mut self) {
        let mut registry = self.permit.admission().registry();
        if let Some(entry) = registry.entries.remove(&self.key) {
            self.key = registry.insert(entry);
        }
    }

    /// Registers a waker for the eviction of the request.
    ///
    /// # Errors
    ///
    /// [`Rejected::Evicted`]: it was evicted already.
    pub(crate) fn watch(&mut self, waker: &Waker) -> Result<(), Rejected> {
        let mut registry = self.permit.admission().registry();
        let entry = registry.entries.get_mut(&self.key).ok_or(Rejected::Evicted)?;
        if entry.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return Ok(());
        }
        let before = entry.waker.replace(waker.clone());
        drop(registry);
        drop(before);
        Ok(())
    }

    /// Leaves the registry with a complete message, and moves the charges back to the permit.
    ///
    /// # Errors
    ///
    /// [`Rejected::Evicted`].
    pub(crate) fn complete(self) -> Result<(), Rejected> {
        let permit = self.permit;
        let mut registry = permit.admission().registry();
        let entry = registry.remove(self.key).ok_or(Rejected::Evicted)?;
        permit.bytes.store(entry.bytes, Ordering::Relaxed);
        permit.is_started.store(entry.is_started, Ordering::Relaxed);
        drop(registry);
        drop(entry);
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let admission = self.permit.admission();
        let mut registry = admission.registry();
        let entry = registry.remove(self.key);
        drop(registry);
        if let Some(entry) = entry {
            admission.refund(&entry);
        }
    }
}

impl Registry {
    fn insert(&mut self, entry: Entry) -> u64 {
        let key = self.next;
        self.next += 1;
        self.entries.insert(key, entry);
        key
    }

    /// Removes an entry, with its charges in the accounts of unfinished requests.
    fn remove(&mut self, key: u64) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        self.bytes -= entry.bytes;
        entry.connection.unfinished.fetch_sub(entry.bytes, Ordering::Relaxed);
        entry.connection.caller.unfinished.fetch_sub(entry.bytes, Ordering::Relaxed);
        Some(entry)
    }

    fn bytes_of(&self, key: Option<u64>) -> usize {
        key.and_then(|key| self.entries.get(&key)).map_or(0, |entry| entry.bytes)
    }

    /// The request that has been without progress for the longest time, of all callers or of one, except `except`.
    fn oldest(&self, of: Option<&Arc<Caller>>, except: Option<u64>) -> Option<u64> {
        let is_of = |entry: &Entry| of.is_none_or(|caller| Arc::ptr_eq(caller, &entry.connection.caller));
        let mut entries = self.entries.iter();
        entries.find(|(key, entry)| Some(**key) != except && is_of(entry)).map(|(key, _)| *key)
    }
}

impl Admission {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Evicts requests until an unfinished request may grow by `bytes`, unless evictions can't make it fit.
    fn make_room(
        &self,
        registry: &mut Registry,
        permit: &Permit,
        bytes: usize,
        except: Option<u64>,
        evicted: &mut Wakers,
    ) -> Result<(), Rejected> {
        let connection = &permit.connection;
        let limit = self.limits.connection();
        if connection.unfinished.load(Ordering::Relaxed).saturating_add(bytes) > limit {
            return Err(Rejected::MemoryExhausted(Bound { limit, scope: Scope::Connection }));
        }
        let limit = self.limits.unfinished();
        if registry.bytes_of(except).saturating_add(bytes) > limit {
            let limit = self.limits.memory;
            return Err(Rejected::MemoryExhausted(Bound { limit, scope: Scope::Process }));
        }
        // A caller past its share evicts its own requests before those of others.
        let share = permit.share_of(limit);
        let caller = &connection.caller;
        while caller.unfinished.load(Ordering::Relaxed).saturating_add(bytes) > share
            && let Some(key) = registry.oldest(Some(caller), except)
        {
            self.evict(registry, key, evicted);
        }
        while registry.bytes.saturating_add(bytes) > limit
            && let Some(key) = registry.oldest(None, except)
        {
            self.evict(registry, key, evicted);
        }
        Ok(())
    }

    /// Takes memory from the accounts of process and caller. Evicts unfinished requests if needed, unless all of them
    /// together are not enough.
    fn take_memory(
        &self,
        registry: &mut Registry,
        permit: &Permit,
        bytes: usize,
        except: Option<u64>,
        evicted: &mut Wakers,
    ) -> Result<(), Rejected> {
        let caller = &permit.connection.caller;
        let kept = registry.bytes_of(except);
        let share = permit.memory_share();
        while !caller.memory.take(bytes, share) {
            let evictable = caller.unfinished.load(Ordering::Relaxed) - kept;
            let fits = caller.memory.amount().saturating_sub(evictable).saturating_add(bytes) <= share;
            let Some(key) = registry.oldest(Some(caller), except).filter(|_| fits) else {
                return Err(Rejected::MemoryExhausted(Bound { limit: share, scope: Scope::Caller }));
            };
            self.evict(registry, key, evicted);
        }
        let limit = permit.with_reserve(self.limits.memory);
        while !self.memory.take(bytes, limit) {
            let evictable = registry.bytes - kept;
            let fits = self.memory.amount().saturating_sub(evictable).saturating_add(bytes) <= limit;
            let Some(key) = registry.oldest(None, except).filter(|_| fits) else {
                caller.memory.give(bytes);
                let limit = self.limits.memory;
                return Err(Rejected::MemoryExhausted(Bound { limit, scope: Scope::Process }));
            };
            self.evict(registry, key, evicted);
        }
        Ok(())
    }

    /// The same for a call that is not in the registry.
    pub(super) fn evict_and_take_memory(&self, permit: &Permit, bytes: usize) -> Result<(), Rejected> {
        let mut evicted = Wakers::default();
        self.take_memory(&mut self.registry(), permit, bytes, None, &mut evicted)
    }

    fn evict(&self, registry: &mut Registry, key: u64, evicted: &mut Wakers) {
        if let Some(mut entry) = registry.remove(key) {
            evicted.0.extend(entry.waker.take());
            self.refund(&entry);
        }
    }

    fn refund(&self, entry: &Entry) {
        self.memory.give(entry.bytes);
        entry.connection.caller.memory.give(entry.bytes);
        if entry.is_started {
            self.started.give(1);
        }
    }

    /// Evicts the request without progress for the longest time, if there is one.
    pub(super) fn evict_oldest(&self) -> bool {
        let mut evicted = Wakers::default();
        let mut registry = self.registry();
        let Some(key) = registry.oldest(None, None) else { return false };
        self.evict(&mut registry, key, &mut evicted);
        true
    }

    #[cfg(test)]
    pub(super) fn unfinished_bytes(&self) -> (usize, usize) {
        let registry = self.registry();
        (registry.entries.len(), registry.bytes)
    }
}

/// The wakers of evicted calls, woken on drop. Declare it before taking the lock, so that it outlives the guard: a waker
/// may run code that takes the lock itself.
#[derive(Debug, Default)]
struct Wakers(Vec<Waker>);

impl Drop for Wakers {
    fn drop(&mut self) {
        for waker in self.0.drain(..) {
            waker.wake();
        }
    }
}

#[cfg(test)]
#[cfg(feature = "model")]
mod model;
