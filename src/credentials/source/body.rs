//! JSON bodies of requests and responses with secrets. Their memory is wiped on drop.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use zeroize::{Zeroize as _, Zeroizing};

use super::{Login, Workload};
use crate::secret::{self, Secret};

/// The capacity for everything in a body but its secret.
const ROOM: usize = 4_096;

/// The body of a request, and the secret in it.
#[derive(Debug)]
pub(super) struct Body<'a> {
    pub(super) json: Bytes,
    pub(super) secret: Option<&'a Secret>,
}

impl<'a> Body<'a> {
    /// Requests a token by password.
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

    /// Requests temporary keys of an agency by OIDC token.
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

    /// Requests an IAM token by the token of an identity provider.
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

    /// Serializes into one buffer of sufficient capacity: an intermediate `Value` or a reallocation would leave unwiped copies.
    fn of(body: &impl Serialize, secret: Option<&'a Secret>) -> Self {
        // An escaped byte takes at most six: `\u001f`.
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

/// A response body with secrets. Its strings are wiped on drop.
pub(super) struct ResponseJson(pub(super) Value);

impl ResponseJson {
    /// Parses the body; null if it is not JSON.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        Self(serde_json::from_slice(bytes).unwrap_or_default())
    }
}

impl Drop for ResponseJson {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Wipes all strings. The recursion is bounded by the parser's limit.
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
