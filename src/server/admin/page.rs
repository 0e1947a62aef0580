//! `/`: one page for a person who has been woken up. Plain HTML that text browsers can read, without scripts or other
//! files.

use std::{
    fmt::Write as _,
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use tonic::Code;

use super::{
    console::{Console, State},
    html::{Bytes, Moment, Span, Text, Time, facts, table},
    readiness::{Condition, conditions, next_probe},
};
use crate::{
    build_info,
    cloud::{Circuit, Usage},
    telemetry::{self, CredentialState, code_name},
};

const STYLE: &str = include_str!("page.css");

/// The policy of the page: its own style sheet, an empty icon, and nothing else.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// The interval of `?refresh`, in seconds.
const REFRESH: u32 = 5;

/// The page. With `refreshes` the browser loads it again and again.
pub(super) fn html(console: &Console, refreshes: bool) -> String {
    let now = SystemTime::now();
    let state = console.state();
    let refresh = if refreshes { format!("<meta http-equiv=refresh content={REFRESH}>\n") } else { String::new() };
    let title = if state.snapshot.is_ready { "ready" } else { "not ready" };
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n<title>{title}: apig-grpc-gateway</title>\n\
         <meta name=viewport content=\"width=device-width\">\n{refresh}<link rel=icon href=\"data:,\">\n\
         <style>{STYLE}</style>\n</head>\n<body>\n"
    );
    html += &head(&state, &conditions(console), now, refreshes);
    html += "<main>\n";
    for (class, section) in [
        ("", current(&state)),
        ("", calls(&state)),
        (" class=wide", failures(&state)),
        ("", credentials(console, now)),
        ("", configuration(console)),
    ] {
        let _ = write!(html, "<section{class}>\n{section}</section>\n");
    }
    html + "</main>\n</body>\n</html>\n"
}

fn head(state: &State, conditions: &[Condition], now: SystemTime, refreshes: bool) -> String {
    let mut html = String::from("<header>\n<h1>apig-grpc-gateway</h1>\n");
    let uptime = Span(telemetry::started().elapsed());
    let _ = writeln!(html, "<p>{}, up for {uptime}, shown at {}</p>", Text(build_info::Line), Time(now));
    let fault = |condition: &Condition| Some(format!("{}: {}", Text(&condition.name), Text(condition.fault.as_ref()?)));
    let faults: Vec<String> = conditions.iter().filter_map(fault).collect();
    let word = if state.snapshot.is_ready { "Ready" } else { "Not ready" };
    let class = if state.snapshot.is_ready { "warn" } else { "bad" };
    let _ = if faults.is_empty() {
        writeln!(html, "<p class=verdict>{word}. Every condition is met.</p>")
    } else {
        writeln!(html, "<p class=\"verdict {class}\">{word}. {}.</p>", faults.join("; "))
    };
    let (link, text) = if refreshes { ("/", "Stop the refresh") } else { ("/?refresh", "Refresh every 5 s") };
    let _ = writeln!(html, "<nav aria-label=Pages>\n<ul>\n<li><a href=\"{link}\">{text}</a></li>");
    for path in ["/readyz?verbose", "/metrics", "/config", "/version"] {
        let _ = writeln!(html, "<li><a href=\"{path}\">{path}</a></li>");
    }
    html + "</ul>\n</nav>\n</header>\n"
}

fn current(state: &State) -> String {
    let State { snapshot, cloud, .. } = state;
    let circuit = match cloud.circuit {
        Circuit::Closed => "closed".to_owned(),
        Circuit::HalfOpen => "<span class=bad>half open</span>, a probe is on its way".to_owned(),
        Circuit::Open => format!("<span class=bad>open</span>, {}", next_probe(cloud.probe_in)),
    };
    let rate_limit = cloud.rate_limit.map_or("none".to_owned(), |Usage { limit, waiting, totals }| {
        let (delayed, rejected) = (totals.delayed, totals.rejected);
        format!("{limit} requests a second; {waiting} waiting, {delayed} delayed, {rejected} rejected")
    });
    let connections = format!(
        "{} active, {} in the handshake; limit {}",
        snapshot.active_connections, snapshot.handshakes, snapshot.max_connections
    );
    facts(
        "Now",
        &[
            ("Circuit to the cloud", circuit),
            ("Calls in progress", state.admission.started.to_string()),
            ("Concurrency permits", format!("{} of {}", snapshot.permits, snapshot.max_permits)),
            (
                "Memory of calls",
                format!("{} of {}", Bytes(snapshot.buffered_bytes), Bytes(snapshot.max_buffered_bytes)),
            ),
            ("Connections", connections),
            ("Retry budget", format!("{:.1} of {:.0} repeats", cloud.retry_budget, cloud.retry_budget_limit)),
            ("Rate limit", rate_limit),
        ],
    )
}

/// Calls by code: their rates in the last minute, and their numbers since the start.
fn calls(state: &State) -> String {
    let sample = state.sample.filter(|(age, _)| *age >= Duration::from_secs(1));
    let mut rows = Vec::new();
    for (number, (code, count)) in state.ended.iter().enumerate().filter(|(_, (_, count))| *count > 0) {
        let before = sample.and_then(|(age, counts)| counts.get(number).map(|(_, before)| (age, *before)));
        let rate = before.map_or("–".to_owned(), |(age, before)| {
            #[allow(clippy::cast_precision_loss, reason = "shown with two digits")]
            let rate = count.saturating_sub(before) as f64 / age.as_secs_f64();
            format!("{rate:.2}")
        });
        let name = code_name(*code);
        let name = if *code == Code::Ok { name.to_owned() } else { format!("<span class=bad>{name}</span>") };
        rows.push(vec![name, rate, count.to_string()]);
    }
    if rows.is_empty() {
        return facts("Calls", &[("Since the start", "none".to_owned())]);
    }
    let caption = sample.map_or(String::new(), |(age, _)| format!(", rates over the last {}", Span(age)));
    table(&format!("Calls by code{caption}"), &["Code", "A second", "Since start"], &rows)
}

fn failures(state: &State) -> String {
    if state.failures.is_empty() {
        return facts("Last errors", &[("Since the start", "none".to_owned())]);
    }
    let optional = |text: Option<&str>| text.map_or("–".to_owned(), |text| Text(text).to_string());
    let id = |id: &HeaderValue| format!("<code>{}</code>", Text(String::from_utf8_lossy(id.as_bytes())));
    let rows = state.failures.iter().map(|failure| {
        let method = failure.method.rsplit('/').next().unwrap_or_default();
        let reason = failure.reason.as_deref().or((failure.code == Code::Cancelled).then_some("the caller left"));
        let cloud_id = failure.cloud_id.as_ref().map_or(String::new(), |cloud| format!("<br>cloud: {}", id(cloud)));
        vec![
            Time(failure.time).to_string(),
            failure.count.to_string(),
            Text(method).to_string(),
            format!("<span class=bad>{}</span>", code_name(failure.code)),
            optional(reason),
            optional(failure.outcome),
            optional(failure.advice.map(first_sentence)),
            id(&failure.request_id) + &cloud_id,
        ]
    });
    let columns = ["Last", "Times", "Method", "Code", "Reason", "Outcome", "Advice", "Request id"];
    table("Last errors", &columns, &rows.collect::<Vec<_>>())
}

fn first_sentence(text: &'static str) -> &'static str {
    text.find(". ").and_then(|end| text.get(..=end)).unwrap_or(text)
}

fn credentials(console: &Console, now: SystemTime) -> String {
    let metrics = console.metrics();
    let known = metrics.known();
    let moment = |seconds| Moment { seconds, now }.to_string();
    let mut rows = vec![("Kind of credentials", console.facts().credentials.to_owned())];
    for (identity, renewals) in &known.credentials {
        let state = match renewals.current() {
            None => "not fetched yet",
            Some(CredentialState::Fetching) => "being fetched",
            Some(CredentialState::Valid) => "valid",
            Some(CredentialState::Failed) => "<span class=bad>the last fetch failed</span>",
            Some(CredentialState::Refused) => "<span class=bad>the source refuses the gateway</span>",
        };
        let mut text = state.to_owned();
        for (verb, gauge) in [("fetched", &renewals.fetched_at), ("expires", &renewals.expiry)] {
            if gauge.get() > 0 {
                let _ = write!(text, "; {verb} {}", moment(gauge.get()));
            }
        }
        rows.push((identity, text));
    }
    for (identity, fuse) in &known.fuses {
        let text = match fuse.get() {
            0 => "key pair in use",
            1 => "<span class=bad>the cloud refused the key pair; one signature is tried</span>",
            _ => "<span class=bad>the cloud refused the key pair; nothing is signed for a while</span>",
        };
        rows.push((identity, text.to_owned()));
    }
    let expiry = |seconds: i64, without: &str| if seconds > 0 { moment(seconds) } else { without.to_owned() };
    rows.push(("Certificate of the gRPC port ends", expiry(metrics.tls_not_after.get(), "no TLS")));
    rows.push(("Next update of revocation lists", expiry(metrics.tls_crl_next_update.get(), "no lists")));
    for (setting, failing) in known.files.iter().filter(|(_, failing)| failing.get() > 0) {
        let text =
            format!("<span class=bad>can't be loaded</span> ({}); the previous content is in use", failing.get());
        rows.push((setting, text));
    }
    facts("Credentials and certificates", &rows)
}

fn configuration(console: &Console) -> String {
    let known = console.facts();
    facts(
        "Configuration",
        &[
            ("Listens on", Text(&known.listen).to_string()),
            ("Sends to", Text(&known.upstream).to_string()),
            ("Proxy", known.proxy.as_ref().map_or("none".to_owned(), |proxy| Text(proxy).to_string())),
            ("API family", known.api_family.to_owned()),
            ("Deadline of calls", format!("at most {:?}", known.timeout)),
        ],
    )
}
