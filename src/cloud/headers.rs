//! The headers of requests to the cloud, besides the authorization.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{call::Call, trace::RequestSpan};

pub(super) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
static JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The headers besides the authorization and the ids.
pub(crate) fn headers(has_body: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(header::ACCEPT, JSON.clone());
    if has_body {
        headers.insert(header::CONTENT_TYPE, JSON.clone());
    }
    headers
}

/// Adds the headers that tie a request to its call: to its span, if it has one, or else to the caller's.
pub(super) fn add_ids(headers: &mut HeaderMap, call: &Call, span: Option<&RequestSpan>) {
    headers.insert(X_REQUEST_ID.clone(), call.request_id.clone());
    if let Some(call) = &call.trace.span {
        call.inject(span, headers);
        return;
    }
    if let Some(parent) = &call.trace.parent {
        headers.insert(TRACEPARENT.clone(), parent.clone());
    }
    if let Some(state) = &call.trace.state {
        headers.insert(TRACESTATE.clone(), state.clone());
    }
}
