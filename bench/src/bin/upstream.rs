//! An upstream that answers at once: 204, or the documented 404 of a domain that does not exist. It counts what it is
//! asked, and takes nothing but attach requests.
//!
//! `GET /count` tells the count, `PUT /answer/success` and `PUT /answer/error` say what to answer from then on.

use std::{
    convert::Infallible,
    error::Error,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use clap::Parser;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

const NOT_FOUND: &str = r#"{"error_code":"APIG.3020","error_msg":"The URL domain does not exist."}"#;

#[derive(Parser)]
struct Arguments {
    /// On loopback.
    port: u16,
    /// PEM; with it and its key the upstream speaks TLS.
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    #[arg(long)]
    key: Option<PathBuf>,
}

#[derive(Default)]
struct State {
    count: AtomicU64,
    fails: AtomicBool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let tls = match (&arguments.certificate, &arguments.key) {
        (Some(certificate), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
            let key = PrivateKeyDer::from_pem_file(key)?;
            let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
            Some(TlsAcceptor::from(Arc::new(config)))
        }
        _ => None,
    };
    let state = Arc::new(State::default());
    let listener = TcpListener::bind(("127.0.0.1", arguments.port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (state, tls) = (Arc::clone(&state), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => serve(stream, state).await,
                // A peer that gives up is its own affair.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, state).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<State>) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(request, &state).await) }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, state: &State) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let (status, text) = match (head.method, path) {
        (Method::GET, "/count") => (StatusCode::OK, state.count.load(Relaxed).to_string().into()),
        (Method::PUT, "/answer/success" | "/answer/error") => {
            state.fails.store(path.ends_with("error"), Relaxed);
            (StatusCode::OK, Bytes::new())
        }
        (Method::POST, path) if path.starts_with("/v2/") && path.ends_with("/domains/attach") => {
            match body.collect().await.map(Collected::to_bytes) {
                Ok(body) if !body.is_empty() => {
                    state.count.fetch_add(1, Relaxed);
                    if state.fails.load(Relaxed) {
                        (StatusCode::NOT_FOUND, Bytes::from_static(NOT_FOUND.as_bytes()))
                    } else {
                        (StatusCode::NO_CONTENT, Bytes::new())
                    }
                }
                _ => (StatusCode::BAD_REQUEST, Bytes::from_static(b"a request without its body")),
            }
        }
        _ => (StatusCode::BAD_REQUEST, Bytes::from_static(b"no such operation")),
    };
    let mut response = Response::builder().status(status);
    if status == StatusCode::NOT_FOUND {
        response = response.header(CONTENT_TYPE, "application/json");
    }
    response.body(Full::new(text)).expect("a status and a name")
}
