//! The admin port, as a probe and a scraper use it.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::LENIENCE;

/// By when a probe has to be answered: the shortest timeout that orchestrators use.
const IN_TIME: Duration = Duration::from_secs(LENIENCE as u64);

/// The status and the body of a page.
pub(crate) async fn page(admin: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(admin).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| io::Error::other("no HTTP answer"))
}

/// Asks `/livez`, which has to say yes in time.
pub(crate) async fn live(admin: SocketAddr) -> Result<(), String> {
    match tokio::time::timeout(IN_TIME, page(admin, "/livez")).await {
        Ok(Ok((200, _))) => Ok(()),
        Ok(Ok((status, _))) => Err(format!("status {status}")),
        Ok(Err(fault)) => Err(fault.to_string()),
        Err(_) => Err(format!("no answer in {IN_TIME:?}")),
    }
}
