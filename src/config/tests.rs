use super::*;

fn load(flags: &[(&'static str, &str)], variables: &[(&str, &str)], file: Option<&str>) -> Result<Config, Faults> {
    let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    Config::load(Sources {
        flags: flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(),
        environment: Some(&lookup),
        file: file.map(str::to_owned),
        ..Sources::default()
    })
}

fn faults(flags: &[(&'static str, &str)], variables: &[(&str, &str)], file: Option<&str>) -> Vec<String> {
    load(flags, variables, file).err().map(|faults| faults.0).unwrap_or_default()
}

const UPSTREAM: (&str, &str) = ("upstream", "https://cloud.example");

#[test]
fn a_flag_beats_the_environment_beats_the_file() {
    let file = Some("timeout = \"1s\"\nmax_concurrency = 1\nmax_connections = 1\n");
    let variables = [("APIG_GATEWAY_TIMEOUT", "2s"), ("APIG_GATEWAY_MAX_CONCURRENCY", "2")];
    let config = load(&[UPSTREAM, ("timeout", "3s")], &variables, file).unwrap();
    assert_eq!(config.gateway.timeout, std::time::Duration::from_secs(3));
    assert_eq!(config.gateway.max_concurrency, 2);
    assert_eq!(config.gateway.max_connections, 1);
}

#[test]
fn every_fault_is_named_at_once() {
    let found = faults(
        &[("timeout", "soon"), ("listen", "nowhere"), ("max-concurrency", "0")],
        &[("APIG_GATEWAY_CREDENTIALS", "magic"), ("APIG_GATEWAY_PROJECT_ID", "a/b")],
        Some("colour = 'red'\ndrain_delay = 1.5\n"),
    );
    assert_eq!(
        found,
        [
            "colour (file) is not a setting",
            "drain_delay (file) must be a string, a whole number, true or false",
            "upstream is required, or region",
            "project-id (APIG_GATEWAY_PROJECT_ID) must be 1 to 128 characters out of A-Z a-z 0-9 - . _ ~",
            "credentials (APIG_GATEWAY_CREDENTIALS) must be one of passthrough, token, password, aksk, metadata, container, oidc, auto",
            "listen (--listen) must be host:port or unix:/path",
            "timeout (--timeout) must be a duration such as 250ms, 30s or 5m, at most 24h",
            "max-concurrency (--max-concurrency) must be a whole number from 1 to 1000000",
        ]
    );
}

#[test]
fn a_region_gives_the_usual_host() {
    let host = |flags: &[(&'static str, &str)]| load(flags, &[], None).unwrap().gateway.upstream.base.to_string();
    assert_eq!(host(&[("region", "cn-north-4")]), "https://roma.cn-north-4.myhuaweicloud.com/");
    assert_eq!(
        host(&[("region", "cn-north-4"), ("api-family", "apigw")]),
        "https://apig.cn-north-4.myhuaweicloud.com/"
    );
    assert_eq!(host(&[("region", "eu-west-101")]), "https://roma.eu-west-101.myhuaweicloud.eu/");
    assert_eq!(host(&[("region", "cn-north-4"), UPSTREAM]), "https://cloud.example/");
    for odd in ["evil.example/", "cn north", "CN", "", "a@b"] {
        assert_eq!(
            faults(&[("region", odd)], &[], None),
            ["region (--region) must be the id of a region, as in cn-north-4"]
        );
    }
}

#[test]
fn an_upstream_is_a_plain_base_url() {
    for odd in ["cloud.example", "ftp://cloud.example", "https://u:p@cloud.example", "https://c/?a=b", "https://c/#f"] {
        assert_eq!(faults(&[("upstream", odd)], &[], None).len(), 1, "{odd}");
    }
    assert_eq!(faults(&[("upstream", "http://127.0.0.1:8080/prefix/")], &[], None), Vec::<String>::new());
}

#[test]
fn a_token_comes_from_the_environment_or_a_file_and_only_when_it_is_wanted() {
    let token = ("APIG_GATEWAY_TOKEN", "canary");
    let wanted = ("credentials", "token");
    assert!(matches!(
        load(&[UPSTREAM, wanted], &[token], None).unwrap().gateway.credentials,
        crate::credentials::Settings::One(crate::credentials::Kind::Token(_))
    ));
    assert_eq!(faults(&[UPSTREAM, wanted], &[], None).len(), 1);
    assert_eq!(faults(&[UPSTREAM], &[token], None).len(), 1);
    assert_eq!(faults(&[UPSTREAM, wanted, ("token-file", "/f")], &[token], None).len(), 1);
    let missing = faults(&[UPSTREAM, wanted, ("token-file", "/no/such/file")], &[], None);
    assert!(missing[0].starts_with("token-file (--token-file) can't be read: "), "{missing:?}");
}

#[test]
fn secrets_never_show() {
    let token = ("APIG_GATEWAY_TOKEN", "canary-1");
    let config = load(&[UPSTREAM, ("credentials", "token")], &[token], None).unwrap();
    assert!(!format!("{config:?}").contains("canary"));
    assert!(!config.describe().contains("canary"));
    assert!(config.describe().contains("token = \"***\"  # APIG_GATEWAY_TOKEN\n"));
    let broken = faults(&[], &[("APIG_GATEWAY_TOKEN", "canary 2")], Some("token = \"canary-3\nx"));
    assert!(!broken.join("\n").contains("canary"), "{broken:?}");
}

#[test]
fn the_description_is_a_file_that_gives_the_same_configuration() {
    let config = load(&[UPSTREAM, ("timeout", "3s"), ("project-id", "p")], &[], None).unwrap();
    let again = load(&[], &[], Some(&config.describe())).unwrap();
    assert_eq!(again.gateway.timeout, config.gateway.timeout);
    assert_eq!(again.gateway.upstream.base, config.gateway.upstream.base);
    assert!(matches!(again.gateway.project, crate::credentials::ProjectSettings::Given(id) if id == "p"));
}

#[test]
fn rules_are_described_and_their_faults_named() {
    let rule = "[[policy]]\nidentity = \"uid:7\"\nprojects = [\"p\"]\n";
    let config = load(&[UPSTREAM], &[], Some(rule)).unwrap();
    assert!(config.describe().ends_with(&format!("\n{rule}")), "{}", config.describe());
    assert!(!load(&[], &[], Some(&config.describe())).unwrap().gateway.policy.is_empty());
    assert_eq!(faults(&[UPSTREAM], &[], Some("policy = 1")), ["policy (file) must be a list of tables: [[policy]]"]);
    let found = faults(&[UPSTREAM], &[], Some("[[policy]]\nidentity = \"uid:7\"\nproject = \"p\""));
    assert_eq!(found, ["policy (file) rule 1: project is no key of a rule"]);
    // Without mutual TLS nobody would ever have such a name.
    assert_eq!(faults(&[UPSTREAM], &[], Some("[[policy]]\nidentity = \"dns:a.example\"")).len(), 1);
}

#[test]
fn settings_of_tls_need_one_another() {
    for alone in ["tls-certificate", "tls-key", "tls-client-ca", "upstream-client-key"] {
        let found = faults(&[UPSTREAM, (alone, "/dev/null")], &[], None);
        assert!(found.len() == 1 && found[0].contains(" needs "), "{found:?}");
    }
    let empty = [UPSTREAM, ("tls-certificate", "/dev/null"), ("tls-key", "/dev/null")];
    assert!(faults(&empty, &[], None)[0].contains("holds no certificate"));
    assert!(faults(&[&empty[..], &[("listen", "unix:/s")]].concat(), &[], None)[0].contains("Unix socket"));
}

#[test]
fn every_default_is_a_value_that_the_setting_takes() {
    let flags: Vec<_> =
        SETTINGS.iter().filter_map(|setting| Some((setting.key, setting.default?))).chain([UPSTREAM]).collect();
    assert_eq!(faults(&flags, &[], None), Vec::<String>::new());
}

#[test]
fn an_empty_list_never_means_all() {
    for key in ["policy", "identities"] {
        let found = faults(&[UPSTREAM], &[], Some(&format!("{key} = []\n")));
        assert!(found.len() == 1 && found[0].starts_with(&format!("{key} (file) must not be empty: ")), "{found:?}");
        assert!(faults(&[UPSTREAM], &[], Some(&format!("{key} = 'none'\n")))[0].contains("must be a list of tables"));
    }
    for key in ["methods", "projects", "certificates", "domains"] {
        for list in ["[]", "['']", "'all'", "[[]]"] {
            let found = faults(&[UPSTREAM], &[], Some(&format!("[[policy]]\nidentity = 'anyone'\n{key} = {list}\n")));
            assert!(
                found.len() == 1 && found[0].contains(&format!("rule 1: {key} must be a list")),
                "{list}: {found:?}"
            );
        }
    }
    // An empty rule is no rule for everyone, and an empty setting is not one that was left out.
    assert!(faults(&[UPSTREAM], &[], Some("[[policy]]\n"))[0].contains("needs an identity"));
    for key in [
        "upstream-ca",
        "upstream-client-certificate",
        "tls-certificate",
        "tls-client-ca",
        "tls-client-crl",
        "admin-listen",
    ] {
        assert!(!faults(&[UPSTREAM, (key, "")], &[], None).is_empty(), "{key}");
    }
}

type Values<'a> = &'a [(&'static str, &'a str)];

#[test]
fn secrets_go_to_other_hosts_encrypted_or_by_explicit_consent() {
    const PLAIN: &str = "http://cloud.example";
    let region = ("region", "cn-north-4");
    let auto = ("credentials", "auto");
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("profile");
    std::fs::write(&profile, "[basic]\nidp_id = i\nid_token_file = /f\niam_endpoint = http://iam.example\n").unwrap();
    let profile = profile.to_str().unwrap();
    let container = [
        ("HC_CONTAINER_CREDENTIALS_FULL_URI", "http://keys.example/v1"),
        ("HC_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/f"),
    ];
    let cases: [(&str, Values<'_>, Values<'_>); 9] = [
        ("upstream", &[("upstream", PLAIN)], &[]),
        ("upstream", &[("upstream", "http://127.0.0.1:1"), ("upstream-proxy", "http://proxy.example:3128")], &[]),
        ("region", &[region, auto], &[("HUAWEICLOUD_SDK_REGION_ROMA_CN_NORTH_4", PLAIN)]),
        ("iam-endpoint", &[UPSTREAM, ("iam-endpoint", PLAIN)], &[]),
        ("iam-endpoint", &[UPSTREAM], &[("HUAWEICLOUD_SDK_IAM_ENDPOINT", PLAIN)]),
        ("sts-endpoint", &[UPSTREAM, ("sts-endpoint", PLAIN)], &[]),
        ("metadata-endpoint", &[UPSTREAM, ("metadata-endpoint", PLAIN)], &[]),
        ("credentials", &[UPSTREAM, auto], &[("HUAWEICLOUD_SDK_CREDENTIALS_FILE", profile)]),
        ("credentials", &[UPSTREAM, ("credentials", "container")], &container),
    ];
    for (key, flags, variables) in cases {
        let found = faults(flags, variables, None);
        assert!(found.len() == 1 && found[0].starts_with(key) && found[0].contains("plain text"), "{key}: {found:?}");
        let consent = [flags, &[("allow-plaintext-upstream", "true")]].concat();
        let config = load(&consent, variables, None).unwrap();
        let is_told = config.describe().contains(&format!("# {key} is http://"));
        assert!(is_told || key == "credentials", "{key}: {}", config.describe());
        let refusal = [flags, &[("allow-plaintext-upstream", "false")]].concat();
        assert_eq!(faults(&refusal, variables, None).len(), 1);
    }
    assert_eq!(faults(&[UPSTREAM, ("allow-plaintext-upstream", "maybe")], &[], None).len(), 1);
    // Encrypted ones may go through a plain proxy, and the host's own links are the host's own.
    let fine = [UPSTREAM, ("upstream-proxy", "http://proxy.example:3128"), ("credentials", "metadata")];
    assert_eq!(faults(&fine, &[], None), Vec::<String>::new());
    let local = [("HC_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.1.1/v1"), container[1]];
    assert_eq!(faults(&[UPSTREAM, ("credentials", "container")], &local, None), Vec::<String>::new());
}

#[test]
fn a_proxys_password_comes_from_the_environment_or_the_file_and_does_not_show() {
    let proxy = "http://user:canary@127.0.0.1:3128";
    let as_flag = faults(&[UPSTREAM, ("upstream-proxy", proxy)], &[], None);
    assert!(as_flag[0].contains("must come from the environment or the file"), "{as_flag:?}");
    assert!(!format!("{as_flag:?}").contains("canary"));
    let config = load(&[UPSTREAM], &[], Some(&format!("upstream_proxy = \"{proxy}\""))).unwrap();
    let shown = config.describe();
    assert!(shown.contains("upstream_proxy = \"http://***@127.0.0.1:3128\"  # file"), "{shown}");
    assert!(!format!("{config:?}").contains("canary"));
}

#[test]
fn the_access_log_has_all_calls_unless_set_otherwise() {
    let access_log = |flags: &[(&'static str, &str)]| load(flags, &[], None).map(|config| config.gateway.access_log);
    assert_eq!(access_log(&[UPSTREAM]).unwrap(), AccessLog::All);
    for (text, expected) in [("all", AccessLog::All), ("errors", AccessLog::Errors), ("off", AccessLog::Off)] {
        assert_eq!(access_log(&[UPSTREAM, ("access-log", text)]).unwrap(), expected);
    }
    let fault = "access-log (--access-log) must be one of all, errors, off";
    assert_eq!(faults(&[UPSTREAM, ("access-log", "some")], &[], None), [fault]);
}

#[test]
fn the_server_has_the_description_without_secrets() {
    let variables = [("APIG_GATEWAY_TOKEN", "a-token-that-nobody-may-see")];
    let config = load(&[UPSTREAM, ("credentials", "token")], &variables, None).unwrap();
    assert_eq!(config.gateway.description, config.describe());
    assert!(config.gateway.description.contains("token = \"***\"  # APIG_GATEWAY_TOKEN\n"));
    assert!(!format!("{config:?}").contains("nobody-may-see"));
    assert_eq!(config.gateway.credentials_kind, "token");
}
