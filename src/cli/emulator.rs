//! `emulator`: the emulated cloud alone, on a port of its own.

use std::{
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use clap::{Args, ValueEnum};
use emulator::{Emulator, SecondCertificate, World};

use super::{Failure, serve::Signals};
use crate::{
    config::parse_duration,
    log::{LogFormat, start_logs},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Listen address
    #[arg(long, default_value = "127.0.0.1:18080")]
    listen: SocketAddr,
    /// TOML file with the resources that exist, in place of the documented example
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
    /// Lifetime of tokens and temporary keys
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = life)]
    life: Duration,
    /// File that keeps certificates and bindings over restarts; by default they are lost
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Duration of a change of a certificate; a second change is refused meanwhile (APIG.3500)
    #[arg(long, value_name = "DURATION", default_value = "5ms", value_parser = change_time)]
    change_time: Duration,
    /// Effect of attaching to a domain that has another certificate
    #[arg(long, value_enum, default_value_t = Second::Refused)]
    second_certificate: Second,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Second {
    /// It is refused (APIG.2051)
    Refused,
    /// It takes the place of the other one
    Replaces,
}

fn change_time(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("must be a duration such as 10ms or 5s, at most 24h")
}

fn life(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).filter(|life| !life.is_zero()).ok_or("must be a duration such as 30s or 5m, at most 24h")
}

pub(super) async fn run(options: Options) -> Result<(), Failure> {
    start_logs(LogFormat::by_terminal(), "info").map_err(Failure::Other)?;
    let world = match &options.world {
        None => World::documented(),
        Some(path) => {
            let text =
                fs::read_to_string(path).map_err(|fault| Failure::Other(format!("{}: {fault}", path.display())))?;
            World::from_toml(&text).map_err(|faults| Failure::Other(format!("{}: {faults}", path.display())))?
        }
    };
    let summary = world.to_string();
    let mut signals = Signals::listen()?;
    let mut emulator = Emulator::bind(options.listen, world)
        .await
        .map_err(|fault| Failure::Other(format!("can't listen on {}: {fault}", options.listen)))?
        .with_life(options.life)
        .with_change_time(options.change_time)
        .with_second_certificate(match options.second_certificate {
            Second::Refused => SecondCertificate::Refused,
            Second::Replaces => SecondCertificate::Replaces,
        });
    if let Some(path) = &options.state {
        emulator = emulator.with_state(path).map_err(|fault| Failure::Other(fault.to_string()))?;
    }
    let mut out = io::stdout();
    let address = emulator.local_addr();
    writeln!(out, "The emulated cloud serves http://{address}\n\n{summary}")?;
    if options.world.is_none() {
        writeln!(out, "{}", how_to_try(address))?;
    }
    out.flush()?;
    emulator.run(async { _ = signals.next().await }).await;
    Ok(())
}

/// A command for each kind of credentials in the documented world, for people to copy. A test runs them all.
fn how_to_try(address: SocketAddr) -> String {
    let cloud = format!("http://{address}");
    // Its secrets are made up.
    let consent = if address.ip().is_loopback() { "" } else { " --allow-plaintext-upstream" };
    let serve = format!(
        "apig-grpc-gateway serve --upstream {cloud} --iam-endpoint {cloud}{consent} \\\n    \
         --project-name cn-north-4 --credentials"
    );
    format!(
        "To try the gateway before it, with credentials of each kind (passthrough: callers bring one of the tokens)

  apig-grpc-gateway serve --upstream {cloud}{consent} --credentials passthrough

  APIG_GATEWAY_TOKEN=demo-operator-token \\
  {serve} token

  APIG_GATEWAY_PASSWORD=demo-operator-password \\
  {serve} password --user-name operator --account-name demo-account

  APIG_GATEWAY_SECRET_ACCESS_KEY=demo-operator-secret-key \\
  {serve} aksk --access-key-id DEMOOPERATORKEY00001

  {serve} metadata --metadata-endpoint {cloud}

  echo demo-container-token >/tmp/container-token
  HC_CONTAINER_CREDENTIALS_FULL_URI={cloud}/emulator/container/credentials \\
  HC_CONTAINER_AUTHORIZATION_TOKEN_FILE=/tmp/container-token \\
  {serve} container

  HUAWEICLOUD_OIDC_PROVIDER_URN=iam::demo-account:identityProviders:demo \\
  HUAWEICLOUD_OIDC_AGENCY_URN=iam::demo-account:agency:demo \\
  HUAWEICLOUD_OIDC_ID_TOKEN=demo-oidc-token \\
  {serve} oidc --sts-endpoint {cloud}

  HUAWEICLOUD_SDK_AK=DEMOOPERATORKEY00001 HUAWEICLOUD_SDK_SK=demo-operator-secret-key \\
  {serve} auto

and to end what was issued, or to have IAM fail (or api, sts, metadata, container) and mend it

  curl -X POST {cloud}/emulator/revoke
  curl -X PUT -d '{{\"status\": 503, \"delay\": \"250ms\"}}' {cloud}/emulator/outages/iam
  curl -X DELETE {cloud}/emulator/outages/iam
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_to_try_consent_to_plain_text_where_they_must() {
        let consents =
            |address: &str| how_to_try(address.parse().unwrap()).matches("--allow-plaintext-upstream").count();
        assert_eq!(consents("127.0.0.1:18080"), 0);
        assert_eq!(
            consents("10.0.0.5:18080"),
            how_to_try("10.0.0.5:18080".parse().unwrap()).matches(" serve ").count()
        );
    }
}
