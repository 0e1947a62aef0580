//! `errors`: the mapping of the cloud's error codes, for people, for scripts, and for `docs/errors.md`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write as _},
    time::Duration,
};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::Failure;
use crate::{
    cloud::{Plane, Processed, Row, rows},
    status,
    telemetry::code_name,
};

/// The hand-written part of `docs/errors.md`.
const INTRODUCTION: &str = include_str!("../../data/errors-intro.md");

#[derive(Debug, Args)]
pub(super) struct Options {
    /// One code, as in `APIG.2012` or `APIG_2012`; by default all
    code: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
    /// The whole of `docs/errors.md`
    Markdown,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let wanted = options.code.as_deref().map(|code| code.replace('_', ".").to_ascii_uppercase());
    let rows: Vec<&Row> = rows().iter().filter(|row| wanted.as_deref().is_none_or(|code| row.code == code)).collect();
    if let (Some(code), true) = (&options.code, rows.is_empty()) {
        return Err(Failure::Other(format!(
            "{code} is not in the catalogue: callers get it as reason, and the HTTP status decides the gRPC code"
        )));
    }
    let text = match options.output {
        Output::Text if wanted.is_some() => rows.iter().map(|row| one(row)).collect(),
        Output::Text => rows.iter().map(|row| line(row)).collect(),
        Output::Json => format!("{}\n", rows.iter().map(|row| object(row)).collect::<Value>()),
        Output::Markdown => markdown(&rows),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// The HTTP status of a row, for people.
fn http_status(row: &Row) -> String {
    if row.status == 0 { "any".to_owned() } else { row.status.to_string() }
}

fn plane(row: &Row) -> &'static str {
    match row.plane {
        Plane::Front => "front",
        Plane::Service => "service",
    }
}

fn processed(row: &Row) -> &'static str {
    match row.processed {
        Processed::No => "no",
        Processed::Yes => "yes",
        Processed::Unknown => "unknown",
    }
}

fn wait(wait: Duration) -> String {
    format!("{}s", wait.as_secs_f64())
}

fn line(row: &Row) -> String {
    format!("{:<12} {:<4} {:<20} {}\n", row.code, http_status(row), code_name(status::code(row.kind)), row.meaning)
}

fn one(row: &Row) -> String {
    let mut text = format!("{} under {} status: {}\n", row.code, http_status(row), code_name(status::code(row.kind)));
    let mut fact = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<12} {value}");
    };
    fact("meaning", row.meaning);
    fact("advice", row.advice);
    fact("plane", plane(row));
    fact("processed", processed(row));
    fact("wait", &row.wait.map_or_else(|| "does not help".to_owned(), wait));
    if let Some(resource) = row.resource {
        fact("resource", resource);
    }
    if let Some(subject) = row.subject {
        fact("subject", subject);
    }
    text
}

fn object(row: &Row) -> Value {
    json!({
        "code": row.code,
        "http_status": if row.status == 0 { Value::Null } else { row.status.into() },
        "grpc_code": code_name(status::code(row.kind)),
        "reason": row.code.replace('.', "_"),
        "plane": plane(row),
        "processed": processed(row),
        "wait": row.wait.map(wait),
        "resource": row.resource,
        "subject": row.subject,
        "meaning": row.meaning,
        "advice": row.advice,
    })
}

fn markdown(rows: &[&Row]) -> String {
    let mut text = format!(
        "<!-- Made by `apig-grpc-gateway errors --output markdown` of data/errors-intro.md and data/error-codes.tsv. -->\n\n\
         {INTRODUCTION}\n## All codes\n\n"
    );
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(code_name(status::code(row.kind))).or_insert(0) += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(code, count)| format!("{count} `{code}`")).collect();
    let _ = writeln!(text, "{} rows: {}.\n", rows.len(), counts.join(", "));
    text += "| code | HTTP | gRPC | plane | processed | wait | about | meaning | advice |\n";
    text += "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
    for row in rows {
        let about = [row.resource, row.subject].into_iter().flatten().collect::<Vec<_>>().join(", ");
        let _ = writeln!(
            text,
            "| `{}` | {} | `{}` | {} | {} | {} | {about} | {} | {} |",
            row.code,
            http_status(row),
            code_name(status::code(row.kind)),
            plane(row),
            processed(row),
            row.wait.map(wait).unwrap_or_default(),
            row.meaning,
            row.advice,
        );
    }
    text
}
