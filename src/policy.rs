//! Authorization: the operator's rules, held against the description of one request. A rule that restricts a kind of
//! resource allows only requests that name some of that kind.

use std::{collections::BTreeSet, fmt};

use crate::{
    peer::Identity,
    resources::{Domain, METHODS, Resources},
};

/// The rules. Without any, every peer may do everything; with one, a call that no rule allows is refused.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy(Vec<Rule>);

/// One rule. It allows calls that fit all of its parts. A part left out fits every call; a list of resources fits only
/// calls that name some of that kind, each of them in the list.
#[derive(Debug, Clone)]
struct Rule {
    identity: Principal,
    methods: Option<Vec<&'static str>>,
    projects: Option<Vec<String>>,
    certificates: Option<Vec<String>>,
    /// In lower case, without a final dot.
    domains: Option<Vec<String>>,
    instances: Option<Vec<String>>,
}

/// The identities that a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Principal {
    Anyone,
    Uid(u32),
    /// In lower case.
    Dns(String),
    Spiffe(String),
    /// Everything below this path, which ends with a slash.
    SpiffeBelow(String),
}

/// The call is not allowed; the first part of it that no rule was left for: `call`, `method`, `project`, `certificate`,
/// `instance` or `domain`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Denied(pub(crate) &'static str);

impl Policy {
    /// Reads the tables of the configuration.
    ///
    /// # Errors
    ///
    /// Every fault in every rule, a sentence each.
    pub(crate) fn read(tables: &[toml::Table]) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let rules = tables.iter().enumerate().filter_map(|(index, table)| {
            let mut fault = |text: &dyn fmt::Display| faults.push(format!("rule {}: {text}", index + 1));
            rule(table, &mut fault)
        });
        let rules = rules.collect();
        if faults.is_empty() { Ok(Self(rules)) } else { Err(faults) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a rule is for names that only a verified certificate has.
    pub(crate) fn names_certificates(&self) -> bool {
        self.0.iter().any(|rule| !matches!(rule.identity, Principal::Anyone | Principal::Uid(_)))
    }

    /// Holds a request against the rules while its project is not known yet.
    ///
    /// # Errors
    ///
    /// [`Denied`]: the rules refuse the request in every project.
    pub(crate) fn check_without_project(&self, identity: &Identity, request: &Resources<'_>) -> Result<(), Denied> {
        if self.is_empty() {
            return Ok(());
        }
        let left = self.left(identity, request, |_| true)?;
        // The projects in which all domains so far are allowed; `None`: every project.
        let mut projects = projects_of(&left);
        for domain in &request.domains {
            let fits = rules_for(&left, *domain)?;
            projects = match (projects, projects_of(&fits)) {
                (Some(before), Some(these)) => Some(before.intersection(&these).copied().collect()),
                (before, these) => these.or(before),
            };
            if projects.as_ref().is_some_and(BTreeSet::is_empty) {
                return Err(Denied("domain"));
            }
        }
        Ok(())
    }

    /// Holds a request against the rules. Each domain must be allowed, though not all by the same rule.
    ///
    /// # Errors
    ///
    /// [`Denied`], with the first part of the request that no rule was left for.
    pub(crate) fn check(&self, identity: &Identity, request: &Resources<'_>) -> Result<(), Denied> {
        if self.is_empty() {
            return Ok(());
        }
        let left =
            self.left(identity, request, |rule| any(rule.projects.as_deref(), |project| project == request.project))?;
        request.domains.iter().try_for_each(|domain| rules_for(&left, *domain).map(drop))
    }

    /// The rules that allow a request, each of its domains apart.
    fn left(
        &self,
        identity: &Identity,
        request: &Resources<'_>,
        fits_project: impl Fn(&Rule) -> bool,
    ) -> Result<Vec<&Rule>, Denied> {
        let mut left: Vec<&Rule> = self.0.iter().filter(|rule| rule.identity.is(identity)).collect();
        let mut keep = |part, fits: &dyn Fn(&Rule) -> bool| {
            left.retain(|rule| fits(rule));
            if left.is_empty() { Err(Denied(part)) } else { Ok(()) }
        };
        keep("call", &|_| true)?;
        keep("method", &|rule| any(rule.methods.as_deref(), |method| *method == request.method.name))?;
        keep("project", &fits_project)?;
        keep("certificate", &|rule| all(rule.certificates.as_deref(), &request.certificates))?;
        keep("instance", &|rule| match &rule.instances {
            // Those beside a domain are held against the rules with it.
            Some(_) if request.instances.is_empty() => !request.domains.is_empty(),
            list => all(list.as_deref(), &request.instances),
        })?;
        keep("domain", &|rule| rule.domains.is_none() || !request.domains.is_empty())?;
        Ok(left)
    }
}

impl Rule {
    fn allows_domain(&self, plain_name: &str) -> bool {
        any(self.domains.as_deref(), |suffix| is_within(plain_name, suffix))
    }

    /// Whether a domain names its instances, and all of them are allowed.
    fn allows_instances(&self, instances: &[String]) -> bool {
        all(self.instances.as_deref(), instances)
    }
}

/// The rules that allow a domain with its instances.
fn rules_for<'a>(rules: &[&'a Rule], domain: Domain<'_>) -> Result<Vec<&'a Rule>, Denied> {
    let name = plain(domain.name);
    let mut fits: Vec<&Rule> = rules.iter().copied().filter(|rule| rule.allows_domain(&name)).collect();
    if fits.is_empty() {
        return Err(Denied("domain"));
    }
    fits.retain(|rule| rule.allows_instances(domain.instances));
    if fits.is_empty() { Err(Denied("instance")) } else { Ok(fits) }
}

/// The projects that at least one of the rules is for; `None` if that is every project.
fn projects_of<'a>(rules: &[&'a Rule]) -> Option<BTreeSet<&'a str>> {
    let mut projects = BTreeSet::new();
    for rule in rules {
        projects.extend(rule.projects.as_ref()?.iter().map(String::as_str));
    }
    Some(projects)
}

impl Principal {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "anyone" {
            return Ok(Self::Anyone);
        }
        if let Some(uid) = text.strip_prefix("uid:") {
            return uid.parse().map(Self::Uid).map_err(|_| "identity uid: must be followed by a number");
        }
        if let Some(name) = text.strip_prefix("dns:") {
            let name = name.to_ascii_lowercase();
            return if name.is_empty() || name.contains('*') {
                Err("identity dns: must be followed by a whole name")
            } else {
                Ok(Self::Dns(name))
            };
        }
        let Some(rest) = text.strip_prefix("spiffe://") else {
            return Err("identity must be spiffe://..., dns:NAME, uid:NUMBER or anyone");
        };
        let (id, below) = match text.strip_suffix('*') {
            Some(id) => (id, true),
            None => (text, false),
        };
        if rest.is_empty()
            || rest.starts_with('/')
            || id.contains('*')
            || (below && (!id.ends_with('/') || rest == "*"))
        {
            return Err("identity spiffe:// must name a trust domain, and may have a * only as its last segment");
        }
        Ok(if below { Self::SpiffeBelow(id.to_owned()) } else { Self::Spiffe(id.to_owned()) })
    }

    fn is(&self, identity: &Identity) -> bool {
        match (self, identity) {
            (Self::Anyone, _) => true,
            (Self::Uid(action), Identity::Uid(uid)) => action == uid,
            (Self::Dns(action), Identity::Certificate(names)) => names.dns.contains(action),
            (Self::Spiffe(action), Identity::Certificate(names)) => names.spiffe.as_ref() == Some(action),
            (Self::SpiffeBelow(path), Identity::Certificate(names)) => {
                names.spiffe.as_ref().is_some_and(|id| id.len() > path.len() && id.starts_with(path))
            }
            _ => false,
        }
    }
}

/// Reads one rule and tells its faults.
fn rule(table: &toml::Table, fault: &mut dyn FnMut(&dyn fmt::Display)) -> Option<Rule> {
    const KEYS: [&str; 6] = ["identity", "methods", "projects", "certificates", "domains", "instances"];
    for key in table.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        fault(&format_args!("{key} is no key of a rule"));
    }
    let identity = match table.get("identity").and_then(toml::Value::as_str) {
        None => Err("needs an identity"),
        Some(text) => Principal::parse(text),
    };
    let identity = identity.map_err(|text| fault(&text)).ok();
    let mut list = |key: &str| {
        let value = table.get(key)?;
        let texts: Option<Vec<String>> = value.as_array().filter(|texts| !texts.is_empty()).and_then(|texts| {
            texts.iter().map(|text| text.as_str().filter(|text| !text.is_empty()).map(str::to_owned)).collect()
        });
        if texts.is_none() {
            fault(&format_args!("{key} must be a list of strings, and not empty: remove it to allow all of them"));
        }
        // A broken list allows nothing, though the fault keeps it from being used at all.
        Some(texts.unwrap_or_default())
    };
    let (methods, projects, certificates) = (list("methods"), list("projects"), list("certificates"));
    let instances = list("instances");
    let domains: Option<Vec<String>> = list("domains").map(|list| list.iter().map(|text| plain(text)).collect());
    if domains.iter().flatten().any(|domain| domain.is_empty() || domain.contains('*') || domain.starts_with('.')) {
        fault(&"domains must be plain names, as in example.com, which stands for what is below it too");
    }
    let methods = methods.map(|methods: Vec<String>| {
        let known = |name: &String| {
            let mut known = METHODS.iter().map(|method| method.name);
            let found =
                known.find(|method| method == name || method.rsplit_once('/').is_some_and(|(_, short)| short == name));
            if found.is_none() {
                let known: Vec<_> = METHODS.iter().map(|method| method.name).collect();
                fault(&format_args!("methods has a name that is no method; known are {}", known.join(", ")));
            }
            found
        };
        methods.iter().filter_map(known).collect()
    });
    Some(Rule { identity: identity?, methods, projects, certificates, domains, instances })
}

fn any<T>(list: Option<&[T]>, fits: impl Fn(&T) -> bool) -> bool {
    list.is_none_or(|list| list.iter().any(fits))
}

/// Whether the request's ids are all in the list, and are some.
fn all(list: Option<&[String]>, ids: &[impl AsRef<str>]) -> bool {
    list.is_none_or(|list| !ids.is_empty() && ids.iter().all(|id| list.iter().any(|known| known == id.as_ref())))
}

/// A domain as names are compared.
fn plain(domain: &str) -> String {
    domain.strip_suffix('.').unwrap_or(domain).to_ascii_lowercase()
}

/// Whether a domain is the suffix or below it, label by label. A wildcard is below the name that follows its star.
fn is_within(domain: &str, suffix: &str) -> bool {
    domain.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests;
