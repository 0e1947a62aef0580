//! The identities of callers and their accounts; tells whether several identities called in the last minute.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    Account, Admission,
    sync::{Arc, AtomicUsize, Mutex, PoisonError, Weak},
};
use crate::peer::{Identity, Names, Peer};

/// The time for which a call of another identity limits a caller to its share.
const MEMORY_OF_OTHERS: Duration = Duration::from_secs(60);

/// The accounts of one identity. All its connections share them.
#[derive(Debug)]
pub(crate) struct Caller {
    id: u64,
    callers: Map,
    pub(super) memory: Account,
    pub(super) running: Account,
    pub(super) streams: Account,
    /// Bytes of unfinished requests. It changes under the registry's lock only.
    pub(super) unfinished: AtomicUsize,
}

type Map = Arc<Mutex<HashMap<u64, Weak<Caller>>>>;

/// The callers that have a connection.
#[derive(Debug, Default)]
pub(super) struct Callers {
    map: Map,
    hasher: RandomState,
}

/// The attributes that identify a caller.
#[derive(Debug, Hash)]
enum Key<'a> {
    Uid(u32),
    Spiffe(&'a str),
    Dns(&'a [String]),
    Address(IpAddr),
    /// The peer of a Unix socket without credentials from the kernel.
    Local,
}

impl<'a> Key<'a> {
    fn of(peer: &'a Peer) -> Self {
        match &peer.identity {
            Identity::Uid(uid) => Self::Uid(*uid),
            Identity::Certificate(Names { spiffe: Some(id), .. }) => Self::Spiffe(id),
            Identity::Certificate(Names { dns, .. }) => Self::Dns(dns),
            Identity::Nobody => peer.address.map_or(Self::Local, |address| Self::Address(network(address.ip()))),
        }
    }
}

/// The address itself, or for IPv6 its /64: a host chooses the rest as it likes.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Callers {
    fn get(&self, peer: &Peer) -> Arc<Caller> {
        let id = self.hasher.hash_one(Key::of(peer));
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(caller) = map.get(&id).and_then(Weak::upgrade) {
            return caller;
        }
        let caller = Arc::new(Caller {
            id,
            callers: Arc::clone(&self.map),
            memory: Account::default(),
            running: Account::default(),
            streams: Account::default(),
            unfinished: AtomicUsize::new(0),
        });
        map.insert(id, Arc::downgrade(&caller));
        caller
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.map.lock().unwrap().len()
    }
}

impl Caller {
    pub(super) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mut map = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        // A new connection may have replaced the entry between the last drop and this lock.
        if map.get(&self.id).is_some_and(|caller| caller.strong_count() == 0) {
            map.remove(&self.id);
        }
    }
}

impl Admission {
    pub(super) fn caller(&self, peer: &Peer) -> Arc<Caller> {
        self.callers.get(peer)
    }

    /// Whether another identity called in the last minute. Records the call if `counts`.
    pub(super) fn has_others(&self, caller: u64, now: Instant, counts: bool) -> bool {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let others = recent.others(caller, now);
        if counts {
            recent.note(caller, now);
        }
        others
    }
}

/// The latest caller and the latest call of any other one, which suffices to detect other callers.
#[derive(Debug, Default)]
pub(super) struct Recent {
    latest: Option<(u64, Instant)>,
    /// The latest call of a caller other than the latest one.
    other: Option<Instant>,
}

impl Recent {
    fn others(&self, caller: u64, now: Instant) -> bool {
        let at = match self.latest {
            Some((latest, at)) if latest != caller => Some(at),
            _ => self.other,
        };
        at.is_some_and(|at| now.saturating_duration_since(at) < MEMORY_OF_OTHERS)
    }

    fn note(&mut self, caller: u64, now: Instant) {
        if let Some((latest, at)) = self.latest
            && latest != caller
        {
            self.other = Some(at);
        }
        self.latest = Some((caller, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_shared_for_a_minute_after_another_called() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut recent = Recent::default();
        assert!(!recent.others(1, at(0)));
        recent.note(1, at(0));
        assert!(!recent.others(1, at(1)), "a caller is no other to itself");
        assert!(recent.others(2, at(1)));
        recent.note(2, at(1));
        recent.note(2, at(30));
        assert!(recent.others(2, at(59)), "the first called 59 s ago");
        assert!(!recent.others(2, at(60)));
        assert!(recent.others(1, at(89)));
        assert!(!recent.others(1, at(90)));
        recent.note(3, at(90));
        assert!(recent.others(3, at(89)));
        assert!(recent.others(1, at(90)));
    }

    #[test]
    fn callers_are_told_apart_by_identity_and_else_by_network() {
        let callers = Callers::default();
        let of = |identity, address: Option<&str>| {
            let address = address.map(|address| address.parse().unwrap());
            callers.get(&Peer { identity, address }).id()
        };
        let nobody = |address| of(Identity::Nobody, Some(address));
        assert_eq!(nobody("10.0.0.1:1"), nobody("10.0.0.1:2"));
        assert_eq!(nobody("10.0.0.1:1"), nobody("[::ffff:10.0.0.1]:1"));
        assert_ne!(nobody("10.0.0.1:1"), nobody("10.0.0.2:1"));
        assert_eq!(nobody("[2001:db8::1]:1"), nobody("[2001:db8::ffff:1]:1"));
        assert_ne!(nobody("[2001:db8::1]:1"), nobody("[2001:db8:0:1::1]:1"));
        let spiffe = |id: &str, dns: &[&str]| {
            let dns = dns.iter().map(|name| (*name).to_owned()).collect();
            Identity::Certificate(Names { spiffe: (!id.is_empty()).then(|| id.to_owned()), dns })
        };
        let a = of(spiffe("spiffe://a", &[]), Some("10.0.0.1:1"));
        assert_eq!(a, of(spiffe("spiffe://a", &["x"]), Some("10.0.0.2:1")));
        assert_ne!(a, of(spiffe("spiffe://b", &[]), Some("10.0.0.1:1")));
        assert_ne!(of(spiffe("", &["a"]), None), of(spiffe("", &["b"]), None));
        assert_ne!(of(Identity::Uid(1), None), of(Identity::Uid(2), None));
        assert_ne!(of(Identity::Nobody, None), of(Identity::Uid(0), None));
    }

    #[test]
    fn a_caller_is_forgotten_with_its_last_connection() {
        let callers = Callers::default();
        let peer = Peer { identity: Identity::Uid(1), address: None };
        let (one, two) = (callers.get(&peer), callers.get(&peer));
        assert!(Arc::ptr_eq(&one, &two));
        drop(one);
        assert_eq!(callers.len(), 1);
        drop(two);
        assert_eq!(callers.len(), 0);
    }
}
