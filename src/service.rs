//! The RPCs: each validates its message, has the cloud called, and answers. Paths, fields and errors are the business of
//! others.

use std::sync::Arc;

use http::Method;
use tonic::{Request, Response, Status};
use tracing::Span;

use crate::{
    audit::Subject,
    call::Call,
    cloud::{Client, Operation},
    pb::{self, certificate_service_server::CertificateService},
    policy::{Action, Denied, Policy},
    status,
    telemetry::Metrics,
    validate::{Names, Rules, Validate},
};

/// The service as the cloud's client serves it.
#[derive(Debug)]
pub(crate) struct Certificates {
    cloud: Client,
    policy: Policy,
    rules: Rules,
    metrics: Arc<Metrics>,
}

impl Certificates {
    pub(crate) fn new(cloud: Client, policy: Policy, require_instance_ids: bool, metrics: Arc<Metrics>) -> Self {
        let rules = Rules { has_default_project: cloud.has_default_project(), require_instance_ids };
        Self { cloud, policy, rules, metrics }
    }

    /// What every operation does.
    async fn perform<O>(&self, request: Request<O>) -> Result<Response<O::Response>, Status>
    where
        O: Operation + Validate + prost::Message,
    {
        let call = request.extensions().get::<Arc<Call>>().cloned().expect("every call comes through `inbound`");
        let request = request.into_inner();
        let mut names = request.names();
        let violations = request.violations(self.rules);
        if violations.total > 0 {
            return Err(status::invalid_request(&violations));
        }
        let action = Action {
            method: O::METHOD,
            project: names.project_id,
            certificate: names.certificate_id,
            domains: names.domains.iter().map(|entry| entry.domain.as_str()),
        };
        let identity = &call.peer.identity;
        let default = if names.project_id.is_empty() { self.cloud.known_default_project() } else { None };
        let default = if names.project_id.is_empty() && default.is_none() {
            // A caller that may do this in no project has nobody asked for one.
            if let Err(denied) = self.policy.check_without_project(identity, action.clone()) {
                note::<O>(&call, names);
                return Err(self.denied::<O>(&denied));
            }
            let found = self.cloud.default_project().await;
            found.map_err(|error| {
                note::<O>(&call, names);
                status::from_cloud(&error, names)
            })?
        } else {
            default
        };
        if let Some(project) = &default {
            names.project_id = project;
        }
        note::<O>(&call, names);
        if let Err(denied) = self.policy.check(identity, Action { project: names.project_id, ..action }) {
            return Err(self.denied::<O>(&denied));
        }
        let done = self.cloud.call(&request, default.as_deref(), &call).await;
        let done = done.map_err(|error| status::from_cloud(&error, names))?;
        let mut response = Response::new(done.response);
        if let Some(id) = done.request_id.and_then(|id| id.parse().ok()) {
            response.metadata_mut().insert("apig-request-id", id);
        }
        Ok(response)
    }

    fn denied<O: Operation>(&self, Denied(part): &Denied) -> Status {
        self.metrics.calls_denied.inc();
        status::caller_not_allowed(part, O::METHOD)
    }
}

/// Notes the names of a valid request for the log, and for the audit log if it changes something. Not before: the fields
/// of other requests could be a megabyte of anything.
fn note<O: Operation>(call: &Call, names: Names<'_>) {
    tracing::record_all!(Span::current(), project_id = names.project_id, certificate_id = names.certificate_id);
    if let Some(subject) = &call.subject
        && O::VERB != Method::GET
    {
        let domains = names.domains.iter().map(|entry| entry.domain.clone()).collect();
        let (project_id, certificate_id) = (names.project_id.to_owned(), names.certificate_id.to_owned());
        let _ = subject.set(Subject { project_id, certificate_id, domains });
    }
}

#[tonic::async_trait]
impl CertificateService for Certificates {
    async fn attach_domains(
        &self,
        request: Request<pb::AttachDomainsRequest>,
    ) -> Result<Response<pb::AttachDomainsResponse>, Status> {
        self.perform(request).await
    }
}
