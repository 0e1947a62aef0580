//! `health`: probes a gateway through `grpc.health.v1`, for containers and Kubernetes.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use clap::Args;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{Failure, client};
use crate::config::Environment;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    target: client::Target,
    /// Service to ask for: liveness, readiness, a full service name, or nothing for the gateway as a whole
    #[arg(long, default_value = "")]
    service: String,
    /// Timeout of the probe: 500ms, 3s, ...
    #[arg(long, value_name = "DURATION", value_parser = client::duration, default_value = "3s")]
    timeout: Duration,
}

pub(super) async fn run(options: Options, environment: Environment<'_>) -> Result<(), Failure> {
    let timeout = options.timeout;
    let check = async {
        let channel = options.target.connect(environment, timeout).await?;
        let request = HealthCheckRequest { service: options.service };
        let answer = HealthClient::new(channel).check(request).await;
        answer.map_err(|status| Failure::Other(format!("{}: {}", options.target.name(environment), status.message())))
    };
    let answer = tokio::time::timeout(timeout, check)
        .await
        .map_err(|_| Failure::Other(format!("no answer within {:?}", options.timeout)))??;
    let status = answer.into_inner().status();
    writeln!(io::stdout(), "{}", status.as_str_name())?;
    if status == ServingStatus::Serving { Ok(()) } else { Err(Failure::Told) }
}
