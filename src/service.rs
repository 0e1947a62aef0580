//! The RPCs: each validates its message, asks the policy, has the cloud called, and answers.

use std::sync::{Arc, OnceLock};

use tonic::{Request, Response, Status, metadata::MetadataValue};
use tracing::Span;

use crate::{
    audit::Subject,
    call::Call,
    cloud::{self, Client, Goal, Operation},
    pb::{
        self,
        certificate_service_server::{CertificateService, CertificateServiceServer, SERVICE_NAME},
    },
    peer::Peer,
    policy::{Denied, Policy},
    resources::Resources,
    status,
    telemetry::Metrics,
    validate::{Rules, Validate},
};

/// The service as the server serves it.
pub(crate) type Server = CertificateServiceServer<Certificates>;

/// The name of the service, as health checks know it.
pub(crate) const NAME: &str = SERVICE_NAME;

/// A call as the server hands it over, in the extensions of its request.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) call: Call,
    /// The verified identity of the caller.
    pub(crate) peer: Arc<Peer>,
    /// The resources that the call is to change, for the audit log if there is one: set once, when they are known.
    pub(crate) subject: Option<Arc<OnceLock<Subject>>>,
}

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

    /// Serves any operation. A `goal` has an unknown outcome looked up.
    async fn perform<O>(
        &self,
        request: Request<O>,
        goal: Option<fn(&O) -> Goal<'_>>,
    ) -> Result<Response<O::Response>, Status>
    where
        O: Operation + Validate,
    {
        let context = request.extensions().get::<Arc<Context>>().cloned().expect("every call comes through `inbound`");
        let request = request.into_inner();
        let violations = request.violations(self.rules);
        if violations.total > 0 {
            return Err(status::invalid_request(&violations).status(O::METHOD.is_change));
        }
        let mut resources = request.resources();
        let default =
            if resources.project.is_empty() { self.default_project(&context, &resources).await? } else { None };
        if let Some(project) = &default {
            resources.project = project;
        }
        note(&context, &resources);
        self.policy.check(&context.peer.identity, &resources).map_err(|denied| self.denied(&denied, &resources))?;
        let done = self.cloud.call(&request, &resources, &context.call, goal).await;
        let done = done.map_err(|failed| status::from_cloud(&failed.error, failed.observed, &resources))?;
        let mut response = Response::new(done.response);
        if let Some(id) = done.request_id.and_then(|id| id.parse().ok()) {
            response.metadata_mut().insert("apig-request-id", id);
        }
        if done.is_confirmed {
            response.metadata_mut().insert("apig-outcome", MetadataValue::from_static("confirmed"));
        }
        Ok(response)
    }

    /// The project of a request that names none.
    async fn default_project(&self, context: &Context, resources: &Resources<'_>) -> Result<Option<Arc<str>>, Status> {
        if let Some(known) = self.cloud.known_default_project() {
            return Ok(Some(known));
        }
        // IAM is not asked on behalf of a caller that may do this in no project.
        if let Err(denied) = self.policy.check_without_project(&context.peer.identity, resources) {
            note(context, resources);
            return Err(self.denied(&denied, resources));
        }
        self.cloud.default_project().await.map_err(|error| {
            note(context, resources);
            status::from_cloud(&error, None, resources)
        })
    }

    fn denied(&self, Denied(part): &Denied, resources: &Resources<'_>) -> Status {
        self.metrics.calls_denied.inc();
        status::caller_not_allowed(part, resources.method.name).status(resources.method.is_change)
    }
}

/// Notes the resources of a valid request for the log, and for the audit log if it is a change. Not before: the fields of
/// other requests could be a megabyte of anything.
fn note(context: &Context, resources: &Resources<'_>) {
    let span = Span::current();
    span.record("project_id", resources.project);
    if let Some(certificate) = resources.certificate() {
        span.record("certificate_id", certificate);
    }
    if let Some(subject) = &context.subject
        && resources.method.is_change
    {
        let _ = subject.set(Subject::of(resources));
    }
}

/// Implements a service: a line for each method, with its request and, where an unknown outcome is looked up, the goal that
/// the look-up compares with.
macro_rules! serve {
    ($service:ident: $($method:ident($request:ident) $(looks_up $goal:path)?),* $(,)?) => {
        #[tonic::async_trait]
        impl $service for Certificates {
            $(async fn $method(
                &self,
                request: Request<pb::$request>,
            ) -> Result<Response<<pb::$request as Operation>::Response>, Status> {
                let goal = None::<fn(&pb::$request) -> Goal<'_>>$(.or(Some($goal)))?;
                self.perform(request, goal).await
            })*
        }
    };
}

serve! {
    CertificateService:
    attach_domains(AttachDomainsRequest) looks_up cloud::attached,
    detach_domains(DetachDomainsRequest) looks_up cloud::detached,
    list_attached_domains(ListAttachedDomainsRequest),
    list_certificates(ListCertificatesRequest),
    get_certificate(GetCertificateRequest),
    create_certificate(CreateCertificateRequest),
    update_certificate(UpdateCertificateRequest),
    delete_certificate(DeleteCertificateRequest),
    attach_certificates(AttachCertificatesRequest),
    detach_certificates(DetachCertificatesRequest),
}
