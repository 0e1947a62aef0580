use std::{
    sync::atomic::AtomicBool as Flag,
    task::{Wake, Waker},
    time::{Duration, Instant},
};

use super::*;
use crate::peer::Identity;

/// A limit in calls without bodies.
const fn calls(number: usize) -> usize {
    number * CALL_COST
}

fn admission(concurrency: usize, memory: usize) -> Arc<Admission> {
    Arc::new(Admission::new(Limits { concurrency, memory, message: 4 * 1024 }))
}

fn connection(admission: &Arc<Admission>, uid: u32) -> Arc<Connection> {
    admission.connect(&Peer { identity: Identity::Uid(uid), address: None })
}

fn admit(connection: &Arc<Connection>) -> Result<Permit, Rejected> {
    connection.admit(Class::Call, 0, Instant::now())
}

fn process(limit: usize) -> Bound {
    Bound { limit, scope: Scope::Process }
}

fn share(limit: usize) -> Bound {
    Bound { limit, scope: Scope::Caller }
}

/// Nothing is charged any more.
#[track_caller]
pub(crate) fn assert_idle(admission: &Admission) {
    let accounts = [&admission.memory, &admission.started, &admission.running, &admission.streams];
    assert_eq!(accounts.map(Account::amount), [0; 4], "memory, started, running, streams");
    assert_eq!(admission.unfinished_bytes(), (0, 0));
}

#[derive(Default)]
struct Woken(Flag);

impl Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn all_charges_are_returned() {
    let admission = admission(10, calls(100));
    let peer = connection(&admission, 1);
    let call = peer.admit(Class::Call, 100, Instant::now()).unwrap();
    call.charge(50).unwrap();
    call.run().unwrap();
    call.run().unwrap();
    assert_eq!(admission.memory.amount(), CALL_COST + 150);
    call.settle(1000).unwrap();
    assert_eq!(admission.memory.amount(), CALL_COST + 1100);
    call.settle(7).unwrap();
    assert_eq!(admission.memory.amount(), CALL_COST + 107);
    assert_eq!((admission.started(), admission.running.amount()), (1, 1));
    let waits = admit(&peer).unwrap();
    let mut unfinished = waits.unfinished().unwrap();
    unfinished.charge(500).unwrap();
    unfinished.release(100);
    assert_eq!(admission.unfinished_bytes(), (1, CALL_COST + 400));
    unfinished.complete().unwrap();
    assert_eq!(admission.unfinished_bytes(), (0, 0));
    assert_eq!((admission.memory.amount(), admission.started()), (2 * CALL_COST + 507, 2));
    let leaves = admit(&peer).unwrap();
    drop(leaves.unfinished().unwrap());
    let stream = peer.admit(Class::Stream, 0, Instant::now()).unwrap();
    assert_eq!((admission.started(), admission.streams.amount()), (2, 1), "streams are no calls in progress");
    drop((call, waits, leaves, stream));
    assert_idle(&admission);
    assert_eq!(peer.unfinished.load(Ordering::Relaxed), 0);
    let Caller { memory, running, streams, unfinished, .. } = &*peer.caller;
    assert_eq!([memory, running, streams].map(Account::amount), [0; 3]);
    assert_eq!(unfinished.load(Ordering::Relaxed), 0);
}

#[test]
fn memory_has_a_limit_and_what_exceeds_it_is_not_charged() {
    let admission = admission(10, calls(2) + 100);
    let peer = connection(&admission, 1);
    let (one, two) = (admit(&peer).unwrap(), admit(&peer).unwrap());
    one.charge(100).unwrap();
    let exhausted = Rejected::MemoryExhausted(process(calls(2) + 100));
    assert_eq!(two.charge(1), Err(exhausted));
    assert_eq!(admit(&peer).unwrap_err(), exhausted);
    assert_eq!(one.settle(101), Err(exhausted));
    one.settle(99).unwrap();
    two.charge(1).unwrap();
    drop((one, two));
    assert_idle(&admission);
}

#[test]
fn permits_have_a_limit() {
    let admission = admission(1, calls(10));
    let peer = connection(&admission, 1);
    let (one, two) = (admit(&peer).unwrap(), admit(&peer).unwrap());
    one.run().unwrap();
    assert_eq!(two.run(), Err(Rejected::AtCapacity(process(1))));
    drop(one);
    two.run().unwrap();
    drop(two);
    assert_idle(&admission);
}

#[test]
fn the_request_without_progress_for_the_longest_time_makes_room() {
    // Four unfinished requests fit.
    let admission = admission(10, calls(8));
    let peers: Vec<_> = (0..5).map(|_| connection(&admission, 1)).collect();
    let permits: Vec<_> = peers.iter().map(|peer| admit(peer).unwrap()).collect();
    let mut unfinished: Vec<_> = permits[..4].iter().map(|permit| permit.unfinished().unwrap()).collect();
    let woken: Vec<_> = (0..4).map(|_| std::sync::Arc::new(Woken::default())).collect();
    for (one, woken) in unfinished.iter_mut().zip(&woken) {
        one.watch(&Waker::from(std::sync::Arc::clone(woken))).unwrap();
    }
    unfinished[0].progress();
    let fifth = permits[4].unfinished().unwrap();
    let flags: Vec<_> = woken.iter().map(|woken| woken.0.load(Ordering::SeqCst)).collect();
    assert_eq!(flags, [false, true, false, false]);
    assert_eq!(admission.unfinished_bytes(), (4, calls(4)));
    assert_eq!((admission.memory.amount(), admission.started()), (calls(4), 4), "its charges are gone already");
    assert_eq!(unfinished[1].charge(1), Err(Rejected::Evicted));
    assert_eq!(unfinished[1].watch(Waker::noop()), Err(Rejected::Evicted));
    let evicted = unfinished.remove(1);
    assert_eq!(evicted.complete(), Err(Rejected::Evicted));
    // A charge evicts other requests too, but never its own.
    unfinished[1].charge(1).unwrap();
    assert_eq!(admission.unfinished_bytes(), (3, calls(3) + 1));
    assert_eq!(unfinished[1].charge(calls(4)), Err(Rejected::MemoryExhausted(process(calls(8)))));
    assert_eq!(admission.unfinished_bytes().0, 3, "what can't fit evicts nothing");
    drop((unfinished, fifth));
    drop(permits);
    assert_idle(&admission);
}

#[test]
fn a_complete_call_is_not_shed_because_others_stall() {
    let admission = admission(10, calls(8));
    let (stranger, caller) = (connection(&admission, 1), connection(&admission, 2));
    let stalled: Vec<_> = (0..4).map(|_| admit(&stranger).unwrap()).collect();
    let stalled: Vec<_> = stalled.iter().map(|permit| permit.unfinished().unwrap()).collect();
    let running: Vec<_> = (0..4).map(|_| admit(&caller).unwrap()).collect();
    let one_more = admit(&caller).unwrap();
    assert_eq!(admission.unfinished_bytes().0, 3);
    assert_eq!(one_more.charge(calls(4)), Err(Rejected::MemoryExhausted(share(calls(6)))));
    assert_eq!(admission.unfinished_bytes().0, 3, "what can't fit evicts nothing");
    drop((stalled, running, one_more));
    assert_idle(&admission);
}

#[test]
fn a_started_call_gives_way_to_a_new_one() {
    let admission = admission(1, calls(100));
    let peer = connection(&admission, 1);
    let permits: Vec<_> = (0..STARTED_PER_RUNNING).map(|_| admit(&peer).unwrap()).collect();
    assert_eq!(admit(&peer).unwrap_err(), Rejected::AtCapacity(process(1)));
    let stalled = permits[0].unfinished().unwrap();
    let new = admit(&peer).unwrap();
    assert_eq!(admission.started(), STARTED_PER_RUNNING);
    assert_eq!(stalled.complete(), Err(Rejected::Evicted));
    drop((permits, new));
    assert_idle(&admission);
}

#[test]
fn a_connection_holds_a_quarter_of_the_unfinished_or_one_large_message() {
    let limit = 4 * 1024 + CONNECTION_ALLOWANCE;
    let admission = admission(100, calls(1000));
    assert_eq!(admission.limits.connection(), calls(125), "a quarter of a half");
    let small = Limits { memory: calls(10), ..admission.limits };
    assert_eq!(small.connection(), limit);
    let (peer, other) = (connection(&admission, 1), connection(&admission, 1));
    let one = admit(&peer).unwrap();
    let mut one = one.unfinished().unwrap();
    one.charge(calls(124)).unwrap();
    let two = admit(&peer).unwrap();
    let bound = Bound { limit: calls(125), scope: Scope::Connection };
    assert_eq!(two.unfinished().unwrap_err(), Rejected::MemoryExhausted(bound));
    assert_eq!(one.charge(1), Err(Rejected::MemoryExhausted(bound)));
    let elsewhere = admit(&other).unwrap();
    elsewhere.unfinished().unwrap().complete().unwrap();
}

#[test]
fn a_caller_has_three_quarters_while_another_calls() {
    let admission = admission(4, calls(100));
    let (one, two) = (connection(&admission, 1), connection(&admission, 2));
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let alone: Vec<_> = (0..4).map(|_| one.admit(Class::Call, 0, at(0)).unwrap()).collect();
    assert!(alone.iter().all(|permit| permit.run().is_ok()));
    drop(alone);
    let other = two.admit(Class::Call, 0, at(1)).unwrap();
    let permits: Vec<_> = (0..4).map(|_| one.admit(Class::Call, 0, at(2)).unwrap()).collect();
    let ran: Vec<_> = permits.iter().map(Permit::run).collect();
    assert_eq!(ran, [Ok(()), Ok(()), Ok(()), Err(Rejected::AtCapacity(share(3)))]);
    other.run().unwrap();
    let mut charged = 4;
    while permits[0].charge(CALL_COST).is_ok() {
        charged += 1;
    }
    assert_eq!(charged, 75);
    other.charge(calls(24)).unwrap();
    drop((permits, other));
    // A minute later the first one is alone again.
    let permit = one.admit(Class::Call, 0, at(62)).unwrap();
    permit.charge(calls(99)).unwrap();
    drop(permit);
    assert_idle(&admission);
}

#[test]
fn past_its_share_of_the_unfinished_a_caller_makes_room_for_itself() {
    let admission = admission(100, calls(16));
    let (one, two) = (connection(&admission, 1), connection(&admission, 2));
    let now = Instant::now();
    let victim = two.admit(Class::Call, 0, now).unwrap();
    let victim = victim.unfinished().unwrap();
    let permits: Vec<_> = (0..7).map(|_| one.admit(Class::Call, 0, now).unwrap()).collect();
    let unfinished: Vec<_> = permits.iter().map(|permit| permit.unfinished().unwrap()).collect();
    assert_eq!(admission.unfinished_bytes().0, 7);
    victim.complete().unwrap();
    assert_eq!(unfinished.into_iter().map(Unfinished::complete).filter(Result::is_err).count(), 1);
}

#[test]
fn streams_have_a_limit_on_each_connection_and_in_all() {
    assert_eq!(admission(1, 4 * STREAM_COST).limits.streams(), 1);
    let admission = admission(1, 4 * STREAM_COST * MAX_STREAMS);
    let mut streams = Vec::new();
    for _ in 0..MAX_STREAMS / MAX_STREAMS_PER_CONNECTION {
        let peer = connection(&admission, 1);
        for _ in 0..MAX_STREAMS_PER_CONNECTION {
            streams.push(peer.admit(Class::Stream, 0, Instant::now()).unwrap());
        }
        let bound = Bound { limit: MAX_STREAMS_PER_CONNECTION, scope: Scope::Connection };
        let rejected = peer.admit(Class::Stream, 0, Instant::now()).unwrap_err();
        assert_eq!(rejected, Rejected::TooManyStreams(bound));
    }
    let peer = connection(&admission, 1);
    let rejected = peer.admit(Class::Stream, 0, Instant::now()).unwrap_err();
    assert_eq!(rejected, Rejected::TooManyStreams(process(MAX_STREAMS)));
    streams.pop();
    peer.admit(Class::Stream, 0, Instant::now()).unwrap();
    drop(streams);
    assert_idle(&admission);
}

#[test]
fn health_is_answered_while_all_memory_is_taken() {
    let admission = admission(1, calls(32));
    let peer = connection(&admission, 1);
    let call = admit(&peer).unwrap();
    call.charge(calls(31)).unwrap();
    assert!(admit(&peer).is_err());
    let health = peer.admit(Class::Auxiliary, 100, Instant::now()).unwrap();
    health.unfinished().unwrap().complete().unwrap();
    drop((call, health));
    assert_idle(&admission);
}

#[test]
fn threads_that_start_stall_and_leave_exceed_no_limit_and_leave_nothing() {
    let admission = admission(8, calls(24));
    std::thread::scope(|scope| {
        for uid in 0..4 {
            let admission = &admission;
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(uid.into());
                for _ in 0..2_000 {
                    let peer = connection(admission, uid % 2);
                    let permits: Vec<_> = (0..rng.usize(1..6)).filter_map(|_| admit(&peer).ok()).collect();
                    let mut unfinished: Vec<_> = permits.iter().filter_map(|permit| permit.unfinished().ok()).collect();
                    for one in &mut unfinished {
                        let _ = one.charge(rng.usize(0..CALL_COST));
                        let _ = one.watch(Waker::noop());
                        one.progress();
                    }
                    assert!(admission.memory.amount() <= calls(24) && admission.running.amount() <= 8);
                    let (_, bytes) = admission.unfinished_bytes();
                    assert!(bytes <= calls(12), "{bytes}");
                    while let Some(one) = unfinished.pop() {
                        if rng.bool() {
                            let _ = one.complete();
                        }
                    }
                    drop(unfinished);
                    for permit in &permits {
                        let _ = permit.run();
                        let _ = permit.settle(rng.usize(0..CALL_COST));
                    }
                }
            });
        }
    });
    assert_idle(&admission);
    assert_eq!(admission.callers.len(), 0);
}
