mod broken;

use std::{future::Future, pin::Pin, sync::atomic::Ordering};

use shuttle::future::{block_on, spawn, yield_now};
use tokio::sync::Barrier;

use super::{
    super::{CredentialError, Kind, managed::ManagedCredential},
    *,
};
use crate::{model::explore, sync::AtomicUsize, telemetry::Metrics};

const TOGETHER: &str = "two requests of a pair that is not trusted are in flight";
const A_THIRD: &str = "a request leaves after two refusals";
/// The checker's message for a deadlock.
const WEDGED: &str = "deadlock";

type Asked = Pin<Box<dyn Future<Output = Option<SigningPermit>> + Send>>;

/// Whether the request may have been sent when its caller cancels, and its verdict if the caller does not.
type End = (fn() -> Sent, Option<Verdict>);

/// The operations of a key pair in the scenarios.
trait Sign: Send + Sync + 'static {
    fn new() -> Self;
    fn key(&self) -> &Arc<SigningKey>;
    /// Asks for a permit, and waits as a call does; none if the fuse is open.
    fn ask(self: Arc<Self>, sent: fn() -> Sent) -> Asked;

    /// Ends a request with a verdict, or by cancellation.
    fn end(&self, permit: SigningPermit, verdict: Option<Verdict>) {
        match verdict {
            Some(verdict) => permit.settle(verdict, None),
            None => drop(permit),
        }
    }
}

fn keys() -> Keys {
    Keys::new("id", "secret", None).unwrap()
}

/// The pair with the wait loop of `ManagedCredential`, as calls use it.
struct Real {
    managed: Arc<ManagedCredential>,
    key: Arc<SigningKey>,
}

impl Sign for Real {
    fn new() -> Self {
        let (ring, metrics) = (Arc::new(KeyRing::default()), Arc::new(Metrics::default()));
        let managed = ManagedCredential::start(Kind::Keys(keys()), "default", &ring, &metrics).unwrap();
        let key = ring.share(Arc::new(SigningKey::new(keys())));
        Self { managed, key }
    }

    fn key(&self) -> &Arc<SigningKey> {
        &self.key
    }

    fn ask(self: Arc<Self>, sent: fn() -> Sent) -> Asked {
        Box::pin(async move {
            match self.managed.grant(&sent).await {
                Ok(grant) => grant.permit,
                Err(CredentialError::Suspended { .. }) => None,
                Err(other) => panic!("{other:?}"),
            }
        })
    }
}

fn not_sent() -> Sent {
    Sent::after(&Arc::new(Progress::default()))
}

fn unknown() -> Sent {
    Sent::Unknown
}

/// Makes a pair suspect: the cloud has accepted one signature, and refused the next.
fn suspect(key: &Arc<SigningKey>) {
    for verdict in [Verdict::Accepted, Verdict::Refused] {
        let Decision::Admitted(pass) = key.admit() else { panic!("nothing else is in flight") };
        key.permit(pass, Sent::Unknown).settle(verdict, None);
    }
}

/// Concurrent calls of a pair that is not trusted, one for each end. Each has to finish.
fn one_by_one<S: Sign>(is_suspect: bool, ends: [End; 4]) {
    block_on(async {
        let pair = Arc::new(S::new());
        if is_suspect {
            suspect(pair.key());
        }
        let (in_flight, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(usize::from(is_suspect))));
        let calls: Vec<_> = ends
            .into_iter()
            .map(|(sent, end)| {
                let (pair, in_flight, refused) = (Arc::clone(&pair), Arc::clone(&in_flight), Arc::clone(&refused));
                spawn(async move {
                    let Some(permit) = Arc::clone(&pair).ask(sent).await else { return };
                    assert!(refused.load(Ordering::SeqCst) < 2, "{A_THIRD}");
                    assert_eq!(in_flight.fetch_add(1, Ordering::SeqCst), 0, "{TOGETHER}");
                    yield_now().await;
                    in_flight.fetch_sub(1, Ordering::SeqCst);
                    if end == Some(Verdict::Refused) {
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                    pair.end(permit, end);
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
    });
}

/// Cancelled calls, and responses that neither accept nor refuse.
fn nothing_proven<S: Sign>() {
    one_by_one::<S>(false, [(unknown, None), (not_sent, None), (unknown, Some(Verdict::Interrupted)), (unknown, None)]);
}

/// A wrong secret, with a cancelled call.
fn wrong_secret<S: Sign>() {
    let refused = Some(Verdict::Refused);
    one_by_one::<S>(false, [(unknown, refused), (unknown, refused), (not_sent, None), (unknown, refused)]);
}

/// A secret that is revoked while in use.
fn suspect_pair<S: Sign>() {
    let refused = Some(Verdict::Refused);
    one_by_one::<S>(
        true,
        [(unknown, refused), (not_sent, None), (unknown, Some(Verdict::Interrupted)), (unknown, refused)],
    );
}

/// Requests of a trusted pair in flight when its secret is revoked. After the second refusal none is signed.
fn trusted_pair<S: Sign>() {
    block_on(async {
        let pair = Arc::new(S::new());
        pair.key().change(Fuse::trust);
        let refused = Arc::new(AtomicUsize::new(0));
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let (pair, refused) = (Arc::clone(&pair), Arc::clone(&refused));
                spawn(async move {
                    let before = refused.load(Ordering::SeqCst);
                    let Some(permit) = Arc::clone(&pair).ask(unknown).await else { return };
                    assert!(before < 2, "{A_THIRD}");
                    yield_now().await;
                    pair.end(permit, Some(Verdict::Refused));
                    refused.fetch_add(1, Ordering::SeqCst);
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
    });
}

/// Calls that wait for the first call of an untrusted pair. Once it is accepted, all of them are in flight together.
fn release<S: Sign>() {
    block_on(async {
        let pair = Arc::new(S::new());
        let together = Arc::new(Barrier::new(3));
        let first = Arc::clone(&pair).ask(unknown).await.expect("it is the first");
        let calls: Vec<_> = (0..3)
            .map(|_| {
                let (pair, together) = (Arc::clone(&pair), Arc::clone(&together));
                spawn(async move {
                    let permit = Arc::clone(&pair).ask(unknown).await.expect("nothing was refused");
                    together.wait().await;
                    pair.end(permit, Some(Verdict::Accepted));
                })
            })
            .collect();
        yield_now().await;
        pair.end(first, Some(Verdict::Accepted));
        for call in calls {
            call.await.unwrap();
        }
        assert!(pair.key().fuse.borrow().is_trusted(), "an acceptance is lost");
    });
}

#[test]
fn an_unproven_pair_has_one_request_in_flight_and_no_caller_waits_for_ever() {
    explore(nothing_proven::<Real>);
}

#[test]
fn two_refusals_stop_an_unproven_pair() {
    explore(wrong_secret::<Real>);
}

#[test]
fn a_second_refusal_stops_a_suspect_pair() {
    explore(suspect_pair::<Real>);
}

#[test]
fn two_refusals_stop_a_trusted_pair() {
    explore(trusted_pair::<Real>);
}

#[test]
fn an_acceptance_releases_all_calls_that_wait() {
    explore(release::<Real>);
}
