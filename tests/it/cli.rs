//! The program as people and scripts run it.

use apig_grpc_gateway::config::SETTINGS;
use emulator::{Emulator, World};
use serde_json::Value;
use tonic::Code;

use crate::support::{Caller, Cloud, Gateway, Program, Reply, documented};

const CERTIFICATE: &str = "a27be832f2e9441c8127fe48e3b5ac67";
const PROJECT: &str = "73d69ae0cfcf460190522d06b60f05ad";

#[tokio::test]
async fn demo_shows_the_success_and_the_five_errors() {
    let ended = Program::run(&["demo", "--once"], &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let expected = [
        ("OK", ""),
        ("INVALID_ARGUMENT", "APIG_2012"),
        ("UNAUTHENTICATED", "APIG_1002"),
        ("PERMISSION_DENIED", "APIG_1005"),
        ("NOT_FOUND", "APIG_3020"),
        ("INTERNAL", "APIG_9999"),
    ];
    let mut rest = ended.out.as_str();
    for (code, reason) in expected {
        let at = rest.find(&format!("\n{code}\n")).unwrap_or_else(|| panic!("{code} in {rest}"));
        rest = &rest[at + 1..];
        assert!(rest.contains(reason));
    }
    assert!(ended.out.contains("grpcurl -plaintext"));
    assert!(!ended.out.contains('\x1b'), "a pipe gets no colour");
}

#[tokio::test]
async fn the_commands_that_the_emulator_prints_work_as_they_are() {
    let mut emulator = Program::start(&["emulator", "--listen", "127.0.0.1:0"], &[]);
    let printed = emulator.printed_until("curl -X DELETE").await;
    assert!(printed.contains("\n  echo demo-container-token >/tmp/container-token\n"), "{printed}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("container-token"), "demo-container-token\n").unwrap();
    let folder = format!("{}/", folder.path().display());

    let commands = printed.replace("\\\n", "").replace("/tmp/", &folder);
    let commands: Vec<&str> = commands.lines().filter(|line| line.contains("apig-grpc-gateway serve")).collect();
    let mut kinds = Vec::new();
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().collect();
        let program = words.iter().position(|word| *word == "apig-grpc-gateway").unwrap();
        let variables: Vec<_> = words[..program].iter().map(|word| word.split_once('=').unwrap()).collect();
        let (_gateway, address) = Program::serve(&words[program + 2..], &variables).await;
        let kind = words[words.iter().position(|word| *word == "--credentials").unwrap() + 1];
        let mut request = documented();
        if kind != "passthrough" {
            // The name of the project is to do.
            request.project_id.clear();
        }
        let attached = Caller::of(&address).await.attach(request).await;
        assert!(attached.is_ok(), "{command}: {attached:?}");
        kinds.push(kind);
    }
    assert_eq!(kinds, ["passthrough", "token", "password", "aksk", "metadata", "container", "oidc", "auto"]);
}

/// A gateway before the emulator.
async fn emulated() -> (Gateway, String) {
    let emulator = Emulator::bind("127.0.0.1:0".parse().unwrap(), World::documented()).await.unwrap();
    let address = emulator.local_addr();
    tokio::spawn(emulator.run(std::future::pending()));
    let gateway = Gateway::facing(address).start().await;
    let target = format!("http://{}", gateway.address);
    (gateway, target)
}

#[tokio::test]
async fn attach_succeeds_with_a_token_from_the_environment() {
    let (_gateway, target) = emulated().await;
    let arguments = ["attach", "--target", &target, "--project-id", PROJECT, "--certificate-id", CERTIFICATE];
    let more = ["--domain", "www.example.com", "--domain", "apigtest.xxx.com", "--verify-client-certificate", "false"];
    let ended =
        Program::run(&[&arguments[..], &more[..]].concat(), &[("APIG_GATEWAY_TOKEN", "demo-operator-token")]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.starts_with("OK\n"), "{}", ended.out);
}

#[tokio::test]
async fn attach_prints_json_and_fails_with_1() {
    let (_gateway, target) = emulated().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "demo-operator-token\n").unwrap();
    let token_file = file.path().to_str().unwrap();
    let ended = Program::run(
        &[
            "attach",
            "--target",
            &target,
            "--project-id",
            PROJECT,
            "--certificate-id",
            CERTIFICATE,
            "--domain",
            "nobody.example.com",
            "--token-file",
            token_file,
            "--output",
            "json",
        ],
        &[],
    )
    .await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let answer: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(answer["code"], 5);
    assert_eq!(answer["details"][0]["@type"], "type.googleapis.com/google.rpc.ErrorInfo");
    assert_eq!(answer["details"][0]["reason"], "APIG_3020");
    assert_eq!(answer.as_object().unwrap().keys().collect::<Vec<_>>(), ["code", "message", "details"]);
}

#[tokio::test]
async fn attach_to_nobody_fails_with_a_sentence() {
    let arguments = ["attach", "--target", "127.0.0.1:9", "--certificate-id", "c", "--domain", "d"];
    let ended = Program::run(&arguments, &[]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("127.0.0.1:9: can't connect"), "{}", ended.err);
}

#[tokio::test]
async fn health_probes_over_port_and_socket() {
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}", folder.path().join("gateway.sock").display());
    let nobody = "127.0.0.1:9".parse().unwrap();
    let gateway = Gateway::facing(nobody).with("drain-delay", "1h").start().await;
    let socket = Gateway::facing(nobody).with("listen", &listen).start().await;
    let target = format!("http://{}", gateway.address);
    for arguments in [
        &["health", "--target", &target][..],
        &["health", "--target", &target, "--service", "readiness"],
        &["health", "--target", &listen],
    ] {
        let ended = Program::run(arguments, &[]).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(0), "SERVING\n"), "{ended:?}");
    }
    gateway.stop();
    let readiness = ["health", "--target", &target, "--service", "readiness"];
    while Program::run(&readiness, &[]).await.code == Some(0) {}
    let ended = Program::run(&readiness, &[]).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), "NOT_SERVING\n"));
    assert_eq!(Program::run(&["health", "--target", &target, "--service", "liveness"], &[]).await.code, Some(0));
    assert_eq!(Program::run(&["health", "--target", &target, "--service", "nobody"], &[]).await.code, Some(1));
    assert_eq!(Program::run(&["health", "--target", "127.0.0.1:9"], &[]).await.code, Some(1));
    drop(socket);
}

#[tokio::test]
async fn a_probe_of_a_silent_port_ends_in_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = silent.local_addr().unwrap().to_string();
    let ended = Program::run(&["health", "--target", &target, "--timeout", "300ms"], &[]).await;
    assert_eq!(ended.code, Some(1));
}

#[tokio::test]
async fn check_shows_the_configuration_without_secrets() {
    let ended = Program::run(
        &["check", "--region", "cn-north-4", "--credentials", "token"],
        &[("APIG_GATEWAY_TOKEN", "canary"), ("APIG_GATEWAY_TIMEOUT", "9s")],
    )
    .await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.contains("region = \"cn-north-4\"  # --region\n"));
    assert!(ended.out.contains("timeout = \"9s\"  # APIG_GATEWAY_TIMEOUT\n"));
    assert!(ended.out.contains("token = \"***\"  # APIG_GATEWAY_TOKEN\n"));
    assert!(!ended.out.contains("canary"));
}

#[tokio::test]
async fn the_log_says_where_both_ports_are() {
    let arguments = ["serve", "--upstream", "http://127.0.0.1:9", "--listen", "127.0.0.1:0", "--log-format", "json"];
    let mut program = Program::start(&[&arguments[..], &["--admin-listen", "127.0.0.1:0"]].concat(), &[]);
    let line: Value = serde_json::from_str(&program.log_line("serving").await).unwrap();
    for port in ["address", "admin"] {
        let address: std::net::SocketAddr = line[port].as_str().unwrap().parse().unwrap();
        assert_ne!(address.port(), 0, "{line}");
    }
}

#[tokio::test]
async fn a_bare_flag_says_yes() {
    for arguments in [
        &["--require-instance-ids"][..],
        &["--require-instance-ids", "true"],
        &["--require-instance-ids", "--timeout", "3s"],
    ] {
        let ended = Program::run(&[&["check", "--region", "cn-north-4"][..], arguments].concat(), &[]).await;
        assert!(ended.out.contains("require_instance_ids = \"true\"  # --require-instance-ids\n"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_wrong_configuration_ends_with_2_and_every_fault() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "colour = \"red\"\n").unwrap();
    for command in ["serve", "check"] {
        let arguments = [command, "--config", file.path().to_str().unwrap(), "--timeout", "never"];
        let ended = Program::run(&arguments, &[("APIG_GATEWAY_LISTEN", "nowhere")]).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        for fault in ["colour (file)", "timeout (--timeout)", "listen (APIG_GATEWAY_LISTEN)", "upstream is required"] {
            assert!(ended.err.contains(fault), "{fault}: {}", ended.err);
        }
    }
    assert_eq!(Program::run(&["serve", "--config", "/no/such/file"], &[]).await.code, Some(2));
    assert_eq!(Program::run(&["serve", "--no-such-flag"], &[]).await.code, Some(2));
    assert_eq!(Program::run(&["serve", "--token", "t"], &[]).await.code, Some(2), "a secret is never a flag");
}

#[tokio::test]
async fn a_port_in_use_ends_with_1_and_the_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--admin-listen"] {
        let mut arguments = vec!["serve", "--upstream", "http://127.0.0.1:9", flag, &address];
        if flag == "--admin-listen" {
            arguments.extend(["--listen", "127.0.0.1:0"]);
        }
        let ended = Program::run(&arguments, &[]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains(&address), "{}", ended.err);
    }
}

#[tokio::test]
async fn a_token_never_reaches_the_log() {
    let cloud = Cloud::answering([Reply::attached(), Reply::refused(401, "APIG.1002", "Incorrect token")]).await;
    let upstream = format!("http://{}", cloud.address);
    let (mut program, address) = Program::serve(&["--upstream", &upstream, "--log-level", "trace"], &[]).await;
    let caller = crate::support::Caller::of(&address).await;
    for code in [Code::Ok, Code::Unauthenticated] {
        let mut request = tonic::Request::new(crate::support::documented());
        request.metadata_mut().insert("x-auth-token", "canary-token".parse().unwrap());
        assert_eq!(caller.send(request).await.map_or_else(|status| status.code(), |_| Code::Ok), code);
    }
    program.signal("TERM").await;
    let log = program.rest_of_log().await;
    assert!(log.contains("call ended"), "the log is there: {log}");
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test]
async fn the_help_lists_every_setting_and_no_hidden_command() {
    let help = Program::run(&["serve", "--help"], &[]).await.out;
    for setting in SETTINGS {
        let name = if setting.secret { setting.variable() } else { format!("--{}", setting.key) };
        assert!(help.contains(&name), "{name} is not in {help}");
    }
    assert!(!Program::run(&["--help"], &[]).await.out.contains("reference"));
}
