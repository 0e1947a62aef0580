//! The bindings that the cloud lists for one certificate, to compare domains with. Does no I/O.

use std::collections::HashMap;

use super::{Action, input::Entry};
use crate::pb::BoundDomain;

/// The rows of a whole list.
#[derive(Debug, Default)]
pub(in crate::cli) struct Bindings {
    /// Instance and client verification of each row, by the comparable name of its domain.
    by_name: HashMap<String, Vec<(String, Option<bool>)>>,
}

impl Bindings {
    pub(in crate::cli) fn of(rows: &[BoundDomain]) -> Self {
        let mut by_name: HashMap<_, Vec<_>> = HashMap::new();
        for row in rows {
            let binding = (row.instance_id.clone(), row.verified_client_certificate_enabled);
            by_name.entry(comparable(&row.url_domain)).or_default().push(binding);
        }
        Self { by_name }
    }

    /// Whether a domain certainly is as asked. An attachment needs a row for each instance, and the asked flag on each of
    /// these rows; without instances it can't be confirmed, because nothing says which ones the cloud had to act on.
    pub(in crate::cli) fn confirm(&self, action: Action, entry: &Entry) -> bool {
        let rows = self.by_name.get(&comparable(&entry.domain)).map(Vec::as_slice).unwrap_or_default();
        let flags = |id: &str| -> Vec<Option<bool>> {
            rows.iter().filter(|(instance, _)| same_id(instance, id)).map(|(_, flag)| *flag).collect()
        };
        match action {
            Action::Attach => {
                let asked = entry.verified_client_certificate_enabled;
                let is_bound = |id: &String| {
                    let flags = flags(id);
                    !flags.is_empty() && flags.iter().all(|flag| asked.is_none() || *flag == asked)
                };
                !entry.instance_ids.is_empty() && entry.domain.is_ascii() && entry.instance_ids.iter().all(is_bound)
            }
            Action::Detach if !entry.domain.is_ascii() => false,
            Action::Detach if entry.instance_ids.is_empty() => rows.is_empty(),
            Action::Detach => entry.instance_ids.iter().all(|id| flags(id).is_empty()),
        }
    }
}

/// A domain name without case and without a final dot.
pub(in crate::cli) fn comparable(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Ids have two spellings in the cloud's documents, with and without hyphens.
fn same_id(one: &str, other: &str) -> bool {
    let plain = |id: &str| {
        let letters = id.bytes().filter(|byte| *byte != b'-');
        letters.map(|byte| byte.to_ascii_lowercase()).collect::<Vec<_>>()
    };
    one == other || plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(domain: &str, instance: &str, flag: Option<bool>) -> BoundDomain {
        BoundDomain {
            url_domain: domain.into(),
            instance_id: instance.into(),
            verified_client_certificate_enabled: flag,
            ..BoundDomain::default()
        }
    }

    fn entry(domain: &str, ids: &[&str], flag: Option<bool>) -> Entry {
        Entry {
            domain: domain.into(),
            instance_ids: ids.iter().map(|id| (*id).into()).collect(),
            verified_client_certificate_enabled: flag,
        }
    }

    #[test]
    fn only_what_is_certain_is_confirmed() {
        let list = Bindings::of(&[
            row("a.example.com", "i-1", Some(true)),
            row("a.example.com", "j", Some(false)),
            // A domain with custom ports.
            row("b.example.com", "i-1", Some(true)),
            row("b.example.com", "i-1", Some(false)),
            row("c.example.com", "i-1", None),
            row("ü.example.com", "i-1", None),
        ]);
        let attached = |entry: Entry| list.confirm(Action::Attach, &entry);
        assert!(attached(entry("a.example.com", &["i-1"], Some(true))));
        assert!(attached(entry("A.Example.com.", &["i1", "J"], None)));
        assert!(!attached(entry("a.example.com", &["i-1", "j"], Some(true))));
        assert!(!attached(entry("a.example.com", &["i-1", "k"], None)));
        assert!(!attached(entry("a.example.com", &[], None)));
        assert!(!attached(entry("b.example.com", &["i-1"], Some(true))));
        assert!(!attached(entry("c.example.com", &["i-1"], Some(false))));
        assert!(!attached(entry("ü.example.com", &["i-1"], None)));
        let detached = |entry: Entry| list.confirm(Action::Detach, &entry);
        assert!(detached(entry("d.example.com", &[], None)));
        assert!(detached(entry("a.example.com", &["k"], None)));
        assert!(!detached(entry("a.example.com", &["k", "i1"], None)));
        assert!(!detached(entry("A.example.com.", &[], None)));
    }
}
