//! Channels, which live as long as the program.

use std::{collections::HashMap, fs};

use serde::Deserialize;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::Failure;

/// Files of PEM.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
pub(crate) struct Tls {
    ca: String,
    certificate: Option<String>,
    key: Option<String>,
}

#[derive(Default)]
pub(crate) struct Connections(HashMap<(String, Option<Tls>), Channel>);

impl Connections {
    pub(crate) fn channel(&mut self, target: &str, tls: Option<&Tls>) -> Result<Channel, Failure> {
        let key = (target.to_owned(), tls.cloned());
        if let Some(channel) = self.0.get(&key) {
            return Ok(channel.clone());
        }
        let channel = connect(target, tls)?;
        self.0.insert(key, channel.clone());
        Ok(channel)
    }
}

fn connect(target: &str, tls: Option<&Tls>) -> Result<Channel, Failure> {
    let uri = match (target.starts_with("unix:"), tls) {
        (true, _) => target.to_owned(),
        (false, None) => format!("http://{target}"),
        (false, Some(_)) => format!("https://{target}"),
    };
    let mut endpoint = Endpoint::from_shared(uri)?;
    if let Some(tls) = tls {
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(fs::read(&tls.ca)?));
        if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
            config = config.identity(Identity::from_pem(fs::read(certificate)?, fs::read(key)?));
        }
        endpoint = endpoint.tls_config(config)?;
    }
    Ok(endpoint.connect_lazy())
}
