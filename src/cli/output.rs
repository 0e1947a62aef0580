//! The output of a call for people and scripts: code, ids, message, and every detail decoded.

use std::io::{self, Write};

use serde_json::{Map, Value, json};
use tonic::{Code, Response, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetail, StatusExt as _};

use crate::telemetry::code_name;

/// The result of a call.
#[derive(Debug)]
pub(super) struct CallOutput {
    code: Code,
    message: String,
    metadata: MetadataMap,
    details: Vec<ErrorDetail>,
}

/// The response metadata that is printed.
const SHOWN: [&str; 3] = ["x-request-id", "apig-request-id", "grpc-retry-pushback-ms"];

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
        let mut line = |name: &str, value: &str| writeln!(out, "  {name:<20} {value}");
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

    /// For scripts: one JSON object.
    pub(super) fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        let metadata: Map<String, Value> =
            self.shown_metadata().map(|(key, value)| (key.to_owned(), value.into())).collect();
        let details: Vec<Value> = self
            .details
            .iter()
            .map(|detail| {
                let (name, mut fields) = fields(detail);
                fields.insert("@type".into(), format!("type.googleapis.com/google.rpc.{name}").into());
                fields.into()
            })
            .collect();
        let answer = json!({
            "code": self.code(),
            "message": self.message,
            "metadata": metadata,
            "details": details,
        });
        writeln!(out, "{answer}")
    }
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
            let seconds = info.retry_delay.unwrap_or_default().as_secs_f64();
            ("RetryInfo", json!({ "retry_delay": format!("{seconds}s") }))
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
