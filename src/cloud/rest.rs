//! A message and its binding become verb, path and JSON body. The bindings are generated from the .proto, so no
//! operation's path or fields are written here; and nothing here sends anything.

use std::ops::Range;

use bytes::Bytes;
use http::{Method as Verb, StatusCode};

use crate::{pb, validate::is_safe_segment};

/// A request message with the REST form that its method's `google.api.http` option gives it.
pub(crate) trait Operation: serde::Serialize + prost::Message {
    /// What the method answers.
    type Response: Default;
    /// The full name of the method, as in a gRPC path.
    const METHOD: &'static str;
    /// The verb.
    const VERB: Verb;
    /// Whether the fields outside the path travel as a JSON body.
    const HAS_BODY: bool;
    /// The one status that means success.
    const SUCCESS: StatusCode;
    /// The path, segment by segment.
    fn path(&self) -> impl Iterator<Item = Segment<'_>>;
}

/// One segment of an operation's path.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Segment<'a> {
    /// Written in the .proto as it is.
    Literal(&'static str),
    /// Filled from a field of the request.
    Field { name: &'static str, value: &'a str },
    /// The segment that tells the API families apart.
    Family,
}

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

/// What fills the places of a path that the request leaves open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PathDefaults<'a> {
    /// `apic` or `apigw`.
    pub(crate) family: &'static str,
    /// For requests without a `project_id`.
    pub(crate) default_project: Option<&'a str>,
}

/// A request's REST form.
#[derive(Debug)]
pub(crate) struct RestRequest {
    /// The path, from its first slash on.
    pub(crate) path: String,
    /// The JSON.
    pub(crate) body: Option<Bytes>,
    /// Where the path's part up to the certificate ends, if the operation changes one.
    certificate_ends: Option<usize>,
    /// Where the project's id is in the path.
    project: Range<usize>,
}

impl RestRequest {
    /// The certificate that the operation changes: its path, which names the project too.
    pub(crate) fn changes(&self) -> Option<&str> {
        self.path.get(..self.certificate_ends?)
    }

    /// The project that it acts on.
    pub(crate) fn project(&self) -> Option<&str> {
        self.path.get(self.project.clone()).filter(|id| !id.is_empty())
    }
}

/// A field's value would not stay in its path segment. Validation refuses such requests; this is the second lock.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnsafeSegment(pub(crate) &'static str);

/// Writes the REST form of a request.
///
/// # Errors
///
/// [`UnsafeSegment`] names the field whose value can't be a path segment.
pub(crate) fn rest_request<O: Operation>(
    request: &O,
    defaults: PathDefaults<'_>,
) -> Result<RestRequest, UnsafeSegment> {
    let mut path = String::with_capacity(160);
    let mut certificate_ends = None;
    let mut project = 0..0;
    for segment in request.path() {
        path.push('/');
        let start = path.len();
        path.push_str(match segment {
            Segment::Literal(text) => text,
            Segment::Family => defaults.family,
            Segment::Field { name, value } => {
                let value = match defaults.default_project {
                    Some(project) if value.is_empty() && name == "project_id" => project,
                    _ => value,
                };
                if !is_safe_segment(value) {
                    return Err(UnsafeSegment(name));
                }
                value
            }
        });
        if let Segment::Field { name: "project_id", .. } = segment {
            project = start..path.len();
        }
        if matches!(segment, Segment::Field { name: "certificate_id", .. }) && O::VERB != Verb::GET {
            certificate_ends = Some(path.len());
        }
    }
    let body = O::HAS_BODY.then(|| {
        // JSON takes a little more room than protobuf.
        let mut json = Vec::with_capacity(request.encoded_len() * 3 / 2 + 64);
        serde_json::to_writer(&mut json, request).expect("messages hold strings, booleans and numbers, and no maps");
        Bytes::from(json)
    });
    Ok(RestRequest { path, body, certificate_ends, project })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};
    use serde_json::{Map, Value, json};

    use super::*;

    fn defaults() -> PathDefaults<'static> {
        PathDefaults { family: "apic", default_project: Some("default") }
    }

    fn documented() -> pb::AttachDomainsRequest {
        pb::AttachDomainsRequest {
            project_id: "73d69ae0cfcf460190522d06b60f05ad".into(),
            certificate_id: "a27be832f2e9441c8127fe48e3b5ac67".into(),
            domains: vec![pb::AttachOrDetachDomainInfo {
                domain: "apigtest.xxx.com".into(),
                instance_ids: vec![
                    "f0fa1789-3b76-433b-a787-9892951c620e".into(),
                    "7d39549681c54d968ec2910da9da95cd".into(),
                ],
                verified_client_certificate_enabled: None,
            }],
        }
    }

    #[test]
    fn the_documented_example_has_the_documented_form() {
        let rest_request = rest_request(&documented(), defaults()).unwrap();
        assert_eq!(
            rest_request.path,
            "/v2/73d69ae0cfcf460190522d06b60f05ad/apic/certificates/a27be832f2e9441c8127fe48e3b5ac67/domains/attach"
        );
        assert_eq!(
            rest_request.body.unwrap(),
            concat!(
                r#"{"domains":[{"domain":"apigtest.xxx.com","instance_ids":["#,
                r#""f0fa1789-3b76-433b-a787-9892951c620e","7d39549681c54d968ec2910da9da95cd"]}]}"#
            )
        );
    }

    #[test]
    fn a_change_names_its_certificate() {
        let rest_request = rest_request(&documented(), defaults()).unwrap();
        assert_eq!(
            rest_request.changes(),
            Some("/v2/73d69ae0cfcf460190522d06b60f05ad/apic/certificates/a27be832f2e9441c8127fe48e3b5ac67")
        );
    }

    #[test]
    fn the_dedicated_gateway_has_its_own_segment_and_an_open_project_takes_the_default() {
        let request = pb::AttachDomainsRequest { project_id: String::new(), ..documented() };
        let rest_request = rest_request(&request, PathDefaults { family: "apigw", ..defaults() }).unwrap();
        assert!(rest_request.path.starts_with("/v2/default/apigw/certificates/"), "{}", rest_request.path);
    }

    #[test]
    fn an_id_that_would_climb_makes_no_path() {
        let request = pb::AttachDomainsRequest { certificate_id: "..".into(), ..documented() };
        assert_eq!(rest_request(&request, defaults()).unwrap_err(), UnsafeSegment("certificate_id"));
    }

    fn domains() -> impl Strategy<Value = pb::AttachOrDetachDomainInfo> {
        (".{1,40}", vec("[a-f0-9-]{1,36}", 0..4), option::of(any::<bool>())).prop_map(
            |(domain, instance_ids, verify)| pb::AttachOrDetachDomainInfo {
                domain,
                instance_ids,
                verified_client_certificate_enabled: verify,
            },
        )
    }

    proptest! {
        #[test]
        fn the_json_says_what_the_message_says_and_no_more(domains in vec(domains(), 1..8)) {
            let request = pb::AttachDomainsRequest { domains: domains.clone(), ..documented() };
            let sent: Value = serde_json::from_slice(&rest_request(&request, defaults()).unwrap().body.unwrap()).unwrap();
            let expected: Vec<Value> = domains.into_iter().map(|entry| {
                let mut object = Map::new();
                object.insert("domain".into(), entry.domain.into());
                if !entry.instance_ids.is_empty() {
                    object.insert("instance_ids".into(), entry.instance_ids.into());
                }
                if let Some(verify) = entry.verified_client_certificate_enabled {
                    object.insert("verified_client_certificate_enabled".into(), verify.into());
                }
                object.into()
            }).collect();
            prop_assert_eq!(sent, json!({ "domains": expected }));
        }
    }
}
