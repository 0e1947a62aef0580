//! Handles the operations on the bindings of a certificate: attach, detach and list its domains, and attach and detach
//! it from a domain's side.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::answer::Refusal;
use super::binding::{no_such_domain, no_such_instance};
use super::caller::RequestHead;
use super::certificates::{CertificatePath, Page};
use super::change::change;
use super::token::no_permission;
use super::world::Domain;
use super::{Shared, body};

/// A change of the bindings of a certificate.
#[derive(Clone, Copy)]
pub(super) enum Direction {
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
    change_domains(&cloud, &path, &request, body, Direction::Attach).await
}

/// `POST /v2/{project_id}/{family}/certificates/{certificate_id}/domains/detach`
pub(super) async fn detach_domains(
    State(cloud): State<Shared>,
    path: CertificatePath,
    request: RequestHead,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    change_domains(&cloud, &path, &request, body, Direction::Detach).await
}

/// The path parameters of the domain's side.
pub(super) struct DomainPath {
    project: String,
    instance: String,
    group: String,
    domain: String,
}

impl<S: Send + Sync> FromRequestParts<S> for DomainPath {
    type Rejection = Refusal;

    /// As for [`CertificatePath`].
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::<[String; 4]>::from_request_parts(parts, state).await {
            Ok(Path(ids)) if ids.iter().all(|id| !id.is_empty()) => {
                let [project, instance, group, domain] = ids;
                Ok(Self { project, instance, group, domain })
            }
            _ => Err(Refusal::unknown_path()),
        }
    }
}

/// `POST /v2/{project_id}/{family}/instances/{instance_id}/api-groups/{group_id}/domains/{domain_id}/certificates/attach`
pub(super) async fn attach_certificates(
    State(cloud): State<Shared>,
    path: DomainPath,
    request: RequestHead,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    change_certificates(&cloud, &path, &request, body, Direction::Attach).await
}

/// `POST /v2/{project_id}/{family}/instances/{instance_id}/api-groups/{group_id}/domains/{domain_id}/certificates/detach`
pub(super) async fn detach_certificates(
    State(cloud): State<Shared>,
    path: DomainPath,
    request: RequestHead,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    change_certificates(&cloud, &path, &request, body, Direction::Detach).await
}

/// The steps that both changes from the domain's side share. That they act on the instance of the path alone is our
/// reading, as is the order of the refusals.
async fn change_certificates(
    cloud: &Shared,
    path: &DomainPath,
    request: &RequestHead,
    body: Result<Bytes, BytesRejection>,
    direction: Direction,
) -> Result<Response, Refusal> {
    let body = body?;
    let grant = cloud.grant(request, &body, &path.project)?;
    if !grant.may_attach {
        return Err(no_permission());
    }
    let body = body::decode_of_domain(&request.headers, &body)?;
    let domain = domain_at(cloud, path)?;
    change(cloud, &path.project, &body.certificate, |state, certificate| {
        let verifies = body.verified_client_certificate_enabled;
        match direction {
            Direction::Attach => {
                state.bindings.attach_at(certificate, domain, &path.instance, verifies, cloud.second_certificate)?;
            }
            // The effect of the flag on a detachment is not documented: none here.
            Direction::Detach => state.bindings.detach_at(&certificate.id, &domain.id, &path.instance)?,
        }
        Ok(StatusCode::NO_CONTENT.into_response())
    })
    .await
}

/// The domain of a path: in its group, and served by its instance.
fn domain_at<'a>(cloud: &'a Shared, path: &DomainPath) -> Result<&'a Domain, Refusal> {
    if !cloud.world.has_instance(&path.project, &path.instance) {
        return Err(no_such_instance(&path.instance));
    }
    // A group without domains is not part of a world.
    if !cloud.world.domains(&path.project).any(|domain| domain.group_id == path.group) {
        let text = format!("API group {} does not exist", path.group);
        return Err(Refusal::service(StatusCode::NOT_FOUND, "APIG.3001", text));
    }
    let domain = cloud.world.domains(&path.project).find(|domain| domain.id == path.domain);
    let domain = domain.ok_or_else(no_such_domain)?;
    if domain.group_id != path.group {
        // Documented with 400, too.
        return Err(Refusal::service(
            StatusCode::FORBIDDEN,
            "APIG.3474",
            "The API group ID in the URL does not match the API group to which the URL domain has been bound.",
        ));
    }
    if domain.instances.contains(&path.instance) { Ok(domain) } else { Err(no_such_domain()) }
}

/// The steps that both changes share: their bodies have the same documented form.
async fn change_domains(
    cloud: &Shared,
    CertificatePath { project, certificate }: &CertificatePath,
    request: &RequestHead,
    body: Result<Bytes, BytesRejection>,
    direction: Direction,
) -> Result<Response, Refusal> {
    // The front gateway checks the size of the body; that this happens before authentication is our choice.
    let body = body?;
    let grant = cloud.grant(request, &body, project)?;
    if !grant.may_attach {
        return Err(no_permission());
    }
    let entries = body::decode(&request.headers, &body)?;
    change(cloud, project, certificate, |state, certificate| {
        match direction {
            Direction::Attach => {
                state.bindings.attach(&cloud.world, certificate, &entries, cloud.second_certificate)?;
            }
            Direction::Detach => state.bindings.detach(&cloud.world, certificate, &entries)?,
        }
        Ok(StatusCode::NO_CONTENT.into_response())
    })
    .await
}

/// The query parameters of the list: filter and page.
#[derive(Deserialize)]
pub(super) struct Filter {
    #[serde(default)]
    offset: i64,
    #[serde(default)]
    limit: i64,
    url_domain: Option<String>,
}

impl Filter {
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
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Refusal> {
    cloud.grant(&request, b"", &project)?;
    let Query(filter) = filter?;
    let is_dedicated = request.uri.path().split('/').nth(3) == Some("apigw");
    let ports = is_dedicated.then_some(DEFAULT_PORTS);

    let mut rows = Vec::new();
    let state = cloud.store.read();
    if let Ok(certificate) = state.certificate(&project, &certificate) {
        for domain in cloud.world.domains(&project).filter(|domain| filter.matches(domain)) {
            for instance in &domain.instances {
                let Some(binding) = state.bindings.at(&domain.id, instance) else { continue };
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
    let bound_domains = Page { offset: filter.offset, limit: filter.limit }.of(rows);
    Ok(Json(Attached { size: bound_domains.len(), total, bound_domains }).into_response())
}
