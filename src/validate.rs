//! Every violation of a request, by field path, found before anything goes upstream. What only the cloud can judge
//! (whether a domain exists, say) it leaves to the cloud.

use crate::pb;

/// What this gateway demands of requests beyond the API's own rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// A request may leave `project_id` empty.
    pub(crate) has_default_project: bool,
    /// A domain must name its instances: see `require-instance-ids`.
    pub(crate) require_instance_ids: bool,
}

/// One thing wrong with one field.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The path to the field, as in `domains[1].domain`.
    pub(crate) field: String,
    /// What the field must be. Never the value: it may be huge, or secret.
    pub(crate) description: &'static str,
}

/// The violations of one request.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    /// The first ones, as many as an answer could ever hold.
    pub(crate) first: Vec<Violation>,
    /// How many there are in all.
    pub(crate) total: usize,
}

/// More than fit into the header space of an answer; a bound on memory, not a promise.
const MOST_KEPT: usize = 128;

const ID_RULE: &str = "must be 1 to 128 characters out of A-Z a-z 0-9 - . _ ~, and not . nor ..";

/// What a request is about, for answers that name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names<'a> {
    pub(crate) project_id: &'a str,
    pub(crate) certificate_id: &'a str,
    pub(crate) domains: &'a [pb::AttachOrDetachDomainInfo],
}

/// A request that can be held against the rules.
pub(crate) trait Validate {
    /// What the request is about.
    fn names(&self) -> Names<'_>;

    /// Everything that is wrong with the request.
    fn violations(&self, rules: Rules) -> Violations;
}

impl Validate for pb::AttachDomainsRequest {
    fn names(&self) -> Names<'_> {
        Names { project_id: &self.project_id, certificate_id: &self.certificate_id, domains: &self.domains }
    }

    fn violations(&self, rules: Rules) -> Violations {
        let mut found = Violations::default();
        project_id(&mut found, &self.project_id, rules);
        id(&mut found, &self.certificate_id, || "certificate_id".into());
        domains(&mut found, &self.domains, rules);
        found
    }
}

fn project_id(found: &mut Violations, project_id: &str, rules: Rules) {
    if !project_id.is_empty() {
        id(found, project_id, || "project_id".into());
    } else if !rules.has_default_project {
        found.add(|| "project_id".into(), "is required: this gateway has no default project");
    }
}

fn domains(found: &mut Violations, domains: &[pb::AttachOrDetachDomainInfo], rules: Rules) {
    if domains.is_empty() {
        found.add(|| "domains".into(), "must name at least one domain");
    }
    for (index, entry) in domains.iter().enumerate() {
        domain(found, &entry.domain, || format!("domains[{index}].domain"));
        if entry.instance_ids.is_empty() && rules.require_instance_ids {
            found.add(
                || format!("domains[{index}].instance_ids"),
                "must name the instances: this gateway refuses to act on all of them",
            );
        }
        for (at, instance_id) in entry.instance_ids.iter().enumerate() {
            id(found, instance_id, || format!("domains[{index}].instance_ids[{at}]"));
        }
    }
}

fn domain(found: &mut Violations, domain: &str, field: impl Fn() -> String) {
    if domain.is_empty() {
        found.add(&field, "must not be empty");
    }
    // No string of fewer bytes has more characters, so short ones are not counted.
    if domain.len() > 253 && domain.chars().count() > 253 {
        found.add(&field, "must not be longer than 253 characters");
    }
    // Names are of plain ASCII nearly always; every byte at once, without a branch, is several times faster.
    let is_plain = domain.bytes().fold(true, |plain, byte| plain & byte.is_ascii_graphic());
    if !is_plain && domain.chars().any(|character| character.is_whitespace() || character.is_control()) {
        found.add(&field, "must not contain white space or control characters");
    }
}

fn id(found: &mut Violations, id: &str, field: impl Fn() -> String) {
    if !is_safe_segment(id) {
        found.add(field, ID_RULE);
    }
}

/// Whether the text stays one path segment in every URL parser: an allow-list, since parsers fold `..` even when it is
/// percent-encoded.
pub(crate) fn is_safe_segment(text: &str) -> bool {
    let is_safe = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~');
    (1..=128).contains(&text.len())
        && !matches!(text, "." | "..")
        // Every byte, without a branch: several times faster than to stop at the first that is not.
        && text.bytes().fold(true, |safe, byte| safe & is_safe(byte))
}

impl Violations {
    fn add(&mut self, field: impl FnOnce() -> String, description: &'static str) {
        self.total += 1;
        if self.first.len() < MOST_KEPT {
            self.first.push(Violation { field: field(), description });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPEN: Rules = Rules { has_default_project: false, require_instance_ids: false };

    fn request(project_id: &str, certificate_id: &str, domains: &[(&str, &[&str])]) -> pb::AttachDomainsRequest {
        pb::AttachDomainsRequest {
            project_id: project_id.into(),
            certificate_id: certificate_id.into(),
            domains: domains
                .iter()
                .map(|(domain, instances)| pb::AttachOrDetachDomainInfo {
                    domain: (*domain).into(),
                    instance_ids: instances.iter().map(|id| (*id).into()).collect(),
                    verified_client_certificate_enabled: None,
                })
                .collect(),
        }
    }

    fn fields(request: &pb::AttachDomainsRequest, rules: Rules) -> Vec<String> {
        request.violations(rules).first.into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn the_documented_request_has_no_violations() {
        let request = request("p", "c", &[("www.example.com", &["f0fa1789-3b76-433b-a787-9892951c620e"])]);
        assert_eq!(fields(&request, OPEN), Vec::<String>::new());
    }

    #[test]
    fn every_violation_is_named_with_its_path() {
        let request = request("..", "a/b", &[("", &[]), ("a b", &["ok", "%2e%2e"]), (&"x".repeat(254), &[])]);
        assert_eq!(
            fields(&request, OPEN),
            [
                "project_id",
                "certificate_id",
                "domains[0].domain",
                "domains[1].domain",
                "domains[1].instance_ids[1]",
                "domains[2].domain"
            ]
        );
    }

    #[test]
    fn one_field_can_break_two_rules() {
        let request = request("p", "c", &[(&" ".repeat(254), &[])]);
        assert_eq!(fields(&request, OPEN), ["domains[0].domain", "domains[0].domain"]);
    }

    #[test]
    fn an_empty_project_needs_a_default() {
        let request = request("", "c", &[("d", &[])]);
        assert_eq!(fields(&request, OPEN), ["project_id"]);
        assert_eq!(fields(&request, Rules { has_default_project: true, ..OPEN }), Vec::<String>::new());
    }

    #[test]
    fn the_widest_scope_can_be_forbidden() {
        let request = request("p", "c", &[("a", &["i"]), ("b", &[])]);
        assert_eq!(fields(&request, Rules { require_instance_ids: true, ..OPEN }), ["domains[1].instance_ids"]);
    }

    #[test]
    fn a_request_without_domains_is_refused() {
        assert_eq!(fields(&request("p", "c", &[]), OPEN), ["domains"]);
    }

    #[test]
    fn a_domain_of_253_characters_passes_whatever_its_bytes() {
        assert_eq!(fields(&request("p", "c", &[(&"é".repeat(253), &[])]), OPEN), Vec::<String>::new());
    }

    #[test]
    fn the_count_goes_on_when_no_more_are_kept() {
        let request = request("p", "c", &vec![("", &[] as &[&str]); 1000]);
        let found = request.violations(OPEN);
        assert_eq!((found.first.len(), found.total), (MOST_KEPT, 1000));
    }

    proptest! {
        #[test]
        fn a_safe_segment_survives_url_parsing_unchanged(id in ".{0,130}") {
            if is_safe_segment(&id) {
                let url = reqwest::Url::parse(&format!("https://host/a/{id}/b")).unwrap();
                prop_assert_eq!(url.path_segments().unwrap().collect::<Vec<_>>(), ["a", &id, "b"]);
            }
        }
    }
}
