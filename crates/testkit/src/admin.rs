//! The admin port, as a probe and a scraper query it.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, ToSocketAddrs},
};

/// The bound on a query in a loop that tries again.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A response with its head as text.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Response {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.split_once(": ").filter(|(key, _)| *key == name).map(|(_, value)| value))
    }
}

/// The status and the body of a page.
///
/// # Errors
///
/// The connection fails, or the response is not HTTP.
pub async fn page(admin: impl ToSocketAddrs, path: &str) -> io::Result<(u16, String)> {
    request(admin, "GET", path).await.map(|response| (response.status, response.body))
}

/// The response to a request without a body.
///
/// # Errors
///
/// The connection fails, or the response is not HTTP.
pub async fn request(admin: impl ToSocketAddrs, method: &str, path: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect(admin).await?;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    let status = response.split(' ').nth(1).and_then(|status| status.parse().ok());
    let parts = response.split_once("\r\n\r\n").zip(status);
    let response =
        parts.map(|((head, body), status)| Response { status, head: head.to_owned(), body: body.to_owned() });
    response.ok_or_else(|| io::Error::other("no HTTP response"))
}

/// The value of a metric without labels; `None` when the port does not respond or has no such metric.
pub async fn metric(admin: impl ToSocketAddrs, name: &str) -> Option<u64> {
    let (_, page) = tokio::time::timeout(TIMEOUT, page(admin, "/metrics")).await.ok()?.ok()?;
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Queries `/livez`, which has to respond with 200 in time.
///
/// # Errors
///
/// The reason why the probe has failed.
pub async fn live(admin: impl ToSocketAddrs, within: Duration) -> Result<(), String> {
    match tokio::time::timeout(within, page(admin, "/livez")).await {
        Ok(Ok((200, _))) => Ok(()),
        Ok(Ok((status, _))) => Err(format!("status {status}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no response in {within:?}")),
    }
}
