//! The admin port: each endpoint, its headers, and texts of strangers on the page.

use prost::Message as _;
use testkit::admin::{Response, request};
use tonic::Code;

use crate::support::{
    ATTACH, Cloud, Gateway, Program, Reply, documented, failed, frame, on_certificate, send_bytes, soon,
};

const PATHS: [&str; 8] = ["/", "/?refresh", "/livez", "/readyz", "/readyz?verbose", "/metrics", "/config", "/version"];

async fn ask(gateway: &Gateway, method: &str, path: &str) -> Response {
    soon(request(gateway.admin, method, path)).await.unwrap()
}

#[tokio::test]
async fn every_endpoint_is_read_only_and_never_stored_or_framed() {
    let gateway = Gateway::facing("127.0.0.1:9".parse().unwrap()).start().await;
    for path in PATHS {
        let got = ask(&gateway, "GET", path).await;
        assert_eq!(got.status, 200, "{path}: {got:?}");
        assert_eq!(got.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(got.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(got.header("x-frame-options"), Some("DENY"), "{path}");
        let policy = got.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let head = ask(&gateway, "HEAD", path).await;
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(head.header("content-type"), got.header("content-type"), "{path}");
    }
    for path in PATHS.into_iter().chain(["/nothing"]) {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "STRANGE"] {
            let refused = ask(&gateway, method, path).await;
            assert_eq!(refused.status, 405, "{method} {path}: {refused:?}");
            assert_eq!(refused.header("allow"), Some("GET,HEAD"), "{method} {path}");
        }
    }
    let missing = ask(&gateway, "GET", "/nothing").await;
    assert_eq!((missing.status, missing.header("x-content-type-options")), (404, Some("nosniff")));
}

#[tokio::test]
async fn the_configuration_is_that_of_check_without_secrets() {
    let secret = "a-token-that-nobody-may-see";
    let file = tempfile::NamedTempFile::new().unwrap();
    let rules = "[[policy]]\nidentity = \"anyone\"\nprojects = [\"<b>p</b>\"]\n";
    std::fs::write(file.path(), format!("upstream_proxy = \"http://user:{secret}@127.0.0.1:8\"\n{rules}")).unwrap();
    let flags =
        ["--upstream", "http://127.0.0.1:9", "--credentials", "token", "--config", file.path().to_str().unwrap()];
    let ports = ["--listen", "127.0.0.1:0", "--log-format", "json", "--admin-listen", "127.0.0.1:0"];
    let variables = [("APIG_GATEWAY_TOKEN", secret)];
    let mut program = Program::start(&[&["serve"], &ports[..], &flags].concat(), &variables);
    let admin = program.serving().await.admin.unwrap();
    let (status, shown) = soon(testkit::admin::page(&admin, "/config")).await.unwrap();
    let check = Program::run(&[&["check"], &ports[..], &flags].concat(), &variables).await;
    assert_eq!(status, 200);
    assert!(!shown.contains(secret) && shown.contains("token = \"***\"") && shown.contains("<b>p</b>"), "{shown}");
    assert!(check.out.contains(&shown), "{shown}\n{}", check.out);
    let response = soon(request(&admin, "GET", "/config")).await.unwrap();
    assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
    let page = soon(testkit::admin::page(&admin, "/")).await.unwrap().1;
    assert!(!page.contains(secret) && page.contains("http://127.0.0.1:8/"), "{page}");
}

#[tokio::test]
async fn the_version_names_the_build() {
    let gateway = Gateway::facing("127.0.0.1:9".parse().unwrap()).start().await;
    let (status, version) = gateway.admin("/version").await;
    let start = format!("apig-grpc-gateway {} (commit ", env!("CARGO_PKG_VERSION"));
    assert!(status == 200 && version.starts_with(&start) && version.contains("rustc 1."), "{version}");
}

#[tokio::test]
async fn after_an_outage_the_page_shows_circuit_and_errors_with_advice() {
    let down = Reply::with(502, &[("X-Request-Id", "cloud-7")], b"");
    let refused = Reply::refused(404, "APIG.3020", "no such domain");
    let cloud = Cloud::answering([Reply::attached(), refused, down.clone(), down]).await;
    let gateway = Gateway::facing(cloud.address).with("breaker-threshold", "2").start().await;
    let page = gateway.admin("/").await.1;
    assert!(page.contains("Ready. Every condition is met.") && page.contains("Since the start</th><td>none"), "{page}");
    let caller = gateway.caller().await;
    caller.attach(documented()).await.unwrap();
    for code in [Code::NotFound, Code::Unavailable, Code::Unavailable, Code::Unavailable] {
        assert_eq!(failed(caller.attach(documented()).await).status.code(), code);
    }
    let page = gateway.admin("/").await.1;
    for fact in [
        "Ready. circuit: open, ",
        "<span class=bad>open</span>",
        "<td data-column=\"Reason\">CIRCUIT_OPEN</td>",
        "Check the cloud: it fails or does not answer.",
        "<td data-column=\"Reason\">HTTP_502</td>",
        "Check the cloud, and any proxy before it.",
        "cloud: <code>cloud-7</code>",
        "of 10 repeats",
        "<td data-column=\"Reason\">APIG_3020</td>",
        "<td data-column=\"Advice\">Bind the domain to an API group first; check its spelling and the instance.</td>",
        "<td data-column=\"Outcome\">not_sent</td>",
        "<td data-column=\"Code\">OK</td>",
        "<td data-column=\"Since start\">3</td>",
    ] {
        assert!(page.contains(fact), "{fact}: {page}");
    }
    // Newest first; two failures of a kind are one row.
    let order: Vec<_> =
        ["CIRCUIT_OPEN", "HTTP_502", "APIG_3020"].iter().map(|reason| page.find(reason).unwrap()).collect();
    assert!(order.is_sorted(), "{page}");
    assert_eq!(page.matches(">HTTP_502<").count(), 1);
    assert!(page.contains("<td data-column=\"Times\">2</td>"), "{page}");
    assert!(!page.contains("http-equiv") && gateway.admin("/?refresh").await.1.contains("http-equiv=refresh"));
    // The circuit does not end readiness.
    let (status, ready) = gateway.admin("/readyz?verbose").await;
    assert_eq!(status, 200);
    assert!(ready.contains("[+]drain ok\n[+]credentials ok\n[-]circuit open, "), "{ready}");
    assert!(ready.ends_with("(does not affect readiness)\nreadyz check passed\n"), "{ready}");
}

#[tokio::test]
async fn texts_of_strangers_are_text_on_the_page() {
    let hostile = "\"><script>alert('x')</script><img/src=x/onerror=alert(1)>&lt;";
    let answer = format!(r#"{{"error_code":"X.<svg/onload=alert(1)>","error_msg":"{}"}}"#, "<script>alert(2)</script>");
    let reply = Reply::with(400, &[("X-Request-Id", hostile), ("Content-Type", "application/json")], answer.as_bytes());
    let cloud = Cloud::answering([reply]).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let body = || frame(0, &on_certificate(1).encode_to_vec());
    let headers = [("x-auth-token", "t"), ("x-request-id", hostile)];
    assert_eq!(send_bytes(&gateway, ATTACH, &headers, body()).await.status.code(), Code::InvalidArgument);
    let strange = "/huaweicloud.apic.v2.CertificateService/%3Cscript%3E";
    assert_eq!(send_bytes(&gateway, strange, &headers, body()).await.status.code(), Code::Unimplemented);
    let page = gateway.admin("/").await.1;
    let main = page.split_once("<main>").unwrap().1;
    for tag in ["<script", "<img", "<svg", "%3C", "alert(2)"] {
        assert!(!main.to_lowercase().contains(&tag.to_lowercase()), "{tag}: {page}");
    }
    let escaped = "&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&lt;img/src=x/onerror=alert(1)&gt;&amp;lt;";
    assert!(main.contains(&format!("<code>{escaped}</code>")), "{page}");
    assert!(main.contains(">_OTHER<") && main.contains(">UNIMPLEMENTED<"), "{page}");
}

#[tokio::test]
async fn readiness_names_what_it_waits_for() {
    let iam = Cloud::answering([Reply::hang()]).await;
    let gateway = Gateway::facing("127.0.0.1:9".parse().unwrap())
        .with("credentials", "password")
        .with("iam-endpoint", format!("http://{}", iam.address))
        .with("user-name", "u")
        .with("account-name", "a")
        .with("project-name", "p")
        .with("password", "a password")
        .start()
        .await;
    iam.requests(1).await;
    let (status, text) = gateway.admin("/readyz?verbose").await;
    assert_eq!(status, 503);
    assert!(text.contains("[-]credentials the first credential has not been fetched yet\n"), "{text}");
    assert!(text.contains("[+]credential/default ok\n") && text.ends_with("readyz check failed\n"), "{text}");
    assert_eq!(gateway.admin("/readyz").await, (503, "not ready\n".to_owned()));
    let page = gateway.admin("/").await.1;
    assert!(page.contains("Not ready. credentials: the first") && page.contains("being fetched"), "{page}");
}

#[tokio::test]
async fn readiness_ends_with_the_drain() {
    let gateway = Gateway::facing("127.0.0.1:9".parse().unwrap()).with("drain-delay", "1h").start().await;
    assert_eq!(gateway.admin("/readyz").await, (200, "ok\n".to_owned()));
    gateway.shows("apig_gateway_draining 0\n").await;
    gateway.stop();
    gateway.shows("apig_gateway_draining 1\n").await;
    let (status, text) = gateway.admin("/readyz?verbose").await;
    assert_eq!(status, 503);
    assert!(text.starts_with("[-]drain the gateway drains\n[+]credentials ok\n"), "{text}");
    assert_eq!(gateway.admin("/livez").await.0, 200);
    assert!(gateway.admin("/").await.1.contains("Not ready. drain: the gateway drains."));
}

#[tokio::test]
async fn the_page_shows_the_ages_of_credentials() {
    let body = r#"{"token":{"issued_at":"2026-01-01T00:00:00Z","expires_at":"2126-01-02T00:00:00Z"}}"#;
    let iam = Cloud::answering([Reply::with(201, &[("X-Subject-Token", "a-token")], body.as_bytes())]).await;
    let flags = ["--upstream", "http://127.0.0.1:9", "--credentials", "password", "--user-name", "u"];
    let more = ["--account-name", "a", "--project-name", "p", "--listen", "127.0.0.1:0", "--log-format", "json"];
    let iam = format!("http://{}", iam.address);
    let ports = ["--admin-listen", "127.0.0.1:0", "--iam-endpoint", &iam];
    let mut program =
        Program::start(&[&["serve"], &flags[..], &more, &ports].concat(), &[("APIG_GATEWAY_PASSWORD", "a password")]);
    let admin = program.serving().await.admin.unwrap();
    let page = async || soon(testkit::admin::page(&admin, "/")).await.unwrap().1;
    soon(async {
        while !page().await.contains(">valid; fetched <time") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    let page = page().await;
    // The longest life that the gateway takes.
    assert!(page.contains("s ago; expires <time") && page.contains(", in 29 d 23 h</td>"), "{page}");
    assert!(page.contains("no TLS") && page.contains("<td>password</td>"), "{page}");
}
