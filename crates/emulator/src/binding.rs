//! Stores the bindings of certificates to domains on instances, and checks new ones.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::answer::Refusal;
use super::body::Entry;
use super::certificate::Certificate;
use super::world::{Domain, World};

/// A certificate bound to a domain on an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) certificate: String,
    pub(super) verifies_clients: bool,
}

/// The effect of attaching to a domain that has another certificate: the documents have both a code for the refusal and no
/// word on when it is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SecondCertificate {
    /// It is refused, on whichever instance the other certificate is (APIG.2051).
    #[default]
    Refused,
    /// It takes the place of the other certificate, on the instances of the request.
    Replaces,
}

/// A domain's id and an instance's id.
type Route = (String, String);

/// All bindings. Empty at the start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Row>", into = "Vec<Row>")]
pub(super) struct Bindings(BTreeMap<Route, Binding>);

/// A binding in the state file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    domain: String,
    instance: String,
    certificate: String,
    verifies_clients: bool,
}

impl From<Vec<Row>> for Bindings {
    fn from(rows: Vec<Row>) -> Self {
        let binding = |Row { domain, instance, certificate, verifies_clients }| {
            ((domain, instance), Binding { certificate, verifies_clients })
        };
        Self(rows.into_iter().map(binding).collect())
    }
}

impl From<Bindings> for Vec<Row> {
    fn from(bindings: Bindings) -> Self {
        let row = |((domain, instance), Binding { certificate, verifies_clients })| Row {
            domain,
            instance,
            certificate,
            verifies_clients,
        };
        bindings.0.into_iter().map(row).collect()
    }
}

impl Bindings {
    /// Domain, instance and certificate of each binding.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.0
            .iter()
            .map(|((domain, instance), binding)| (domain.as_str(), instance.as_str(), binding.certificate.as_str()))
    }

    /// The binding of a domain on an instance.
    pub(super) fn at(&self, domain: &str, instance: &str) -> Option<&Binding> {
        self.0.get(&(domain.to_owned(), instance.to_owned()))
    }

    /// Binds the certificate to the domains of all entries.
    ///
    /// Not documented, so the choices are ours: the call is atomic, because it has one status;
    /// binding the same certificate again succeeds and updates the verification of clients; of two
    /// entries with the same domain the last one wins.
    ///
    /// # Errors
    ///
    /// An instance or domain does not exist, or the domain has another certificate. No binding is
    /// changed.
    pub(super) fn attach(
        &mut self,
        world: &World,
        certificate: &Certificate,
        entries: &[Entry],
        second: SecondCertificate,
    ) -> Result<(), Refusal> {
        let project = certificate.project.as_str();
        check_instances(world, project, entries)?;

        let mut planned: Vec<(&Domain, String, bool)> = Vec::new();
        for entry in entries {
            let domain = world.domain(project, &entry.domain).ok_or_else(no_such_domain)?;
            let verifies_clients = verifies_clients(certificate, entry.verified_client_certificate_enabled)?;
            for instance in instances(certificate, domain, entry)? {
                planned.push((domain, instance.clone(), verifies_clients));
            }
        }

        for (domain, _, _) in &planned {
            self.check_domain(certificate, domain, second)?;
        }
        let bindings = planned.into_iter().map(|(domain, instance, verifies_clients)| {
            ((domain.id.clone(), instance), Binding { certificate: certificate.id.clone(), verifies_clients })
        });
        self.0.extend(bindings);
        Ok(())
    }

    /// Binds the certificate to one domain on one instance, from the domain's side.
    ///
    /// # Errors
    ///
    /// The certificate is for another instance, or the domain has another certificate.
    pub(super) fn attach_at(
        &mut self,
        certificate: &Certificate,
        domain: &Domain,
        instance: &str,
        verifies: Option<bool>,
        second: SecondCertificate,
    ) -> Result<(), Refusal> {
        let verifies_clients = verifies_clients(certificate, verifies)?;
        if certificate.instance.as_ref().is_some_and(|allowed| allowed != instance) {
            return Err(Refusal::parameter("APIG.2011", "Invalid parameter value", "certificate_ids"));
        }
        self.check_domain(certificate, domain, second)?;
        let binding = Binding { certificate: certificate.id.clone(), verifies_clients };
        self.0.insert((domain.id.clone(), instance.to_owned()), binding);
        Ok(())
    }

    /// Ends a binding from the domain's side. The code of a binding that does not exist is documented, but not for
    /// which operation.
    pub(super) fn detach_at(&mut self, certificate: &str, domain: &str, instance: &str) -> Result<(), Refusal> {
        let route = (domain.to_owned(), instance.to_owned());
        if self.0.get(&route).is_none_or(|binding| binding.certificate != certificate) {
            return Err(Refusal::service(
                StatusCode::NOT_FOUND,
                "APIG.3097",
                "The binding record of this SSL certificate and domain name does not exist.",
            ));
        }
        self.0.remove(&route);
        Ok(())
    }

    /// Whether a certificate is bound to a domain.
    pub(super) fn has(&self, certificate: &str) -> bool {
        self.0.values().any(|binding| binding.certificate == certificate)
    }

    /// Turns the verification of clients off wherever a certificate is bound.
    pub(super) fn stop_verifying(&mut self, certificate: &str) {
        for binding in self.0.values_mut().filter(|binding| binding.certificate == certificate) {
            binding.verifies_clients = false;
        }
    }

    /// Refuses a domain that has another certificate or a name that the certificate does not cover. Both codes are
    /// documented, but neither for attaching alone; their order is ours.
    fn check_domain(
        &self,
        certificate: &Certificate,
        domain: &Domain,
        second: SecondCertificate,
    ) -> Result<(), Refusal> {
        if second == SecondCertificate::Refused && self.has_another(&domain.id, &certificate.id) {
            return Err(Refusal::service(
                StatusCode::BAD_REQUEST,
                "APIG.2051",
                "A domain name cannot be bound with different certificates.",
            ));
        }
        if !certificate.covers(&domain.name) {
            return Err(Refusal::service(
                StatusCode::BAD_REQUEST,
                "APIG.2103",
                "The certificate domain name and the custom domain name do not match.",
            ));
        }
        Ok(())
    }

    /// Ends the bindings of the certificate that the entries name or, refusing, changes nothing.
    ///
    /// An entry without instances means all of them. A domain that is not bound to this certificate, or not known at all, is
    /// passed over as long as another is bound: the documents describe only the call that names none.
    pub(super) fn detach(
        &mut self,
        world: &World,
        certificate: &Certificate,
        entries: &[Entry],
    ) -> Result<(), Refusal> {
        let project = certificate.project.as_str();
        check_instances(world, project, entries)?;

        let is_named = |(bound, instance): &Route| {
            entries.iter().any(|entry| {
                world.domain(project, &entry.domain).is_some_and(|domain| domain.id == *bound)
                    && entry.instance_ids.as_ref().is_none_or(|ids| ids.contains(instance))
            })
        };
        let before = self.0.len();
        self.0.retain(|route, binding| binding.certificate != certificate.id || !is_named(route));
        if self.0.len() == before {
            return Err(Refusal::service(StatusCode::BAD_REQUEST, "APIG.2000", "no valid domain name"));
        }
        Ok(())
    }

    /// Whether a domain has a certificate other than this one, on any instance: the text of
    /// APIG.2051 is about the domain name. That reading is ours.
    fn has_another(&self, domain: &str, certificate: &str) -> bool {
        self.0.iter().any(|((bound, _), binding)| bound == domain && binding.certificate != certificate)
    }
}

/// Refuses instances that do not exist.
fn check_instances(world: &World, project: &str, entries: &[Entry]) -> Result<(), Refusal> {
    let mut ids = entries.iter().filter_map(|entry| entry.instance_ids.as_ref()).flatten();
    match ids.find(|id| !world.has_instance(project, id)) {
        None => Ok(()),
        Some(id) => Err(no_such_instance(id)),
    }
}

/// The instances to bind an entry's domain on.
///
/// The effect of absent `instance_ids` is not documented. Here a global certificate is bound on every
/// instance that serves the domain, and an instance certificate on its instance, the only one that
/// it accepts.
fn instances<'a>(certificate: &'a Certificate, domain: &'a Domain, entry: &'a Entry) -> Result<&'a [String], Refusal> {
    let allowed = certificate.instance.as_ref().map(std::slice::from_ref);
    let requested = match (entry.instance_ids.as_deref(), allowed) {
        (Some(requested), Some(allowed)) if requested.iter().any(|id| !allowed.contains(id)) => {
            return Err(Refusal::parameter("APIG.2011", "Invalid parameter value", "instance_ids"));
        }
        (Some(requested), _) | (None, Some(requested)) => requested,
        (None, None) => &domain.instances,
    };
    if requested.iter().all(|id| domain.instances.contains(id)) { Ok(requested) } else { Err(no_such_domain()) }
}

/// Whether clients are verified: by default exactly when the certificate has a trusted root CA. The
/// documents allow `true` only then; refusing it otherwise is our choice.
fn verifies_clients(certificate: &Certificate, requested: Option<bool>) -> Result<bool, Refusal> {
    match requested {
        Some(true) if !certificate.has_trusted_root_ca => {
            Err(Refusal::parameter("APIG.2011", "Invalid parameter value", "verified_client_certificate_enabled"))
        }
        Some(requested) => Ok(requested),
        None => Ok(certificate.has_trusted_root_ca),
    }
}

pub(super) fn no_such_instance(id: &str) -> Refusal {
    Refusal::service(StatusCode::NOT_FOUND, "APIG.3030", format!("The instance does not exist;id:{id}"))
}

pub(super) fn no_such_domain() -> Refusal {
    Refusal::service(StatusCode::NOT_FOUND, "APIG.3020", "The URL domain does not exist.")
}
