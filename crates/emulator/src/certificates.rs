//! Handles the operations on the domains of a certificate: attach, detach, list.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::answer::Refusal;
use super::body::Entry;
use super::caller::RequestHead;
use super::token::no_permission;
use super::world::{Certificate, Domain, Fault};
use super::{Shared, body};

/// The path parameters: project and certificate.
pub(super) struct CertificatePath {
    project: String,
    certificate: String,
}

impl<S: Send + Sync> FromRequestParts<S> for CertificatePath {
    type Rejection = Refusal;

    /// The router accepts empty segments and segments that are not UTF-8 when decoded. Neither can
    /// be an id, so the path counts as unknown.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        match path {
            Ok(Path((project, certificate))) if !project.is_empty() && !certificate.is_empty() => {
                Ok(Self { project, certificate })
            }
            _ => Err(Refusal::unknown_path()),
        }
    }
}

/// A change of the bindings of a certificate.
#[derive(Clone, Copy)]
enum Change {
    Attach,
    Detach,
}

/// `POST /v2/{project_id}/{family}/certificates/{certificate_id}/domains/attach`
pub(super) async fn attach_domains(
    State(cloud): State<Shared>,
    path: CertificatePath,
    request: RequestHead,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    change_domains(&cloud, &path, &request, body, Change::Attach).await
}

/// `POST /v2/{project_id}/{family}/certificates/{certificate_id}/domains/detach`
pub(super) async fn detach_domains(
    State(cloud): State<Shared>,
    path: CertificatePath,
    request: RequestHead,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    change_domains(&cloud, &path, &request, body, Change::Detach).await
}

/// The steps that both changes share: their bodies have the same documented form.
async fn change_domains(
    cloud: &Shared,
    CertificatePath { project, certificate }: &CertificatePath,
    request: &RequestHead,
    body: Result<Bytes, BytesRejection>,
    change: Change,
) -> Result<Response, Refusal> {
    // The front gateway checks the size of the body; that this happens before authentication is our choice.
    let body = body?;
    let grant = cloud.grant(request, &body, project)?;
    if !grant.may_attach {
        return Err(no_permission());
    }
    let entries = body::decode(&request.headers, &body)?;
    let certificate = cloud
        .world
        .certificate(project, certificate)
        .ok_or_else(|| Refusal::service(StatusCode::NOT_FOUND, "APIG.3025", "The certificate does not exist."))?;
    let apply = || apply(cloud, certificate, &entries, change);
    match cloud.world.fault(&certificate.id) {
        None => apply().await.map(|()| StatusCode::NO_CONTENT.into_response()),
        Some(fault) => {
            if fault.processed
                && let Err(refusal) = apply().await
            {
                tracing::debug!(error_code = refusal.code(), "refusal replaced by the configured fault");
            }
            Ok(fault_answer(fault))
        }
    }
}

/// Makes a change, and blocks other changes of the certificate for the configured time even if the client
/// disconnects. Our choice: while another change is in progress, an invalid change is refused for that reason too.
async fn apply(cloud: &Shared, certificate: &Certificate, entries: &[Entry], change: Change) -> Result<(), Refusal> {
    let in_progress = cloud.changes.begin(&certificate.id)?;
    match change {
        Change::Attach => cloud.bindings().attach(&cloud.world, certificate, entries)?,
        Change::Detach => cloud.bindings().detach(&cloud.world, certificate, entries)?,
    }
    let time = cloud.change_time;
    let made = tokio::spawn(async move {
        tokio::time::sleep(time).await;
        drop(in_progress);
    });
    // The task fails only when the runtime shuts down.
    let _ = made.await;
    Ok(())
}

fn fault_answer(fault: &Fault) -> Response {
    let mut answer = fault.body.clone().into_response();
    *answer.status_mut() = fault.status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().extend(fault.headers.clone());
    answer
}

/// The query parameters of a list: page and filter.
#[derive(Deserialize)]
pub(super) struct Page {
    #[serde(default)]
    offset: i64,
    #[serde(default)]
    limit: i64,
    url_domain: Option<String>,
}

impl Page {
    fn offset(&self) -> usize {
        usize::try_from(self.offset).unwrap_or(0)
    }

    /// By default 20, also for 0 and below; at most 500. Documented for the dedicated gateway,
    /// applied to both products here.
    fn limit(&self) -> usize {
        match usize::try_from(self.limit) {
            Err(_) | Ok(0) => 20,
            Ok(limit) => limit.min(500),
        }
    }

    /// Whether the filter matches a domain. Exact or partial matching is not documented: here a
    /// substring matches, so that a caller relying on exact matches notices.
    fn matches(&self, domain: &Domain) -> bool {
        self.url_domain.as_ref().is_none_or(|part| domain.name.contains(part))
    }
}

#[derive(Serialize)]
struct Attached<'a> {
    size: usize,
    total: usize,
    bound_domains: Vec<Row<'a>>,
}

/// A domain on an instance.
#[derive(Serialize)]
struct Row<'a> {
    url_domain: &'a str,
    id: &'a str,
    status: u8,
    min_ssl_version: &'static str,
    is_http_redirect_to_https: bool,
    verified_client_certificate_enabled: bool,
    /// Documented for the dedicated gateway alone.
    #[serde(flatten)]
    ports: Option<Ports>,
    ssl_id: &'a str,
    ssl_name: &'a str,
    api_group_id: &'a str,
    api_group_name: &'a str,
    instance_id: &'a str,
}

/// The inbound ports of a domain.
#[derive(Serialize, Clone, Copy)]
struct Ports {
    ingress_http_port: i32,
    ingress_https_port: i32,
}

/// The documented default ports: the world configures no custom ones.
const DEFAULT_PORTS: Ports = Ports { ingress_http_port: 80, ingress_https_port: 443 };

/// Status 3 of a domain: its CNAME is resolved.
const RESOLVED: u8 = 3;

/// `GET /v2/{project_id}/{family}/certificates/{certificate_id}/attached-domains`
///
/// Any user of the project may list. The list of an unknown certificate is empty, because no 404 is
/// documented. The order is the world's; the documents give none.
pub(super) async fn list_attached_domains(
    State(cloud): State<Shared>,
    CertificatePath { project, certificate }: CertificatePath,
    request: RequestHead,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Refusal> {
    cloud.grant(&request, b"", &project)?;
    let Query(page) = page?;
    let is_dedicated = request.uri.path().split('/').nth(3) == Some("apigw");
    let ports = is_dedicated.then_some(DEFAULT_PORTS);

    let mut rows = Vec::new();
    if let Some(certificate) = cloud.world.certificate(&project, &certificate) {
        let bindings = cloud.bindings();
        for domain in cloud.world.domains(&project).filter(|domain| page.matches(domain)) {
            for instance in &domain.instances {
                let Some(binding) = bindings.at(&domain.id, instance) else { continue };
                if binding.certificate != certificate.id {
                    continue;
                }
                rows.push(Row {
                    url_domain: &domain.name,
                    id: &domain.id,
                    status: RESOLVED,
                    min_ssl_version: "TLSv1.1",
                    is_http_redirect_to_https: false,
                    verified_client_certificate_enabled: binding.verifies_clients,
                    ports,
                    ssl_id: &certificate.id,
                    ssl_name: &certificate.name,
                    api_group_id: &domain.group_id,
                    api_group_name: &domain.group_name,
                    instance_id: instance,
                });
            }
        }
    }
    let total = rows.len();
    let bound_domains: Vec<Row<'_>> = rows.into_iter().skip(page.offset()).take(page.limit()).collect();
    Ok(Json(Attached { size: bound_domains.len(), total, bound_domains }).into_response())
}
