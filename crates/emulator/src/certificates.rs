//! Handles the operations on certificates themselves: list, show, create, update, delete.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::Refusal;
use super::body::{invalid, missing};
use super::caller::RequestHead;
use super::certificate::{Certificate, timestamp};
use super::change::change;
use super::token::no_permission;
use super::upload::{self, Scope, Upload};
use super::{Cloud, Shared, new_id};

/// The path parameters: project and certificate.
pub(super) struct CertificatePath {
    pub(super) project: String,
    pub(super) certificate: String,
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

/// The path parameter of the collection: the project.
pub(super) struct ProjectPath(String);

impl<S: Send + Sync> FromRequestParts<S> for ProjectPath {
    type Rejection = Refusal;

    /// As for [`CertificatePath`].
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(project)) if !project.is_empty() => Ok(Self(project)),
            _ => Err(Refusal::unknown_path()),
        }
    }
}

/// A page of a list, as requested.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    pub(super) offset: i64,
    pub(super) limit: i64,
}

impl Page {
    /// The rows of the page.
    pub(super) fn of<T>(self, rows: Vec<T>) -> Vec<T> {
        let offset = usize::try_from(self.offset).unwrap_or(0);
        rows.into_iter().skip(offset).take(self.limit()).collect()
    }

    /// By default 20, also for 0 and below; at most 500. Documented for the dedicated gateway,
    /// applied to both products here.
    fn limit(self) -> usize {
        match usize::try_from(self.limit) {
            Err(_) | Ok(0) => 20,
            Ok(limit) => limit.min(500),
        }
    }
}

/// The query parameters of the list: filter and page.
#[derive(Deserialize)]
pub(super) struct Filter {
    instance_id: Option<String>,
    #[serde(default)]
    offset: i64,
    #[serde(default)]
    limit: i64,
    name: Option<String>,
    common_name: Option<String>,
    signature_algorithm: Option<String>,
    r#type: Option<String>,
    algorithm_type: Option<String>,
}

impl Filter {
    /// Whether the filter matches a certificate that the instance can use: its own, or a global one. Exact or partial
    /// matching is not documented: here a part of a name matches, so that a caller relying on exact matches notices.
    fn matches(&self, certificate: &Certificate, instance: &str) -> bool {
        let summary = certificate.summary();
        let part = |wanted: &Option<String>, value: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| value.is_some_and(|value| value.contains(wanted)))
        };
        let whole =
            |wanted: &Option<String>, value: Option<&str>| wanted.as_deref().is_none_or(|wanted| value == Some(wanted));
        certificate.instance.as_deref().is_none_or(|own| own == instance)
            && part(&self.name, Some(&certificate.name))
            && part(&self.common_name, summary.map(|summary| summary.common_name.as_str()))
            && whole(&self.signature_algorithm, summary.map(|summary| summary.signature_algorithm.as_str()))
            && whole(&self.r#type, Some(certificate.scope()))
            && whole(&self.algorithm_type, summary.map(|summary| summary.algorithm_type.as_str()))
    }
}

#[derive(Serialize)]
struct Listed {
    size: usize,
    total: usize,
    certs: Vec<Value>,
}

/// `GET /v2/{project_id}/{family}/certificates`
///
/// Any user of the project may list. The list of an unknown instance is empty, because no 404 is documented. The order
/// is that of creation; the documents give none.
pub(super) async fn list(
    State(cloud): State<Shared>,
    ProjectPath(project): ProjectPath,
    request: RequestHead,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Refusal> {
    cloud.grant(&request, b"", &project)?;
    let Query(filter) = filter?;
    let instance = filter.instance_id.as_deref().filter(|id| !id.is_empty()).ok_or_else(|| missing("instance_id"))?;
    let rows: Vec<Value> = if cloud.world.has_instance(&project, instance) {
        let state = cloud.store.read();
        let certificates = state.certificates.iter().filter(|certificate| certificate.project == project);
        certificates.filter(|certificate| filter.matches(certificate, instance)).map(Certificate::row).collect()
    } else {
        Vec::new()
    };
    let total = rows.len();
    let certs = Page { offset: filter.offset, limit: filter.limit }.of(rows);
    Ok(Json(Listed { size: certs.len(), total, certs }).into_response())
}

/// `GET /v2/{project_id}/{family}/certificates/{certificate_id}`
///
/// Any user of the project may look.
pub(super) async fn show(
    State(cloud): State<Shared>,
    CertificatePath { project, certificate }: CertificatePath,
    request: RequestHead,
) -> Result<Json<Value>, Refusal> {
    cloud.grant(&request, b"", &project)?;
    let state = cloud.store.read();
    Ok(Json(state.certificate(&project, &certificate)?.show()))
}

/// `POST /v2/{project_id}/{family}/certificates`
pub(super) async fn create(
    State(cloud): State<Shared>,
    ProjectPath(project): ProjectPath,
    request: RequestHead,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Refusal> {
    let upload = upload(&cloud, &project, &request, body)?;
    let instance = match upload.scope {
        None | Some(Scope::Global) => None,
        Some(Scope::Instance(id)) => Some(id),
    };
    let now = timestamp((cloud.clock)());
    let certificate = Certificate {
        id: new_id(),
        name: upload.name,
        project,
        instance,
        has_trusted_root_ca: upload.trusted_root_ca.is_some(),
        trusted_root_ca: upload.trusted_root_ca,
        description: Some(upload.description),
        create_time: Some(now.clone()),
        update_time: Some(now),
    };
    let shown = certificate.show();
    cloud.store.change(&cloud.world, |state| {
        state.certificates.push(certificate);
        Ok(())
    })?;
    Ok(Json(shown))
}

/// `PUT /v2/{project_id}/{family}/certificates/{certificate_id}`
///
/// Replaces name, content and CA. A scope in the body must be the certificate's; without one the scope stays, which is
/// our choice, as are both consequences of a body without a CA: the certificate loses it, and verifies no clients.
pub(super) async fn update(
    State(cloud): State<Shared>,
    CertificatePath { project, certificate }: CertificatePath,
    request: RequestHead,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let upload = upload(&cloud, &project, &request, body)?;
    let now = timestamp((cloud.clock)());
    change(&cloud, &project, &certificate, |state, old| {
        match &upload.scope {
            None => {}
            Some(Scope::Global) if old.instance.is_none() => {}
            Some(Scope::Instance(id)) if old.instance.as_ref() == Some(id) => {}
            Some(_) => return Err(invalid("type")),
        }
        let has_another_ca = upload.trusted_root_ca != old.trusted_root_ca || upload.trusted_root_ca.is_none();
        let new = Certificate {
            id: old.id.clone(),
            name: upload.name,
            project: old.project.clone(),
            instance: old.instance.clone(),
            has_trusted_root_ca: upload.trusted_root_ca.is_some(),
            trusted_root_ca: upload.trusted_root_ca,
            description: Some(upload.description),
            create_time: old.create_time.clone(),
            update_time: Some(now),
        };
        if has_another_ca {
            state.bindings.stop_verifying(&new.id);
        }
        let shown = new.show();
        if let Some(known) = state.certificates.iter_mut().find(|known| known.id == new.id) {
            *known = new;
        }
        Ok(Json(shown).into_response())
    })
    .await
}

/// `DELETE /v2/{project_id}/{family}/certificates/{certificate_id}`
///
/// No code is documented for a certificate that is bound. Ours has the documented text that fits best, with the status
/// of other resources that can't be deleted while they are bound.
pub(super) async fn delete(
    State(cloud): State<Shared>,
    CertificatePath { project, certificate }: CertificatePath,
    request: RequestHead,
) -> Result<Response, Refusal> {
    let grant = cloud.grant(&request, b"", &project)?;
    if !grant.may_attach {
        return Err(no_permission());
    }
    change(&cloud, &project, &certificate, |state, certificate| {
        if state.bindings.has(&certificate.id) {
            return Err(Refusal::service(StatusCode::FORBIDDEN, "APIG.3400", "The resource cannot be changed."));
        }
        state.certificates.retain(|known| known.id != certificate.id);
        Ok(StatusCode::NO_CONTENT.into_response())
    })
    .await
}

/// The checked body of a request to create or update.
fn upload(
    cloud: &Cloud,
    project: &str,
    request: &RequestHead,
    body: Result<Bytes, BytesRejection>,
) -> Result<Upload, Refusal> {
    let body = body?;
    let grant = cloud.grant(request, &body, project)?;
    if !grant.may_attach {
        return Err(no_permission());
    }
    upload::decode(&cloud.world, project, &request.headers, &body, (cloud.clock)())
}
