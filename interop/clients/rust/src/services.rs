//! Health and server reflection, with the clients of tonic's crates.

use std::time::Duration;

use serde_json::{Value, json};
use tonic::{Status, metadata::MetadataMap, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use crate::{Failure, Order, call::request, output};

pub(crate) async fn health(order: &Order, channel: Channel) -> Result<Value, Failure> {
    let message = HealthCheckRequest { service: order.service.clone() };
    Ok(match HealthClient::new(channel).check(request(order, message)?).await {
        Ok(response) => {
            let mut report = output::ok(response.metadata());
            report["statuses"] = json!([serving_status(response.get_ref())]);
            report
        }
        Err(status) => output::error(&status)?,
    })
}

pub(crate) async fn watch(order: &Order, channel: Channel) -> Result<Value, Failure> {
    if order.timeout_ms.is_some() {
        return Ok(json!({"cannot": "a deadline of tonic covers only the headers of a stream"}));
    }
    let message = HealthCheckRequest { service: order.service.clone() };
    let request = request(order, message)?;
    let mut statuses = Vec::new();
    let mut client = HealthClient::new(channel);
    let watched = watch_statuses(order, client.watch(request), &mut statuses);
    let ended = match order.cancel_after_ms {
        Some(delay) => tokio::time::timeout(Duration::from_millis(delay), watched)
            .await
            .unwrap_or_else(|_| Err(Status::cancelled("the program dropped the call"))),
        None => watched.await,
    };
    let mut report = match ended {
        Ok(headers) => output::ok(&headers),
        Err(status) => output::error(&status)?,
    };
    report["statuses"] = statuses.into();
    Ok(report)
}

type Statuses = tonic::Response<tonic::Streaming<HealthCheckResponse>>;

async fn watch_statuses(
    order: &Order,
    call: impl Future<Output = Result<Statuses, Status>>,
    statuses: &mut Vec<&'static str>,
) -> Result<MetadataMap, Status> {
    let (headers, mut stream, _) = call.await?.into_parts();
    // The stream ends when it is dropped.
    while order.count.is_none_or(|count| statuses.len() < count) {
        match stream.message().await? {
            Some(response) => statuses.push(serving_status(&response)),
            None => break,
        }
    }
    Ok(headers)
}

fn serving_status(response: &HealthCheckResponse) -> &'static str {
    response.status().as_str_name()
}

/// The names of the services, by one version of server reflection: their messages differ only in their package.
macro_rules! list_services {
    ($version:ident, $order:ident, $channel:ident) => {{
        use $version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let message = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let request = request($order, tokio_stream::once(message))?;
        let listed = async {
            let mut client = ServerReflectionClient::new($channel);
            let (headers, mut stream, _) = client.server_reflection_info(request).await?.into_parts();
            match stream.message().await?.and_then(|response| response.message_response) {
                Some(MessageResponse::ListServicesResponse(list)) => {
                    Ok((headers, list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()))
                }
                other => Err(Status::unknown(format!("reflection has not listed the services: {other:?}"))),
            }
        };
        listed.await
    }};
}

pub(crate) async fn reflect(order: &Order, channel: Channel) -> Result<Value, Failure> {
    let listed: Result<(MetadataMap, Vec<String>), Status> = match order.version.as_deref() {
        Some("v1") => list_services!(v1, order, channel),
        Some("v1alpha") => list_services!(v1alpha, order, channel),
        version => return Err(format!("no such version: {version:?}").into()),
    };
    Ok(match listed {
        Ok((headers, services)) => {
            let mut report = output::ok(&headers);
            report["services"] = services.into();
            report
        }
        Err(status) => output::error(&status)?,
    })
}
