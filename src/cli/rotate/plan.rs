//! The bindings that a rotation moves, and the reasons against it. Does no I/O.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use prost_types::Timestamp;

use crate::{
    cli::bulk::{Entry, comparable},
    pb::{BoundDomain, Certificate},
};

/// The bindings of a certificate, each with its client verification; all of a domain are neighbours.
pub(super) fn bindings(rows: &[BoundDomain]) -> Vec<Entry> {
    let mut domains: Vec<Vec<Entry>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for row in rows {
        let place = *places.entry(comparable(&row.url_domain)).or_insert_with(|| {
            domains.push(Vec::new());
            domains.len() - 1
        });
        let Some(of_domain) = domains.get_mut(place) else { continue };
        // Absent is documented as off.
        let flag = Some(row.verified_client_certificate_enabled.unwrap_or(false));
        match of_domain.iter_mut().find(|entry| entry.verified_client_certificate_enabled == flag) {
            // A domain with custom ports has several rows.
            Some(entry) if entry.instance_ids.contains(&row.instance_id) => {}
            Some(entry) => entry.instance_ids.push(row.instance_id.clone()),
            None => of_domain.push(Entry {
                domain: row.url_domain.clone(),
                instance_ids: vec![row.instance_id.clone()],
                verified_client_certificate_enabled: flag,
            }),
        }
    }
    domains.into_iter().flatten().collect()
}

/// A binding that must not be moved, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The domain; `None` for the certificate itself.
    pub(super) domain: Option<String>,
    pub(super) reason: String,
}

/// The reasons against binding a certificate in place of another.
pub(super) fn faults(new: &Certificate, entries: &[Entry], now: SystemTime) -> Vec<Fault> {
    let mut faults: Vec<Fault> =
        certificate_faults(new, now).into_iter().map(|reason| Fault { domain: None, reason }).collect();
    for entry in entries {
        let mut fault = |reason: String| faults.push(Fault { domain: Some(entry.domain.clone()), reason });
        if !new.san.is_empty() && !new.san.iter().any(|name| covers(name, &entry.domain)) {
            fault("the new certificate does not cover it".into());
        }
        if entry.verified_client_certificate_enabled == Some(true) && new.is_has_trusted_root_ca != Some(true) {
            fault("verifies clients, but the new certificate has no trusted root CA".into());
        }
        let elsewhere = entry.instance_ids.iter().find(|id| new.r#type == "instance" && **id != new.instance_id);
        if let Some(id) = elsewhere {
            fault(format!("is bound on instance {id}, but the new certificate is for {} alone", new.instance_id));
        }
    }
    faults
}

fn certificate_faults(new: &Certificate, now: SystemTime) -> Vec<String> {
    let mut faults = Vec::new();
    if new.san.is_empty() {
        faults.push("the cloud lists no alternative names of it: which domains it covers can't be checked".into());
    }
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    let is_past = |time: &Timestamp| time.seconds <= now;
    match &new.not_after {
        None => faults.push("the cloud lists no end of its validity".into()),
        Some(end) if is_past(end) => faults.push(format!("it expired at {end}")),
        Some(_) => {}
    }
    if let Some(begin) = new.not_before.as_ref().filter(|begin| !is_past(begin)) {
        faults.push(format!("it is not valid before {begin}"));
    }
    faults
}

/// Whether an alternative name covers a domain, as TLS clients read it; a wildcard domain needs the same wildcard.
fn covers(name: &str, domain: &str) -> bool {
    let (name, domain) = (comparable(name), comparable(domain));
    let wildcard = name.strip_prefix("*.").zip(domain.split_once('.'));
    name == domain || wildcard.is_some_and(|(parent, (label, rest))| label != "*" && parent == rest)
}

/// Cuts bindings into batches that keep all of a domain together: a cloud that allows one certificate on a domain compares
/// the domain on every instance.
pub(super) fn batches(entries: Vec<Entry>, size: usize) -> Vec<Vec<Entry>> {
    let mut batches: Vec<Vec<Entry>> = Vec::new();
    for entry in entries {
        let is_next = |batch: &Vec<Entry>| {
            let is_same = batch.last().is_some_and(|last| comparable(&last.domain) == comparable(&entry.domain));
            is_same || batch.len() < size
        };
        match batches.last_mut().filter(|batch| is_next(batch)) {
            Some(batch) => batch.push(entry),
            None => batches.push(vec![entry]),
        }
    }
    batches
}

/// Cuts a batch in two, between two domains.
pub(super) fn halves(mut entries: Vec<Entry>) -> Result<(Vec<Entry>, Vec<Entry>), Vec<Entry>> {
    let middle = entries.len() / 2;
    let is_border = |at: &usize| match entries.get(at.saturating_sub(1)..=*at) {
        Some([one, other]) => comparable(&one.domain) != comparable(&other.domain),
        _ => false,
    };
    let border = (1..entries.len()).filter(is_border).min_by_key(|at| at.abs_diff(middle));
    match border {
        Some(at) => {
            let second = entries.split_off(at);
            Ok((entries, second))
        }
        None => Err(entries),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn row(domain: &str, instance: &str, flag: Option<bool>) -> BoundDomain {
        BoundDomain {
            url_domain: domain.into(),
            instance_id: instance.into(),
            verified_client_certificate_enabled: flag,
            ..BoundDomain::default()
        }
    }

    fn entry(domain: &str, ids: &[&str], flag: bool) -> Entry {
        Entry {
            domain: domain.into(),
            instance_ids: ids.iter().map(|id| (*id).into()).collect(),
            verified_client_certificate_enabled: Some(flag),
        }
    }

    fn certificate(san: &[&str]) -> Certificate {
        Certificate {
            r#type: "global".into(),
            san: san.iter().map(|name| (*name).into()).collect(),
            not_before: Some(Timestamp { seconds: 100, nanos: 0 }),
            not_after: Some(Timestamp { seconds: 200, nanos: 0 }),
            ..Certificate::default()
        }
    }

    #[test]
    fn a_binding_keeps_its_flag_and_a_domain_its_place() {
        let rows = [
            row("a.example.com", "i", Some(true)),
            row("b.example.com", "i", None),
            row("a.example.com", "j", Some(false)),
            row("a.example.com", "i", Some(true)),
            row("b.example.com", "j", Some(false)),
        ];
        let expected = [
            entry("a.example.com", &["i"], true),
            entry("a.example.com", &["j"], false),
            entry("b.example.com", &["i", "j"], false),
        ];
        assert_eq!(bindings(&rows), expected);
        assert_eq!(batches(expected.to_vec(), 1), [expected[..2].to_vec(), expected[2..].to_vec()]);
        assert_eq!(batches(expected.to_vec(), 3), [expected.to_vec()]);
        assert_eq!(halves(expected.to_vec()), Ok((expected[..2].to_vec(), expected[2..].to_vec())));
        assert_eq!(halves(expected[..2].to_vec()), Err(expected[..2].to_vec()));
    }

    #[test]
    fn names_are_covered_as_tls_clients_read_them() {
        for (name, domain, is_covered) in [
            ("www.example.com", "WWW.example.com.", true),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "*.example.com", true),
            ("*.b.example.com", "*.a.example.com", false),
            ("*.example.com", "*.b.example.com", false),
            ("*.com", "*.com", true),
        ] {
            assert_eq!(covers(name, domain), is_covered, "{name} {domain}");
        }
    }

    #[test]
    fn every_reason_against_it_is_named() {
        let now = UNIX_EPOCH + Duration::from_secs(150);
        let good = certificate(&["*.example.com"]);
        let entries = [entry("a.example.com", &["i"], false)];
        assert_eq!(faults(&good, &entries, now), []);
        let reasons = |new: &Certificate, entries: &[Entry], at: u64| -> Vec<String> {
            let faults = faults(new, entries, UNIX_EPOCH + Duration::from_secs(at));
            faults.into_iter().map(|fault| format!("{}: {}", fault.domain.unwrap_or_default(), fault.reason)).collect()
        };
        assert_eq!(reasons(&good, &entries, 50), [": it is not valid before 1970-01-01T00:01:40Z"]);
        assert_eq!(reasons(&good, &entries, 200), [": it expired at 1970-01-01T00:03:20Z"]);
        let narrow =
            Certificate { r#type: "instance".into(), instance_id: "j".into(), ..certificate(&["b.example.com"]) };
        assert_eq!(
            reasons(&narrow, &[entry("a.example.com", &["i"], true)], 150),
            [
                "a.example.com: the new certificate does not cover it",
                "a.example.com: verifies clients, but the new certificate has no trusted root CA",
                "a.example.com: is bound on instance i, but the new certificate is for j alone",
            ]
        );
        let unknown = Certificate { not_after: None, ..certificate(&[]) };
        assert_eq!(reasons(&unknown, &entries, 150).len(), 2);
    }
}
