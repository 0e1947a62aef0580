//! A connection to a gateway, for the commands that call one.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use super::Failure;

/// Help for `--target`.
pub(super) const TARGET: &str = "The gateway: http://host:port or unix:/path";

/// Reads `--timeout`; a bare number is seconds, as other probes have it.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let duration = seconds.or_else(|| crate::config::parse_duration(text));
    duration.filter(|duration| !duration.is_zero()).ok_or("must be a time such as 500ms or 3s")
}

/// Connects to `http://host:port`, `host:port` or `unix:/path`.
pub(super) async fn connect(target: &str, timeout: Duration) -> Result<Channel, Failure> {
    let uri = if target.contains("://") || target.starts_with("unix:") {
        target.to_owned()
    } else {
        format!("http://{target}")
    };
    let fault = |what: String| Failure::Other(format!("{target}: {what}"));
    let endpoint = Endpoint::from_shared(uri).map_err(|_| fault("must be http://host:port or unix:/path".into()))?;
    endpoint
        .connect_timeout(timeout)
        .connect()
        .await
        .map_err(|error| fault(format!("can't connect: {}", causes(&error))))
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}
