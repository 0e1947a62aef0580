//! The credentials of the gateway: from settings, from `[[identities]]`, or from the environment and files of the vendor's SDK.

mod auto;

use std::{path::PathBuf, time::Duration};

use self::auto::auto;
use super::{base_url, plaintext, read::Reader, region};
use crate::{
    credentials::{
        CredentialFile, IdToken, Keys, Kind, Login, ProjectSettings, Scope, Settings, Source, Workload, parse_token,
    },
    secret::Secret,
    upstream,
    validate::is_safe_segment,
};

const KINDS: [&str; 8] = ["passthrough", "token", "password", "aksk", "metadata", "container", "oidc", "auto"];

/// The credentials and the default project.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) settings: Settings,
    pub(super) project: ProjectSettings,
    /// The kind, as the setting names it.
    pub(super) kind: &'static str,
}

impl Credentials {
    /// Whether the gateway has credentials of its own, which it uses for every caller.
    pub(super) fn are_held(&self) -> bool {
        !matches!(self.settings, Settings::Passthrough)
    }
}

/// One identity's values, from the settings or from a table of the file.
struct Given<'a> {
    text: &'a dyn Fn(&'static str) -> Option<String>,
    /// The project of the identity.
    project: Option<String>,
}

/// A fault: the key, and a text for it.
type Fault = (&'static str, String);

/// The services that issue credentials.
struct Services {
    iam: upstream::Settings,
    sts: upstream::Settings,
    /// On a link-local address: no proxy.
    metadata: upstream::Settings,
    region: Option<String>,
    allows_plaintext: bool,
}

pub(super) fn read(
    read: &mut Reader<'_>,
    upstream: Option<&upstream::Settings>,
    project_id: Option<String>,
) -> Option<Credentials> {
    let kind = read.one_of("credentials", &KINDS);
    let services = services(read, upstream);
    let mut identities = read.tables("identities");
    let (kind, services) = (kind?, services?);
    let mut project_id = project_id;
    let settings = if identities.is_empty() {
        let found = {
            let given = Given { text: &|key| read.text(key), project: project_id.clone() };
            let foreign = |name: &str| read.foreign(name);
            if kind == "auto" {
                auto(&services, &foreign).map(|(kind, chosen)| (Settings::One(kind), Some(chosen)))
            } else {
                one(kind, &given, &services, &foreign).map(|settings| (settings, None))
            }
        };
        let (settings, chosen) = found.map_err(|(key, what)| read.fault(key, what)).ok()?;
        if let Some(chosen) = chosen {
            read.note(format!("credentials = \"auto\" is {}", chosen.why));
            project_id = project_id.or(chosen.project_id);
        }
        settings
    } else {
        if kind != "passthrough" {
            read.fault("credentials", "and [[identities]] are both given; each identity has its own");
        }
        let projects: Vec<_> = identities.iter().filter_map(|table| table.get("project_id")?.as_str()).collect();
        read.note(format!("[[identities]] for the projects {}", projects.join(", ")));
        let settings = table(read, &identities, &services);
        super::read::wipe(&mut identities);
        settings
    };
    let project = match (project_id, &settings, read.text("project-name").or(services.region)) {
        (Some(id), ..) => ProjectSettings::Given(id),
        (None, Settings::One(_), Some(name)) => ProjectSettings::Named(name, Box::new(services.iam)),
        (None, ..) => ProjectSettings::None,
    };
    let kind = if matches!(settings, Settings::Identities(_)) { "identities" } else { kind };
    Some(Credentials { settings, project, kind })
}

fn services(read: &mut Reader<'_>, upstream: Option<&upstream::Settings>) -> Option<Services> {
    let region = read.text("region");
    // As in the SDK, its variables take precedence over the usual hosts.
    let endpoint = |read: &mut Reader<'_>, key, variable, usual: String| {
        let text = read.text(key).or_else(|| read.foreign(variable)).unwrap_or(usual);
        read.check(key, base_url(&text))
    };
    let iam = endpoint(read, "iam-endpoint", "HUAWEICLOUD_SDK_IAM_ENDPOINT", region::iam(region.as_deref()));
    let sts = endpoint(read, "sts-endpoint", "HUAWEICLOUD_SDK_STS_ENDPOINT", region::sts(region.as_deref()));
    let metadata = read.text("metadata-endpoint").unwrap_or_default();
    let metadata = read.check("metadata-endpoint", base_url(&metadata));
    let proxy = upstream.and_then(|upstream| upstream.proxy.as_ref().map(upstream::Proxy::url));
    for (key, url) in [("iam-endpoint", &iam), ("sts-endpoint", &sts)] {
        if let Some(url) = url {
            plaintext::check(read, key, url, proxy);
        }
    }
    if let Some(url) = &metadata {
        plaintext::check_near(read, "metadata-endpoint", url);
    }
    let allows_plaintext = plaintext::is_allowed(read);
    let at = |base| upstream.map(|upstream| upstream::Settings { base, shows_identity: false, ..upstream.clone() });
    let near = |base| {
        let connect_timeout = Duration::from_secs(3);
        upstream.map(|upstream| upstream::Settings {
            base,
            shows_identity: false,
            proxy: None,
            connect_timeout,
            ..upstream.clone()
        })
    };
    Some(Services { iam: at(iam?)?, sts: at(sts?)?, metadata: near(metadata?)?, region, allows_plaintext })
}

/// The credential of one identity, of any kind but `auto`.
fn one(
    kind: &str,
    given: &Given<'_>,
    services: &Services,
    foreign: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, Fault> {
    if kind == "passthrough" {
        if given.text("token").is_some() || given.text("token-file").is_some() {
            let what = "is passthrough, but a token is given: set credentials to token, or remove the token";
            return Err(("credentials", what.into()));
        }
        return Ok(Settings::Passthrough);
    }
    held(kind, given, services, foreign).map(Settings::One)
}

fn held(
    kind: &str,
    given: &Given<'_>,
    services: &Services,
    foreign: &dyn Fn(&str) -> Option<String>,
) -> Result<Kind, Fault> {
    match kind {
        "token" => {
            match (given.text("token").map(Secret::<String>::new), given.text("token-file").map(PathBuf::from)) {
                (Some(_), Some(_)) => Err(("token-file", "and token are both given; one is enough".into())),
                (Some(token), None) => {
                    parse_token(token.expose()).map(Kind::Token).map_err(|what| ("token", what.into()))
                }
                (None, Some(path)) => {
                    let make = |text: &str| parse_token(text).map(Kind::Token).map_err(Into::into);
                    CredentialFile::load("token-file", path, make).map(Kind::File).map_err(|what| ("token-file", what))
                }
                (None, None) => {
                    Err(("credentials", "is token, but neither APIG_GATEWAY_TOKEN nor token-file is given".into()))
                }
            }
        }
        "password" => {
            let scope = match (&given.project, given.text("project-name").or_else(|| services.region.clone())) {
                (Some(id), _) => Scope::ProjectId(id.clone()),
                (None, Some(name)) => Scope::ProjectName(name),
                (None, None) => return Err(("project-id", "is required, or project-name, or region".into())),
            };
            let user = given.required("user-name", kind)?;
            let account = given.required("account-name", kind)?;
            let iam = services.iam.clone();
            given.with_secret(kind, "password", "password-file", move |password| {
                let (user, account, scope) = (user.clone(), account.clone(), scope.clone());
                Ok(Kind::Fetched(Box::new(Source::Password(iam.clone(), Login { user, password, account, scope }))))
            })
        }
        "aksk" => {
            let id = given.required("access-key-id", kind)?;
            let security_token = given.text("security-token").map(Secret::<String>::new);
            given.with_secret(kind, "secret-access-key", "secret-access-key-file", move |secret| {
                let token = security_token.as_ref().map(|token| token.expose().as_str());
                let keys = Keys::new(&id, secret.expose(), token);
                keys.map(Kind::Keys).map_err(|what| ("access-key-id", what.into()))
            })
        }
        "metadata" => Ok(Kind::Fetched(Box::new(Source::Metadata(services.metadata.clone())))),
        "container" => match container(services, foreign)? {
            Some(source) => Ok(Kind::Fetched(Box::new(source))),
            None => {
                Err(("credentials", format!("is container, but {CONTAINER_URI} and {CONTAINER_TOKEN} are not set")))
            }
        },
        "oidc" => match workload(foreign)? {
            Some(workload) => Ok(Kind::Fetched(Box::new(Source::Oidc(services.sts.clone(), workload)))),
            None => {
                Err(("credentials", format!("is oidc, but {OIDC_PROVIDER}, {OIDC_AGENCY} and a token are not set")))
            }
        },
        _ => Err(("credentials", "must be one of token, password, aksk, metadata, container, oidc".into())),
    }
}

fn missing(kind: &str, key: &str) -> Fault {
    ("credentials", format!("is {kind}, but {key} is not given"))
}

impl Given<'_> {
    fn text(&self, key: &'static str) -> Option<String> {
        (self.text)(key)
    }

    fn required(&self, key: &'static str, kind: &str) -> Result<String, Fault> {
        self.text(key).filter(|text| !text.is_empty()).ok_or_else(|| missing(kind, key))
    }

    /// A credential made of a secret: a given one, or one in a file, which is watched.
    fn with_secret(
        &self,
        kind: &str,
        key: &'static str,
        file: &'static str,
        make: impl Fn(Secret) -> Result<Kind, Fault> + Send + Sync + 'static,
    ) -> Result<Kind, Fault> {
        match (self.text(key), self.text(file)) {
            (Some(_), Some(_)) => Err((file, format!("and {key} are both given; one is enough"))),
            (Some(text), None) => make(Secret::new(text)),
            (None, None) => Err(missing(kind, key)),
            (None, Some(path)) => {
                let make = move |text: &str| match text.trim_end_matches(['\r', '\n']) {
                    "" => Err("is empty".to_owned()),
                    text => make(Secret::new(text)).map_err(|(_, what)| what),
                };
                CredentialFile::load(file, path.into(), make).map(Kind::File).map_err(|what| (file, what))
            }
        }
    }
}

/// `[[identities]]`: one table for each project.
fn table(read: &mut Reader<'_>, tables: &[toml::Table], services: &Services) -> Settings {
    const KEYS: [&str; 12] = [
        "project-id",
        "credentials",
        "token",
        "token-file",
        "user-name",
        "account-name",
        "password",
        "password-file",
        "access-key-id",
        "secret-access-key",
        "secret-access-key-file",
        "security-token",
    ];
    let mut identities = Vec::new();
    for (at, table) in tables.iter().enumerate() {
        let place = format!("identities[{at}]");
        let known = |key: &str| KEYS.iter().any(|known| known.replace('-', "_") == key);
        for key in table.keys().filter(|key| !known(key)) {
            read.fault_at(&format!("{place}.{key}"), "is not a key of an identity");
        }
        let text =
            |key: &'static str| table.get(&key.replace('-', "_")).and_then(|value| value.as_str()).map(str::to_owned);
        let Some(project) = text("project-id").filter(|id| is_safe_segment(id)) else {
            read.fault_at(
                &format!("{place}.project_id"),
                "is required: 1 to 128 characters out of A-Z a-z 0-9 - . _ ~",
            );
            continue;
        };
        if identities.iter().any(|(other, _)| *other == project) {
            read.fault_at(&format!("{place}.project_id"), "has an identity already");
        }
        let given = Given { text: &text, project: Some(project.clone()) };
        let kind = text("credentials").unwrap_or_default();
        match held(&kind, &given, services, &|name| read.foreign(name)) {
            Ok(kind) => identities.push((project, kind)),
            Err((key, what)) => {
                read.fault_at(&format!("{place}.{}", key.replace('-', "_")), what);
            }
        }
    }
    Settings::Identities(identities)
}

const OIDC_PROVIDER: &str = "HUAWEICLOUD_OIDC_PROVIDER_URN";
const OIDC_AGENCY: &str = "HUAWEICLOUD_OIDC_AGENCY_URN";
const CONTAINER_URI: &str = "HC_CONTAINER_CREDENTIALS_FULL_URI";
const CONTAINER_TOKEN: &str = "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// The SDK's variables for STS; `None` if they are not set.
fn workload(foreign: &dyn Fn(&str) -> Option<String>) -> Result<Option<Workload>, Fault> {
    let token = foreign("HUAWEICLOUD_OIDC_ID_TOKEN").map(|token| IdToken::Given(Secret::new(token)));
    let token = token.or_else(|| foreign("HUAWEICLOUD_OIDC_TOKEN_FILE").map(|path| IdToken::File(path.into())));
    let (Some(provider_urn), Some(agency_urn), Some(id_token)) = (foreign(OIDC_PROVIDER), foreign(OIDC_AGENCY), token)
    else {
        return Ok(None);
    };
    if foreign("HUAWEICLOUD_OIDC_POLICY").is_some() || foreign("HUAWEICLOUD_OIDC_POLICY_IDS").is_some() {
        return Err(("credentials", "HUAWEICLOUD_OIDC_POLICY and _POLICY_IDS are not supported".into()));
    }
    let seconds = foreign("HUAWEICLOUD_OIDC_DURATION_SECONDS");
    let seconds: u64 = seconds
        .map_or(Ok(3600), |text| text.parse())
        .map_err(|_| ("credentials", "needs a whole number in HUAWEICLOUD_OIDC_DURATION_SECONDS".to_owned()))?;
    let session_name = foreign("HUAWEICLOUD_OIDC_SESSION_NAME").unwrap_or_else(|| "oidc-sts-session".into());
    let duration = Duration::from_secs(seconds);
    Ok(Some(Workload { provider_urn, agency_urn, session_name, duration, id_token }))
}

/// The SDK's variables for a container's identity; `None` if they are not set.
fn container(
    services: &Services,
    foreign: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Source<upstream::Settings>>, Fault> {
    let (Some(uri), Some(token_file)) = (foreign(CONTAINER_URI), foreign(CONTAINER_TOKEN)) else { return Ok(None) };
    let (uri, query) = uri.split_once('?').unwrap_or((&uri, ""));
    let base = base_url(uri).map_err(|what| ("credentials", format!("is container, but {CONTAINER_URI} {what}")))?;
    if !services.allows_plaintext {
        plaintext::near(&base).map_err(|what| ("credentials", format!("is container, but {CONTAINER_URI} {what}")))?;
    }
    let at = upstream::Settings { base, ..services.metadata.clone() };
    Ok(Some(Source::Container { at, query: query.to_owned(), token_file: token_file.into() }))
}

#[cfg(test)]
mod tests;
