//! The gateway's own requests, such as a token's, by reqwest.

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::time::Instant;
use tokio_rustls::rustls::ClientConfig;

use super::{
    BODY_TIMEOUT, Clients, MOST_BODY, PING_INTERVAL, PING_TIMEOUT, Response, USER_AGENT, Upstream, body::Buffer, chain,
    tls::Fault,
};
use crate::mask::Masker;

impl Clients {
    /// The client for the gateway's own requests.
    pub(super) fn control(&self) -> Result<&reqwest::Client, Fault> {
        if let Some(client) = self.control.get() {
            return Ok(client);
        }
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(ClientConfig::clone(&self.tls))
            .user_agent(USER_AGENT)
            // A redirect would carry X-Auth-Token to another host; reqwest strips only the headers it knows.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            // Also switches off the proxies that the environment names.
            .no_proxy()
            .connect_timeout(self.settings.connect_timeout)
            .pool_idle_timeout(self.settings.idle_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT);
        if let Some(proxy) = &self.settings.proxy {
            let mut through =
                reqwest::Proxy::all(proxy.url().clone()).map_err(|error| ("upstream-proxy", chain(&error)))?;
            if let Some(authorization) = proxy.authorization() {
                through = through.custom_http_auth(authorization.clone());
            }
            builder = builder.proxy(through);
        }
        let client = builder.build().map_err(|error| ("upstream", format!("can't be used: {}", chain(&error))))?;
        Ok(self.control.get_or_init(|| client))
    }
}

impl Upstream {
    /// One exchange of the gateway's own, such as a token's: its answer is read up to [`MOST_BODY`], with any status.
    ///
    /// # Errors
    ///
    /// There is no answer; the text names no URL, and secrets are masked.
    pub(crate) async fn fetch(
        &self,
        verb: Method,
        path: &str,
        query: &str,
        headers: HeaderMap,
        body: Option<Bytes>,
        masker: &Masker<'_>,
    ) -> Result<Response, String> {
        let mut url = self.base.clone();
        url.set_path(&self.wire_path(path));
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let mut request = reqwest::Request::new(verb, url);
        *request.headers_mut() = headers;
        *request.body_mut() = body.map(Into::into);
        let client = self.clients().control().map_err(|(setting, error)| format!("{setting} {error}"))?.clone();
        match client.execute(request).await {
            Ok(response) => Ok(read(response, Instant::now() + BODY_TIMEOUT).await),
            Err(error) => Err(masker.mask(&chain(&error.without_url())).into_owned()),
        }
    }
}

/// Reads an answer. A body that breaks off, stalls, or never ends does not take the status away.
async fn read(mut response: reqwest::Response, until: Instant) -> Response {
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    let length = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    let mut body = Buffer::default();
    body.reserve(length.min(MOST_BODY));
    while let Ok(Ok(Some(chunk))) = tokio::time::timeout_at(until, response.chunk()).await {
        let room = MOST_BODY - body.len();
        body.extend(chunk.get(..room).unwrap_or(&chunk));
        if chunk.len() >= room {
            break;
        }
    }
    Response { status, headers, body: body.into_bytes() }
}
