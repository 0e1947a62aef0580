//! The callers: many calls at once over several connections, some of which leave, and the end of each call.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use apig_grpc_gateway::pb::{AttachDomainsRequest, AttachOrDetachDomainInfo};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use testkit::{
    grpc::{ATTACH, frame, is_unprocessed},
    rng::Rng,
};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{
    fault::{Outcome, Verdict},
    model::deadline_passed,
    plan::{PROJECT, Plan},
    request::{TOKEN, domain, id},
};

/// The bound on waiting for a response.
const PATIENCE: Duration = Duration::from_secs(45);

/// The delay of a caller after the gateway itself has rejected its call.
const POLITE: Duration = Duration::from_millis(50);

/// The end of a call for its caller.
#[derive(Debug, Clone)]
pub(crate) enum CallEnd {
    Responded {
        verdict: Verdict,
        pushback: Option<String>,
    },
    /// The caller left first.
    Left,
    /// No response by the protocol.
    Broken(String),
}

/// A call that is over.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) number: u64,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) end: CallEnd,
}

impl Record {
    /// Whether the gateway rejected it without a request to the upstream.
    fn was_rejected(&self) -> bool {
        matches!(&self.end, CallEnd::Responded { verdict: Verdict { reason, .. }, .. }
            if reason == "OVERLOADED" || reason == "CIRCUIT_OPEN")
    }

    /// Whether it ended with `DEADLINE_EXCEEDED`.
    pub(crate) fn passed_deadline(&self) -> bool {
        matches!(&self.end, CallEnd::Responded { verdict, .. } if *verdict == deadline_passed(verdict.outcome))
    }
}

/// One connection to the gateway.
#[derive(Debug, Clone)]
struct Line {
    sender: SendRequest<Full<Bytes>>,
    cut: Arc<AtomicBool>,
    connection: Arc<AbortOnDropHandle<()>>,
}

/// The callers' connections to one gateway.
#[derive(Debug)]
pub(crate) struct Callers {
    address: String,
    lines: Vec<tokio::sync::Mutex<Option<Line>>>,
    /// Calls that were sent again since the gateway had not processed them.
    pub(crate) resent: AtomicU64,
}

impl Callers {
    pub(crate) fn of(address: &str, lines: usize) -> Arc<Self> {
        let lines = (0..lines).map(|_| tokio::sync::Mutex::new(None)).collect();
        Arc::new(Self { address: address.to_owned(), lines, resent: AtomicU64::new(0) })
    }

    async fn line(&self, number: u64) -> Line {
        let place = usize::try_from(number % self.lines.len() as u64).unwrap();
        let mut line = self.lines[place].lock().await;
        if let Some(line) = line.as_ref().filter(|line| !line.sender.is_closed()) {
            return line.clone();
        }
        let stream = tokio::net::TcpStream::connect(&self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        let connection = Arc::new(AbortOnDropHandle::new(connection));
        let new = Line { sender, cut: Arc::default(), connection };
        *line = Some(new.clone());
        new
    }

    /// Cuts a connection off, with all calls on it.
    async fn cut(&self, place: usize) {
        if let Some(line) = self.lines[place].lock().await.take() {
            line.cut.store(true, Ordering::Relaxed);
            line.connection.abort();
        }
    }

    /// Performs one call.
    pub(crate) async fn call(&self, number: u64, plan: &Plan) -> Record {
        loop {
            let line = self.line(number).await;
            let began = Instant::now();
            let asked = self.ask(line, number, plan);
            let end = match tokio::time::timeout(plan.leaves.unwrap_or(PATIENCE), asked).await {
                Ok(Some(end)) => end,
                Ok(None) => {
                    self.resent.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Err(_) if plan.leaves.is_some() => CallEnd::Left,
                Err(_) => CallEnd::Broken(format!("nothing came in {PATIENCE:?}")),
            };
            return Record { number, began, ended: Instant::now(), end };
        }
    }

    /// Sends the call; `None` when it certainly was not processed.
    async fn ask(&self, mut line: Line, number: u64, plan: &Plan) -> Option<CallEnd> {
        let broken = |fault: &hyper::Error, part: &str| {
            if line.cut.load(Ordering::Relaxed) {
                Some(CallEnd::Left)
            } else if is_unprocessed_error(fault) {
                None
            } else {
                Some(CallEnd::Broken(format!("{part}: {fault:?}")))
            }
        };
        let response = match line.sender.try_send_request(request(&self.address, number, plan)).await {
            Ok(response) => response,
            Err(mut fault) => {
                return match fault.take_message() {
                    Some(_) => None,
                    None => broken(fault.error(), "the request"),
                };
            }
        };
        let (parts, body) = response.into_parts();
        let trailers = match body.collect().await {
            Ok(body) => body.trailers().cloned().unwrap_or_default(),
            Err(fault) => return broken(&fault, "the response"),
        };
        let Some(status) = Status::from_header_map(&trailers).or_else(|| Status::from_header_map(&parts.headers))
        else {
            return Some(CallEnd::Broken(format!("no grpc-status in {parts:?} {trailers:?}")));
        };
        Some(classify(&status))
    }

    /// Performs these calls, so many at a time.
    pub(crate) async fn perform(
        self: &Arc<Self>,
        plans: Arc<dyn Fn(u64) -> Plan + Send + Sync>,
        numbers: std::ops::Range<u64>,
        at_a_time: usize,
    ) -> Vec<Record> {
        let next = Arc::new(AtomicU64::new(numbers.start));
        let records = Arc::new(Mutex::new(Vec::new()));
        let mut workers = JoinSet::new();
        for _ in 0..at_a_time {
            let (callers, plans) = (Arc::clone(self), Arc::clone(&plans));
            let (next, records) = (Arc::clone(&next), Arc::clone(&records));
            workers.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
                        break;
                    }
                    let record = callers.call(number, &plans(number)).await;
                    let rejected = record.was_rejected();
                    records.lock().unwrap().push(record);
                    if rejected {
                        tokio::time::sleep(POLITE).await;
                    }
                }
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
        std::mem::take(&mut records.lock().unwrap())
    }

    /// Cuts connections off now and then, until it is dropped.
    pub(crate) async fn cut_now_and_then(self: Arc<Self>, seed: u64) {
        let mut rng = Rng::of(seed, 1);
        loop {
            tokio::time::sleep(rng.millis(100, 600)).await;
            let place = usize::try_from(rng.below(self.lines.len() as u64)).unwrap();
            self.cut(place).await;
        }
    }
}

/// Whether the peer says that it has not processed the request.
fn is_unprocessed_error(fault: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(fault);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return is_unprocessed(error);
        }
        cause = error.source();
    }
    false
}

fn request(address: &str, number: u64, plan: &Plan) -> http::Request<Full<Bytes>> {
    let message = AttachDomainsRequest {
        project_id: PROJECT.into(),
        certificate_id: plan.certificate.clone(),
        domains: vec![AttachOrDetachDomainInfo {
            domain: domain(number),
            instance_ids: Vec::new(),
            verified_client_certificate_enabled: None,
        }],
    };
    let bytes = frame(0, &message.encode_to_vec());
    let mut request = http::Request::post(format!("http://{address}{ATTACH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-auth-token", TOKEN)
        .header("x-request-id", id(number));
    if let Some(deadline) = plan.deadline {
        request = request.header("grpc-timeout", format!("{}u", deadline.as_micros()));
    }
    request.body(Full::new(Bytes::from(bytes))).unwrap()
}

/// The verdict of a status.
fn classify(status: &Status) -> CallEnd {
    let pushback = status.metadata().get("grpc-retry-pushback-ms").and_then(|value| value.to_str().ok());
    let pushback = pushback.map(str::to_owned);
    if status.code() == Code::Ok {
        return CallEnd::Responded { verdict: Verdict::new(Code::Ok, "", Outcome::Plain), pushback };
    }
    let Some(info) = status.get_details_error_info() else {
        return CallEnd::Broken(format!("an error without ErrorInfo: {status:?}"));
    };
    let outcome = match info.metadata.get("outcome").map(String::as_str) {
        None => Outcome::Plain,
        Some("not_sent") => Outcome::NotSent,
        Some("unknown") => Outcome::Unknown,
        Some(other) => return CallEnd::Broken(format!("an outcome that is none: {other}")),
    };
    CallEnd::Responded { verdict: Verdict::new(status.code(), &info.reason, outcome), pushback }
}

/// How often each response came, most often first.
pub(crate) fn tally(records: &[Record]) -> Vec<(String, usize)> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for record in records {
        let name = match &record.end {
            CallEnd::Responded { verdict: Verdict { code: Code::Ok, .. }, .. } => "OK".to_owned(),
            CallEnd::Responded { verdict: Verdict { code, reason, outcome }, .. } => match outcome {
                Outcome::Plain => format!("{code:?} {reason}"),
                Outcome::NotSent => format!("{code:?} {reason} not sent"),
                Outcome::Unknown => format!("{code:?} {reason} unknown"),
            },
            CallEnd::Left => "the caller left".to_owned(),
            CallEnd::Broken(_) => "broken".to_owned(),
        };
        *counts.entry(name).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|(name, count), (other_name, other)| other.cmp(count).then(name.cmp(other_name)));
    counts
}
