//! Which credential is chosen, of those that are set up.

use crate::{
    config::{Config, Sources},
    credentials::{Kind, ProjectSettings, Settings, Source},
};

/// Loads a configuration; returns its faults as one text.
fn load(flags: &[(&'static str, &str)], variables: &[(&str, &str)], file: &str) -> Result<Config, String> {
    let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let flags = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    let sources = Sources { flags, environment: Some(&lookup), file: Some(file.to_owned()), ..Sources::default() };
    Config::load(sources).map_err(|faults| faults.to_string())
}

/// The name of the chosen credential, and its access key if it has one.
fn chosen(config: &Config) -> String {
    match &config.gateway.credentials {
        Settings::One(Kind::File(file)) => kind(&file.kind().unwrap()),
        Settings::One(other) => kind(other),
        other => format!("{other:?}"),
    }
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Keys(keys) => format!("keys {}", keys.access_key_id),
        Kind::Fetched(source) => match &**source {
            Source::Oidc(..) => "oidc".into(),
            Source::Federation { .. } => "federation".into(),
            Source::First(sources) => sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            other => other.to_string(),
        },
        other => format!("{other:?}"),
    }
}

const AUTO: [(&str, &str); 2] = [("region", "cn-north-4"), ("credentials", "auto")];

#[test]
fn auto_takes_the_first_link_that_is_set_up_in_the_sdks_order() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_str().unwrap();
    std::fs::create_dir(folder.path().join(".huaweicloud")).unwrap();
    std::fs::write(folder.path().join(".huaweicloud/credentials"), "[basic]\nak = PROFILE\nsk = s\n").unwrap();
    let links: [(&[(&str, &str)], &str); 4] = [
        (
            &[
                ("HUAWEICLOUD_OIDC_PROVIDER_URN", "p"),
                ("HUAWEICLOUD_OIDC_AGENCY_URN", "a"),
                ("HUAWEICLOUD_OIDC_ID_TOKEN", "t"),
            ],
            "oidc",
        ),
        (&[("HUAWEICLOUD_SDK_AK", "ENVIRONMENT"), ("HUAWEICLOUD_SDK_SK", "s")], "keys ENVIRONMENT"),
        (&[("HOME", home)], "keys PROFILE"),
        (
            &[
                ("HC_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/c"),
                ("HC_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/t"),
            ],
            "the metadata service, the container's credentials service",
        ),
    ];
    // Every set of links: the first of them is chosen.
    for set in 0_u8..16 {
        let is_set = |at: &usize| set & (1 << at) != 0;
        let variables: Vec<_> = (0..4).filter(is_set).flat_map(|at| links[at].0.iter().copied()).collect();
        let expected = (0..4).find(is_set).map_or("the metadata service", |at| links[at].1);
        let config = load(&AUTO, &variables, "").unwrap();
        assert_eq!(chosen(&config), expected, "{variables:?}");
        assert!(config.describe().contains("# credentials = \"auto\" is "), "{}", config.describe());
    }
}

#[test]
fn both_spellings_of_a_profiles_section_are_read_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile");
    let variables = [("HUAWEICLOUD_SDK_CREDENTIALS_FILE", path.to_str().unwrap())];
    for (text, expected) in [
        ("[basic]\nak=A\nsk: s\n", "keys A"),
        ("# mine\n[global]\nak = G\nsk = s\n\n[basiccredentials]\nAK = B\nsk = s\nproject_id = p\n", "keys B"),
        ("[global]\nak = G\nsk = s\ndomain_id = d\n", "the metadata service"),
        ("[basic]\nak = A\n", "the metadata service"),
        ("[basic]\nidp_id = i\nid_token_file = /f\nak = A\nsk = s\n", "federation"),
    ] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(chosen(&load(&AUTO, &variables, "").unwrap()), expected, "{text}");
    }
    let missing = [("HUAWEICLOUD_SDK_CREDENTIALS_FILE", "/no/such/file")];
    assert!(load(&AUTO, &missing, "").unwrap_err().contains("/no/such/file can't be read"));
}

#[test]
fn the_sdks_own_variables_are_enough_beside_a_region() {
    let variables = [
        ("HUAWEICLOUD_SDK_AK", "A"),
        ("HUAWEICLOUD_SDK_SK", "s"),
        ("HUAWEICLOUD_SDK_PROJECT_ID", "from-the-sdk"),
        ("HUAWEICLOUD_SDK_REGION_ROMA_CN_NORTH_4", "https://roma.example,https://second.example"),
    ];
    let config = load(&AUTO, &variables, "").unwrap();
    assert!(matches!(&config.gateway.project, ProjectSettings::Given(id) if id == "from-the-sdk"));
    assert_eq!(config.gateway.upstream.base.as_str(), "https://roma.example/");
    // Ours beats the SDK's.
    let config = load(&[AUTO[0], AUTO[1], ("project-id", "ours")], &variables, "").unwrap();
    assert!(matches!(&config.gateway.project, ProjectSettings::Given(id) if id == "ours"));
    // Without one, IAM is asked for the region's own.
    let config = load(&AUTO, &variables[..2], "").unwrap();
    let ProjectSettings::Named(name, iam) = &config.gateway.project else { panic!("{:?}", config.gateway.project) };
    assert_eq!((name.as_str(), iam.base.as_str()), ("cn-north-4", "https://iam.cn-north-4.myhuaweicloud.com/"));
}

#[test]
fn what_a_kind_needs_is_named() {
    for (kind, flags, needs) in [
        ("password", &[][..], "user-name"),
        ("password", &[("user-name", "u"), ("account-name", "a")], "password"),
        ("aksk", &[], "access-key-id"),
        ("aksk", &[("access-key-id", "A")], "secret-access-key"),
        ("aksk", &[("access-key-id", "A"), ("secret-access-key-file", "/no/such/file")], "can't be read"),
        ("container", &[], "HC_CONTAINER_CREDENTIALS_FULL_URI"),
        ("oidc", &[], "HUAWEICLOUD_OIDC_PROVIDER_URN"),
    ] {
        let flags: Vec<_> = [("region", "cn-north-4"), ("credentials", kind)].iter().chain(flags).copied().collect();
        let fault = load(&flags, &[], "").unwrap_err();
        assert!(fault.contains(needs) && fault.lines().count() == 1, "{kind}: {fault}");
    }
}

#[test]
fn what_is_wrong_with_an_identity_is_named_with_its_place() {
    let file = "[[identities]]\nproject_id = 'a/b'\n\
                [[identities]]\nproject_id = 'p'\ncredentials = 'aksk'\naccess_key_id = 'A'\ncolour = 'red'\n\
                [[identities]]\nproject_id = 'q'\ncredentials = 'token'\ntoken = 't'\n\
                [[identities]]\nproject_id = 'q'\ncredentials = 'magic'\n";
    let faults = load(&[("region", "cn-north-4")], &[], file).unwrap_err();
    for expected in [
        "identities[0].project_id is required",
        "identities[1].colour is not a key",
        "identities[1].credentials is aksk, but secret-access-key is not given",
        "identities[3].project_id has an identity already",
        "identities[3].credentials must be one of",
    ] {
        assert!(faults.contains(expected), "{expected}: {faults}");
    }
    assert!(!faults.contains("identities[2]"), "{faults}");
    let both = load(&AUTO, &[], "[[identities]]\nproject_id = 'q'\ncredentials = 'token'\ntoken = 't'\n").unwrap_err();
    assert!(both.contains("each identity has its own"), "{both}");
}

#[test]
fn no_secret_shows_in_a_configuration_or_in_its_faults() {
    let variables = [
        ("APIG_GATEWAY_SECRET_ACCESS_KEY", "canary-1"),
        ("APIG_GATEWAY_SECURITY_TOKEN", "canary-2"),
        ("APIG_GATEWAY_PASSWORD", "canary-3"),
        ("HUAWEICLOUD_SDK_SK", "canary-4"),
        ("HUAWEICLOUD_SDK_AK", "A"),
        ("HUAWEICLOUD_OIDC_ID_TOKEN", "canary-5"),
        ("HUAWEICLOUD_OIDC_PROVIDER_URN", "p"),
        ("HUAWEICLOUD_OIDC_AGENCY_URN", "a"),
    ];
    let base = [("region", "cn-north-4"), ("access-key-id", "A"), ("user-name", "u"), ("account-name", "a")];
    for kind in ["aksk", "password", "oidc", "auto"] {
        let flags: Vec<_> = base.iter().copied().chain([("credentials", kind)]).collect();
        let config = load(&flags, &variables, "").unwrap();
        assert!(!format!("{config:?}\n{}", config.describe()).contains("canary"), "{kind}");
    }
    let file = "[[identities]]\nproject_id = 'p'\ncredentials = 'aksk'\nsecret_access_key = 'canary'\n";
    assert!(!load(&base[..1], &[], file).unwrap_err().contains("canary"));
    let file = "[[identities]]\nproject_id = 'p'\ncredentials = 'token'\ntoken = 'canary'\n";
    let config = load(&base[..1], &[], file).unwrap();
    assert!(!format!("{config:?}\n{}", config.describe()).contains("canary"));
}
