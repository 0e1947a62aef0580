//! No secret of any kind shows anywhere, at the most verbose level of the log: not in failures, and not when servers send
//! requests back.

mod echo;
mod keys;
mod kinds;
mod leak;
mod levels;

use std::time::Duration;

use tonic::{Code, Request, Status, metadata::KeyAndValueRef};

use self::{
    echo::Echo,
    kinds::{Kind, callers_token, kinds, metadata_token, token_answer},
    leak::{Encoding, Parts, TOKEN_LENGTH, opaque, password},
};
use crate::support::{Caller, Cloud, Collector, Gateway, Manner, PARENT, Program, Reply, documented, failed, soon};

/// Everything that a gateway said, to anyone.
struct Said {
    log: String,
    reported: String,
    /// Metrics, readiness, audit and spans.
    rest: String,
}

impl Said {
    fn assert_silent(&self, secrets: &Parts, about: &str) {
        assert!(self.log.contains("TRACE"), "the log is not as verbose as it can be");
        assert!(self.rest.contains("rpc.method"), "no span came");
        for (place, text) in [("log", &self.log), ("status", &self.reported), ("rest", &self.rest)] {
            secrets.assert_absent(text, &format!("{about}, {place}"));
            Parts::of(&[("collector's key", collectors_key())]).assert_absent(text, about);
        }
    }
}

/// The key of a collector of traces.
fn collectors_key() -> String {
    opaque("collector", 40).replace(['=', '+', '/'], "-")
}

/// The status of a call, its details and metadata included, as text.
fn text_of(status: &Status) -> String {
    let metadata = status.metadata().iter().map(|entry| match entry {
        KeyAndValueRef::Ascii(key, value) => format!("{key}: {}\n", value.to_str().unwrap()),
        KeyAndValueRef::Binary(key, value) => format!("{key}: {value:?}\n"),
    });
    let metadata: String = metadata.collect();
    format!("{}\n{metadata}{}\n{status:?}", status.message(), String::from_utf8_lossy(status.details()))
}

/// Runs a gateway with a client of its own, and calls until the cloud has been asked so often, or so often in all.
async fn run(
    kind: &Kind,
    format: &str,
    (service, cloud): (&Cloud, &Cloud),
    project_id: &str,
    (asked, most): (usize, usize),
) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit");
    let (upstream, iam) = (format!("http://{}", cloud.address), format!("http://{}", service.address));
    let mut arguments: Vec<&str> = kind.flags.iter().map(String::as_str).collect();
    arguments.extend(["--upstream", &upstream, "--iam-endpoint", &iam, "--sts-endpoint", &iam]);
    arguments.extend(["--metadata-endpoint", &iam, "--audit", audit.to_str().unwrap(), "--log-level", "trace"]);
    if project_id.is_empty() && !kind.flags.iter().any(|flag| flag == "--project-name") {
        arguments.extend(["--project-name", "p"]);
    }
    let container = format!("{iam}/v1/credentials");
    // It sends the key back that every export has.
    let collector = Collector::that(Manner::RejectsOne).await;
    let (url, header) = (collector.url(), format!("authorization={}", collectors_key()));
    let traces = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", &header),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", if format == "json" { "grpc" } else { "http/protobuf" }),
    ];
    let variables = kind.variables.iter().map(|(name, value)| (*name, value.as_str()));
    let variables: Vec<_> =
        variables.chain([("HC_CONTAINER_CREDENTIALS_FULL_URI", container.as_str())]).chain(traces).collect();

    let serve = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", format];
    let mut program = Program::start(&[&serve[..], &arguments].concat(), &variables);
    let line = program.log_line("serving").await;
    let address = |name: &str| {
        let value = line.split_once(name).unwrap().1.trim_start_matches(['"', ':', '=']);
        value.split(['"', ' ', ',']).next().unwrap().to_owned()
    };
    let (address, admin) = (address("address"), address("admin"));
    let (mut reported, mut metrics) = (String::new(), String::new());
    let calls = async {
        let caller = Caller::of(&address).await;
        for number in 0..most {
            if number > 0 && cloud.seen().len() >= asked {
                break;
            }
            let mut message = documented();
            message.project_id = project_id.into();
            let mut request = Request::new(message);
            request.metadata_mut().insert("x-auth-token", callers_token().parse().unwrap());
            request.metadata_mut().insert("traceparent", PARENT.parse().unwrap());
            request.set_timeout(Duration::from_secs(5));
            match soon(caller.client().attach_domains(request)).await {
                Ok(response) => reported.extend([format!("{:?}", response.metadata())]),
                Err(status) => {
                    reported += &text_of(&status);
                    if cloud.seen().is_empty() && most > 1 {
                        // A credential may be on its way.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        }
        for path in ["metrics", "readyz?verbose", "config", "version", "", "?refresh"] {
            let answer = soon(reqwest::get(format!("http://{admin}/{path}"))).await.unwrap();
            metrics += &soon(answer.text()).await.unwrap();
        }
    };
    let log = line.clone() + &Box::pin(program.log_of(calls)).await;
    let rest = metrics + &std::fs::read_to_string(audit).unwrap() + &collector.text();
    Said { log, reported, rest }
}

/// The signatures that reached a server.
fn signatures(server: &Cloud) -> Vec<(&'static str, String)> {
    let seen = server.seen();
    let headers = seen.iter().filter_map(|seen| seen.header("authorization")?.split_once("Signature="));
    headers.map(|(_, signature)| ("signature", signature.to_owned())).collect()
}

#[tokio::test]
async fn no_secret_of_any_kind_shows_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    for kind in kinds(folder.path()) {
        let service = Cloud::answering(kind.service.clone()).await;
        let answers = [
            Reply::attached(),
            Reply::refused(401, "APIG.0307", "The token must be updated."),
            Reply::with(200, &[("Content-Type", "text/html")], b"<html>"),
            Reply::close(),
            Reply::with(302, &[("Location", "http://127.0.0.1:1/")], b""),
            Reply::with(503, &[], b"not json"),
        ];
        let cloud = Cloud::answering(answers).await;
        let said = Box::pin(run(&kind, "json", (&service, &cloud), &documented().project_id, (6, 60))).await;
        assert!(!cloud.seen().is_empty(), "{} reached no cloud: {}", kind.name, said.reported);
        let secrets = Parts::of(&kind.secrets);
        said.assert_silent(&secrets, kind.name);

        let mut arguments: Vec<&str> = ["check", "--upstream", "http://127.0.0.1:1"].into();
        arguments.extend(kind.flags.iter().map(String::as_str));
        let variables = kind.variables.iter().map(|(name, value)| (*name, value.as_str()));
        let container = ("HC_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/");
        let check = Program::run(&arguments, &variables.chain([container]).collect::<Vec<_>>()).await;
        assert_eq!(check.code, Some(0), "{}", check.err);
        secrets.assert_absent(&(check.out + &check.err), kind.name);
    }
}

#[tokio::test]
async fn a_cloud_that_sends_back_its_request_gets_no_secret_to_callers_or_logs() {
    let folder = tempfile::tempdir().unwrap();
    for (number, kind) in kinds(folder.path()).into_iter().enumerate() {
        let service = Cloud::answering(kind.service.clone()).await;
        let echoes = Echo::of_the_cloud();
        let cloud = Cloud::answering(echoes.iter().map(|echo| echo.reply())).await;
        let format = ["json", "text"][number % 2];
        let counts = (echoes.len(), 60 + echoes.len());
        let said = Box::pin(run(&kind, format, (&service, &cloud), &documented().project_id, counts)).await;
        assert!(cloud.seen().len() >= echoes.len(), "{}: {}", kind.name, said.reported);
        assert!(said.reported.contains("APIG.2012"), "an error's code outlives the masking: {}", said.reported);
        said.assert_silent(&Parts::of(&[kind.secrets, signatures(&cloud)].concat()), kind.name);
    }
}

#[tokio::test]
async fn a_service_that_sends_back_its_request_gets_no_secret_to_callers_or_logs() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::answering([Reply::attached()]).await;
    for kind in kinds(folder.path()) {
        if !["password", "container", "oidc", "metadata", "federation"].contains(&kind.name) {
            continue;
        }
        let secrets = Parts::of(&kind.secrets);
        for (number, echo) in Echo::of_a_service().into_iter().enumerate() {
            // The second request has the answer to the first.
            let reply = match kind.name {
                "metadata" => Reply::either("PUT", &metadata_token(), &echo.reply()),
                "federation" => Reply::either("/id-token/", &token_answer(), &echo.reply()),
                _ => echo.reply(),
            };
            let service = Cloud::answering([reply]).await;
            let format = ["json", "text"][number % 2];
            let said = Box::pin(run(&kind, format, (&service, &cloud), &documented().project_id, (1, 1))).await;
            assert!(said.reported.contains("credential"), "{}: {}", kind.name, said.reported);
            said.assert_silent(&secrets, &format!("{} {echo:?}", kind.name));
        }
    }
    assert_eq!(cloud.seen().len(), 0);
}

#[tokio::test]
async fn a_look_up_of_the_project_that_sends_back_its_request_gets_no_secret_to_callers_or_logs() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::answering([Reply::attached()]).await;
    for kind in kinds(folder.path()) {
        let good = match kind.name {
            "token" | "aksk" => vec![],
            "password" => vec![token_answer()],
            _ => continue,
        };
        let secrets = Parts::of(&kind.secrets);
        for (number, echo) in Echo::of_a_service().into_iter().enumerate() {
            let iam = Cloud::answering([good.clone(), vec![echo.reply()]].concat()).await;
            let format = ["json", "text"][number % 2];
            let said = Box::pin(run(&kind, format, (&iam, &cloud), "", (1, 1))).await;
            assert!(said.reported.contains("IAM answered"), "{}: {}", kind.name, said.reported);
            said.assert_silent(&secrets, &format!("{} {echo:?}", kind.name));
            said.assert_silent(&Parts::of(&signatures(&iam)), &format!("{} {echo:?}", kind.name));
        }
    }
    assert_eq!(cloud.seen().len(), 0);
}

#[tokio::test]
async fn a_start_that_fails_says_no_secret() {
    let (token, password) = (opaque("token", TOKEN_LENGTH), password("password"));
    let secrets = Parts::of(&[("token", token.clone()), ("password", password.clone())]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let quoted = toml::Value::from(password.as_str());
    let two_words = format!("{token} {token}");
    let files = [
        format!("upstream = \"http://127.0.0.1:1\"\ntoken = {token}\n"),
        format!("token = \"{token}\n"),
        format!("token = \"{token}\"\ntoken = \"{token}\"\n"),
        format!("upstream = \"http://127.0.0.1:1\"\ncredentials = \"token\"\ntoken = {quoted}\nlisten = 7\n"),
        format!("credentials = \"token\"\ntoken = \"{two_words}\"\n"),
        format!("password = {quoted}\ncredentials = \"password\"\n"),
        format!("password = \"{password}\"\n"),
        format!("upstream = \"http://u:{}@127.0.0.1:1\"\n", &token[..40].replace('/', "-")),
        format!("[[identities]]\nproject_id = \"p\"\ncredentials = \"token\"\ntoken = \"{two_words}\"\n"),
    ];
    for (number, text) in files.into_iter().enumerate() {
        let path = file(&number.to_string(), text);
        for command in ["check", "serve"] {
            let ended = Program::run(&[command, "--config", &path], &[]).await;
            assert_eq!(ended.code, Some(2), "{number}: {ended:?}");
            secrets.assert_absent(&(ended.out + &ended.err), &format!("{command} {number}"));
        }
    }
}

#[tokio::test]
async fn callers_learn_of_a_refused_credential_all_the_same() {
    let service = Cloud::answering([Echo::Message(400, Encoding::Raw).reply()]).await;
    let cloud = Cloud::answering([Reply::attached()]).await;
    let gateway = Gateway::facing(cloud.address)
        .with("credentials", "password")
        .with("iam-endpoint", format!("http://{}", service.address))
        .with("user-name", "u")
        .with("account-name", "a")
        .with("project-name", "p")
        .with("password", password("password"))
        .start()
        .await;
    let failure = failed(gateway.caller().await.attach(documented()).await);
    assert_eq!(failure.verdict(), (Code::Internal, "CREDENTIALS_REFUSED"));
    assert!(failure.status.message().contains("IAM answered 400: APIG.2012"), "{:?}", failure.status);
    Parts::of(&[("password", password("password"))]).assert_absent(&text_of(&failure.status), "status");
}
