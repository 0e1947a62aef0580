//! Remembers which certificate is bound where, and decides whether another binding is possible.
//! It does not know who asks, nor in which form.

use std::collections::HashMap;

use axum::http::StatusCode;

use super::answer::Refusal;
use super::body::Entry;
use super::world::{Certificate, Domain, World};

/// What is bound to a domain on an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) certificate: String,
    pub(super) verifies_clients: bool,
}

/// A domain's id and an instance's id.
type Route = (String, String);

/// Every binding of the cloud. It starts empty.
#[derive(Debug, Default)]
pub(super) struct Bindings(HashMap<Route, Binding>);

impl Bindings {
    /// What is bound to a domain on an instance, if anything.
    pub(super) fn at(&self, domain: &str, instance: &str) -> Option<&Binding> {
        self.0.get(&(domain.to_owned(), instance.to_owned()))
    }

    /// Binds the certificate as every entry asks or, refusing, changes nothing.
    ///
    /// The documents leave open what follows, and the choices are ours. All or nothing, because
    /// there is one status for the whole call. The same certificate again is accepted and sets
    /// the verification of clients anew. A domain that is listed twice ends as its last entry says.
    pub(super) fn attach(
        &mut self,
        world: &World,
        certificate: &Certificate,
        entries: &[Entry],
    ) -> Result<(), Refusal> {
        let project = certificate.project.as_str();
        for id in entries.iter().filter_map(|entry| entry.instance_ids.as_ref()).flatten() {
            if !world.has_instance(project, id) {
                return Err(Refusal::service(
                    StatusCode::NOT_FOUND,
                    "APIG.3030",
                    format!("The instance does not exist;id:{id}"),
                ));
            }
        }

        let mut planned: Vec<(Route, Binding)> = Vec::new();
        for entry in entries {
            let domain = world.domain(project, &entry.domain).ok_or_else(no_such_domain)?;
            let verifies_clients = verifies_clients(certificate, entry)?;
            for instance in instances(certificate, domain, entry)? {
                let place = (domain.id.clone(), instance.clone());
                let binding = Binding { certificate: certificate.id.clone(), verifies_clients };
                planned.push((place, binding));
            }
        }

        if planned.iter().any(|((domain, _), _)| self.has_another(domain, &certificate.id)) {
            return Err(Refusal::service(
                StatusCode::BAD_REQUEST,
                "APIG.2051",
                "A domain name cannot be bound with different certificates.",
            ));
        }
        self.0.extend(planned);
        Ok(())
    }

    /// Whether a domain has a certificate other than this one. The text of APIG.2051 speaks of the
    /// domain name, so this asks about the domain on every instance; that reading is ours.
    fn has_another(&self, domain: &str, certificate: &str) -> bool {
        self.0.iter().any(|((bound, _), binding)| bound == domain && binding.certificate != certificate)
    }
}

/// Where an entry's domain is to be bound.
///
/// What happens without `instance_ids` is not documented. Here a global certificate then goes to
/// every instance that serves the domain, and an instance certificate to its own, the only one
/// that it may be named with.
fn instances<'a>(certificate: &'a Certificate, domain: &'a Domain, entry: &'a Entry) -> Result<&'a [String], Refusal> {
    let own = certificate.instance.as_ref().map(std::slice::from_ref);
    let asked = match (entry.instance_ids.as_deref(), own) {
        (Some(asked), Some(own)) if asked.iter().any(|id| !own.contains(id)) => {
            return Err(Refusal::parameter("APIG.2011", "Invalid parameter value", "instance_ids"));
        }
        (Some(asked), _) | (None, Some(asked)) => asked,
        (None, None) => &domain.instances,
    };
    if asked.iter().all(|id| domain.instances.contains(id)) { Ok(asked) } else { Err(no_such_domain()) }
}

/// Absent, clients are verified exactly when the certificate has a trusted root CA. The documents
/// say that it is meant to be true only then; that the rest is refused is our choice.
fn verifies_clients(certificate: &Certificate, entry: &Entry) -> Result<bool, Refusal> {
    match entry.verified_client_certificate_enabled {
        Some(true) if !certificate.has_trusted_root_ca => {
            Err(Refusal::parameter("APIG.2011", "Invalid parameter value", "verified_client_certificate_enabled"))
        }
        Some(asked) => Ok(asked),
        None => Ok(certificate.has_trusted_root_ca),
    }
}

fn no_such_domain() -> Refusal {
    Refusal::service(StatusCode::NOT_FOUND, "APIG.3020", "The URL domain does not exist.")
}
