//! Pooled connections that the cloud closes at the worst moment, again and again, with an account of every request.
//!
//! The cloud closes each connection after an answer: before the next call begins (its caller may see no error), or some
//! microseconds after the answer, while the next call is on its way (its caller may see a lost connection, if the request
//! had left). No request may reach the cloud twice, none may be told unsent that reached it, none answered that did not.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that meets them has failed, and tells its figures"
)]

use std::{
    collections::{BTreeMap, HashMap},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use apig_grpc_gateway::{
    config::{Config, Sources},
    pb::{AttachDomainsRequest, AttachOrDetachDomainInfo, certificate_service_client::CertificateServiceClient},
    server::Server,
};
use tonic::{Request, transport::Channel};
use tonic_types::StatusExt as _;

/// Callers at once, each with connections of its own towards the gateway.
const CALLERS: usize = 4;

/// The longest time from an answer to the end of its connection, when calls do not wait for it.
const LATEST: Duration = Duration::from_micros(300);

/// The cloud's account.
#[derive(Default)]
struct Ledger {
    /// How often each request was read as a whole.
    seen: Mutex<HashMap<String, u32>>,
    connections: AtomicU64,
    /// Connections that the peer's system knows to be closed.
    closed: AtomicU64,
}

/// Callers' account.
#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<&'static str, u64>,
    wrong: Vec<String>,
}

fn main() -> ExitCode {
    let (calls, seed) = (number("--calls").unwrap_or(2_000), number("--seed").unwrap_or(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut failed = false;
    for (name, waits) in [("before the call", true), ("during the call", false)] {
        let started = Instant::now();
        let ledger = Arc::<Ledger>::default();
        let address = serve(Arc::clone(&ledger), waits, seed);
        let tally = runtime.block_on(run(address, &ledger, calls / 2, waits));
        let connections = ledger.connections.load(Ordering::Relaxed);
        println!(
            "closed {name}: {} calls, {connections} connections, {:?}, {} wrong, {:.1?}",
            calls / 2,
            tally.outcomes,
            tally.wrong.len(),
            started.elapsed()
        );
        for wrong in tally.wrong.iter().take(10) {
            println!("  {wrong}");
        }
        failed |= !tally.wrong.is_empty();
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn number(flag: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != flag);
    arguments.nth(1)?.parse().ok()
}

async fn run(cloud: SocketAddr, ledger: &Arc<Ledger>, calls: u64, waits: bool) -> Tally {
    let flags = [
        ("upstream", format!("http://{cloud}")),
        ("listen", "127.0.0.1:0".to_owned()),
        ("admin-listen", "off".to_owned()),
        ("workers", "2".to_owned()),
        ("max-attempts", "1".to_owned()),
        ("breaker-threshold", "0".to_owned()),
    ];
    let sources = Sources { flags: flags.into_iter().collect(), environment: None, file: None, ..Sources::default() };
    let server = Server::bind(Config::load(sources).unwrap().gateway).await.unwrap();
    let address = server.address().to_string();
    let running = tokio::spawn(server.run(std::future::pending()));
    let (next, turn) = (Arc::new(AtomicU64::new(0)), Arc::<tokio::sync::Mutex<()>>::default());
    let callers = (0..CALLERS).map(|_| {
        let (ledger, next, turn, address) = (Arc::clone(ledger), Arc::clone(&next), Arc::clone(&turn), address.clone());
        tokio::spawn(async move {
            let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
            let mut client = CertificateServiceClient::new(channel);
            let mut tally = Tally::default();
            loop {
                let call = next.fetch_add(1, Ordering::Relaxed);
                if call >= calls {
                    return tally;
                }
                let mut turn = Some(turn.lock().await);
                if waits {
                    // Calls go one by one, each after the end of every connection so far.
                    while ledger.closed.load(Ordering::Acquire) < ledger.connections.load(Ordering::Acquire) {
                        tokio::task::yield_now().await;
                    }
                } else {
                    turn.take();
                }
                judge(&ledger, &mut tally, waits, &format!("c{call}"), &mut client).await;
            }
        })
    });
    let mut all = Tally::default();
    for caller in callers.collect::<Vec<_>>() {
        let tally = caller.await.unwrap();
        all.wrong.extend(tally.wrong);
        for (outcome, number) in tally.outcomes {
            *all.outcomes.entry(outcome).or_default() += number;
        }
    }
    running.abort();
    all
}

/// Makes one call and holds its outcome against the cloud's account.
async fn judge(
    ledger: &Ledger,
    tally: &mut Tally,
    waits: bool,
    id: &str,
    client: &mut CertificateServiceClient<Channel>,
) {
    let message = AttachDomainsRequest {
        project_id: "p".into(),
        certificate_id: id.into(),
        domains: vec![AttachOrDetachDomainInfo { domain: "example.com".into(), ..AttachOrDetachDomainInfo::default() }],
    };
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-auth-token", "t".parse().unwrap());
    let result = client.attach_domains(request).await;
    let seen = ledger.seen.lock().unwrap().get(id).copied().unwrap_or_default();
    let (outcome, is_right) = match &result {
        Ok(_) => ("success", seen == 1),
        Err(status) => {
            let info = status.get_details_error_info();
            let reason = info.as_ref().map_or("", |info| info.reason.as_str());
            let outcome = info.as_ref().and_then(|info| info.metadata.get("outcome")).map(String::as_str);
            match (reason, outcome) {
                ("UPSTREAM_UNREACHABLE", _) | (_, Some("not_sent")) => ("not sent", seen == 0 && !waits),
                ("UPSTREAM_CONNECTION_LOST", Some("unknown")) => ("lost", seen <= 1 && !waits),
                _ => ("other", false),
            }
        }
    };
    *tally.outcomes.entry(outcome).or_default() += 1;
    if !is_right {
        tally.wrong.push(format!("{id}: seen {seen} times, {result:?}"));
    }
}

/// A cloud with a thread for each connection, which it closes after an answer.
fn serve(ledger: Arc<Ledger>, waits: bool, seed: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut rng = fastrand::Rng::with_seed(seed);
        while let Ok((stream, _)) = listener.accept() {
            let (ledger, delay) = (Arc::clone(&ledger), LATEST.mul_f64(rng.f64()));
            ledger.connections.fetch_add(1, Ordering::AcqRel);
            thread::spawn(move || {
                converse(stream, &ledger, (!waits).then_some(delay));
                ledger.closed.fetch_add(1, Ordering::AcqRel);
            });
        }
    });
    address
}

fn converse(mut stream: TcpStream, ledger: &Ledger, delay: Option<Duration>) {
    stream.set_nodelay(true).unwrap();
    let mut bytes = Vec::new();
    let Some(id) = read_request(&mut stream, &mut bytes) else { return };
    *ledger.seen.lock().unwrap().entry(id).or_default() += 1;
    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
    if let Some(delay) = delay {
        let until = Instant::now() + delay;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }
    // Closing waits until the peer's system has the end of the connection.
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::from_secs(10))).unwrap();
}

/// Reads one request; the certificate that it names.
fn read_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<String> {
    let mut block = [0; 4_096];
    loop {
        let text = String::from_utf8_lossy(bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
            if body.len() >= length.parse().unwrap() {
                return head.split('/').skip_while(|part| *part != "certificates").nth(1).map(str::to_owned);
            }
        }
        match stream.read(&mut block) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(block.get(..read)?),
        }
    }
}
