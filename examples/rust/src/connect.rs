//! The connection.

use std::{env, error::Error, fs, time::Duration};

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// One channel for all calls: it connects on the first call, and again after a restart of the gateway. With mutual TLS if
/// the variables name the files.
pub fn channel(target: &str) -> Result<Channel, Box<dyn Error>> {
    let file = |name| Ok::<_, Box<dyn Error>>(fs::read(env::var(name)?)?);
    let has_tls = env::var_os("GATEWAY_CA").is_some();
    let scheme = if has_tls { "https" } else { "http" };
    let uri = if target.starts_with("unix:") { target.to_owned() } else { format!("{scheme}://{target}") };
    let mut endpoint = Endpoint::from_shared(uri)?
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    if has_tls {
        let identity = Identity::from_pem(file("GATEWAY_CERTIFICATE")?, file("GATEWAY_KEY")?);
        let ca = Certificate::from_pem(file("GATEWAY_CA")?);
        endpoint = endpoint.tls_config(ClientTlsConfig::new().ca_certificate(ca).identity(identity))?;
    }
    Ok(endpoint.connect_lazy())
}
