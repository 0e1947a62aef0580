//! A program that has certificates to attach, and calls one after the other: the cloud itself by reqwest, or a gateway by
//! tonic, each as a user would write it.
//!
//! `caller reqwest|tonic http://HOST:PORT CALLS` makes a tenth of the calls and prints `ready`; a line on standard input starts
//! the measured calls; it prints one line of JSON, times in microseconds.

use std::{
    env,
    error::Error,
    fs,
    io::stdin,
    time::{Duration, Instant},
};

use apig_grpc_gateway_bench::pb::{
    AttachDomainsRequest, AttachOrDetachDomainInfo, certificate_service_client::CertificateServiceClient,
};
use reqwest::StatusCode;
use serde_json::json;
use tonic::{
    Request,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

const PROJECT: &str = "73d69ae0cfcf460190522d06b60f05ad";
const CERTIFICATE: &str = "a27be832f2e9441c8127fe48e3b5ac67";
const DOMAIN: &str = "apigtest.example.com";
const TOKEN: &str = "bench-token";

enum Caller {
    Cloud(reqwest::Client, String),
    Gateway(CertificateServiceClient<Channel>),
}

impl Caller {
    async fn call(&mut self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Cloud(client, cloud) => {
                let url = format!("{cloud}/v2/{PROJECT}/apic/certificates/{CERTIFICATE}/domains/attach");
                let body = serde_json::to_vec(&json!({"domains": [{"domain": DOMAIN}]}))?;
                let request = client.post(url).header("content-type", "application/json").header("x-auth-token", TOKEN);
                let status = request.body(body).send().await?.status();
                if status == StatusCode::NO_CONTENT { Ok(()) } else { Err(status.to_string().into()) }
            }
            Self::Gateway(client) => {
                let domain = AttachOrDetachDomainInfo { domain: DOMAIN.into(), ..Default::default() };
                let mut request = Request::new(AttachDomainsRequest {
                    project_id: PROJECT.into(),
                    certificate_id: CERTIFICATE.into(),
                    domains: vec![domain],
                });
                request.metadata_mut().insert("x-auth-token", MetadataValue::from_static(TOKEN));
                client.attach_domains(request).await?;
                Ok(())
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [way, target, calls] = arguments.as_slice() else {
        return Err("caller reqwest|tonic http://HOST:PORT CALLS".into());
    };
    let calls: usize = calls.parse()?;
    let mut caller = match way.as_str() {
        "reqwest" => Caller::Cloud(reqwest::Client::builder().no_proxy().build()?, target.clone()),
        "tonic" => {
            Caller::Gateway(CertificateServiceClient::new(Endpoint::from_shared(target.clone())?.connect().await?))
        }
        _ => return Err(format!("no such way: {way}").into()),
    };
    for _ in 0..calls / 10 {
        caller.call().await?;
    }
    println!("ready");
    stdin().read_line(&mut String::new())?;
    let mut took = Vec::with_capacity(calls);
    let before = processor_time()?;
    for _ in 0..calls {
        let began = Instant::now();
        caller.call().await?;
        took.push(began.elapsed());
    }
    let cpu = processor_time()?.saturating_sub(before);
    took.sort_unstable();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let (p50, p99) = (micros(took[calls / 2]), micros(took[calls * 99 / 100]));
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let cpu = micros(cpu) / calls as f64;
    println!("{}", json!({"calls": calls, "cpu": cpu, "p50": p50, "p99": p99}));
    Ok(())
}

/// Of this thread, which is the only one that works.
fn processor_time() -> Result<Duration, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(text.split_whitespace().next().unwrap_or_default().parse()?))
}
