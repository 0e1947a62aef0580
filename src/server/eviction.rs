//! A bounded set of connections: a new one evicts the oldest, and one address can't crowd out the others. Eviction notifies
//! the task of the connection, which closes it.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tokio::{sync::Notify, time::Instant};

/// The delay after a failed accept when a connection was evicted for its descriptor, and when none could be.
const ACCEPT_DELAYS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// The connections that may be evicted.
#[derive(Debug)]
pub(super) struct Evictable {
    entries: Mutex<Entries>,
    /// Notified when a connection leaves the set.
    freed: Notify,
    /// The size of the set.
    limit: usize,
    /// The age before which [`room`](Self::room) does not let a new connection evict another.
    grace: Duration,
    evicted: Counter,
}

/// Oldest first.
#[derive(Debug, Default)]
struct Entries {
    list: VecDeque<Entry>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    network: Option<IpAddr>,
    since: Instant,
    eviction: Arc<Notify>,
}

/// A connection in the set, until it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    set: Arc<Evictable>,
    number: u64,
    eviction: Arc<Notify>,
}

impl Evictable {
    pub(super) fn new(limit: usize, grace: Duration, evicted: Counter) -> Self {
        Self { entries: Mutex::default(), freed: Notify::new(), limit, grace, evicted }
    }

    /// Waits until the set has room, or its oldest connection has reached the grace age. A burst of connections then waits
    /// in the listen backlog instead of evicting one another.
    pub(super) async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            let oldest = {
                let entries = self.lock();
                entries.list.front().filter(|_| entries.list.len() >= self.limit).map(|oldest| oldest.since)
            };
            let Some(due) = oldest.map(|since| since + self.grace) else { return };
            if due <= Instant::now() {
                return;
            }
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    /// The number of connections in the set.
    pub(super) fn len(&self) -> usize {
        self.lock().list.len()
    }

    /// Adds a connection; returns whether another one was evicted for it.
    pub(super) fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> (Ticket, bool) {
        let network = address.map(network);
        let now = Instant::now();
        let mut entries = self.lock();
        let victim = self.victim(&entries.list, network, now);
        if let Some(at) = victim {
            self.evict(&mut entries, at);
        }
        let number = entries.next;
        entries.next += 1;
        let eviction = Arc::new(Notify::new());
        entries.list.push_back(Entry { number, network, since: now, eviction: Arc::clone(&eviction) });
        (Ticket { set: Arc::clone(self), number, eviction }, victim.is_some())
    }

    /// Evicts the oldest connection to free its descriptor; returns whether there was one.
    pub(super) fn evict_oldest(&self) -> bool {
        let mut entries = self.lock();
        let is_there = !entries.list.is_empty();
        if is_there {
            self.evict(&mut entries, 0);
        }
        is_there
    }

    /// Evicts a connection and waits a moment after a failed accept, most likely for lack of descriptors.
    pub(super) async fn relieve(&self) {
        let (freed, none) = ACCEPT_DELAYS;
        tokio::time::sleep(if self.evict_oldest() { freed } else { none }).await;
    }

    /// The index of the connection to evict for a new one, if any.
    fn victim(&self, list: &VecDeque<Entry>, network: Option<IpAddr>, now: Instant) -> Option<usize> {
        let share = (self.limit / 4).max(1);
        let oldest_of = |network| list.iter().position(|entry| entry.network == network);
        let same = list.iter().filter(|entry| entry.network == network).count();
        if (share..list.len()).contains(&same) {
            let at = oldest_of(network)?;
            if list.get(at).is_some_and(|oldest| oldest.since + self.grace <= now) {
                return Some(at);
            }
        }
        if list.len() < self.limit {
            return None;
        }
        let mut counts = BTreeMap::new();
        for entry in list {
            *counts.entry(entry.network).or_insert(0_usize) += 1;
        }
        let crowd = counts.into_iter().max_by_key(|(_, count)| *count).filter(|(_, count)| *count > share);
        Some(crowd.and_then(|(network, _)| oldest_of(network)).unwrap_or(0))
    }

    fn evict(&self, entries: &mut Entries, at: usize) {
        if let Some(entry) = entries.list.remove(at) {
            self.evicted.inc();
            entry.eviction.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Resolves when the connection is evicted.
    pub(super) async fn evicted(&self) {
        self.eviction.notified().await;
    }

    /// Leaves the set; returns `false` if the connection was evicted before.
    pub(super) fn leave(self) -> bool {
        self.remove()
    }

    fn remove(&self) -> bool {
        let mut entries = self.set.lock();
        let at = entries.list.iter().position(|entry| entry.number == self.number);
        let is_there = at.is_some_and(|at| entries.list.remove(at).is_some());
        drop(entries);
        if is_there {
            self.set.freed.notify_waiters();
        }
        is_there
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The part of an address that a peer can't choose: the /64 network for IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests;
