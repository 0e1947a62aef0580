use axum::{Router, routing::post};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use tokio::sync::mpsc;
use tonic_types::StatusExt as _;

use super::*;
use crate::admission::tests::assert_idle;

const ATTACH: &str = "/huaweicloud.apic.v2.CertificateService/AttachDomains";
const CHECK: &str = "/grpc.health.v1.Health/Check";

fn shared(settings: &[(&'static str, &str)]) -> Shared {
    let flags = [("upstream", "http://127.0.0.1:9")].into_iter().chain(settings.iter().copied());
    let flags = flags.map(|(key, value)| (key, value.to_owned())).collect();
    let sources = crate::config::Sources { flags, ..Default::default() };
    Shared::new(Arc::default(), None, None, &crate::config::Config::load(sources).unwrap().gateway)
}

/// A gateway with these services.
fn inbound(router: Router, settings: &[(&'static str, &str)]) -> Arc<Inbound<Routes>> {
    let services = Routes::from(router);
    Arc::new(Inbound::new(services.clone(), services, Arc::new(shared(settings))))
}

fn request(path: &str, message: &[u8]) -> Request<Full<Bytes>> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let body = Bytes::from([&[0], &length[..], message].concat());
    Request::post(format!("http://gateway{path}")).body(Full::new(body)).unwrap()
}

/// A request with a body that comes in pieces, or never.
fn waiting(path: &str) -> (mpsc::UnboundedSender<Result<Frame<Bytes>, Infallible>>, Request<impl BodySource>) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let body = StreamBody::new(futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx)));
    (sender, Request::post(format!("http://gateway{path}")).body(body).unwrap())
}

fn verdict(response: &Response<Body>) -> (Code, String) {
    let status = Status::from_header_map(response.headers()).unwrap();
    (status.code(), status.get_details_error_info().unwrap().reason)
}

#[tokio::test]
async fn a_panic_is_one_failed_call_and_no_more() {
    let panics = post(async || -> () { panic!("on purpose") });
    let broken = inbound(Router::new().route(ATTACH, panics.clone()).route(CHECK, panics), &[]);
    for path in [ATTACH, CHECK] {
        let answer = Arc::clone(&broken).answer(request(path, b"")).await;
        assert_eq!(verdict(&answer), (Code::Internal, "INTERNAL_ERROR".into()));
    }
    assert_eq!(broken.shared.metrics.panics.get(), 2);
    assert_eq!(broken.shared.metrics.calls_in_progress.get(), 0);
    assert_idle(&broken.shared.admission);
    let fine = inbound(Router::new().route(ATTACH, post(async || "fine")), &[]);
    assert_eq!(Arc::clone(&fine).answer(request(ATTACH, b"")).await.status(), 200);
    assert_idle(&fine.shared.admission);
}

#[test]
fn only_known_methods_become_labels() {
    assert_eq!(method(ATTACH), (&ATTACH[1..], Some(resources::METHODS[0])));
    assert_eq!(method("/huaweicloud.apic.v2.CertificateService/Nope"), (UNKNOWN, None));
    assert_eq!(method(""), (UNKNOWN, None));
}

#[tokio::test(start_paused = true)]
async fn no_way_out_of_a_call_keeps_a_charge() {
    let hangs = post(async || std::future::pending::<()>().await);
    let inbound = inbound(Router::new().route(ATTACH, hangs), &[("timeout", "8s")]);
    let admission = &inbound.shared.admission;
    let answer = |request| Arc::clone(&inbound).answer(request);
    // The caller leaves: before the message is there, within it, and while the call is at work.
    for pieces in [0, 1, 2] {
        let (sender, request) = waiting(ATTACH);
        let mut call = Box::pin(Arc::clone(&inbound).answer(request));
        for piece in [&[0, 0, 0, 0][..], &[0]].into_iter().take(pieces) {
            sender.send(Ok(Frame::data(Bytes::copy_from_slice(piece)))).unwrap();
        }
        if pieces == 2 {
            drop(sender);
        }
        assert!(futures_util::poll!(&mut call).is_pending());
        assert_eq!(admission.started(), 1);
        drop(call);
        assert_idle(admission);
    }
    // No progress, the deadline, and a message that is refused.
    let (_sender, stalls) = waiting(ATTACH);
    assert_eq!(
        verdict(&Arc::clone(&inbound).answer(stalls).await),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into())
    );
    assert_idle(admission);
    assert_eq!(verdict(&answer(request(ATTACH, b"")).await), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into()));
    assert_idle(admission);
    let many = [0x1a, 0].repeat(MAX_ENTRIES + 1);
    assert_eq!(verdict(&answer(request(ATTACH, &many)).await), (Code::InvalidArgument, "INVALID_REQUEST".into()));
    assert_eq!(verdict(&answer(request("/a/b", b"")).await), (Code::Unimplemented, "INVALID_REQUEST".into()));
    assert_idle(admission);
}

#[tokio::test]
async fn an_evicted_request_is_answered_at_once_and_the_newcomer_served() {
    let router = Router::new().route(ATTACH, post(async || "fine"));
    // Four unfinished requests fit.
    let inbound = inbound(router, &[("max-buffered-bytes", "72KiB")]);
    let admission = &inbound.shared.admission;
    let mut stalled: Vec<_> = (0..4)
        .map(|_| {
            let (sender, request) = waiting(ATTACH);
            (sender, tokio::spawn(Arc::clone(&inbound).answer(request)))
        })
        .collect();
    while admission.started() < 4 {
        tokio::task::yield_now().await;
    }
    // One in one piece is answered without an eviction, one that waits with one.
    assert_eq!(Arc::clone(&inbound).answer(request(ATTACH, b"")).await.status(), 200);
    let (sender, late) = waiting(ATTACH);
    let late = tokio::spawn(Arc::clone(&inbound).answer(late));
    let (_first, evicted) = stalled.remove(0);
    assert_eq!(verdict(&evicted.await.unwrap()), (Code::Unavailable, "OVERLOADED".into()));
    sender.send(Ok(Frame::data(Bytes::from_static(&[0; 5])))).unwrap();
    drop(sender);
    assert_eq!(late.await.unwrap().status(), 200);
    for (sender, call) in stalled {
        drop(sender);
        assert_eq!(verdict(&call.await.unwrap()).0, Code::InvalidArgument, "it was not evicted");
    }
    assert_idle(admission);
}
