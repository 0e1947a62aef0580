//! A bounded set of connections that a newcomer may displace: the oldest is closed for it, and one address can't crowd out
//! the others. It reads and writes nothing; each connection's own task closes it.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tokio::{sync::Notify, time::Instant};

/// The pause after a failed accept when an evicted connection gives its descriptor back, and when none could be evicted.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// The connections that may be evicted.
#[derive(Debug)]
pub(super) struct Evictable {
    entries: Mutex<Entries>,
    /// One has left.
    freed: Notify,
    /// As many as there may be.
    limit: usize,
    /// The age before which [`room`](Self::room) has newcomers wait.
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

    /// Waits until there is room, or the oldest connection has had its time. A crowd that arrives at once then waits in the
    /// system's queue instead of evicting itself.
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

    /// Takes a newcomer in. Says whether another connection was evicted for it.
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

    /// Has the oldest connection closed, for its descriptor.
    pub(super) fn evict_oldest(&self) -> bool {
        let mut entries = self.lock();
        let is_there = !entries.list.is_empty();
        if is_there {
            self.evict(&mut entries, 0);
        }
        is_there
    }

    /// After an accept that failed, most likely since there are no descriptors: gets one back and waits a moment.
    pub(super) async fn relieve(&self) {
        let (freed, none) = PAUSES;
        tokio::time::sleep(if self.evict_oldest() { freed } else { none }).await;
    }

    /// The place of the connection to evict for a newcomer, if one has to go.
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
    /// Resolves when the connection has to go.
    pub(super) async fn evicted(&self) {
        self.eviction.notified().await;
    }

    /// Leaves the set for good; `false` if the connection has been evicted before.
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

/// The part of an address that one peer can't choose: of IPv6 it has a whole network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests;
