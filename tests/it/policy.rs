//! Authorization, and refusals before the cloud is asked.

use std::os::unix::fs::MetadataExt as _;

use tonic::{
    Code,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};

use crate::support::{Authority, Caller, Cloud, Gateway, Mount, Program, Reply, documented, domain, failed, soon};

#[tokio::test]
async fn the_names_of_a_certificate_decide_and_nothing_reaches_the_cloud_when_refused() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    let ours = Authority::new();
    let pair = ours.issue(&["localhost"]);
    let mount = Mount::new(&[("c", &pair.certificate), ("k", &pair.key), ("ca", &ours.pem())]);
    let gateway = Gateway::facing(cloud.address)
        .with("tls-certificate", mount.path("c"))
        .with("tls-key", mount.path("k"))
        .with("tls-client-ca", mount.path("ca"))
        .file(
            "[[policy]]
             identity = 'spiffe://example.org/ns/prod/*'
             domains = ['xxx.com']
             [[policy]]
             identity = 'dns:ops.example'",
        )
        .start()
        .await;
    let caller = async |names: &[&str]| {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ours.pem()))
            .domain_name("localhost")
            .identity(ours.issue(names).identity());
        let endpoint = Endpoint::from_shared(format!("https://{}", gateway.address)).unwrap();
        Caller::on(soon(endpoint.tls_config(tls).unwrap().connect()).await.unwrap())
    };
    let mut two = documented();
    two.domains.push(domain("badxxx.com"));

    let production = caller(&["spiffe://example.org/ns/prod/renewer"]).await;
    production.attach(documented()).await.unwrap();
    caller(&["ops.example"]).await.attach(two.clone()).await.unwrap();
    let served = cloud.seen().len();

    let refused = failed(production.attach(two).await);
    assert_eq!(refused.verdict(), (Code::PermissionDenied, "CALLER_NOT_ALLOWED"));
    assert_eq!((refused.fact("denied"), refused.fact("outcome")), (Some("domain"), Some("not_sent")));
    for names in [&["spiffe://example.org/ns/test/renewer"][..], &["other.example"], &[]] {
        let refused = failed(caller(names).await.attach(documented()).await);
        assert_eq!(refused.verdict(), (Code::PermissionDenied, "CALLER_NOT_ALLOWED"), "{names:?}");
        assert_eq!(refused.fact("denied"), Some("call"), "{names:?}");
    }
    assert_eq!(cloud.seen().len(), served, "nothing reached the cloud");
    assert!(gateway.admin("/metrics").await.1.contains("apig_gateway_calls_denied_total 4"));
}

#[tokio::test]
async fn on_a_unix_socket_the_kernel_says_who_calls() {
    let folder = tempfile::tempdir().unwrap();
    // The owner of the folder is the user that runs this test.
    let uid = std::fs::metadata(folder.path()).unwrap().uid();
    for (allowed, wanted) in [(uid, true), (uid + 1, false)] {
        let cloud = Cloud::answering([Reply::attached()]).await;
        let socket = folder.path().join(format!("{allowed}.sock"));
        let gateway = Gateway::facing(cloud.address)
            .with("listen", format!("unix:{}", socket.display()))
            .file(format!("[[policy]]\nidentity = 'uid:{allowed}'"))
            .start()
            .await;
        let result = gateway.caller().await.attach(documented()).await;
        assert_eq!(result.is_ok(), wanted, "{result:?}");
        assert_eq!(cloud.seen().len(), usize::from(wanted));
    }
}

#[tokio::test]
async fn the_default_project_is_held_against_the_rules() {
    let cloud = Cloud::answering([Reply::attached()]).await;
    for (project, denied) in [("ours", None), ("theirs", Some("project"))] {
        let gateway = Gateway::facing(cloud.address)
            .with("project-id", project)
            .file("[[policy]]\nidentity = 'anyone'\nprojects = ['ours']")
            .start()
            .await;
        let mut message = documented();
        message.project_id.clear();
        let result = gateway.caller().await.attach(message).await;
        match denied {
            None => drop(result.unwrap()),
            Some(_) => assert_eq!(failed(result).fact("denied"), denied),
        }
    }
}

#[tokio::test]
async fn a_gateway_that_would_sign_for_strangers_does_not_start() {
    let token = [("APIG_GATEWAY_TOKEN", "canary")];
    let check = async |listen: &str, more: &[&str]| {
        let arguments = ["check", "--upstream", "http://127.0.0.1:9", "--credentials", "token", "--listen", listen];
        Program::run(&[&arguments[..], more].concat(), &token).await
    };
    for open in ["0.0.0.0:50051", "[::]:50051", "10.0.0.1:50051"] {
        let ended = check(open, &[]).await;
        assert_eq!(ended.code, Some(2), "{open}: {}", ended.err);
        assert!(ended.err.contains("tls-client-ca") && ended.err.contains("policy"), "{}", ended.err);
    }
    for ours in ["127.0.0.1:50051", "[::1]:50051", "localhost:50051", "unix:/run/gateway.sock"] {
        assert_eq!(check(ours, &[]).await.code, Some(0), "{ours}");
    }
    // Consent in so many words.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[[policy]]\nidentity = 'anyone'\n").unwrap();
    let ended = check("0.0.0.0:50051", &["--config", file.path().to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let serve = ["serve", "--upstream", "http://127.0.0.1:9", "--credentials", "token", "--listen", "0.0.0.0:0"];
    assert_eq!(Program::run(&serve, &token).await.code, Some(2));
}

#[tokio::test]
async fn an_empty_list_of_rules_is_refused_and_not_taken_for_all() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "policy = []\n").unwrap();
    let config = ["--upstream", "http://127.0.0.1:9", "--config", file.path().to_str().unwrap()];
    for command in ["check", "serve"] {
        let ended = Program::run(&[&[command][..], &config].concat(), &[]).await;
        assert_eq!(ended.code, Some(2), "{command}: {}", ended.err);
        assert!(ended.err.contains("policy (file) must not be empty"), "{command}: {}", ended.err);
    }
}

#[tokio::test]
async fn a_token_goes_to_no_other_host_in_plain_text() {
    for command in ["check", "serve"] {
        let ended = Program::run(&[command, "--upstream", "http://cloud.example"], &[]).await;
        assert_eq!(ended.code, Some(2), "{command}: {}", ended.err);
        assert!(ended.err.contains("allow-plaintext-upstream"), "{command}: {}", ended.err);
    }
    let consent = ["check", "--upstream", "http://cloud.example", "--allow-plaintext-upstream"];
    let ended = Program::run(&consent, &[]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("# upstream is http:// to another host"), "{}", ended.out);
}
