//! A certificate of the cloud: its scope, its description, and its JSON in responses.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::chain::{Description, Details, Summary};
use super::{iam, world};

pub(super) mod chain;
mod key;

/// A certificate. The uploaded private key is not part of it: nothing needs the key after its check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) project: String,
    /// The instance of an instance certificate; none for a global certificate.
    pub(super) instance: Option<String>,
    pub(super) has_trusted_root_ca: bool,
    /// The PEM text of the trusted root CA; none for a certificate of the world, which has no text.
    pub(super) trusted_root_ca: Option<String>,
    /// None for a certificate that the world gives no content.
    pub(super) description: Option<Description>,
    /// None for a certificate of the world.
    pub(super) create_time: Option<String>,
    pub(super) update_time: Option<String>,
}

/// A certificate in a response. Members without a value are left out: a certificate of the world may have no content.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    name: &'a str,
    r#type: &'static str,
    instance_id: &'a str,
    project_id: &'a str,
    #[serde(flatten)]
    summary: Option<&'a Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_time: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_time: Option<&'a str>,
    is_has_trusted_root_ca: bool,
    #[serde(flatten)]
    details: Option<&'a Details>,
}

impl Certificate {
    /// A certificate of the world, as it is before any change.
    pub(super) fn of(configured: &world::Certificate) -> Self {
        Self {
            id: configured.id.clone(),
            name: configured.name.clone(),
            project: configured.project.clone(),
            instance: configured.instance.clone(),
            has_trusted_root_ca: configured.has_trusted_root_ca,
            trusted_root_ca: None,
            description: configured.content.clone(),
            create_time: None,
            update_time: None,
        }
    }

    /// The documented names of the scopes.
    pub(super) fn scope(&self) -> &'static str {
        if self.instance.is_some() { "instance" } else { "global" }
    }

    /// The object that create, update and show return.
    pub(super) fn show(&self) -> Value {
        self.json(self.description.as_ref().map(|description| &description.details))
    }

    /// The row of a list, which has fewer members.
    pub(super) fn row(&self) -> Value {
        self.json(None)
    }

    fn json(&self, details: Option<&Details>) -> Value {
        let shown = Shown {
            id: &self.id,
            name: &self.name,
            r#type: self.scope(),
            instance_id: self.instance.as_deref().unwrap_or("common"),
            project_id: &self.project,
            summary: self.summary(),
            create_time: self.create_time.as_deref(),
            update_time: self.update_time.as_deref(),
            is_has_trusted_root_ca: self.has_trusted_root_ca,
            details,
        };
        serde_json::to_value(shown).expect("every key is a string")
    }

    pub(super) fn summary(&self) -> Option<&Summary> {
        self.description.as_ref().map(Description::summary)
    }

    /// Whether a domain may have this certificate: one of its alternative names matches. Without content nothing is
    /// known to contradict.
    ///
    /// Only the refusal is documented, not the rule: ours is that of TLS clients, except that a wildcard domain needs the
    /// same wildcard.
    pub(super) fn covers(&self, domain: &str) -> bool {
        let Some(summary) = self.summary() else { return true };
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        summary.san.iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase()).any(|name| {
            let wildcard = name.strip_prefix("*.").zip(domain.split_once('.'));
            name == domain || wildcard.is_some_and(|(parent, (label, rest))| label != "*" && parent == rest)
        })
    }
}

/// A time of the API: the family's examples have a fraction of 0 or 6 digits.
pub(super) fn timestamp(time: SystemTime) -> String {
    iam::timestamp(time)
}
