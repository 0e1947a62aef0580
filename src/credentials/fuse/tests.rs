//! Tests of the fuse of one key pair with explicit time.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn pass(fuse: &mut Fuse, now: Instant) -> Pass {
    match fuse.admit(now) {
        Decision::Admitted(pass) => pass,
        other => panic!("{other:?}"),
    }
}

/// Sends one request with this outcome.
fn request(fuse: &mut Fuse, verdict: Verdict, now: Instant) -> Pass {
    let pass = pass(fuse, now);
    fuse.settle(pass, verdict, now);
    pass
}

fn opened(now: Instant) -> Fuse {
    let mut fuse = Fuse::default();
    for _ in 0..OPEN_AFTER {
        assert_eq!(request(&mut fuse, Verdict::Refused, now), Pass::Single);
    }
    fuse
}

#[test]
fn two_refusals_in_a_row_open_it() {
    let now = Instant::now();
    let mut fuse = opened(now);
    assert_eq!(fuse.position(), Position::Open);
    assert_eq!(fuse.admit(now), Decision::Open(FIRST_OPEN));
    assert_eq!(fuse.admit(now + FIRST_OPEN - SECOND), Decision::Open(SECOND));
}

#[test]
fn refusals_with_an_acceptance_between_never_open_it() {
    let now = Instant::now();
    let mut fuse = Fuse::default();
    for _ in 0..100 {
        request(&mut fuse, Verdict::Refused, now);
        request(&mut fuse, Verdict::Accepted, now);
    }
    assert!(fuse.is_trusted());
}

#[test]
fn answers_that_prove_nothing_leave_a_row_as_it_is() {
    let now = Instant::now();
    for verdict in [Verdict::Unproven, Verdict::Interrupted] {
        let mut fuse = Fuse::default();
        for _ in 0..50 {
            assert_eq!(request(&mut fuse, verdict, now), Pass::Single, "{verdict:?} is no credential");
        }
        request(&mut fuse, Verdict::Refused, now);
        request(&mut fuse, verdict, now);
        request(&mut fuse, Verdict::Refused, now);
        assert_eq!(fuse.position(), Position::Open);
    }
}

#[test]
fn an_unproven_or_suspect_pair_has_one_request_under_way() {
    let now = Instant::now();
    let mut fuse = Fuse::default();
    let first = pass(&mut fuse, now);
    assert_eq!(fuse.admit(now), Decision::Wait(None));
    fuse.settle(first, Verdict::Accepted, now);
    let shared = [pass(&mut fuse, now), pass(&mut fuse, now), pass(&mut fuse, now)];
    assert_eq!(shared, [Pass::Shared; 3]);
    fuse.settle(shared[0], Verdict::Refused, now);
    let single = pass(&mut fuse, now);
    assert_eq!((single, fuse.admit(now)), (Pass::Single, Decision::Wait(None)));
    fuse.settle(shared[1], Verdict::Accepted, now);
    assert_eq!(pass(&mut fuse, now), Pass::Shared, "the row is broken");
    // The pair is trusted by now, so the outcome of the former single request does not count.
    fuse.settle(single, Verdict::Abandoned, now);
    assert!(fuse.is_trusted());
}

#[test]
fn a_refused_probe_doubles_the_pause_up_to_five_minutes() {
    let mut now = Instant::now();
    let mut fuse = opened(now);
    for delay in [30, 60, 120, 240, 300, 300, 300] {
        let delay = Duration::from_secs(delay);
        assert_eq!(fuse.admit(now), Decision::Open(delay));
        now += delay;
        let probe = pass(&mut fuse, now);
        assert_eq!((probe, fuse.position()), (Pass::Probe, Position::HalfOpen));
        assert_eq!(fuse.admit(now), Decision::Open(PROBE_DELAY), "one probes");
        fuse.settle(probe, Verdict::Refused, now);
    }
}

#[test]
fn an_accepted_probe_closes_it_and_the_pauses_begin_anew() {
    let mut now = Instant::now();
    let mut fuse = opened(now);
    for verdict in [Verdict::Refused, Verdict::Accepted] {
        now += LONGEST_OPEN;
        request(&mut fuse, verdict, now);
    }
    assert_eq!((fuse.position(), pass(&mut fuse, now)), (Position::Closed, Pass::Shared));
    for _ in 0..2 {
        request(&mut fuse, Verdict::Refused, now);
    }
    assert_eq!(fuse.admit(now), Decision::Open(FIRST_OPEN));
}

#[test]
fn a_probe_whose_outcome_nobody_saw_is_followed_by_the_same_pause() {
    for verdict in [Verdict::Abandoned, Verdict::Interrupted] {
        let mut now = Instant::now();
        let mut fuse = opened(now);
        for _ in 0..5 {
            now += FIRST_OPEN;
            assert_eq!(request(&mut fuse, verdict, now), Pass::Probe);
            assert_eq!(fuse.admit(now), Decision::Open(FIRST_OPEN));
        }
    }
}

#[test]
fn a_probe_that_proves_nothing_gives_its_turn_to_the_next() {
    let mut now = Instant::now();
    let mut fuse = opened(now);
    now += FIRST_OPEN;
    for _ in 0..5 {
        assert_eq!(request(&mut fuse, Verdict::Unproven, now), Pass::Probe);
    }
    assert_eq!(fuse.position(), Position::Open);
}

#[test]
fn latecomers_neither_close_nor_prolong_it() {
    let now = Instant::now();
    let mut fuse = Fuse::default();
    fuse.trust();
    let late: Vec<_> = (0..1_000).map(|_| pass(&mut fuse, now)).collect();
    for pass in &late[..10] {
        fuse.settle(*pass, Verdict::Refused, now);
    }
    for verdict in [Verdict::Accepted, Verdict::Refused, Verdict::Interrupted, Verdict::Abandoned] {
        fuse.settle(Pass::Shared, verdict, now + SECOND);
    }
    assert_eq!(fuse.admit(now), Decision::Open(FIRST_OPEN));
}

#[test]
fn a_request_from_before_it_opened_keeps_the_probe_waiting() {
    let now = Instant::now();
    let mut fuse = Fuse::default();
    fuse.trust();
    let shared = pass(&mut fuse, now);
    fuse.settle(shared, Verdict::Refused, now);
    let single = pass(&mut fuse, now);
    fuse.settle(Pass::Shared, Verdict::Refused, now);
    let later = now + FIRST_OPEN;
    assert_eq!(fuse.admit(later), Decision::Open(PROBE_DELAY), "two would be under way");
    fuse.settle(single, Verdict::Accepted, later);
    assert_eq!(pass(&mut fuse, later), Pass::Probe);
}

#[test]
fn abandoned_requests_of_a_pair_without_proof_are_spaced() {
    let start = Instant::now();
    let mut now = start;
    let mut fuse = Fuse::default();
    let mut sent = 0;
    // Callers cancel at once, for an hour.
    while now < start + Duration::from_secs(3_600) {
        match fuse.admit(now) {
            Decision::Admitted(pass) => {
                sent += 1;
                fuse.settle(pass, Verdict::Abandoned, now);
            }
            Decision::Wait(moment) => now = moment.unwrap(),
            Decision::Open(delay) => panic!("nothing was refused, {delay:?}"),
        }
    }
    assert!(sent <= 4 + 4 + 3_600 / 300, "{sent} signatures");
    request(&mut fuse, Verdict::Accepted, now);
    assert_eq!(pass(&mut fuse, now), Pass::Shared);
}

/// In any order of outcomes, a pair that is never accepted has at most one request in progress, and few refusals.
#[test]
fn no_order_of_outcomes_sends_more_than_a_few_wrong_signatures() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..2_000 {
        let mut fuse = Fuse::default();
        let start = Instant::now();
        let mut now = start;
        let mut under_way: Option<Pass> = None;
        let mut refused = Vec::new();
        for _ in 0..200 {
            if let Some(pass) = under_way.take_if(|_| random.bool()) {
                let verdict =
                    [Verdict::Refused, Verdict::Unproven, Verdict::Interrupted, Verdict::Abandoned][random.usize(..4)];
                if verdict == Verdict::Refused {
                    refused.push(now - start);
                }
                fuse.settle(pass, verdict, now);
            }
            if let Decision::Admitted(pass) = fuse.admit(now) {
                assert_ne!(pass, Pass::Shared, "nothing was ever accepted");
                assert_eq!(under_way.replace(pass), None, "two under way");
            }
            now += Duration::from_millis(random.u64(..3_000));
        }
        let soon = refused.iter().filter(|when| **when < FIRST_OPEN).count();
        assert!(soon <= 2, "{refused:?}");
        assert!(refused.len() <= 6, "{refused:?}");
    }
}
