//! Traces, by the variables of OpenTelemetry's specification. As it demands, an empty variable counts as missing, and an
//! unknown choice or number is ignored with a warning; an address, header or certificate that can't be used is a fault.

use std::{path::PathBuf, str::FromStr as _, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName};
use opentelemetry::KeyValue;
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use zeroize::Zeroizing;

use super::{CONNECT_TIMEOUT, UPSTREAM_IDLE_TIMEOUT, read::Reader, url::base_url};
use crate::{
    secret,
    trace::{Endpoint, Limits, Protocol, Settings},
    upstream::{self, TlsFiles},
};

const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// The largest queue, of about 1 KiB a span.
const LARGEST_QUEUE: usize = 1 << 20;

/// Reads the variables; `None` if they ask for no traces, and after a fault.
pub(super) fn read(read: &mut Reader<'_>) -> Option<Settings> {
    if is_true(read.foreign("OTEL_SDK_DISABLED").as_deref()) || !is_wanted(read) {
        return None;
    }
    let protocol = match choice(read, "PROTOCOL", &["http/protobuf", "grpc"]) {
        Some("grpc") => Protocol::Grpc,
        _ => Protocol::Http,
    };
    let is_gzip = choice(read, "COMPRESSION", &["gzip", "none"]) == Some("gzip");
    let (base, path) = address(read, protocol)?;
    let headers = headers(read)?;
    let tls = if base.scheme() == "https" { Some(tls(read)?) } else { None };
    let upstream = upstream::Settings {
        base,
        proxy: None,
        tls,
        shows_identity: true,
        connect_timeout: CONNECT_TIMEOUT,
        idle_timeout: UPSTREAM_IDLE_TIMEOUT,
        max_age: upstream::MAX_AGE,
    };
    if let Err((key, what)) = upstream.check() {
        fault(read, key, &what);
        return None;
    }
    let queue = number(read, "OTEL_BSP_MAX_QUEUE_SIZE", 2048).clamp(1, LARGEST_QUEUE);
    let timeout = either(read, "TIMEOUT").0;
    let timeout = number(read, &timeout, 10_000).min(number(read, "OTEL_BSP_EXPORT_TIMEOUT", 30_000));
    let limits = Limits {
        queue,
        batch: number(read, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512).clamp(1, queue),
        delay: milliseconds(number(read, "OTEL_BSP_SCHEDULE_DELAY", 5_000)),
        timeout: milliseconds(timeout.max(1)),
    };
    let (sampler, resource) = (sampler(read), resource(read));
    let by = if protocol == Protocol::Grpc { "gRPC" } else { "HTTP" };
    let origin = upstream.base.origin().ascii_serialization();
    let headed = headers.keys().fold(String::new(), |text, name| text + ", " + name.as_str() + ": ***");
    read.note(format!("traces go to {origin}{path} by {by}{headed}"));
    Some(Settings { endpoint: Endpoint { protocol, upstream, path, headers, is_gzip }, limits, sampler, resource })
}

/// Whether a variable asks for traces: the exporter, or else an endpoint.
fn is_wanted(read: &mut Reader<'_>) -> bool {
    match read.foreign(EXPORTER).as_deref() {
        Some("otlp") => return true,
        Some("none") => return false,
        Some(_) => ignore(read, EXPORTER, "must be otlp or none"),
        None => {}
    }
    either(read, "ENDPOINT").1.is_some()
}

/// The variable for traces if it is there, else the one for all signals.
fn either(read: &Reader<'_>, name: &str) -> (String, Option<String>) {
    let own = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
    if let Some(text) = read.foreign(&own) {
        return (own, Some(text));
    }
    let shared = format!("OTEL_EXPORTER_OTLP_{name}");
    let text = read.foreign(&shared);
    (shared, text)
}

/// One of these choices.
fn choice(read: &mut Reader<'_>, name: &str, choices: &[&'static str]) -> Option<&'static str> {
    let (variable, text) = either(read, name);
    let text = text?;
    let found = choices.iter().find(|choice| **choice == text).copied();
    if found.is_none() {
        ignore(read, &variable, &format!("must be one of {}", choices.join(", ")));
    }
    found
}

fn is_true(text: Option<&str>) -> bool {
    text.is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

fn ignore(read: &mut Reader<'_>, variable: &str, what: &str) {
    read.warn(format!("{variable} {what}; it is ignored"));
}

/// Notes the fault of a file, by the setting that has such a file for the cloud.
fn fault(read: &mut Reader<'_>, key: &str, what: &str) {
    let name = match key {
        "upstream-client-certificate" => "CLIENT_CERTIFICATE",
        "upstream-client-key" => "CLIENT_KEY",
        "upstream-ca" => "CERTIFICATE",
        _ => "ENDPOINT",
    };
    read.fault_at(&either(read, name).0, what);
}

/// The collector, and the path of exports over HTTP.
fn address(read: &mut Reader<'_>, protocol: Protocol) -> Option<(Url, String)> {
    let (variable, text) = either(read, "ENDPOINT");
    let text = match (text, protocol) {
        (None, Protocol::Grpc) => "http://localhost:4317".to_owned(),
        (None, Protocol::Http) => "http://localhost:4318".to_owned(),
        (Some(text), Protocol::Grpc) if !text.contains("://") => {
            let is_plain = is_true(either(read, "INSECURE").1.as_deref());
            format!("{}://{text}", if is_plain { "http" } else { "https" })
        }
        (Some(text), _) => text,
    };
    let mut base = base_url(&text).map_err(|what| read.fault_at(&variable, what)).ok()?;
    let path = match protocol {
        Protocol::Grpc => String::new(),
        // The address for traces is taken as it is.
        Protocol::Http if variable.contains("TRACES") => base.path().to_owned(),
        Protocol::Http => format!("{}/v1/traces", base.path().trim_end_matches('/')),
    };
    base.set_path("");
    Some((base, path))
}

/// `key=value,key=value`, the values percent-encoded.
fn pairs(text: &str) -> Option<Vec<(String, Zeroizing<String>)>> {
    let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
    let pair = |member: &str| {
        let (key, value) = member.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((key.trim().to_owned(), Zeroizing::new(value.into_owned()))).filter(|(key, _)| !key.is_empty())
    };
    members.map(pair).collect()
}

/// The headers of exports: all of them may be secrets.
fn headers(read: &mut Reader<'_>) -> Option<HeaderMap> {
    let (variable, text) = either(read, "HEADERS");
    let Some(text) = text.map(Zeroizing::new) else { return Some(HeaderMap::new()) };
    let header = |(key, value): (String, Zeroizing<String>)| {
        let name = HeaderName::from_str(&key).ok().filter(|name| !name.as_str().ends_with("-bin"))?;
        Some((name, secret::header(&value).ok()?))
    };
    let headers = pairs(&text).and_then(|pairs| pairs.into_iter().map(header).collect::<Option<HeaderMap>>());
    if headers.is_none() {
        read.fault_at(&variable, "must be key=value,key=value: names of headers, and percent-encoded values");
    }
    headers
}

/// The files for a collector with TLS.
fn tls(read: &mut Reader<'_>) -> Option<Arc<TlsFiles>> {
    let path = |name| either(read, name).1.map(PathBuf::from);
    let ca = path("CERTIFICATE");
    let identity = match (path("CLIENT_CERTIFICATE"), path("CLIENT_KEY")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            fault(read, "upstream-client-certificate", "needs OTEL_EXPORTER_OTLP_CLIENT_KEY");
            return None;
        }
        (None, Some(_)) => {
            fault(read, "upstream-client-key", "needs OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE");
            return None;
        }
    };
    let noted = |faults: Vec<_>| faults.into_iter().for_each(|(key, what): (_, String)| fault(read, key, &what));
    TlsFiles::load(ca, identity).map_err(noted).ok().map(Arc::new)
}

fn sampler(read: &mut Reader<'_>) -> Sampler {
    let text = read.foreign(SAMPLER).unwrap_or_default();
    let (name, is_based) = text.strip_prefix("parentbased_").map_or((&*text, false), |name| (name, true));
    let (root, is_based) = match name {
        "always_on" => (Sampler::AlwaysOn, is_based),
        "always_off" => (Sampler::AlwaysOff, is_based),
        "traceidratio" => (Sampler::TraceIdRatioBased(ratio(read)), is_based),
        _ => {
            if !text.is_empty() {
                ignore(
                    read,
                    SAMPLER,
                    "must be always_on, always_off or traceidratio, or one of them after parentbased_",
                );
            }
            (Sampler::AlwaysOn, true)
        }
    };
    if is_based { Sampler::ParentBased(Box::new(root)) } else { root }
}

fn ratio(read: &mut Reader<'_>) -> f64 {
    let Some(text) = read.foreign(SAMPLER_ARG) else { return 1.0 };
    text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).unwrap_or_else(|| {
        ignore(read, SAMPLER_ARG, "must be a number from 0 to 1");
        1.0
    })
}

/// The attributes of the program; later ones take precedence.
fn resource(read: &mut Reader<'_>) -> Vec<KeyValue> {
    let mut resource = vec![
        KeyValue::new("service.name", env!("CARGO_PKG_NAME")),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("telemetry.sdk.name", "opentelemetry"),
        KeyValue::new("telemetry.sdk.language", "rust"),
    ];
    match read.foreign(RESOURCE).as_deref().map(pairs) {
        None => {}
        Some(Some(pairs)) => {
            resource.extend(pairs.into_iter().map(|(key, mut value)| KeyValue::new(key, std::mem::take(&mut *value))));
        }
        Some(None) => ignore(read, RESOURCE, "must be key=value,key=value, the values percent-encoded"),
    }
    resource.extend(read.foreign("OTEL_SERVICE_NAME").map(|name| KeyValue::new("service.name", name)));
    resource
}

fn number(read: &mut Reader<'_>, variable: &str, default: usize) -> usize {
    let Some(text) = read.foreign(variable) else { return default };
    text.parse().unwrap_or_else(|_| {
        ignore(read, variable, "must be a whole number");
        default
    })
}

fn milliseconds(number: usize) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or(u64::MAX)).min(Duration::from_secs(24 * 3_600))
}
