//! Generates the error catalogue's sorted table from its data file; a malformed or duplicate row is an error with its
//! line number.

use std::collections::BTreeMap;

const HEADER: &str = "code\tstatus\tgrpc\tplane\tprocessed\twait\tresource\tsubject\tmeaning\tadvice";

/// The gRPC codes allowed in a row, with their variants of `Kind`.
const KINDS: &[(&str, &str)] = &[
    ("INVALID_ARGUMENT", "InvalidArgument"),
    ("UNAUTHENTICATED", "Unauthenticated"),
    ("PERMISSION_DENIED", "PermissionDenied"),
    ("NOT_FOUND", "NotFound"),
    ("ALREADY_EXISTS", "AlreadyExists"),
    ("FAILED_PRECONDITION", "FailedPrecondition"),
    ("ABORTED", "Aborted"),
    ("RESOURCE_EXHAUSTED", "ResourceExhausted"),
    ("DEADLINE_EXCEEDED", "DeadlineExceeded"),
    ("UNIMPLEMENTED", "Unimplemented"),
    ("UNAVAILABLE", "Unavailable"),
    ("INTERNAL", "Internal"),
];

/// One row; fields that are not strings are Rust expressions.
#[derive(Debug)]
pub(crate) struct Row {
    kind: &'static str,
    plane: &'static str,
    processed: &'static str,
    wait: String,
    resource: String,
    subject: String,
    meaning: String,
    advice: String,
}

/// The rows by code and status; status 0 means any.
pub(crate) type Rows = BTreeMap<(String, u16), Row>;

/// Reads the data file.
pub(crate) fn read(text: &str) -> Result<Rows, String> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
    match lines.next() {
        Some((_, HEADER)) => {}
        _ => return Err(format!("the first line after the comments must be: {HEADER}")),
    }
    let mut rows = Rows::new();
    for (index, line) in lines {
        let at = index + 1;
        let (key, row) = read_row(line).map_err(|fault| format!("line {at}: {fault}"))?;
        if rows.contains_key(&key) {
            return Err(format!("line {at}: {} already has a row for this status", key.0));
        }
        rows.insert(key, row);
    }
    for (code, _) in rows.keys() {
        if !rows.contains_key(&(code.clone(), 0)) {
            return Err(format!("{code} has no row for `*`"));
        }
    }
    Ok(rows)
}

fn read_row(line: &str) -> Result<((String, u16), Row), String> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [code, status, grpc, plane, processed, wait, resource, subject, meaning, advice] = fields[..] else {
        return Err(format!("{} fields instead of 10", fields.len()));
    };
    if code.is_empty() || !code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-') {
        return Err(format!("`{code}` is not an error code"));
    }
    let status = match status {
        "*" => 0,
        other => other
            .parse()
            .ok()
            .filter(|status| (200..600).contains(status))
            .ok_or(format!("`{other}` is not an HTTP status"))?,
    };
    let kind = one_of("grpc", grpc, KINDS)?;
    let needs = |name: &str, value: &str, needed: bool| {
        if needed && value == "-" { Err(format!("{grpc} needs a {name}")) } else { Ok(()) }
    };
    needs("subject", subject, matches!(kind, "ResourceExhausted" | "FailedPrecondition"))?;
    needs("resource", resource, matches!(kind, "NotFound" | "AlreadyExists"))?;
    needs("meaning", meaning, true)?;
    needs("advice", advice, true)?;
    let row = Row {
        kind,
        plane: one_of("plane", plane, &[("front", "Front"), ("service", "Service")])?,
        processed: one_of("processed", processed, &[("no", "No"), ("yes", "Yes"), ("unknown", "Unknown")])?,
        wait: read_wait(wait)?,
        resource: optional(resource),
        subject: optional(subject),
        meaning: meaning.to_owned(),
        advice: advice.to_owned(),
    };
    Ok(((code.to_owned(), status), row))
}

fn one_of(column: &str, value: &str, choices: &[(&str, &'static str)]) -> Result<&'static str, String> {
    choices
        .iter()
        .find(|(name, _)| *name == value)
        .map(|(_, rust)| *rust)
        .ok_or_else(|| format!("`{value}` is not a valid {column}"))
}

fn read_wait(text: &str) -> Result<String, String> {
    let positive = |digits: &str| digits.parse::<u64>().ok().filter(|number| *number > 0);
    let duration = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        _ if text == "-" => return Ok("None".into()),
        (Some(millis), _) => positive(millis).map(|millis| format!("Some(Duration::from_millis({millis}))")),
        (None, Some(seconds)) => positive(seconds).map(|seconds| format!("Some(Duration::from_secs({seconds}))")),
        (None, None) => None,
    };
    duration.ok_or_else(|| format!("`{text}` is not a valid wait"))
}

fn optional(text: &str) -> String {
    if text == "-" { "None".into() } else { format!("Some({text:?})") }
}

/// The Rust code of the table, included where the `Row` type is defined.
pub(crate) fn code(rows: &Rows) -> String {
    let rows = rows.iter().map(|((error_code, status), row)| {
        let Row { kind, plane, processed, wait, resource, subject, meaning, advice } = row;
        format!(
            "    Row {{ code: {error_code:?}, status: {status}, kind: Kind::{kind}, plane: Plane::{plane}, \
             processed: Processed::{processed}, wait: {wait}, resource: {resource}, subject: {subject}, \
             meaning: {meaning:?}, advice: {advice:?} }},\n"
        )
    });
    format!("static ROWS: &[Row] = &[\n{}];\n", rows.collect::<String>())
}
