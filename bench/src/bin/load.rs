//! Load: each of `connections` × `streams` calls again as soon as it has its answer, and every answer is checked.
//!
//! It speaks a line at a time with whoever started it: it connects, makes its warm-up calls and prints `ready`; a line
//! on standard input starts the measured calls; it prints one line of JSON, and keeps its connections until standard
//! input ends. By hand: `echo | load 127.0.0.1:50051 --seconds 5`.

use std::{
    error::Error,
    net::{AddrParseError, SocketAddr},
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use apig_grpc_gateway_bench::{METHOD, pb};
use bytes::{BufMut as _, Bytes, BytesMut};
use clap::Parser;
use h2::client::SendRequest;
use http::{HeaderMap, Request, StatusCode};
use prost::Message as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, BufReader},
    net::{TcpStream, UnixStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

type Fault = Box<dyn Error + Send + Sync>;

#[derive(Parser)]
struct Arguments {
    /// The gateway: an address and a port, or `unix:` and a path.
    target: Target,
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Calls at once on each connection.
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// Ends after so many calls in all.
    #[arg(long, default_value_t = u64::MAX)]
    calls: u64,
    /// Ends after so many seconds.
    #[arg(long, default_value_t = 3600.0)]
    seconds: f64,
    /// Calls made before, in all.
    #[arg(long, default_value_t = 0)]
    warm_up: u64,
    /// Domains in each request.
    #[arg(long, default_value_t = 1)]
    domains: usize,
    /// The gRPC status that every answer must have.
    #[arg(long, default_value_t = 0)]
    expect: u16,
    /// Every answer must bring `grpc-status-details-bin`.
    #[arg(long)]
    details: bool,
    /// TLS, trusting this CA (PEM).
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Tries to make one good call until it can, and prints when that was (nanoseconds since 1970).
    #[arg(long)]
    until_good: bool,
}

#[derive(Clone)]
enum Target {
    Port(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for Target {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.strip_prefix("unix:") {
            Some(path) => Self::Unix(path.into()),
            None => Self::Port(text.parse()?),
        })
    }
}

impl Target {
    fn authority(&self) -> String {
        match self {
            Self::Port(address) => address.to_string(),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let arguments = Arc::new(Arguments::parse());
    let tls = arguments.ca.as_ref().map(|path| connector(path)).transpose()?;
    if arguments.until_good {
        return first_good(&arguments, tls.as_ref()).await;
    }
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let mut callers = Vec::new();
    for connection in 0..arguments.connections {
        let sender = connect(&arguments.target, tls.as_ref()).await?;
        for stream in 0..arguments.streams {
            let number = connection * arguments.streams + stream;
            let mut caller = Caller::new(sender.clone(), number, &arguments)?;
            if stream == 0 {
                // A connection that has not carried a call has not taken what it will keep.
                caller.call().await?;
            }
            callers.push(caller);
        }
    }
    let warmed = run(callers, arguments.warm_up, Duration::MAX).await?;
    println!("ready");
    if input.next_line().await?.is_none() {
        return Ok(());
    }

    let started = Instant::now();
    let ended = run(warmed.callers, arguments.calls, Duration::from_secs_f64(arguments.seconds)).await?;
    let took = started.elapsed().as_secs_f64();
    let mut latencies = ended.latencies;
    latencies.sort_unstable();
    let calls = latencies.len();
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "for people"
    )]
    let quantile = |share: f64| {
        let place = ((calls as f64 * share) as usize).min(calls.saturating_sub(1));
        latencies.get(place).map_or(0.0, |nanoseconds| f64::from(*nanoseconds) / 1000.0)
    };
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let rate = calls as f64 / took;
    let result = serde_json::json!({
        "calls": calls,
        "seconds": took,
        "rate": rate,
        "p50": quantile(0.5),
        "p99": quantile(0.99),
        "p999": quantile(0.999),
        "longest": quantile(1.0),
    });
    println!("{result}");
    while input.next_line().await?.is_some() {}
    Ok(())
}

/// What came of many calls.
struct Ended {
    callers: Vec<Caller>,
    /// Nanoseconds.
    latencies: Vec<u32>,
}

/// Has all call until so many calls are made, or the time is over. One wrong answer ends everything.
async fn run(callers: Vec<Caller>, calls: u64, time: Duration) -> Result<Ended, Fault> {
    let left = Arc::new(AtomicU64::new(calls));
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for mut caller in callers {
        let left = Arc::clone(&left);
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() && started.elapsed() < time {
                let begun = Instant::now();
                caller.call().await?;
                latencies.push(u32::try_from(begun.elapsed().as_nanos()).unwrap_or(u32::MAX));
            }
            Ok::<_, Fault>((caller, latencies))
        });
    }
    let mut ended = Ended { callers: Vec::new(), latencies: Vec::new() };
    while let Some(task) = tasks.join_next().await {
        let (caller, latencies) = task??;
        ended.callers.push(caller);
        ended.latencies.extend(latencies);
    }
    Ok(ended)
}

/// One that calls again and again, about a certificate of its own: changes of one certificate wait for each other.
struct Caller {
    sender: SendRequest<Bytes>,
    request: Request<()>,
    message: Bytes,
    arguments: Arc<Arguments>,
}

impl Caller {
    fn new(sender: SendRequest<Bytes>, number: usize, arguments: &Arc<Arguments>) -> Result<Self, Fault> {
        let domain = |number: usize| pb::AttachOrDetachDomainInfo {
            domain: format!("name-{number:05}.example.com"),
            instance_ids: vec![
                "f0fa1789-3b76-433b-a787-9892951c620e".into(),
                "7d39549681c54d968ec2910da9da95cd".into(),
            ],
            verified_client_certificate_enabled: None,
        };
        let message = pb::AttachDomainsRequest {
            project_id: "73d69ae0cfcf460190522d06b60f05ad".into(),
            certificate_id: format!("{number:032x}"),
            domains: (0..arguments.domains).map(domain).collect(),
        };
        let mut bytes = BytesMut::new();
        bytes.put_u8(0);
        bytes.put_u32(u32::try_from(message.encoded_len())?);
        message.encode(&mut bytes)?;
        let scheme = if arguments.ca.is_some() { "https" } else { "http" };
        let request = Request::post(format!("{scheme}://{}{METHOD}", arguments.target.authority()))
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .header("user-agent", "grpc-bench/1")
            .header("grpc-timeout", "10S")
            .header("x-auth-token", "a-token-of-some-length-as-short-ones-are")
            .body(())?;
        Ok(Self { sender, request, message: bytes.freeze(), arguments: Arc::clone(arguments) })
    }

    async fn call(&mut self) -> Result<(), Fault> {
        let mut sender = self.sender.clone().ready().await?;
        let (answer, mut body) = sender.send_request(self.request.clone(), false)?;
        body.send_data(self.message.clone(), true)?;
        let answer = answer.await?;
        if answer.status() != StatusCode::OK {
            return Err(format!("HTTP status {}", answer.status()).into());
        }
        if answer.headers().contains_key("grpc-status") {
            return self.check(answer.headers(), 0);
        }
        let mut body = answer.into_body();
        let mut length = 0;
        while let Some(data) = body.data().await {
            let data = data?;
            length += data.len();
            body.flow_control().release_capacity(data.len())?;
        }
        let trailers = body.trailers().await?.ok_or("an answer without trailers")?;
        self.check(&trailers, length)
    }

    fn check(&self, trailers: &HeaderMap, length: usize) -> Result<(), Fault> {
        let status = trailers.get("grpc-status").ok_or("an answer without grpc-status")?.to_str()?.parse::<u16>()?;
        if status != self.arguments.expect {
            return Err(format!("grpc-status {status}, {:?}", trailers.get("grpc-message")).into());
        }
        // The empty message with its five bytes of prefix.
        if status == 0 && length != 5 {
            return Err(format!("a message of {length} bytes").into());
        }
        if self.arguments.details && !trailers.contains_key("grpc-status-details-bin") {
            return Err("an error without details".into());
        }
        Ok(())
    }
}

async fn connect(target: &Target, tls: Option<&TlsConnector>) -> Result<SendRequest<Bytes>, Fault> {
    let address = match target {
        Target::Port(address) => *address,
        Target::Unix(path) => return greet(UnixStream::connect(path).await?).await,
    };
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    match tls {
        None => greet(stream).await,
        Some(tls) => greet(tls.connect(ServerName::IpAddress(address.ip().into()), stream).await?).await,
    }
}

async fn greet(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<SendRequest<Bytes>, Fault> {
    let (sender, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn connector(ca: &PathBuf) -> Result<TlsConnector, Fault> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn first_good(arguments: &Arc<Arguments>, tls: Option<&TlsConnector>) -> Result<(), Fault> {
    println!("ready");
    let until = Instant::now() + Duration::from_secs_f64(arguments.seconds);
    loop {
        let tried = async {
            let sender = connect(&arguments.target, tls).await?;
            Caller::new(sender, 0, arguments)?.call().await
        };
        match tried.await {
            Ok(()) => break,
            Err(fault) if Instant::now() > until => return Err(fault),
            Err(_) => tokio::time::sleep(Duration::from_micros(100)).await,
        }
    }
    println!("{}", SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos());
    Ok(())
}
