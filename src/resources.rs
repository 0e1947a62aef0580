//! The description of a request: its method, and the resources that it names. Made once after validation; policy, audit,
//! log, certificate locks and error details read it, and none of them reads messages.

use crate::pb;

/// A method of the API.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Method {
    /// The full name, as in a gRPC path.
    pub(crate) name: &'static str,
    /// Whether it may change something; else it is a read.
    pub(crate) is_change: bool,
    /// The kinds of resources that its requests can name.
    pub(crate) names: &'static [Kind],
    /// The cloud's names of the request's fields.
    pub(crate) parameters: &'static [Parameter],
}

/// A parameter as the cloud's messages name it, and the field that carries it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    /// The field's path in a request for one domain, as in `domains[0].domain`.
    pub(crate) field: &'static str,
    /// Its path in a request for several.
    pub(crate) of_many: &'static str,
}

/// A kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "not every API names resources of each kind")]
pub(crate) enum Kind {
    Project,
    Certificate,
    /// A domain's name.
    Domain,
    Instance,
    ApiGroup,
    /// The id of a domain that is bound to an API group.
    DomainId,
}

/// The resources that a request names.
#[derive(Debug, Clone)]
pub(crate) struct Resources<'a> {
    pub(crate) method: &'static Method,
    /// Empty until the default project is known, if the request names none.
    pub(crate) project: &'a str,
    pub(crate) certificates: Vec<&'a str>,
    pub(crate) domains: Vec<Domain<'a>>,
    /// Instances that are not named beside a domain.
    pub(crate) instances: Vec<&'a str>,
    /// Resources that no rule of the policy is about.
    pub(crate) others: Vec<(Kind, &'a str)>,
}

/// A domain, and the instances to act on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Domain<'a> {
    pub(crate) name: &'a str,
    /// Empty: every instance that serves the domain.
    pub(crate) instances: &'a [String],
}

/// A request that can be described.
pub(crate) trait Describe {
    const METHOD: &'static Method;

    /// The description of a valid request.
    fn resources(&self) -> Resources<'_>;
}

include!(concat!(env!("OUT_DIR"), "/resources.rs"));

/// The method of that name.
pub(crate) fn method(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name).copied()
}

impl<'a> Resources<'a> {
    pub(crate) fn new(method: &'static Method) -> Self {
        let (certificates, domains, instances) = (Vec::new(), Vec::new(), Vec::new());
        Self { method, project: "", certificates, domains, instances, others: Vec::new() }
    }

    /// Adds a resource; an optional field may be empty.
    #[allow(dead_code, reason = "generated code calls it")]
    pub(crate) fn add(&mut self, kind: Kind, id: &'a str) {
        if id.is_empty() {
            return;
        }
        match kind {
            Kind::Project => self.project = id,
            Kind::Certificate => self.certificates.push(id),
            Kind::Domain => self.domains.push(Domain { name: id, instances: &[] }),
            Kind::Instance => self.instances.push(id),
            Kind::ApiGroup | Kind::DomainId => self.others.push((kind, id)),
        }
    }

    /// The certificate, if there is exactly one.
    pub(crate) fn certificate(&self) -> Option<&'a str> {
        only(self.certificates.iter().copied())
    }

    /// All instances that it names, beside domains or not.
    pub(crate) fn all_instances(&self) -> impl Iterator<Item = &'a str> {
        let of_domains = self.domains.iter().flat_map(|domain| domain.instances).map(String::as_str);
        self.instances.iter().copied().chain(of_domains)
    }

    /// The resource of a kind that a text is about: the only one that the request names, or the one that the text names.
    pub(crate) fn meant(&self, kind: Kind, text: &str) -> Option<&'a str> {
        fn find<'a>(ids: impl Iterator<Item = &'a str> + Clone, text: &str) -> Option<&'a str> {
            only(ids.clone()).or_else(|| ids.into_iter().find(|id| text.contains(id)))
        }
        match kind {
            Kind::Project => Some(self.project).filter(|project| !project.is_empty()),
            Kind::Certificate => find(self.certificates.iter().copied(), text),
            Kind::Domain => only(self.domains.iter().map(|domain| domain.name)),
            Kind::Instance => find(self.all_instances().collect::<Vec<_>>().into_iter(), text),
            Kind::ApiGroup | Kind::DomainId => {
                only(self.others.iter().filter(|(other, _)| *other == kind).map(|(_, id)| *id))
            }
        }
    }

    /// The path of the field that carries a parameter of the cloud; the parameter's own name when none does.
    pub(crate) fn field<'t>(&self, parameter: &'t str) -> &'t str {
        match self.method.parameters.iter().find(|known| known.name == parameter) {
            Some(known) if self.domains.len() == 1 => known.field,
            Some(known) => known.of_many,
            None => parameter,
        }
    }
}

/// The only item, if there is exactly one.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}
