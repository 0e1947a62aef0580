//! One call a command: changes, reads and their output.

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

use super::{CERTIFICATE, Desk, Ended, File, INSTANCES, WITH_CA};
use crate::support::{Authority, Gateway, Program};

/// A certificate of this name that ends in 2036, and its key, as files.
fn pair(name: &str) -> (File, File) {
    pair_of(&[name])
}

/// A certificate of these names, and its key, as files.
pub(super) fn pair_of(names: &[&str]) -> (File, File) {
    pair_until(names, 2036)
}

/// A certificate of these names that ends with the first day of a year, and its key, as files.
pub(super) fn pair_until(names: &[&str], year: i32) -> (File, File) {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.not_after = date_time_ymd(year, 1, 1);
    params.not_before = date_time_ymd(2000, 1, 1);
    params.distinguished_name.push(DnType::CommonName, names[0]);
    let key = KeyPair::generate().unwrap();
    let chain = params.self_signed(&key).unwrap().pem();
    (File::new("chain.pem", &chain), File::new("key.pem", &key.serialize_pem()))
}

#[tokio::test]
async fn a_certificate_lives_from_create_to_delete() {
    let desk = Desk::new().await;
    let (chain, key) = pair("api.example.com");
    let upload = ["--name", "lifelong", "--cert-content-file", &chain.path, "--private-key-file", &key.path];
    let created = desk.json(&[&["certificates", "create"][..], &upload[..]].concat()).await;
    assert_eq!((&created["commonName"], &created["san"][0]), (&"api.example.com".into(), &"api.example.com".into()));
    assert_eq!(created["notAfter"], "2036-01-01T00:00:00Z");
    let id = created["id"].as_str().unwrap();
    let flag = ["--certificate-id", id];
    let with_id = |command: &[&'static str]| [command, &flag[..]].concat();

    assert_eq!(desk.json(&with_id(&["certificates", "get"])).await, created);
    let list = ["certificates", "list", "--instance-id", INSTANCES[0], "--name", "lifelong"];
    let listed = desk.json(&list).await;
    assert_eq!((&listed["size"], &listed["total"], &listed["certs"][0]["id"]), (&1.into(), &"1".into(), &id.into()));

    let domain = ["--domain", "api.example.com", "--instance-id", INSTANCES[0]];
    let attached = desk.json(&[&with_id(&["attach"])[..], &domain[..]].concat()).await;
    assert_eq!(attached, serde_json::json!({}));
    let refused = desk.run(&with_id(&["certificates", "delete"])).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.out.starts_with("FAILED_PRECONDITION\n"), "{refused:?}");
    let detached = desk.run(&[&with_id(&["detach"])[..], &domain[..]].concat()).await.succeeded();
    assert!(detached.out.starts_with("OK\n"), "{detached:?}");
    assert!(desk.bindings(id).await.is_empty());

    let (chain, key) = pair("www.example.com");
    let upload = ["--name", "lifelong", "--cert-content-file", &chain.path, "--private-key-file", &key.path];
    let with_ca = [&with_id(&["certificates", "update"])[..], &upload[..], &["--trusted-root-ca-file", &chain.path]];
    let updated = desk.run(&with_ca.concat()).await.succeeded();
    assert!(updated.out.contains("www.example.com"), "{updated:?}");
    assert!(updated.err.contains("switches client verification off"), "{updated:?}");
    desk.run(&with_id(&["certificates", "delete"])).await.succeeded();
    let gone = desk.run(&with_id(&["certificates", "get", "--output", "json"])).await;
    assert_eq!((gone.code, &gone.json()["code"]), (Some(1), &5.into()), "{gone:?}");
}

#[tokio::test]
async fn a_private_key_is_in_no_output() {
    let desk = Desk::new().await;
    let (chain, _) = pair("api.example.com");
    let (_, key) = pair("other.example.com");
    let lines = std::fs::read_to_string(&key.path).unwrap();
    let line = lines.lines().nth(1).unwrap();
    let upload = ["--name", "mismatch", "--cert-content-file", &chain.path, "--private-key-file", &key.path];
    for output in ["text", "json"] {
        let ended = desk.run(&[&["certificates", "create", "--output", output][..], &upload[..]].concat()).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.out.contains("APIG_2101"), "{ended:?}");
        assert!(!format!("{ended:?}").contains(line), "{ended:?}");
    }
}

/// Binds three domains: five rows.
async fn bind(desk: &Desk) {
    let domains = ["--domain", "apigtest.xxx.com", "--domain", "www.example.com", "--domain", "api.example.com"];
    let attach = [&["attach", "--certificate-id", WITH_CA][..], &domains[..]].concat();
    desk.run(&attach).await.succeeded();
}

#[tokio::test]
async fn all_merges_every_page() {
    let desk = Desk::new().await;
    bind(&desk).await;
    let attached = ["attached", "--certificate-id", WITH_CA];
    let whole = desk.json(&attached).await;
    assert_eq!((&whole["size"], &whole["total"]), (&5.into(), &"5".into()));
    for limit in ["1", "2", "3", "500"] {
        let merged = desk.json(&[&attached[..], &["--all", "--limit", limit]].concat()).await;
        assert_eq!(merged, whole, "in pages of {limit}");
    }
    let second = desk.json(&[&attached[..], &["--limit", "2", "--offset", "2"]].concat()).await;
    assert_eq!(second["boundDomains"].as_array().unwrap()[..], whole["boundDomains"].as_array().unwrap()[2..4]);

    let part = desk.run(&[&attached[..], &["--limit", "2"]].concat()).await.succeeded();
    assert_eq!(part.out.lines().count(), 3, "{part:?}");
    assert!(part.err.contains("2 of 5 rows"), "{part:?}");
    let list = ["certificates", "list", "--instance-id", INSTANCES[1], "--all"];
    let certificates = desk.json(&list).await;
    assert_eq!(desk.json(&[&list[..], &["--limit", "1"]].concat()).await, certificates);
    assert_eq!(certificates["total"], "6", "{certificates}");
}

#[tokio::test]
async fn a_pipe_gets_one_line_for_each_row() {
    let desk = Desk::new().await;
    bind(&desk).await;
    let Ended { out, .. } = desk.run(&["attached", "--certificate-id", WITH_CA]).await.succeeded();
    let mut lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.remove(0), ["DOMAIN", "INSTANCE", "VERIFIES", "GROUP"]);
    assert_eq!(lines.len(), 5, "{out}");
    let row = ["api.example.com", INSTANCES[0], "yes", "storefront"];
    assert!(lines.iter().any(|line| *line == row), "{out}");

    let Ended { out, .. } = desk.run(&["certificates", "get", "--certificate-id", CERTIFICATE]).await.succeeded();
    assert!(out.lines().any(|line| line.starts_with("san ") && line.ends_with("apigtest.xxx.com")), "{out}");
}

#[tokio::test]
async fn an_empty_list_has_its_headings_and_its_json_a_list() {
    let desk = Desk::new().await;
    let attached = ["attached", "--certificate-id", CERTIFICATE];
    assert!(desk.run(&attached).await.succeeded().out.starts_with("DOMAIN"));
    let json = desk.json(&attached).await;
    assert_eq!(json, serde_json::json!({ "size": 0, "total": "0", "boundDomains": [] }));
}

#[tokio::test]
async fn a_page_that_fails_is_read_again() {
    let desk = Desk::new().await;
    bind(&desk).await;
    let url = format!("http://{}/emulator/outages/api", desk.cloud);
    let client = reqwest::Client::new();
    assert_eq!(client.put(&url).body(r#"{"status": 500, "every": 2}"#).send().await.unwrap().status(), 204);
    let attached = desk.json(&["attached", "--certificate-id", WITH_CA, "--all", "--limit", "1"]).await;
    assert_eq!(attached["size"], 5);
}

#[tokio::test]
async fn an_encrypted_target_and_its_files_come_from_the_environment() {
    let authority = Authority::new();
    let (server, client) = (authority.issue(&["localhost"]), authority.issue(&["operator"]));
    let files: Vec<File> = [&authority.pem(), &server.certificate, &server.key, &client.certificate, &client.key]
        .map(|text| File::new("file.pem", text))
        .into();
    let [ca, server_certificate, server_key, certificate, key] = &files[..] else { unreachable!() };
    let desk = Desk::new().await;
    let gateway = Gateway::facing(desk.cloud)
        .with("project-id", super::PROJECT)
        .with("tls-certificate", &server_certificate.path)
        .with("tls-key", &server_key.path)
        .with("tls-client-ca", &ca.path)
        .start()
        .await;
    let target = format!("https://localhost:{}", gateway.address.to_string().rsplit_once(':').unwrap().1);
    let variables = [
        ("APIG_GATEWAY_TARGET", target.as_str()),
        ("APIG_GATEWAY_CA", &ca.path),
        ("APIG_GATEWAY_CERTIFICATE", &certificate.path),
        ("APIG_GATEWAY_KEY", &key.path),
        ("APIG_GATEWAY_TOKEN", super::TOKEN),
    ];
    let attached = ["attached", "--certificate-id", CERTIFICATE];
    let ended = Program::run(&attached, &variables).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // A flag takes precedence, and the files are for encrypted targets alone.
    let ended = Program::run(&[&attached[..], &["--target", &desk.target]].concat(), &variables).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = Program::run(&["health"], &variables).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "SERVING\n"), "{ended:?}");
}
