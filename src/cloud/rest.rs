//! A message becomes verb, path, query and JSON body. All of an operation is generated from the .proto, so no path and no
//! field is written here; and nothing here sends anything.

use std::fmt::{self, Display, Write as _};

use bytes::Bytes;
use http::{Method as Verb, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::{
    pb,
    resources::{Describe, Resources},
    secret,
    validate::is_safe_segment,
};

/// A request message with the REST form that its method's `google.api.http` option gives it.
pub(crate) trait Operation: Describe {
    /// The answer of the method.
    type Response: Default;
    /// The verb.
    const VERB: Verb;
    /// The one status that means success.
    const SUCCESS: StatusCode;
    /// Whether success has a body.
    const HAS_ANSWER: bool;
    /// The path with the names of its fields, and `{family}`.
    const TEMPLATE: &'static str;
    /// The path, segment by segment.
    fn path(&self) -> impl Iterator<Item = Segment<'_>>;
    /// Adds the fields that travel in the query.
    fn query(&self, query: &mut Query);
    /// The JSON body.
    fn body(&self) -> Option<Vec<u8>>;
    /// Adds the values that must never be printed.
    fn secrets<'a>(&'a self, secrets: &mut Vec<&'a str>);
    /// Reads the body of a success.
    ///
    /// # Errors
    ///
    /// It is not the documented JSON.
    fn decode(body: &[u8]) -> Result<Self::Response, serde_json::Error>;
}

/// One segment of an operation's path.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "not every API has segments of each kind")]
pub(crate) enum Segment<'a> {
    /// Written in the .proto as it is.
    Literal(&'static str),
    /// Filled from a field of the request.
    Field { name: &'static str, value: &'a str },
    /// The project: the request's, or the gateway's default.
    Project { name: &'static str },
    /// The segment that tells the API families apart.
    Family,
}

include!(concat!(env!("OUT_DIR"), "/operations.rs"));

/// RFC 3986's unreserved characters stay as they are.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A query under construction, encoded as the vendor's SDK does it. Names are literals of the .proto, in their order.
#[derive(Debug, Default)]
pub(crate) struct Query(String);

#[allow(dead_code, reason = "generated code calls them")]
impl Query {
    /// Adds a field that is there.
    fn add(&mut self, name: &str, value: Option<&(impl Display + ?Sized)>) {
        if let Some(value) = value {
            let separator = if self.0.is_empty() { "" } else { "&" };
            let text = value.to_string();
            let _ = write!(self.0, "{separator}{name}={}", utf8_percent_encode(&text, ENCODED));
        }
    }

    /// Adds a list: the same name again for each value, in the order of the values.
    fn add_all(&mut self, name: &str, values: &[impl Display + Ord]) {
        let mut values: Vec<_> = values.iter().collect();
        values.sort_unstable();
        for value in values {
            self.add(name, Some(value));
        }
    }
}

/// Writes JSON, given the length of the message in protobuf.
fn json(message: &impl serde::Serialize, length: usize) -> Vec<u8> {
    // JSON takes a little more room than protobuf.
    let mut json = Vec::with_capacity(length * 3 / 2 + 64);
    serde_json::to_writer(&mut json, message).expect("messages hold strings, booleans and numbers, and no maps");
    json
}

/// A request's REST form.
pub(crate) struct RestRequest<'a> {
    /// The path, from its first slash on.
    pub(crate) path: String,
    /// Without the question mark; empty for none.
    pub(crate) query: String,
    /// The JSON.
    pub(crate) body: Option<Bytes>,
    /// Values of the request that must never be printed.
    pub(crate) secrets: Vec<&'a str>,
}

/// The body may hold secrets.
impl fmt::Debug for RestRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestRequest").field("path", &self.path).field("query", &self.query).finish_non_exhaustive()
    }
}

/// A field's value would not stay in its path segment. Validation refuses such requests; this is the second lock.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnsafeSegment(pub(crate) &'static str);

/// Writes the REST form of a request; `family` is `apic` or `apigw`.
///
/// # Errors
///
/// [`UnsafeSegment`] names the field whose value can't be a path segment.
pub(crate) fn rest_request<'a, O: Operation>(
    request: &'a O,
    resources: &Resources<'_>,
    family: &'static str,
) -> Result<RestRequest<'a>, UnsafeSegment> {
    let mut path = String::with_capacity(160);
    for segment in request.path() {
        let (name, value) = match segment {
            Segment::Literal(text) => ("", text),
            Segment::Family => ("", family),
            Segment::Project { name } => (name, resources.project),
            Segment::Field { name, value } => (name, value),
        };
        if !name.is_empty() && !is_safe_segment(value) {
            return Err(UnsafeSegment(name));
        }
        path.push('/');
        path.push_str(value);
    }
    let mut query = Query::default();
    request.query(&mut query);
    let mut secrets = Vec::new();
    request.secrets(&mut secrets);
    let body = request
        .body()
        .map(|json| if secrets.is_empty() { Bytes::from(json) } else { secret::bytes(Zeroizing::new(json)) });
    Ok(RestRequest { path, query: query.0, body, secrets })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};
    use serde_json::{Map, Value, json};

    use super::*;

    fn rest(request: &pb::AttachDomainsRequest) -> Result<RestRequest<'_>, UnsafeSegment> {
        rest_request(request, &request.resources(), "apic")
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
        let request = documented();
        let rest_request = rest(&request).unwrap();
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
    fn the_dedicated_gateway_has_its_own_segment_and_an_open_project_takes_the_default() {
        let request = pb::AttachDomainsRequest { project_id: String::new(), ..documented() };
        let resources = Resources { project: "default", ..request.resources() };
        let rest_request = rest_request(&request, &resources, "apigw").unwrap();
        assert!(rest_request.path.starts_with("/v2/default/apigw/certificates/"), "{}", rest_request.path);
    }

    #[test]
    fn a_query_is_encoded_as_the_vendors_sdk_does_it() {
        let mut query = Query::default();
        query.add("limit", Some(&500));
        query.add("name", None::<&str>);
        query.add("on", Some(&false));
        query.add("url_domain", Some("*.a b+c/d?e=f&g%é~-_."));
        query.add_all("x", &["b", "a"]);
        assert_eq!(query.0, "limit=500&on=false&url_domain=%2A.a%20b%2Bc%2Fd%3Fe%3Df%26g%25%C3%A9~-_.&x=a&x=b");
    }

    #[test]
    fn an_id_that_would_climb_makes_no_path() {
        let request = pb::AttachDomainsRequest { certificate_id: "..".into(), ..documented() };
        assert_eq!(rest(&request).unwrap_err(), UnsafeSegment("certificate_id"));
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
            let sent: Value = serde_json::from_slice(&rest(&request).unwrap().body.unwrap()).unwrap();
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
