//! Private keys: callers send them, so nothing may show them, not even when the cloud sends the request back.

use apig_grpc_gateway::pb::{CreateCertificateRequest, UpdateCertificateRequest};
use serde_json::{Value, json};
use tonic::Request;

use super::{
    leak::{Encoding, Parts, opaque},
    text_of,
};
use crate::support::{Caller, Cloud, Program, Reply, Seen, head, soon};

/// A file of PEM as OpenSSL writes it; its last line of base64 is short.
fn pem(name: &str, kind: &str, line_end: &str) -> String {
    let text: String = opaque(name, 3_000).chars().filter(|letter| !"-=".contains(*letter)).take(64 * 26 + 6).collect();
    // A certificate ends in another way than a key: nothing that both have may count as a leak.
    let letters: Vec<char> = (text + if kind.contains("KEY") { "==" } else { "" }).chars().collect();
    let lines = letters.chunks(64).map(|line| line.iter().collect::<String>());
    let lines: Vec<String> =
        [format!("-----BEGIN {kind}-----")].into_iter().chain(lines).chain([format!("-----END {kind}-----")]).collect();
    lines.join(line_end) + line_end
}

fn create() -> CreateCertificateRequest {
    CreateCertificateRequest {
        project_id: "p1".into(),
        name: "name_1".into(),
        cert_content: pem("certificate", "CERTIFICATE", "\n"),
        private_key: pem("key", "PRIVATE KEY", "\n"),
        trusted_root_ca: pem("root", "CERTIFICATE", "\n"),
        cert_content_sign: pem("sign certificate", "CERTIFICATE", "\n"),
        private_key_sign: pem("sign key", "EC PRIVATE KEY", "\r\n"),
        ..Default::default()
    }
}

fn update() -> UpdateCertificateRequest {
    let create = create();
    UpdateCertificateRequest {
        project_id: create.project_id,
        certificate_id: "c1".into(),
        name: create.name,
        cert_content: create.cert_content,
        private_key: create.private_key,
        trusted_root_ca: create.trusted_root_ca,
        cert_content_sign: create.cert_content_sign,
        private_key_sign: create.private_key_sign,
        ..Default::default()
    }
}

/// The keys as wholes, and the inner lines of their base64: without line ends, too, nothing of them may show.
fn secrets() -> Vec<(&'static str, String)> {
    let create = create();
    let mut secrets = vec![("private_key", create.private_key), ("private_key_sign", create.private_key_sign)];
    let joined: Vec<_> = secrets
        .iter()
        .map(|(name, key)| (*name, key.lines().filter(|line| !line.starts_with("---")).collect::<String>()))
        .collect();
    secrets.extend(joined);
    secrets
}

/// The short last lines of the keys' base64.
fn last_lines() -> Vec<String> {
    let last = |key: &str| key.lines().rev().nth(1).unwrap().to_owned();
    let create = create();
    let lines = vec![last(&create.private_key), last(&create.private_key_sign)];
    assert!(lines.iter().all(|line| line.len() == 8), "{lines:?}");
    lines
}

fn error(status: u16, message: &str) -> Vec<u8> {
    answer(status, json!({"error_code": "APIG.2012", "error_msg": message}).to_string().as_bytes())
}

fn answer(status: u16, body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    [head(status, [("Content-Length", length.as_str()), ("X-Request-Id", "cloud-1")]), body.to_vec()].concat()
}

/// A member of the body of a request.
fn member(seen: &Seen, name: &str) -> String {
    serde_json::from_str::<Value>(&seen.body).unwrap()[name].as_str().unwrap_or_default().to_owned()
}

/// The keys of a request, line by line.
fn lines(seen: &Seen) -> Vec<String> {
    let keys = ["private_key", "private_key_sign"].map(|name| member(seen, name));
    keys.iter().flat_map(|key| key.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

type Make = dyn Fn(&Seen) -> Vec<u8> + Send + Sync;

/// Answers that send the request, its keys or their lines back.
fn echoes() -> Vec<Reply> {
    let mut echoes = Vec::new();
    let mut echo = |make: Box<Make>| echoes.push(Reply::made(make));
    for encoding in Encoding::ALL {
        // The whole request, as JSON in a text; it is longer than any text that is passed on.
        echo(Box::new(move |seen| error(400, &encoding.write(&seen.body))));
        echo(Box::new(move |seen| error(400, &encoding.write(&member(seen, "private_key")))));
        echo(Box::new(move |seen| error(500, &encoding.write(&member(seen, "private_key_sign")))));
        // The end of the key, within the part of a text that is passed on.
        echo(Box::new(move |seen| {
            let key = member(seen, "private_key");
            error(400, &encoding.write(&key[key.len() - 150..]))
        }));
        echo(Box::new(move |seen| {
            answer(403, format!("<p>{}", encoding.write(&member(seen, "private_key"))).as_bytes())
        }));
    }
    for separator in ["", " ", "\r\n", "\\n", ", ", "\n> "] {
        echo(Box::new(move |seen| error(400, &lines(seen).join(separator))));
        echo(Box::new(move |seen| {
            let lines = lines(seen);
            error(400, &lines[lines.len() - 3..].join(separator))
        }));
    }
    // The beginnings of the lines.
    echo(Box::new(|seen| {
        error(400, &lines(seen).iter().map(|line| &line[..line.len().min(20)]).collect::<Vec<_>>().join("] ["))
    }));
    // Successes that do not decode, with the value in the parser's own words.
    echo(Box::new(|seen| answer(200, json!({"version": member(seen, "private_key")}).to_string().as_bytes())));
    echo(Box::new(|seen| answer(200, json!({"not_after": member(seen, "private_key_sign")}).to_string().as_bytes())));
    echo(Box::new(|seen| answer(200, member(seen, "private_key").as_bytes())));
    echo(Box::new(|seen| answer(200, json!({member(seen, "private_key"): 1, "id": 7}).to_string().as_bytes())));
    echo(Box::new(|seen| {
        let line = lines(seen).remove(1);
        [
            head(201, [("Content-Length", "0"), ("X-Request-Id", line.as_str()), ("Content-Type", line.as_str())]),
            Vec::new(),
        ]
        .concat()
    }));
    // The raw request, as a body that is cut.
    echo(Box::new(|seen| [head(500, [("Content-Length", "9999999")]), seen.body.clone().into_bytes()].concat()));
    echoes
}

/// The log, the errors and the audit lines of creates and updates.
async fn said(format: &str, script: Vec<Reply>) -> (String, String, String) {
    let calls = script.len();
    let cloud = Cloud::answering(script).await;
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit");
    let upstream = format!("http://{}", cloud.address);
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--log-format", format];
    let more = ["--upstream", &upstream, "--log-level", "trace", "--audit", audit.to_str().unwrap(), "--timeout", "1s"];
    let mut program = Program::start(&[&arguments[..], &more, &["--breaker-threshold", "0"]].concat(), &[]);
    let line = program.log_line("serving").await;
    let address = line.split_once("address").unwrap().1.trim_start_matches(['"', ':', '=']);
    let address = address.split(['"', ' ', ',']).next().unwrap().to_owned();
    let mut reported = String::new();
    let work = async {
        let mut client = Caller::of(&address).await.client();
        for number in 0..calls {
            let token = "t".parse().unwrap();
            let result = if number % 2 == 0 {
                let mut request = Request::new(create());
                request.metadata_mut().insert("x-auth-token", token);
                soon(client.create_certificate(request)).await
            } else {
                let mut request = Request::new(update());
                request.metadata_mut().insert("x-auth-token", token);
                soon(client.update_certificate(request)).await
            };
            match result {
                Ok(response) => reported.extend([format!("{:?}", response.metadata())]),
                Err(status) => reported += &text_of(&status),
            }
        }
        assert!(cloud.seen().len() >= calls, "{reported}");
    };
    let log = Box::pin(program.log_of(work)).await;
    assert!(log.contains("TRACE"), "the log is not as verbose as it can be");
    let audit = std::fs::read_to_string(audit).unwrap();
    assert_eq!(audit.lines().count(), calls, "{audit}");
    (log, reported, audit)
}

#[tokio::test]
async fn nothing_of_an_upload_is_logged() {
    let certificate = json!({"id": "c1", "name": "name_1", "project_id": "p1"}).to_string();
    let create = create();
    let mut texts = secrets();
    texts.extend([
        ("cert_content", create.cert_content),
        ("trusted_root_ca", create.trusted_root_ca),
        ("cert_content_sign", create.cert_content_sign),
    ]);
    let parts = Parts::of(&texts);
    for format in ["json", "text"] {
        let replies = [
            Reply::json(200, &certificate),
            Reply::refused(400, "APIG.2101", "The key does not match"),
            Reply::json(500, "{}"),
            Reply::with(503, &[("Retry-After", "0")], b""),
            Reply::json(200, "<html>"),
            Reply::json(204, ""),
        ];
        let (log, reported, audit) = said(format, replies.into()).await;
        for (place, text) in [("log", log), ("status", reported), ("audit", audit)] {
            parts.assert_absent(&text, place);
        }
    }
}

#[tokio::test]
async fn a_cloud_that_sends_an_upload_back_gets_no_key_to_callers_or_logs() {
    let parts = Parts::of(&secrets());
    for format in ["json", "text"] {
        let (log, reported, audit) = said(format, echoes()).await;
        assert!(reported.contains("APIG.2012"), "an error's code outlives the masking: {reported}");
        for (place, text) in [("log", log), ("status", reported), ("audit", audit)] {
            parts.assert_absent(&text, place);
            for line in last_lines() {
                assert!(!text.contains(&line), "{place} has the last line {line} of a key");
            }
        }
    }
}

#[test]
fn debug_of_requests_shows_no_key() {
    let parts = Parts::of(&secrets());
    for text in [format!("{:?}", create()), format!("{:#?}", update()), format!("{:?}", Request::new(update()))] {
        assert!(text.contains("name_1") && text.contains("[redacted]"), "{text}");
        parts.assert_absent(&text, "Debug");
    }
}

/// A message that is marked as secret in the .proto has no derived `Debug`: the fields are listed here by their marks.
#[test]
fn every_field_that_holds_a_private_key_is_marked() {
    let pool = prost_reflect::DescriptorPool::decode(apig_grpc_gateway::pb::DESCRIPTORS).unwrap();
    let mut keys = 0;
    for message in pool.all_messages().filter(|message| message.full_name().starts_with("huaweicloud.")) {
        for field in message.fields() {
            let is_marked =
                field.options().get_field_by_name("debug_redact").is_some_and(|mark| mark.as_bool() == Some(true));
            let is_key = field.name().contains("private_key");
            assert_eq!(is_marked, is_key, "{}", field.full_name());
            keys += usize::from(is_key);
        }
    }
    assert_eq!(keys, 4);
}
