//! The JSON of requests and answers that hold secrets, wiped when it goes.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use zeroize::{Zeroize as _, Zeroizing};

use super::{Login, Workload};
use crate::secret::{self, Secret};

/// Room for everything in a body but its secret.
const ROOM: usize = 4_096;

/// The body of a request, and the secret in it.
#[derive(Debug)]
pub(super) struct Body<'a> {
    pub(super) json: Bytes,
    pub(super) secret: Option<&'a Secret>,
}

impl<'a> Body<'a> {
    /// A user's password, for a token.
    pub(super) fn password(login: &'a Login) -> Self {
        #[derive(Serialize)]
        struct Password<'a> {
            user: User<'a>,
        }
        #[derive(Serialize)]
        struct User<'a> {
            name: &'a str,
            password: &'a str,
            domain: Domain<'a>,
        }
        #[derive(Serialize)]
        struct Domain<'a> {
            name: &'a str,
        }
        #[derive(Serialize)]
        struct Identity<'a> {
            methods: [&'a str; 1],
            password: Password<'a>,
        }
        #[derive(Serialize)]
        struct Scoped<'a> {
            identity: Identity<'a>,
            scope: Value,
        }

        let domain = Domain { name: &login.account };
        let user = User { name: &login.user, password: login.password.expose(), domain };
        let identity = Identity { methods: ["password"], password: Password { user } };
        let auth = Scoped { identity, scope: login.scope.json() };
        Self::of(&Auth { auth }, Some(&login.password))
    }

    /// An OIDC token, for keys of an agency.
    pub(super) fn workload(workload: &Workload, token: &'a Secret) -> Self {
        #[derive(Serialize)]
        struct Assume<'a> {
            provider_urn: &'a str,
            agency_urn: &'a str,
            agency_session_name: &'a str,
            id_token: &'a str,
            duration_seconds: u64,
        }

        let body = Assume {
            provider_urn: &workload.provider_urn,
            agency_urn: &workload.agency_urn,
            agency_session_name: &workload.session_name,
            id_token: token.expose(),
            duration_seconds: workload.duration.as_secs(),
        };
        Self::of(&body, Some(token))
    }

    /// An identity provider's token, for one of IAM's.
    pub(super) fn federation(token: &'a Secret) -> Self {
        #[derive(Serialize)]
        struct Federated<'a> {
            id_token: IdToken<'a>,
        }
        #[derive(Serialize)]
        struct IdToken<'a> {
            id: &'a str,
        }

        Self::of(&Auth { auth: Federated { id_token: IdToken { id: token.expose() } } }, Some(token))
    }

    /// A body without a secret.
    pub(super) fn plain(json: &Value) -> Self {
        Self::of(json, None)
    }

    /// Written once, into one buffer: a `Value` would be a copy, and a buffer that grows leaves its old memory as it was.
    fn of(body: &impl Serialize, secret: Option<&'a Secret>) -> Self {
        // At most six bytes for each: `\u001f`.
        let room = ROOM + 6 * secret.map_or(0, |secret| secret.expose().len());
        let mut json = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *json, body).expect("texts and numbers");
        Self { json: secret::bytes(json), secret }
    }
}

#[derive(Serialize)]
struct Auth<T> {
    auth: T,
}

/// An answer with secrets: its texts are wiped when it goes.
pub(super) struct Answered(pub(super) Value);

impl Answered {
    /// Null if it is no JSON.
    pub(super) fn read(bytes: &[u8]) -> Self {
        Self(serde_json::from_slice(bytes).unwrap_or_default())
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// As deep as the parser goes.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_never_outgrows_the_memory_that_is_wiped() {
        let token = Secret::new("\u{1}".repeat(5_000));
        let room = ROOM + 6 * 5_000;
        let body = Body::federation(&token);
        assert!(body.json.len() < room && body.json.len() > 6 * 5_000);
        assert_eq!(body.secret, Some(&token));
    }

    #[test]
    fn every_text_of_an_answer_is_wiped() {
        let mut value = json!({"a": "canary", "b": ["canary", {"c": "canary"}], "d": 1, "e": null});
        wipe(&mut value);
        assert_eq!(value, json!({"a": "", "b": ["", {"c": ""}], "d": 1, "e": null}));
    }
}
