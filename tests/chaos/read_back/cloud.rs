//! A cloud that keeps a list of bindings for each certificate, loses the answer of every change, and returns its lists page
//! by page.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testkit::{
    cloud::head,
    http1::{Request, read_request},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    super::request::number_of,
    call::{Kind, PageFault, Plan},
};

/// A row of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) domain: String,
    pub(crate) instance: String,
    pub(crate) flag: Option<bool>,
}

/// The record of one call, on a certificate of its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    rows: Vec<Binding>,
    pub(crate) changes: usize,
    pub(crate) readings: usize,
    pub(crate) applied: Option<Instant>,
    /// Rows of others that were exchanged.
    shifts: usize,
}

/// The cloud.
#[derive(Debug)]
pub(crate) struct Cloud {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _serving: AbortOnDropHandle<()>,
}

struct State {
    plan: Box<dyn Fn(u64) -> Plan + Send + Sync>,
    records: Mutex<HashMap<u64, Record>>,
    strays: Mutex<Vec<String>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl Cloud {
    pub(crate) async fn start(plan: impl Fn(u64) -> Plan + Send + Sync + 'static) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { plan: Box::new(plan), records: Mutex::default(), strays: Mutex::default() });
        let serving = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(converse(stream, Arc::clone(&state)));
                }
            }
        });
        Arc::new(Self { address, state, _serving: AbortOnDropHandle::new(serving) })
    }

    /// Makes the list that the call finds: rows of others, and for a detach the bindings to end.
    pub(crate) fn prepare(&self, plan: &Plan) {
        let mut rows: Vec<Binding> = (0..plan.others).map(other).collect();
        if !plan.is_attach {
            let middle = rows.len() / 2;
            rows.splice(middle..middle, asked(plan));
        }
        self.state.records.lock().unwrap().insert(plan.number, Record { rows, ..Record::default() });
    }

    pub(crate) fn record(&self, number: u64) -> Record {
        self.state.records.lock().unwrap().get(&number).cloned().unwrap_or_default()
    }

    pub(crate) fn strays(&self) -> Vec<String> {
        self.state.strays.lock().unwrap().clone()
    }
}

fn other(number: usize) -> Binding {
    Binding { domain: format!("other-{number}.example.com"), instance: "instance-0".into(), flag: Some(false) }
}

/// The bindings that a call asks for, or to end: "every instance" is two.
fn asked(plan: &Plan) -> Vec<Binding> {
    let on =
        |domain: &String, instance: &str| Binding { domain: domain.clone(), instance: instance.into(), flag: None };
    let on_every = plan.on_every.iter().flat_map(|domain| [on(domain, "instance-1"), on(domain, "instance-2")]);
    plan.bindings.iter().cloned().chain(on_every).collect()
}

async fn converse(mut stream: TcpStream, state: Arc<State>) {
    let mut bytes = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut bytes).await {
        let Some(number) = request.header("x-request-id").and_then(number_of) else {
            state.strays.lock().unwrap().push(request.line.clone());
            return;
        };
        let plan = (state.plan)(number);
        let Some(answer) = answer(&state, &plan, &request).await else { return };
        if stream.write_all(&answer.bytes).await.is_err() || answer.is_last {
            return;
        }
    }
}

struct Answer {
    bytes: Vec<u8>,
    /// The connection ends after it.
    is_last: bool,
}

/// Answers a request; `None` ends the connection.
async fn answer(state: &Arc<State>, plan: &Plan, request: &Request) -> Option<Answer> {
    if request.line.starts_with("GET ") {
        return list(state, plan, request).await;
    }
    let delay = match plan.kind {
        Kind::Later(delay) => Some(delay),
        Kind::Applied | Kind::InPart => Some(Duration::ZERO),
        Kind::Unreadable => plan.is_applied.then_some(Duration::ZERO),
        Kind::NotApplied => None,
    };
    if let Some(record) = state.records.lock().unwrap().get_mut(&plan.number) {
        record.changes += 1;
    }
    match delay {
        Some(Duration::ZERO) => apply(state, plan),
        Some(delay) => {
            let (state, plan) = (Arc::clone(state), plan.clone());
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                apply(&state, &plan);
            });
        }
        None => {}
    }
    // A lost connection, or an answer that says nothing of the change.
    (plan.number / 23 + plan.number)
        .is_multiple_of(3)
        .then(|| Answer { bytes: head(504, [("Content-Length", "0")]), is_last: false })
}

fn apply(state: &State, plan: &Plan) {
    let mut records = state.records.lock().unwrap();
    let record = records.get_mut(&plan.number).unwrap();
    let mut asked = asked(plan);
    let is_whole = !matches!(plan.kind, Kind::InPart);
    if !is_whole {
        // At least one of them is left out, and one is not: there are two or more domains.
        asked.truncate(1);
    }
    if plan.is_attach {
        record.rows.extend(asked);
    } else {
        record.rows.retain(|row| !asked.contains(row));
    }
    if is_whole {
        record.applied = Some(Instant::now());
    }
}

async fn list(state: &State, plan: &Plan, request: &Request) -> Option<Answer> {
    let page = {
        let mut records = state.records.lock().unwrap();
        let record = records.get_mut(&plan.number)?;
        record.readings += 1;
        if plan.is_shifting && plan.others > 0 && record.readings % 3 == 2 {
            // Another caller ends one binding and makes another: the rows between move, and the total does not.
            record.shifts += 1;
            if let Some(at) = record.rows.iter().position(|row| row.domain.starts_with("other-")) {
                record.rows.remove(at);
                record.rows.push(other(1_000 + record.shifts));
            }
        }
        page(&record.rows, plan, request)
    };
    let whole = |body: &str| {
        let length = body.len().to_string();
        let mut bytes = head(200, [("Content-Type", "application/json"), ("Content-Length", &length)]);
        bytes.extend_from_slice(body.as_bytes());
        Answer { bytes, is_last: false }
    };
    let edited = |key: &str, value: Value| {
        let mut page = page.clone();
        page[key] = value;
        whole(&page.to_string())
    };
    match plan.fault {
        None => Some(whole(&page.to_string())),
        Some(PageFault::Status(status)) => {
            Some(Answer { bytes: head(status, [("Content-Length", "0")]), is_last: false })
        }
        Some(PageFault::Close) => None,
        Some(PageFault::Cut) => {
            let mut cut = whole(&page.to_string());
            cut.bytes.truncate(cut.bytes.len() - 2);
            Some(Answer { is_last: true, ..cut })
        }
        Some(PageFault::NotJson) => Some(whole("<html>Log in</html>")),
        Some(PageFault::NoTotal) => Some(edited("total", Value::Null)),
        Some(PageFault::EmptyBeforeTotal) => {
            let mut page = page.clone();
            page["total"] = json!(1_000_000);
            page["bound_domains"] = json!([]);
            Some(whole(&page.to_string()))
        }
        Some(PageFault::MoreThanTotal) => Some(edited("total", json!(-1))),
        Some(PageFault::Slow(time)) => {
            tokio::time::sleep(time).await;
            Some(whole(&page.to_string()))
        }
        Some(PageFault::Never) => std::future::pending().await,
    }
}

/// The page that a request asks for.
fn page(rows: &[Binding], plan: &Plan, request: &Request) -> Value {
    let parameter = |name: &str| {
        let query = request.line.split_once('?').map_or("", |(_, query)| query);
        let pair = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        pair.and_then(|value| value.parse::<usize>().ok())
    };
    let (offset, limit) = (parameter("offset").unwrap_or(0), parameter("limit").unwrap_or(20));
    let shown: Vec<Value> = rows.iter().skip(offset).take(limit.min(plan.cap)).map(|row| entry(row, plan)).collect();
    json!({"size": shown.len(), "total": rows.len(), "bound_domains": shown})
}

fn entry(row: &Binding, plan: &Plan) -> Value {
    let domain = if plan.respells { row.domain.to_uppercase() + "." } else { row.domain.clone() };
    let mut entry = json!({"url_domain": domain, "id": row.domain, "status": 3, "instance_id": row.instance});
    if !plan.hides_flags {
        // The cloud's default is off.
        entry["verified_client_certificate_enabled"] = json!(row.flag.unwrap_or(false));
    }
    entry
}
