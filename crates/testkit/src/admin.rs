//! The admin port, as a probe and a scraper query it.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, ToSocketAddrs},
};

/// The bound on a query in a loop that tries again.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The status and the body of a page.
///
/// # Errors
///
/// The connection fails, or the response is not HTTP.
pub async fn page(admin: impl ToSocketAddrs, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(admin).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    let status = response.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = response.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| io::Error::other("no HTTP response"))
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
