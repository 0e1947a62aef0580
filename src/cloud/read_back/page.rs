//! One page of the list of attached domains, as far as a look-up needs it. Stricter than the method for callers: a page
//! without a total, or a row without a domain and an instance, can't tell that something is missing.

use http::{Method as Verb, StatusCode};
use serde::Deserialize;

use super::goal::Row;
use crate::{
    cloud::rest::{Operation, Query, Segment},
    pb,
    resources::{Describe, Method, Resources},
};

/// As many rows as the cloud returns at once.
const LARGEST: i32 = 500;

/// The request for a page.
#[derive(Debug)]
pub(super) struct PageRequest(pub(super) pb::ListAttachedDomainsRequest);

impl PageRequest {
    pub(super) fn new(resources: &Resources<'_>, certificate: &str, offset: i64) -> Self {
        Self(pb::ListAttachedDomainsRequest {
            project_id: resources.project.to_owned(),
            certificate_id: certificate.to_owned(),
            offset: Some(offset),
            limit: Some(LARGEST),
            // No filter: the cloud does not document whether one compares case and final dots.
            url_domain: String::new(),
        })
    }
}

/// A page.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Page {
    pub(super) total: i64,
    #[serde(default, deserialize_with = "pb::json::or_default")]
    pub(super) bound_domains: Vec<Row>,
}

#[derive(Deserialize)]
struct RawRow {
    url_domain: String,
    instance_id: String,
    #[serde(default, deserialize_with = "pb::json::scalar")]
    verified_client_certificate_enabled: Option<bool>,
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawRow { url_domain: name, instance_id: instance, verified_client_certificate_enabled: flag } =
            pb::json::object(deserializer)?;
        Ok(Self { name, instance, flag })
    }
}

impl Describe for PageRequest {
    const METHOD: &'static Method = pb::ListAttachedDomainsRequest::METHOD;

    fn resources(&self) -> Resources<'_> {
        self.0.resources()
    }
}

impl Operation for PageRequest {
    type Response = Page;
    const VERB: Verb = pb::ListAttachedDomainsRequest::VERB;
    const SUCCESS: StatusCode = pb::ListAttachedDomainsRequest::SUCCESS;
    const HAS_ANSWER: bool = pb::ListAttachedDomainsRequest::HAS_ANSWER;
    const TEMPLATE: &'static str = pb::ListAttachedDomainsRequest::TEMPLATE;

    fn path(&self) -> impl Iterator<Item = Segment<'_>> {
        self.0.path()
    }

    fn query(&self, query: &mut Query) {
        self.0.query(query);
    }

    fn body(&self) -> Option<Vec<u8>> {
        self.0.body()
    }

    fn secrets<'a>(&'a self, secrets: &mut Vec<&'a str>) {
        self.0.secrets(secrets);
    }

    fn decode(body: &[u8]) -> Result<Page, serde_json::Error> {
        pb::json::decode(body)
    }
}
