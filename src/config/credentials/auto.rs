//! `credentials = "auto"`: the chain of the vendor's SDK, read from its environment and its profile file.

use std::{fs, path::PathBuf};

use super::{Fault, Services, base_url, container, plaintext, workload};
use crate::{
    credentials::{CredentialFile, IdToken, Keys, Kind, Source},
    secret::Secret,
    upstream,
};

/// The reason for the choice, and the project of the chosen credential.
pub(super) struct Chosen {
    pub(super) why: String,
    pub(super) project_id: Option<String>,
}

/// The SDK's chain, in its order: the first link that is set up.
pub(super) fn auto(services: &Services, foreign: &dyn Fn(&str) -> Option<String>) -> Result<(Kind, Chosen), Fault> {
    let project_id = foreign("HUAWEICLOUD_SDK_PROJECT_ID");
    let chosen = |why: &str, project_id| Chosen { why: why.to_owned(), project_id };
    if let Some(workload) = workload(foreign)? {
        let kind = Kind::Fetched(Box::new(Source::Oidc(services.sts.clone(), workload)));
        return Ok((kind, chosen("oidc: HUAWEICLOUD_OIDC_PROVIDER_URN, _AGENCY_URN and a token are set", project_id)));
    }
    let variable = |name: &str| foreign(&format!("HUAWEICLOUD_SDK_{}", name.to_ascii_uppercase()));
    let kind = sdk(&services.iam, &variable);
    if let Some(kind) =
        kind.map_err(|what| ("credentials", format!("is auto, but HUAWEICLOUD_SDK_AK or _SK {what}")))?
    {
        return Ok((kind, chosen("the environment: HUAWEICLOUD_SDK_* are set", project_id)));
    }
    let path = foreign("HUAWEICLOUD_SDK_CREDENTIALS_FILE").map(PathBuf::from);
    let is_named = path.is_some();
    let path = path.or_else(|| foreign("HOME").map(|home| PathBuf::from(home).join(".huaweicloud/credentials")));
    if let Some(path) = path {
        let fault = |what| ("credentials", format!("is auto, but {} {what}", path.display()));
        match fs::read_to_string(&path) {
            Ok(text) => {
                let text: Secret = Secret::new(text);
                let make = Profile { iam: services.iam.clone(), allows_plaintext: services.allows_plaintext };
                if make.credential(text.expose()).map_err(fault)?.is_some() {
                    let make = move |text: &str| {
                        make.credential(text)?
                            .ok_or_else(|| "contains neither keys nor an identity provider".to_owned())
                    };
                    let file = CredentialFile::load("credentials", path.clone(), make).map_err(fault)?;
                    // Read once: calls without a project must not change to another while the gateway runs.
                    let project_id = value_in(&profile(text.expose()), "project_id").or(project_id);
                    return Ok((Kind::File(file), chosen(&format!("the profile {}", path.display()), project_id)));
                }
            }
            Err(error) if is_named => return Err(fault(format!("can't be read: {error}"))),
            Err(_) => {}
        }
    }
    let mut sources = vec![Source::Metadata(services.metadata.clone())];
    let mut why = "nothing else is set up: the metadata service of the machine".to_owned();
    if let Some(container) = container(services, foreign)? {
        sources.push(container);
        why += ", or else the container's";
    }
    Ok((Kind::Fetched(Box::new(Source::First(sources))), chosen(&why, project_id)))
}

/// How a profile file becomes a credential.
struct Profile {
    iam: upstream::Settings,
    allows_plaintext: bool,
}

impl Profile {
    /// The credential of a profile's text; `None` if it has none.
    fn credential(&self, text: &str) -> Result<Option<Kind>, String> {
        let profile = profile(text);
        let mut iam = self.iam.clone();
        if let Some(endpoint) = value_in(&profile, "iam_endpoint") {
            let base = base_url(&endpoint).map_err(|what| format!("has an iam_endpoint that {what}"))?;
            if !self.allows_plaintext {
                plaintext::encrypted(&base, iam.proxy.as_ref().map(upstream::Proxy::url))
                    .map_err(|what| format!("has an iam_endpoint that {what}"))?;
            }
            iam.base = base;
        }
        sdk(&iam, &|name| value_in(&profile, name)).map_err(Into::into)
    }
}

fn value_in(profile: &[(String, String)], name: &str) -> Option<String> {
    profile.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
}

/// Keys, or an identity provider, as the SDK's environment and its profile name them.
fn sdk(iam: &upstream::Settings, value: &dyn Fn(&str) -> Option<String>) -> Result<Option<Kind>, &'static str> {
    if let (Some(provider), Some(file)) = (value("idp_id"), value("id_token_file")) {
        let id_token = IdToken::File(file.into());
        return Ok(Some(Kind::Fetched(Box::new(Source::Federation { at: iam.clone(), provider, id_token }))));
    }
    match (value("ak"), value("sk")) {
        (Some(id), Some(secret)) => {
            let keys = Keys::new(&id, &secret, value("security_token").as_deref());
            keys.map(|keys| Some(Kind::Keys(keys)))
        }
        _ => Ok(None),
    }
}

/// The section of a profile file that a client of a regional service reads: `[basic]`, or its class's name.
fn profile(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut is_ours = false;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            is_ours = matches!(section.trim(), "basic" | "basiccredentials");
        } else if let (true, Some((key, value))) = (is_ours, line.split_once(['=', ':'])) {
            let value = value.trim();
            if !value.is_empty() {
                found.push((key.trim().to_ascii_lowercase(), value.to_owned()));
            }
        }
    }
    found
}
