//! Makes the calls that it is told to, one JSON object a line, and reports them: the protocol of `interop/`.

mod call;
mod connection;
mod output;
mod services;

use std::error::Error;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, stdin, stdout};

use crate::connection::{Connections, Tls};

/// A line of the input.
#[derive(Deserialize)]
struct Order {
    action: String,
    target: String,
    tls: Option<Tls>,
    service_config: Option<String>,
    #[serde(default)]
    method: String,
    request: Option<Value>,
    request_bytes: Option<String>,
    #[serde(default)]
    metadata: Vec<(String, String)>,
    timeout_ms: Option<u64>,
    cancel_after_ms: Option<u64>,
    compression: Option<String>,
    #[serde(default)]
    service: String,
    count: Option<usize>,
    version: Option<String>,
}

/// A failure of this program, not of a call.
type Failure = Box<dyn Error>;

async fn carry_out(order: &Order, connections: &mut Connections) -> Result<Value, Failure> {
    if order.service_config.is_some() {
        return Ok(json!({"cannot": "tonic has no service config"}));
    }
    let channel = connections.channel(&order.target, order.tls.as_ref())?;
    match order.action.as_str() {
        "call" => call::unary(order, channel).await,
        "health" => services::health(order, channel).await,
        "watch" => services::watch(order, channel).await,
        "reflect" => services::reflect(order, channel).await,
        action => Err(format!("no such action: {action}").into()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut connections = Connections::default();
    let mut lines = BufReader::new(stdin()).lines();
    let mut output = stdout();
    while let Some(line) = lines.next_line().await? {
        let report = match serde_json::from_str(&line) {
            Ok(order) => carry_out(&order, &mut connections).await,
            Err(fault) => Err(fault.into()),
        };
        let report = report.unwrap_or_else(|failure| json!({"failed": failure.to_string()}));
        output.write_all(format!("{report}\n").as_bytes()).await?;
        output.flush().await?;
    }
    Ok(())
}
