//! The mistakes of people: one clear line, exit code 1 or 2, and nothing changed.

use super::{CERTIFICATE, Desk, File, INSTANCES, TOKEN, family::pair_until};
use crate::support::Program;

/// A command line with a mistake.
struct Mistake<'a> {
    arguments: &'a [&'a str],
    variables: &'a [(&'a str, &'a str)],
    code: i32,
    says: &'a str,
}

async fn check(mistakes: &[Mistake<'_>]) {
    for Mistake { arguments, variables, code, says } in mistakes {
        let ended = Program::run(arguments, variables).await;
        assert_eq!(ended.code, Some(*code), "{arguments:?}: {ended:?}");
        let output = format!("{}{}", ended.out, ended.err);
        assert!(output.contains(says), "{arguments:?} does not say {says:?}: {output}");
        // clap adds its usage.
        if *code == 1 && ended.out.is_empty() {
            assert_eq!(ended.err.lines().count(), 1, "{arguments:?}: {output}");
        }
    }
}

#[tokio::test]
async fn of_one_call() {
    let desk = Desk::new().await;
    let variables = &desk.variables()[..];
    let (empty, no_pem) = (File::new("empty", ""), File::new("chain.pem", "canary"));
    let create = |chain: &'static str| ["certificates", "create", "--name", "mistaken", "--cert-content-file", chain];
    let missing = [&create("/no/such/file")[..], &["--private-key-file", "/no/such/file"]].concat();
    let mut no_key = create("chain").to_vec();
    no_key[5] = &no_pem.path;
    let mut without_pem = no_key.clone();
    without_pem.extend(["--private-key-file", &no_pem.path]);
    let nobody = [("APIG_GATEWAY_TARGET", "127.0.0.1:9"), ("APIG_GATEWAY_TOKEN", TOKEN)];
    let (old_chain, old_key) = pair_until(&["api.example.com"], 2020);
    let mut expired = no_key.clone();
    expired[5] = &old_chain.path;
    expired.extend(["--private-key-file", &old_key.path]);
    let no_token = [variables[0]];
    let stale = [variables[0], ("APIG_GATEWAY_TOKEN", "stale-token")];
    let attached = ["attached", "--certificate-id", CERTIFICATE];
    let with_token_file = |path| [&attached[..], &["--token-file", path]].concat();
    let mistake = |arguments, variables, code, says| Mistake { arguments, variables, code, says };
    check(&[
        mistake(&attached, &nobody, 1, "127.0.0.1:9: can't connect"),
        mistake(&attached, &no_token, 1, "TOKEN_MISSING"),
        mistake(&attached, &stale, 1, "UNAUTHENTICATED"),
        mistake(&with_token_file("/no/such/file"), variables, 1, "token-file can't be read"),
        mistake(&with_token_file(&empty.path), variables, 1, "holds no token"),
        mistake(&["attached"], variables, 2, "--certificate-id"),
        mistake(&[&attached[..], &["--limit", "501"]].concat(), variables, 2, "501"),
        mistake(&[&attached[..], &["--offset", "-1"]].concat(), variables, 2, "-1"),
        mistake(&[&attached[..], &["--all", "--offset", "1"]].concat(), variables, 2, "--offset"),
        mistake(&["certificates", "list"], variables, 2, "--instance-id"),
        mistake(&["certificates"], variables, 2, "Usage"),
        mistake(&missing, variables, 1, "cert-content-file /no/such/file: can't be read"),
        mistake(&no_key, variables, 2, "--private-key-file"),
        mistake(&expired, variables, 1, "APIG_2102"),
        mistake(&without_pem, variables, 1, "has no PEM block"),
        mistake(&["detach", "--certificate-id", "c"], variables, 2, "--domain"),
        mistake(&["attach", "--domain", "d"], variables, 2, "--certificate-id"),
        mistake(&["attach", "--certificate-id", "..", "--domain", "d"], variables, 1, "certificate_id"),
        mistake(&["attached", "--certificate-id", "c", "--ca", "/ca.pem"], variables, 1, "are for https targets"),
        mistake(&["attached", "--certificate-id", "c", "--target", "https://h:1"], variables, 1, "needs --ca"),
        mistake(&["attached", "--certificate-id", "c", "--key", "/key.pem"], variables, 2, "--certificate"),
    ])
    .await;
    let listed = desk.json(&["certificates", "list", "--instance-id", INSTANCES[0], "--all"]).await;
    assert_eq!(listed["total"], "5", "nothing was created: {listed}");
    assert!(desk.bindings(CERTIFICATE).await.is_empty());
}
