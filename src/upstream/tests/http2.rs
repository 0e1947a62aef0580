//! HTTP/2 over TLS, with a server that closes, refuses and goes away at will.

use h2::{Reason, server::SendResponse};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::*;

/// The step of a server after a request.
#[derive(Debug, Clone, Copy)]
enum Step {
    Answer,
    Refuse,
    /// An answer, and the end of the connection as soon as the test says that it has the answer.
    AnswerAndClose,
    /// The same, with GOAWAY first.
    AnswerAndGoAway,
}

struct Server {
    settings: Settings,
    /// The test has its answer.
    answered: tokio::sync::mpsc::UnboundedSender<()>,
    events: mpsc::Receiver<Event>,
    _ca: tempfile::NamedTempFile,
}

/// Serves on a thread of its own.
fn serve(script: Vec<Step>) -> Server {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let mut tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), cert.pem()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let (seen, events) = mpsc::channel();
    let (answered, heard) = tokio::sync::mpsc::unbounded_channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(listener, TlsAcceptor::from(Arc::new(tls)), script, seen, heard));
    });
    let tls = TlsFiles::load(Some(ca.path().to_owned()), None).unwrap();
    let settings = Settings { tls: Some(Arc::new(tls)), ..settings(&base) };
    Server { settings, answered, events, _ca: ca }
}

async fn run(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    script: Vec<Step>,
    seen: mpsc::Sender<Event>,
    mut heard: tokio::sync::mpsc::UnboundedReceiver<()>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let mut script = script.into_iter();
    while let Ok((stream, _)) = listener.accept().await {
        seen.send(Event::Opened).ok();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::from_secs(10))).unwrap();
        let mut connection = h2::server::handshake(acceptor.accept(stream).await.unwrap()).await.unwrap();
        while let Some(Ok((request, answer))) = connection.accept().await {
            seen.send(Event::Request(request.uri().path().to_owned())).ok();
            let step = script.next().expect("the script has a step");
            step_on(step, answer);
            if matches!(step, Step::AnswerAndClose | Step::AnswerAndGoAway) {
                // Nothing more of the connection is read once the test has its answer.
                tokio::select! {
                    _ = connection.accept() => {}
                    _ = heard.recv() => {}
                }
                if matches!(step, Step::AnswerAndGoAway) {
                    connection.abrupt_shutdown(Reason::NO_ERROR);
                    let _ = std::future::poll_fn(|cx| connection.poll_closed(cx)).await;
                }
                drop(connection);
                seen.send(Event::Closed).ok();
                break;
            }
        }
    }
}

fn step_on(step: Step, mut answer: SendResponse<Bytes>) {
    if matches!(step, Step::Refuse) {
        answer.send_reset(Reason::REFUSED_STREAM);
    } else {
        answer.send_response(http::Response::builder().status(204).body(()).unwrap(), true).unwrap();
    }
}

#[tokio::test]
async fn a_shared_connection_that_was_closed_while_idle_is_found_before_the_first_byte() {
    for (step, body) in [
        (Step::AnswerAndClose, None),
        (Step::AnswerAndClose, Some(&b"{}"[..])),
        (Step::AnswerAndGoAway, None),
        (Step::AnswerAndGoAway, Some(b"{}")),
    ] {
        const ROUNDS: usize = 10;
        let server = serve(vec![step; ROUNDS]);
        let upstream = upstream(&server.settings);
        let mut seen = Vec::new();
        for round in 1..=ROUNDS {
            let (result, is_sent) = exchange(&upstream, body).await;
            assert_eq!(result.unwrap_or_else(|error| panic!("{step:?}: {error:?}")).status(), StatusCode::NO_CONTENT);
            assert!(is_sent);
            server.answered.send(()).unwrap();
            while requests(&seen) < round || seen.last() != Some(&Event::Closed) {
                seen.push(server.events.recv_timeout(Duration::from_secs(20)).unwrap());
            }
        }
        assert_eq!((requests(&seen), openings(&seen)), (ROUNDS, ROUNDS));
    }
}

#[tokio::test]
async fn a_refused_stream_is_not_sent() {
    for body in [None, Some(&b"{}"[..])] {
        let server = serve(vec![Step::Answer, Step::Refuse, Step::Answer]);
        let upstream = upstream(&server.settings);
        exchange(&upstream, body).await.0.unwrap();
        let (result, is_sent) = exchange(&upstream, body).await;
        assert!(matches!(result, Err(Failure::NotSent(_))), "{result:?}");
        assert!(!is_sent);
        exchange(&upstream, body).await.0.unwrap();
        assert_eq!(openings(&server.events.try_iter().collect::<Vec<_>>()), 1);
    }
}
