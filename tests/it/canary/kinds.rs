//! The kinds of credentials: settings, the service that each asks, and secrets.

use std::path::Path;

use super::leak::{TOKEN_LENGTH, opaque, password};
use crate::support::Reply;

/// A caller's own token, which comes with every call.
pub(super) fn callers_token() -> String {
    opaque("caller", TOKEN_LENGTH)
}

pub(super) fn token_answer() -> Reply {
    let body = r#"{"token":{"issued_at":"2026-01-01T00:00:00Z","expires_at":"2026-01-02T00:00:00Z"}}"#;
    let token = opaque("iam-token", TOKEN_LENGTH);
    Reply::with(201, &[("X-Subject-Token", &token), ("Content-Type", "application/json")], body.as_bytes())
}

pub(super) fn keys_answer() -> Reply {
    let body = format!(
        r#"{{"credential":{{"access":"{}","secret":"{}","securitytoken":"{}","expires_at":"2126-01-01T00:00:00.0Z"}}}}"#,
        key_id("temporary"),
        opaque("temporary-secret", 40),
        opaque("temporary-token", TOKEN_LENGTH)
    );
    Reply::json(200, &body)
}

pub(super) fn metadata_token() -> Reply {
    Reply::with(200, &[], opaque("metadata", 600).as_bytes())
}

/// An access key id, as the cloud makes them.
fn key_id(name: &str) -> String {
    opaque(name, 60).to_ascii_uppercase().chars().filter(char::is_ascii_alphanumeric).take(20).collect()
}

/// One kind of credentials: its settings, the service that it asks, and every secret that it has a part in.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) flags: Vec<String>,
    pub(super) variables: Vec<(&'static str, String)>,
    pub(super) service: Vec<Reply>,
    pub(super) secrets: Vec<(&'static str, String)>,
}

impl Kind {
    fn of(name: &'static str, kind: &str) -> Self {
        let flags = vec!["--credentials".into(), kind.into()];
        Self {
            name,
            flags,
            variables: Vec::new(),
            service: vec![Reply::attached()],
            secrets: vec![("caller's token", callers_token())],
        }
    }

    fn flag(mut self, key: &str, value: impl Into<String>) -> Self {
        self.flags.extend([format!("--{key}"), value.into()]);
        self
    }

    fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    fn secret(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.secrets.push((name, value.into()));
        self
    }

    fn asks(mut self, service: Vec<Reply>) -> Self {
        self.service = service;
        self
    }

    fn gets_keys(self) -> Self {
        self.secret("temporary id", key_id("temporary"))
            .secret("temporary secret", opaque("temporary-secret", 40))
            .secret("temporary token", opaque("temporary-token", TOKEN_LENGTH))
    }
}

/// Every kind. The files with secrets are in `folder`.
pub(super) fn kinds(folder: &Path) -> Vec<Kind> {
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (token, secret) = (opaque("token", TOKEN_LENGTH), password("secret"));
    let oidc = opaque("oidc", TOKEN_LENGTH);
    let down = || Reply::json(500, r#"{"error_msg":"down"}"#);
    let sdk = |name| {
        let kind = Kind::of(name, "auto").variable("HUAWEICLOUD_SDK_AK", key_id("sdk"));
        let kind = kind.variable("HUAWEICLOUD_SDK_SK", secret.clone()).secret("secret", secret.clone());
        let token = opaque("sdk-token", TOKEN_LENGTH);
        kind.secret("id", key_id("sdk"))
            .variable("HUAWEICLOUD_SDK_SECURITY_TOKEN", token.clone())
            .secret("token", token)
    };
    vec![
        Kind::of("passthrough", "passthrough"),
        Kind::of("token", "token").variable("APIG_GATEWAY_TOKEN", token.clone()).secret("token", token.clone()),
        Kind::of("token file", "token").flag("token-file", file("token", &token)).secret("token", token),
        Kind::of("password", "password")
            .flag("user-name", "u")
            .flag("account-name", "a")
            .flag("project-name", "p")
            .variable("APIG_GATEWAY_PASSWORD", password("password"))
            .secret("password", password("password"))
            .secret("iam token", opaque("iam-token", TOKEN_LENGTH))
            .asks(vec![down(), token_answer()]),
        Kind::of("aksk", "aksk")
            .flag("access-key-id", key_id("id"))
            .flag("secret-access-key-file", file("secret", &secret))
            .variable("APIG_GATEWAY_SECURITY_TOKEN", opaque("security-token", TOKEN_LENGTH))
            .secret("secret", secret.clone())
            .secret("security token", opaque("security-token", TOKEN_LENGTH)),
        sdk("the sdk's keys"),
        Kind::of("metadata", "metadata")
            .secret("metadata token", opaque("metadata", 600))
            .gets_keys()
            .asks(vec![Reply::either("PUT", &metadata_token(), &keys_answer())]),
        Kind::of("container", "container")
            .variable("HC_CONTAINER_AUTHORIZATION_TOKEN_FILE", file("container", &opaque("container", 900)))
            .secret("container token", opaque("container", 900))
            .gets_keys()
            .asks(vec![keys_answer()]),
        Kind::of("oidc", "oidc")
            .variable("HUAWEICLOUD_OIDC_PROVIDER_URN", "p")
            .variable("HUAWEICLOUD_OIDC_AGENCY_URN", "a")
            .variable("HUAWEICLOUD_OIDC_ID_TOKEN", oidc.clone())
            .secret("id token", oidc.clone())
            .gets_keys()
            .asks(vec![keys_answer()]),
        Kind::of("federation", "auto")
            .variable("HUAWEICLOUD_SDK_IDP_ID", "idp")
            .variable("HUAWEICLOUD_SDK_ID_TOKEN_FILE", file("oidc", &oidc))
            .secret("id token", oidc)
            .secret("iam token", opaque("iam-token", TOKEN_LENGTH))
            .gets_keys()
            .asks(vec![Reply::either("/id-token/", &token_answer(), &keys_answer())]),
    ]
}
