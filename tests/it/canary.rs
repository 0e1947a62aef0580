//! No secret of any kind shows anywhere, at the most verbose level of the log, whatever goes wrong.

use std::time::Duration;

use tonic::{Code, Request};

use crate::support::{Caller, Cloud, Program, Reply, documented, failed, soon};

/// Every secret holds this.
const CANARY: &str = "cAnArY";

fn canary(name: &str) -> String {
    format!("{CANARY}-{name}")
}

fn token_answer() -> Reply {
    let body = r#"{"token":{"issued_at":"2026-01-01T00:00:00Z","expires_at":"2026-01-02T00:00:00Z"}}"#;
    Reply::with(
        201,
        &[("X-Subject-Token", &canary("iam-token")), ("Content-Type", "application/json")],
        body.as_bytes(),
    )
}

fn keys_answer() -> Reply {
    let body = format!(
        r#"{{"credential":{{"access":"AK","secret":"{}","securitytoken":"{}","expires_at":"2126-01-01T00:00:00.0Z"}}}}"#,
        canary("temporary-secret"),
        canary("temporary-token")
    );
    Reply::json(200, &body)
}

/// What a kind of credentials needs, and what gives it.
struct Kind {
    flags: Vec<String>,
    variables: Vec<(&'static str, String)>,
}

impl Kind {
    fn of(kind: &str) -> Self {
        Self { flags: vec!["--credentials".into(), kind.into()], variables: Vec::new() }
    }

    fn flag(mut self, key: &str, value: impl Into<String>) -> Self {
        self.flags.extend([format!("--{key}"), value.into()]);
        self
    }

    fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }
}

/// Runs a gateway through successes and failures, and gives everything that it said anywhere.
async fn everything_said(kind: &Kind, service: &Cloud, cloud: &Cloud) -> String {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit");
    let (upstream, iam) = (format!("http://{}", cloud.address), format!("http://{}", service.address));
    let mut arguments: Vec<&str> = kind.flags.iter().map(String::as_str).collect();
    let audit_path = audit.to_str().unwrap();
    arguments.extend(["--upstream", &upstream, "--iam-endpoint", &iam, "--sts-endpoint", &iam]);
    arguments.extend(["--metadata-endpoint", &iam, "--audit", audit_path, "--log-level", "trace"]);
    let variables: Vec<(&str, &str)> = kind.variables.iter().map(|(name, value)| (*name, value.as_str())).collect();

    let check = Program::run(&[&["check"], &arguments[..arguments.len() - 2]].concat(), &variables).await;
    assert_eq!(check.code, Some(0), "{}", check.err);
    let mut said = check.out + &check.err;

    let (mut program, address) = Program::serve(&arguments, &variables).await;
    let mut told = String::new();
    let calls = async {
        let caller = Caller::of(&address).await;
        for number in 0.. {
            // Some fail before the cloud is asked, and one kind always.
            if number >= 6 && !cloud.seen().is_empty() || number >= 60 {
                break;
            }
            let mut request = Request::new(documented());
            request.metadata_mut().insert("x-auth-token", canary("callers-token").parse().unwrap());
            request.set_timeout(Duration::from_secs(5));
            if let Err(status) = soon(caller.client().attach_domains(request)).await {
                told.extend([format!("{status:?} ")]);
                told.push_str(&String::from_utf8_lossy(status.details()));
                // A credential may be on its way.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    said += &Box::pin(program.log_of(calls)).await;
    said += &told;
    said + &std::fs::read_to_string(audit).unwrap()
}

#[tokio::test]
async fn no_secret_of_any_kind_shows_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, canary(name)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let kinds = [
        (Kind::of("passthrough"), vec![]),
        (Kind::of("token").variable("APIG_GATEWAY_TOKEN", canary("token")), vec![]),
        (Kind::of("token").flag("token-file", file("token-file")), vec![]),
        (
            Kind::of("password")
                .flag("user-name", "u")
                .flag("account-name", "a")
                .flag("project-name", "p")
                .variable("APIG_GATEWAY_PASSWORD", canary("password")),
            vec![Reply::json(500, r#"{"error_msg":"down"}"#), token_answer()],
        ),
        (
            Kind::of("aksk")
                .flag("access-key-id", "AK")
                .flag("secret-access-key-file", file("secret"))
                .variable("APIG_GATEWAY_SECURITY_TOKEN", canary("security-token")),
            vec![],
        ),
        (Kind::of("metadata"), vec![Reply::with(200, &[], canary("metadata-token").as_bytes()), keys_answer()]),
        (
            Kind::of("oidc")
                .variable("HUAWEICLOUD_OIDC_PROVIDER_URN", "p")
                .variable("HUAWEICLOUD_OIDC_AGENCY_URN", "a")
                .variable("HUAWEICLOUD_OIDC_ID_TOKEN", canary("oidc-token")),
            vec![keys_answer()],
        ),
        (
            Kind::of("auto")
                .variable("HUAWEICLOUD_SDK_AK", "AK")
                .variable("HUAWEICLOUD_SDK_SK", canary("sdk-secret"))
                .variable("HUAWEICLOUD_SDK_SECURITY_TOKEN", canary("sdk-token")),
            vec![],
        ),
    ];
    for (kind, answers) in kinds {
        let service = Cloud::answering(if answers.is_empty() { vec![Reply::attached()] } else { answers }).await;
        let cloud = Cloud::answering([
            Reply::attached(),
            Reply::refused(401, "APIG.0307", "The token must be updated."),
            Reply::with(200, &[("Content-Type", "text/html")], b"<html>"),
            Reply::close(),
            Reply::with(302, &[("Location", "http://127.0.0.1:1/")], b""),
            Reply::with(503, &[], b"not json"),
        ])
        .await;
        let said = Box::pin(everything_said(&kind, &service, &cloud)).await;
        assert!(!cloud.seen().is_empty(), "{:?} reached no cloud: {said}", kind.flags);
        assert!(said.contains("TRACE"), "the log is not as verbose as it can be");
        let at = said.find(CANARY);
        assert!(at.is_none(), "{:?}: {}", kind.flags, &said[at.unwrap().saturating_sub(300)..at.unwrap() + 40]);
    }
}

#[tokio::test]
async fn a_service_that_repeats_a_secret_gets_it_no_further() {
    // Nobody should; an error page of something in between might.
    let echo = Reply::json(400, &format!(r#"{{"error_code":"IAM.0007","error_msg":"bad {}"}}"#, canary("password")));
    let service = Cloud::answering([echo]).await;
    let cloud = Cloud::answering([Reply::attached()]).await;
    let kind = Kind::of("password")
        .flag("user-name", "u")
        .flag("account-name", "a")
        .flag("project-name", "p")
        .variable("APIG_GATEWAY_PASSWORD", canary("password"));
    let said = Box::pin(everything_said(&kind, &service, &cloud)).await;
    assert!(said.contains("IAM.0007"), "{said}");
    assert!(!said.contains(CANARY), "{said}");
    // Its callers have learned what is wrong all the same.
    let gateway = crate::support::Gateway::facing(cloud.address)
        .with("credentials", "password")
        .with("iam-endpoint", format!("http://{}", service.address))
        .with("user-name", "u")
        .with("account-name", "a")
        .with("project-name", "p")
        .with("password", canary("password"))
        .start()
        .await;
    let failure = failed(gateway.caller().await.attach(documented()).await);
    assert_eq!(failure.verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
    assert!(!format!("{:?}", failure.status).contains(CANARY));
}
