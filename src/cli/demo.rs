//! `demo`: the emulated cloud and the gateway on loopback, and sample calls through gRPC.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use clap::Args;
use emulator::{Emulator, World};
use tokio_util::sync::CancellationToken;
use tonic::{Request, transport::Channel};

use super::{Failure, client, colour, output::CallOutput, serve::Signals};
use crate::{
    config::{Config, Sources},
    log::{LogFormat, start_logs},
    pb::{AttachDomainsRequest, AttachOrDetachDomainInfo, certificate_service_client::CertificateServiceClient},
    server::{Server, StartError},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Exit after the sample calls instead of serving on
    #[arg(long)]
    once: bool,
}

/// The deadline of a call: too short for a second look at an outcome that the first one leaves unknown.
const DEADLINE: Duration = Duration::from_millis(1_500);

// The documented example, and other resources of the documented world.
const PROJECT: &str = "73d69ae0cfcf460190522d06b60f05ad";
const CERTIFICATE: &str = "a27be832f2e9441c8127fe48e3b5ac67";
const SILENT_CERTIFICATE: &str = "d3f8470b6a5e4c1d92b7e8035fa1c69e";
const FAULTY_CERTIFICATE: &str = "0a5d7e3c1f9b48e2860c4b7a9d2f6e15";
const INSTANCES: [&str; 2] = ["f0fa1789-3b76-433b-a787-9892951c620e", "7d39549681c54d968ec2910da9da95cd"];
const DOMAIN: &str = "apigtest.xxx.com";
const TOKEN: &str = "demo-operator-token";
const AUDITORS_TOKEN: &str = "demo-auditor-token";

/// One call, and its expected code.
struct Scene {
    title: &'static str,
    token: &'static str,
    certificate_id: &'static str,
    domain: &'static str,
    code: &'static str,
}

const SUCCESS: Scene = Scene {
    title: "The documented example: bind a certificate to a domain on two instances",
    token: TOKEN,
    certificate_id: CERTIFICATE,
    domain: DOMAIN,
    code: "OK",
};

const SCENES: [Scene; 7] = [
    SUCCESS,
    Scene {
        title: "A domain name that the cloud does not accept",
        domain: "no-dots-in-it",
        code: "INVALID_ARGUMENT",
        ..SUCCESS
    },
    Scene { title: "A token that the cloud does not know", token: "stale-token", code: "UNAUTHENTICATED", ..SUCCESS },
    Scene { title: "A user who may look, but not change", token: AUDITORS_TOKEN, code: "PERMISSION_DENIED", ..SUCCESS },
    Scene { title: "A domain that does not exist", domain: "nobody.example.com", code: "NOT_FOUND", ..SUCCESS },
    Scene {
        title: "An answer that never comes: the list of bindings confirms the change",
        certificate_id: SILENT_CERTIFICATE,
        domain: "www.example.com",
        ..SUCCESS
    },
    Scene { title: "A fault inside the cloud", certificate_id: FAULTY_CERTIFICATE, code: "INTERNAL", ..SUCCESS },
];

pub(super) async fn run(options: Options) -> Result<(), Failure> {
    // The demo prints its calls; with `--once`, only problems are logged.
    start_logs(LogFormat::by_terminal(), if options.once { "warn" } else { "info" }).map_err(Failure::Other)?;
    let stop = CancellationToken::new();
    let emulator = Emulator::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), World::documented()).await?;
    let cloud = emulator.local_addr();
    let cloud_runs = tokio::spawn(emulator.run(stop.clone().cancelled_owned()));
    let server = gateway(cloud).await?;
    let gateway = server.address();
    let gateway_runs = tokio::spawn(server.run(stop.clone().cancelled_owned()));

    let mut out = io::stdout();
    writeln!(out, "Emulated cloud at http://{cloud}, gateway at {gateway}.\n")?;
    let channel = client::connect_plaintext(&format!("http://{gateway}"), Duration::from_secs(5)).await?;
    let mut wrong = 0;
    for (index, scene) in SCENES.iter().enumerate() {
        wrong += u32::from(!play(index + 1, scene, channel.clone(), &mut out).await?);
    }
    drop(channel);
    writeln!(out, "To go on by hand while `demo` serves:\n{}", grpcurl(&gateway.to_string()))?;
    writeln!(out, "\nand to see what the cloud has bound:\n{}\n", curl(cloud))?;
    out.flush()?;
    if !options.once {
        writeln!(out, "Serving. Ctrl-C ends it.")?;
        let _ = Signals::listen()?.next().await;
    }
    stop.cancel();
    let _ = tokio::join!(gateway_runs, cloud_runs);
    if wrong > 0 { Err(Failure::Other(format!("{wrong} calls did not end as they should"))) } else { Ok(()) }
}

/// The gateway on its usual port, or on any when that is taken.
async fn gateway(cloud: SocketAddr) -> Result<Server, Failure> {
    let config = |listen: &str| {
        let flags =
            [("upstream", format!("http://{cloud}")), ("listen", listen.to_owned()), ("admin-listen", "off".into())];
        Config::load(Sources { flags: flags.into(), ..Sources::default() }).map_err(Failure::Config)
    };
    match Server::bind(config("127.0.0.1:50051")?.gateway).await {
        Err(StartError::Listen { .. }) => Ok(Server::bind(config("127.0.0.1:0")?.gateway).await?),
        other => Ok(other?),
    }
}

/// Makes one call and prints its response; returns whether the code was the expected one.
async fn play(number: usize, scene: &Scene, channel: Channel, out: &mut dyn Write) -> Result<bool, Failure> {
    let mut request = Request::new(AttachDomainsRequest {
        project_id: PROJECT.into(),
        certificate_id: scene.certificate_id.into(),
        domains: vec![AttachOrDetachDomainInfo {
            domain: scene.domain.into(),
            instance_ids: INSTANCES.map(Into::into).into(),
            verified_client_certificate_enabled: None,
        }],
    });
    request.set_timeout(DEADLINE);
    request.metadata_mut().insert("x-auth-token", tonic::metadata::MetadataValue::from_static(scene.token));
    let answer = CallOutput::of(CertificateServiceClient::new(channel).attach_domains(request).await);
    writeln!(out, "{number}. {}", scene.title)?;
    answer.text(out, colour())?;
    let right = answer.code() == scene.code;
    if !right {
        writeln!(out, "  This should have been {}.", scene.code)?;
    }
    writeln!(out)?;
    Ok(right)
}

fn grpcurl(gateway: &str) -> String {
    format!(
        "  grpcurl -plaintext -H 'x-auth-token: {TOKEN}' \\\n    \
         -d '{{\"project_id\":\"{PROJECT}\",\"certificate_id\":\"{CERTIFICATE}\",\
         \"domains\":[{{\"domain\":\"{DOMAIN}\",\"instance_ids\":[\"{}\"]}}]}}' \\\n    \
         {gateway} huaweicloud.apic.v2.CertificateService/AttachDomains",
        INSTANCES.join("\",\"")
    )
}

fn curl(cloud: SocketAddr) -> String {
    format!(
        "  curl -H 'X-Auth-Token: {TOKEN}' \\\n    \
         http://{cloud}/v2/{PROJECT}/apic/certificates/{CERTIFICATE}/attached-domains"
    )
}
