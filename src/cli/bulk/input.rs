//! The file of `--from-file`: CSV with a header, or JSON Lines. Does no I/O.

use std::{collections::HashMap, path::Path};

use serde::{Deserialize, Serialize};

use super::Action;
use crate::{pb::AttachOrDetachDomainInfo, validate::is_safe_segment};

/// The columns, of which the last two may be missing.
const COLUMNS: [&str; 4] = ["certificate_id", "domain", "instance_ids", "verified_client_certificate_enabled"];

/// A domain to bind or unbind, as calls and journals have it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct Entry {
    pub(in crate::cli) domain: String,
    /// Empty: every instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::cli) instance_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) verified_client_certificate_enabled: Option<bool>,
}

impl From<Entry> for AttachOrDetachDomainInfo {
    fn from(entry: Entry) -> Self {
        Self {
            domain: entry.domain,
            instance_ids: entry.instance_ids,
            verified_client_certificate_enabled: entry.verified_client_certificate_enabled,
        }
    }
}

/// The domains of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Group {
    pub(in crate::cli) certificate_id: String,
    pub(in crate::cli) entries: Vec<Entry>,
}

/// One line of the file.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    line: u64,
    certificate_id: String,
    entry: Entry,
}

/// Reads the text of a file into groups, in the order of their first lines.
///
/// # Errors
///
/// The first fault, with its line, and the number of further ones.
pub(super) fn read(text: &[u8], path: &Path, action: Action) -> Result<Vec<Group>, String> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    let is_jsonl = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"));
    let rows = if is_jsonl || first == Some(&b'{') { json_lines(text) } else { csv(text)? };
    let mut faults: Vec<String> = Vec::new();
    let mut sound = Vec::new();
    for row in rows {
        match row {
            Ok(row) => match fault(&row) {
                None => sound.push(row),
                Some(fault) => faults.push(format!("line {}: {fault}", row.line)),
            },
            Err(fault) => faults.push(fault),
        }
    }
    let groups = group(sound, action, &mut faults);
    match (faults.as_slice(), groups.is_empty()) {
        ([], false) => Ok(groups),
        ([], true) => Err("has no domains".into()),
        ([fault], _) => Err(fault.clone()),
        ([fault, more @ ..], _) => Err(format!("{fault} (and {} more faults)", more.len())),
    }
}

/// The rows of a CSV file. A fault of the header is a fault of the file.
fn csv(text: &[u8]) -> Result<Vec<Result<Row, String>>, String> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text);
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    if header.is_empty() {
        return Err("is empty".into());
    }
    let mut places = [None; COLUMNS.len()];
    for (at, name) in header.iter().enumerate() {
        let place = COLUMNS.iter().position(|column| *column == name).and_then(|column| places.get_mut(column));
        match place {
            None => return Err(format!("line 1: unknown column {name:?}; the columns are {}", COLUMNS.join(","))),
            Some(Some(_)) => return Err(format!("line 1: column {name} is there twice")),
            Some(place) => *place = Some(at),
        }
    }
    let [Some(certificate), Some(domain), instances, flag] = places else {
        return Err(format!("line 1: the columns certificate_id and domain are required; it has {header:?}"));
    };
    let row = |record: Result<csv::StringRecord, csv::Error>| {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            format!("line {line}: is not UTF-8")
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() > header.len() {
            return Err(format!("line {line}: has {} fields, but the header {}", record.len(), header.len()));
        }
        let cell = |at: Option<usize>| at.and_then(|at| record.get(at)).unwrap_or_default();
        let flag = match cell(flag) {
            "" => None,
            text if text.eq_ignore_ascii_case("true") => Some(true),
            text if text.eq_ignore_ascii_case("false") => Some(false),
            other => return Err(format!("line {line}: {other:?} is neither true nor false")),
        };
        let entry = Entry {
            domain: cell(Some(domain)).to_owned(),
            instance_ids: cell(instances).split_whitespace().map(str::to_owned).collect(),
            verified_client_certificate_enabled: flag,
        };
        Ok(Row { line, certificate_id: cell(Some(certificate)).to_owned(), entry })
    };
    Ok(reader.records().map(row).collect())
}

/// A line of JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    certificate_id: String,
    domain: String,
    #[serde(default)]
    instance_ids: Option<Ids>,
    #[serde(default)]
    verified_client_certificate_enabled: Option<bool>,
}

/// Ids as a list, or as CSV has them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Ids {
    List(Vec<String>),
    Text(String),
}

fn json_lines(text: &[u8]) -> Vec<Result<Row, String>> {
    let lines = text.split(|byte| *byte == b'\n').zip(1..).filter(|(line, _)| !line.trim_ascii().is_empty());
    let row = |(text, line): (&[u8], u64)| {
        let object: Object = serde_json::from_slice(text).map_err(|error| format!("line {line}: {}", what(&error)))?;
        let instance_ids = match object.instance_ids {
            None => Vec::new(),
            Some(Ids::List(ids)) => ids,
            Some(Ids::Text(text)) => text.split_whitespace().map(str::to_owned).collect(),
        };
        let verified_client_certificate_enabled = object.verified_client_certificate_enabled;
        let entry = Entry { domain: object.domain, instance_ids, verified_client_certificate_enabled };
        Ok(Row { line, certificate_id: object.certificate_id, entry })
    };
    lines.map(row).collect()
}

/// The error without its own line number: the text is a single line.
fn what(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(text, _)| text.to_owned())
}

/// A violation of the gateway's rules: it would refuse a whole call for it.
fn fault(row: &Row) -> Option<String> {
    let domain = &row.entry.domain;
    let instance = row.entry.instance_ids.iter().find(|id| !is_safe_segment(id));
    if row.certificate_id.is_empty() || domain.is_empty() {
        Some("certificate_id and domain must not be empty".into())
    } else if !is_safe_segment(&row.certificate_id) {
        Some(format!("{:?} is not a certificate's id", row.certificate_id))
    } else if domain.chars().count() > 253 || domain.chars().any(|one| one.is_whitespace() || one.is_control()) {
        Some(format!("{domain:?} is not a domain name"))
    } else {
        instance.map(|id| format!("{id:?} is not an instance's id"))
    }
}

/// Groups rows by certificate, each row once. Rows that contradict each other are faults: their order in the cloud would
/// be anyone's guess.
fn group(rows: Vec<Row>, action: Action, faults: &mut Vec<String>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut known: HashMap<String, Vec<(usize, u64, Entry)>> = HashMap::new();
    for Row { line, certificate_id, entry } in rows {
        let place = *places.entry(certificate_id.clone()).or_insert_with(|| {
            groups.push(Group { certificate_id, entries: Vec::new() });
            groups.len() - 1
        });
        let same_name = known.entry(entry.domain.to_ascii_lowercase()).or_default();
        if same_name.iter().any(|(other, _, earlier)| *other == place && *earlier == entry) {
            continue;
        }
        let contradiction = same_name.iter().find(|(other, _, earlier)| {
            let flags = (earlier.verified_client_certificate_enabled, entry.verified_client_certificate_enabled);
            action == Action::Attach && overlap(earlier, &entry) && (*other != place || flags.0 != flags.1)
        });
        if let Some((other, earlier, _)) = contradiction {
            let what = if *other == place { "another verification of clients" } else { "another certificate" };
            faults.push(format!("line {line}: {} has {what} in line {earlier}", entry.domain));
        }
        same_name.push((place, line, entry.clone()));
        if let Some(group) = groups.get_mut(place) {
            group.entries.push(entry);
        }
    }
    groups
}

/// Whether two entries of one domain have an instance in common.
fn overlap(one: &Entry, other: &Entry) -> bool {
    one.instance_ids.is_empty()
        || other.instance_ids.is_empty()
        || one.instance_ids.iter().any(|id| other.instance_ids.contains(id))
}

#[cfg(test)]
mod tests;
