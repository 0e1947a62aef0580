//! The output of a call for people and scripts: code, ids, message, and every detail decoded.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::ValueEnum;
use serde_json::{Map, Value, json};
use tonic::{Code, Response, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetail, StatusExt as _};

use super::{
    Failure, colour,
    json::ProtoJson,
    table::{self, clean},
};
use crate::telemetry::code_name;

/// The output format of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people: tables, and failures with their details
    Text,
    /// The response in protobuf's JSON form, or google.rpc.Status
    Json,
}

/// How people read the data of an answer.
pub(super) trait Shown: ProtoJson {
    /// Prints it.
    ///
    /// # Errors
    ///
    /// Standard output is closed.
    fn show(&self) -> io::Result<()>;
}

/// Prints the data of an answer, or the failure.
///
/// # Errors
///
/// The call failed, or standard output is closed.
pub(super) fn print<T: Shown>(result: Result<T, Status>, format: Format) -> Result<(), Failure> {
    match (result, format) {
        (Ok(answer), Format::Text) => Ok(answer.show()?),
        (Ok(answer), Format::Json) => Ok(writeln!(io::stdout(), "{}", answer.json())?),
        (Err(status), format) => failure(status, format),
    }
}

/// Prints the result of a call that answers with no data.
///
/// # Errors
///
/// The call failed, or standard output is closed.
pub(super) fn print_call<T: ProtoJson>(result: Result<Response<T>, Status>, format: Format) -> Result<(), Failure> {
    match (result, format) {
        (Ok(answer), Format::Text) => Ok(CallOutput::of(Ok(answer)).text(&mut io::stdout(), colour())?),
        (Ok(answer), Format::Json) => Ok(writeln!(io::stdout(), "{}", answer.get_ref().json())?),
        (Err(status), format) => failure(status, format),
    }
}

/// Prints a failure, which it returns.
///
/// # Errors
///
/// Always.
pub(super) fn failure(status: Status, format: Format) -> Result<(), Failure> {
    let (mut out, answer) = (io::stdout(), CallOutput::of::<()>(Err(status)));
    match format {
        Format::Text => answer.text(&mut out, colour())?,
        Format::Json => writeln!(out, "{}", answer.status())?,
    }
    Err(Failure::Told)
}

/// Prints names and values below each other, the empty ones left out.
pub(super) fn print_facts(facts: Vec<(&str, String)>) -> io::Result<()> {
    let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
    table::print(&["FIELD", "VALUE"], facts.map(|(name, value)| vec![name.to_owned(), value]).collect())
}

/// The result of a call.
#[derive(Debug)]
pub(super) struct CallOutput {
    code: Code,
    message: String,
    metadata: MetadataMap,
    details: Vec<ErrorDetail>,
}

/// The response metadata that is printed.
const SHOWN: [&str; 4] = ["x-request-id", "apig-request-id", "apig-outcome", "grpc-retry-pushback-ms"];

impl CallOutput {
    pub(super) fn of<T>(result: Result<Response<T>, Status>) -> Self {
        match result {
            Ok(response) => Self {
                code: Code::Ok,
                message: String::new(),
                metadata: response.metadata().clone(),
                details: Vec::new(),
            },
            Err(status) => Self {
                code: status.code(),
                message: status.message().to_owned(),
                metadata: status.metadata().clone(),
                details: status.get_error_details_vec(),
            },
        }
    }

    pub(super) fn is_ok(&self) -> bool {
        self.code == Code::Ok
    }

    /// The name of the code.
    pub(super) fn code(&self) -> &'static str {
        code_name(self.code)
    }

    fn shown_metadata(&self) -> impl Iterator<Item = (&'static str, &str)> {
        SHOWN.into_iter().filter_map(|key| Some((key, self.metadata.get(key)?.to_str().ok()?)))
    }

    /// For people.
    pub(super) fn text(&self, out: &mut dyn Write, colour: bool) -> io::Result<()> {
        let (on, off) = match (colour, self.is_ok()) {
            (false, _) => ("", ""),
            (true, true) => ("\x1b[1;32m", "\x1b[0m"),
            (true, false) => ("\x1b[1;31m", "\x1b[0m"),
        };
        writeln!(out, "{on}{}{off}", self.code())?;
        let mut line = |name: &str, value: &str| writeln!(out, "  {name:<20} {}", clean(value));
        if !self.message.is_empty() {
            line("message", &self.message)?;
        }
        for (key, value) in self.shown_metadata() {
            line(key, value)?;
        }
        for detail in &self.details {
            let (name, fields) = fields(detail);
            let mut name = name;
            for (key, value) in flat(&fields) {
                line(name, &format!("{key}: {value}"))?;
                name = "";
            }
        }
        Ok(())
    }

    /// The failure in one line: code, reason and message.
    pub(super) fn line(&self) -> String {
        let reason = self.details.iter().find_map(|detail| match detail {
            ErrorDetail::ErrorInfo(info) => Some(format!(" {}", info.reason)),
            _ => None,
        });
        clean(&format!("{}{}: {}", self.code(), reason.unwrap_or_default(), self.message))
    }

    /// For scripts: `google.rpc.Status` in protobuf's JSON form.
    fn status(&self) -> Value {
        let details: Vec<Value> = self
            .details
            .iter()
            .map(|detail| {
                let (name, fields) = fields(detail);
                let mut object = Map::new();
                object.insert("@type".into(), format!("type.googleapis.com/google.rpc.{name}").into());
                object.extend(fields.into_iter().map(proto_json).filter(|(_, value)| !is_default(value)));
                object.into()
            })
            .collect();
        json!({ "code": i32::from(self.code), "message": self.message, "details": details })
    }
}

/// A field as protobuf's JSON form has it: its name in camel case. The keys of maps are data.
fn proto_json((name, value): (String, Value)) -> (String, Value) {
    let value = match value {
        Value::Object(fields) if name != "metadata" => fields.into_iter().map(proto_json).collect(),
        Value::Array(items) => items.into_iter().map(|item| proto_json((String::new(), item)).1).collect(),
        other => other,
    };
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    let name = parts.fold(first, |mut name, part| {
        let mut letters = part.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name.push_str(letters.as_str());
        name
    });
    (name, value)
}

/// Whether protobuf's JSON form leaves a value out.
fn is_default(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// A time as protobuf's JSON form has it.
fn seconds(duration: Duration) -> String {
    prost_types::Duration::try_from(duration).map_or_else(|_| String::new(), |duration| duration.to_string())
}

/// The name and the fields of a detail, spelt as in the .proto.
fn fields(detail: &ErrorDetail) -> (&'static str, Map<String, Value>) {
    let (name, value) = match detail {
        ErrorDetail::ErrorInfo(info) => {
            let metadata: Map<String, Value> =
                info.metadata.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
            ("ErrorInfo", json!({ "reason": info.reason, "domain": info.domain, "metadata": metadata }))
        }
        ErrorDetail::RetryInfo(info) => {
            ("RetryInfo", json!({ "retry_delay": seconds(info.retry_delay.unwrap_or_default()) }))
        }
        ErrorDetail::BadRequest(bad) => {
            let violations = bad.field_violations.iter();
            let violations = violations.map(|one| json!({ "field": one.field, "description": one.description }));
            ("BadRequest", json!({ "field_violations": violations.collect::<Vec<_>>() }))
        }
        ErrorDetail::ResourceInfo(info) => (
            "ResourceInfo",
            json!({
                "resource_type": info.resource_type,
                "resource_name": info.resource_name,
                "owner": info.owner,
                "description": info.description,
            }),
        ),
        ErrorDetail::QuotaFailure(failure) => {
            let violations = failure.violations.iter();
            let violations = violations.map(|one| json!({ "subject": one.subject, "description": one.description }));
            ("QuotaFailure", json!({ "violations": violations.collect::<Vec<_>>() }))
        }
        ErrorDetail::PreconditionFailure(failure) => {
            let violations = failure
                .violations
                .iter()
                .map(|one| json!({ "type": one.r#type, "subject": one.subject, "description": one.description }));
            ("PreconditionFailure", json!({ "violations": violations.collect::<Vec<_>>() }))
        }
        ErrorDetail::RequestInfo(info) => ("RequestInfo", json!({ "request_id": info.request_id })),
        ErrorDetail::Help(help) => {
            let links = help.links.iter().map(|link| json!({ "description": link.description, "url": link.url }));
            ("Help", json!({ "links": links.collect::<Vec<_>>() }))
        }
        other => ("Other", json!({ "text": format!("{other:?}") })),
    };
    match value {
        Value::Object(fields) => (name, fields),
        _ => (name, Map::new()),
    }
}

/// The fields one by one, those of lists and objects too; empty ones left out.
fn flat(fields: &Map<String, Value>) -> Vec<(String, String)> {
    fn walk(name: &str, value: &Value, lines: &mut Vec<(String, String)>) {
        match value {
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => lines.push((name.to_owned(), text.clone())),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    walk(&format!("{name}[{index}]"), item, lines);
                }
            }
            Value::Object(fields) => {
                for (key, value) in fields {
                    walk(&if name.is_empty() { key.clone() } else { format!("{name}.{key}") }, value, lines);
                }
            }
            other => lines.push((name.to_owned(), other.to_string())),
        }
    }
    let mut lines = Vec::new();
    walk("", &Value::Object(fields.clone()), &mut lines);
    lines
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    #[test]
    fn a_failure_is_google_rpc_status_in_protobufs_json_form() {
        let mut details = ErrorDetails::new();
        details.set_error_info("INVALID_REQUEST", "apig-grpc-gateway", [("retry_after".to_owned(), "1".to_owned())]);
        details.set_bad_request(vec![FieldViolation::new("domains[1].domain", "is empty")]);
        details.set_retry_info(Some(Duration::from_millis(1_500)));
        let status = Status::with_error_details(Code::InvalidArgument, "2 faults", details);
        let output = CallOutput::of::<()>(Err(status));
        let details = [
            json!({ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "INVALID_REQUEST",
                    "domain": "apig-grpc-gateway", "metadata": { "retry_after": "1" } }),
            json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.500s" }),
            json!({ "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [{ "field": "domains[1].domain", "description": "is empty" }] }),
        ];
        let Value::Object(status) = output.status() else { panic!("an object") };
        assert_eq!(status.keys().collect::<Vec<_>>(), ["code", "message", "details"]);
        assert_eq!((&status["code"], &status["message"]), (&json!(3), &json!("2 faults")));
        for detail in &details {
            assert!(status["details"].as_array().unwrap().contains(detail), "{detail} in {status:?}");
        }
        assert!(output.status().to_string().contains(r#"[{"@type":"#), "the type comes first");
        assert_eq!(output.line(), "INVALID_ARGUMENT INVALID_REQUEST: 2 faults");
    }
}
