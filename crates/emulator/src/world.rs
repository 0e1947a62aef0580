//! The configured resources of the emulated cloud: projects, users, keys, instances, certificates,
//! domains. They do not change while the emulator runs: certificates are copied into the state.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::time::SystemTime;

use axum::http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::certificate::chain::{self, Description};
use super::token::Grant;

mod consistency;
mod summary;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The configured resources of an emulated cloud.
///
/// A world is written in TOML; `world.toml`, beside this module, is the world of the documented
/// example and explains every table. A `World` is consistent: all its references resolve.
///
/// ```
/// use emulator::World;
///
/// let world = World::from_toml(
///     r#"
///     [[projects]]
///     id = "73d69ae0cfcf460190522d06b60f05ad"
///     name = "cn-north-4"
///     "#,
/// )?;
/// assert!(world.to_string().contains("cn-north-4"));
/// # Ok::<(), emulator::WorldError>(())
/// ```
#[derive(Debug)]
pub struct World(Tables);

/// All errors found in the text of a world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorldError {
    faults: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tables {
    projects: Vec<Project>,
    users: Vec<User>,
    keys: Vec<Key>,
    workloads: Vec<Workload>,
    tokens: Vec<FixedToken>,
    instances: Vec<Instance>,
    certificates: Vec<Certificate>,
    domains: Vec<Domain>,
    faults: Vec<Fault>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Project {
    pub(super) id: String,
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) password: String,
    pub(super) account: String,
    pub(super) projects: Vec<String>,
    pub(super) may_attach: bool,
}

/// An access key of a user.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub(super) access: String,
    pub(super) secret: String,
    pub(super) user: String,
}

/// A workload that gets temporary keys with a user's permissions, and its proof of identity.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "lowercase")]
pub(super) enum Workload {
    Machine {
        user: String,
        #[serde(default = "yes")]
        has_token_step: bool,
    },
    Container {
        user: String,
        token: String,
    },
    Oidc {
        user: String,
        provider_urn: String,
        agency_urn: String,
        token: String,
    },
    Federated {
        user: String,
        provider: String,
        token: String,
    },
}

impl Workload {
    pub(super) fn user(&self) -> &str {
        match self {
            Self::Machine { user, .. }
            | Self::Container { user, .. }
            | Self::Oidc { user, .. }
            | Self::Federated { user, .. } => user,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FixedToken {
    value: String,
    user: String,
    project: String,
    #[serde(default, deserialize_with = "http_date")]
    expires_at: Option<SystemTime>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Instance {
    id: String,
    project: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) project: String,
    pub(super) has_trusted_root_ca: bool,
    /// The instance of an instance certificate; none for a global certificate.
    pub(super) instance: Option<String>,
    /// The description of the chain, if its PEM text is given.
    #[serde(default, deserialize_with = "content")]
    pub(super) content: Option<Description>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Domain {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) project: String,
    pub(super) group_id: String,
    pub(super) group_name: String,
    pub(super) instances: Vec<String>,
}

/// The response to every change of one certificate or its bindings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    certificate: String,
    #[serde(deserialize_with = "status")]
    pub(super) status: StatusCode,
    pub(super) body: String,
    #[serde(default, deserialize_with = "headers")]
    pub(super) headers: HeaderMap,
    /// Whether the change is made nevertheless.
    #[serde(default)]
    pub(super) processed: bool,
}

impl World {
    /// The world of the documented example, with a few more certificates to try.
    ///
    /// # Panics
    ///
    /// Never: a test reads the same text.
    pub fn documented() -> Self {
        Self::from_toml(include_str!("world.toml")).expect("the documented world is consistent")
    }

    /// Parses a world from TOML.
    ///
    /// # Errors
    ///
    /// The text is not TOML or has unknown keys, or the world is inconsistent: repeated ids,
    /// references to missing entries. All inconsistencies are reported.
    pub fn from_toml(text: &str) -> Result<Self, WorldError> {
        let tables: Tables = toml::from_str(text).map_err(|fault| WorldError { faults: vec![fault.to_string()] })?;
        let faults = consistency::faults(&tables);
        if faults.is_empty() { Ok(Self(tables)) } else { Err(WorldError { faults }) }
    }

    pub(super) fn project(&self, id: &str) -> Option<&Project> {
        self.0.projects.iter().find(|project| project.id == id)
    }

    pub(super) fn project_named(&self, name: &str) -> Option<&Project> {
        self.0.projects.iter().find(|project| project.name == name)
    }

    pub(super) fn user(&self, name: &str) -> Option<&User> {
        self.0.users.iter().find(|user| user.name == name)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.keys.iter()
    }

    pub(super) fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.0.workloads.iter()
    }

    /// The tokens that are valid from the start, by value.
    pub(super) fn fixed_tokens(&self) -> impl Iterator<Item = (String, Grant)> {
        self.0.tokens.iter().map(|token| {
            let grant = Grant {
                user: token.user.clone(),
                project: Some(token.project.clone()),
                may_attach: self.user(&token.user).is_some_and(|user| user.may_attach),
                expires_at: token.expires_at,
            };
            (token.value.clone(), grant)
        })
    }

    pub(super) fn has_instance(&self, project: &str, id: &str) -> bool {
        self.0.instances.iter().any(|instance| instance.id == id && instance.project == project)
    }

    pub(super) fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.0.certificates.iter()
    }

    /// The fault of a certificate, if it has one.
    pub(super) fn fault(&self, certificate: &str) -> Option<&Fault> {
        self.0.faults.iter().find(|fault| fault.certificate == certificate)
    }

    pub(super) fn domains(&self, project: &str) -> impl Iterator<Item = &Domain> {
        self.0.domains.iter().filter(move |domain| domain.project == project)
    }

    /// The domain of this name, compared exactly: normalization of case or a trailing dot is not
    /// documented.
    pub(super) fn domain(&self, project: &str, name: &str) -> Option<&Domain> {
        self.domains(project).find(|domain| domain.name == name)
    }
}

impl fmt::Display for WorldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.faults.join("\n"))
    }
}

impl Error for WorldError {}

fn yes() -> bool {
    true
}

fn content<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Description>, D::Error> {
    let text = String::deserialize(deserializer)?;
    chain::describe_chain(&text).map(Some).map_err(|refusal| D::Error::custom(format!("content: {}", refusal.text())))
}

fn http_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
    let text = String::deserialize(deserializer)?;
    httpdate::parse_http_date(&text)
        .map(Some)
        .map_err(|_| D::Error::custom("not an HTTP date such as \"Fri, 01 Jan 2100 00:00:00 GMT\""))
}

/// Statuses below 200 are not final answers, and none is documented above 599.
fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StatusCode, D::Error> {
    let number = u16::deserialize(deserializer)?;
    StatusCode::from_u16(number)
        .ok()
        .filter(|_| (200..600).contains(&number))
        .ok_or_else(|| D::Error::custom("not a status from 200 to 599"))
}

fn headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderMap, D::Error> {
    BTreeMap::<String, String>::deserialize(deserializer)?
        .into_iter()
        .map(|(name, value)| {
            let parsed_name: HeaderName =
                name.parse().map_err(|_| D::Error::custom(format!("{name:?} is not a header name")))?;
            let parsed_value: HeaderValue =
                value.parse().map_err(|_| D::Error::custom(format!("{name} has a value that no header can have")))?;
            if [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, REQUEST_ID].contains(&parsed_name) {
                return Err(D::Error::custom(format!("{name} can't be configured: the server sets it")));
            }
            Ok((parsed_name, parsed_value))
        })
        .collect()
}
