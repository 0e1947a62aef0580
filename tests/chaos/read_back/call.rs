//! One call, drawn from the seed and its number alone, its end for the caller, and the ends that the contract allows.

use std::time::{Duration, Instant};

use apig_grpc_gateway::pb::{
    AttachDomainsRequest, AttachOrDetachDomainInfo, DetachDomainsRequest,
    certificate_service_client::CertificateServiceClient,
};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use testkit::rng::Rng;
use tonic::{Request, Status, body::Body, metadata::MetadataMap};
use tonic_types::StatusExt;

use super::{
    super::{
        plan::PROJECT,
        request::{TOKEN, id},
    },
    cloud::{Binding, Cloud},
};

/// A client of the gateway without a timer of its own, which could be first on a busy machine.
pub(crate) type Client = CertificateServiceClient<legacy::Client<HttpConnector, Body>>;

/// A client on a connection of its own.
pub(crate) fn client(address: &str) -> Client {
    let client = legacy::Client::builder(TokioExecutor::new()).http2_only(true).build(HttpConnector::new());
    CertificateServiceClient::with_origin(client, format!("http://{address}").parse().unwrap())
}

/// The fate of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Made, and the answer lost.
    Applied,
    /// Not made, and the answer lost.
    NotApplied,
    /// Made for some of its bindings.
    InPart,
    /// Made or not, and the list can't be read, or only slowly.
    Unreadable,
    /// Made seconds later.
    Later(Duration),
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Applied, Self::NotApplied, Self::InPart, Self::Unreadable, Self::Later(Duration::ZERO)];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied, answer lost",
            Self::NotApplied => "not applied, answer lost",
            Self::InPart => "applied in part",
            Self::Unreadable => "list unreadable or slow",
            Self::Later(_) => "applied seconds later",
        }
    }

    pub(crate) fn is(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

/// A fault of a page of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageFault {
    Status(u16),
    Close,
    Cut,
    NotJson,
    NoTotal,
    EmptyBeforeTotal,
    MoreThanTotal,
    /// The page comes, after a while.
    Slow(Duration),
    Never,
}

/// One call to be.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is drawn by itself")]
pub(crate) struct Plan {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) is_attach: bool,
    pub(crate) bindings: Vec<Binding>,
    /// A domain is asked for on every instance, besides the bindings.
    pub(crate) on_every: Option<String>,
    pub(crate) deadline: Duration,
    /// Whether an [`Kind::Unreadable`] change is made.
    pub(crate) is_applied: bool,
    pub(crate) fault: Option<PageFault>,
    /// Rows of others on the certificate.
    pub(crate) others: usize,
    /// Others change the list between two pages.
    pub(crate) is_shifting: bool,
    /// The most rows that the cloud returns at once.
    pub(crate) cap: usize,
    /// The cloud returns no flags, as the dedicated gateway was seen to do with other fields.
    pub(crate) hides_flags: bool,
    /// The cloud returns names in upper case, with a final dot.
    pub(crate) respells: bool,
}

impl Plan {
    pub(crate) fn of(seed: u64, number: u64) -> Self {
        let mut rng = Rng::of(seed, number);
        let kind = match number % 23 {
            0..10 => Kind::Applied,
            10..20 => Kind::NotApplied,
            20 => Kind::InPart,
            21 => Kind::Unreadable,
            _ => Kind::Later(rng.millis(300, 9_000)),
        };
        let is_attach = rng.percent(60);
        let flag = [None, None, Some(true), Some(false)];
        let count = 1 + rng.below(4) + u64::from(kind == Kind::InPart);
        let bindings = (0..count)
            .map(|at| Binding {
                domain: format!("d{at}.call-{number}.example.com"),
                instance: format!("instance-{}", rng.below(3)),
                flag: rng.pick(&flag),
            })
            .collect();
        let fault = (kind == Kind::Unreadable).then(|| {
            rng.pick(&[
                PageFault::Status(500),
                PageFault::Status(403),
                PageFault::Status(429),
                PageFault::Close,
                PageFault::Cut,
                PageFault::NotJson,
                PageFault::NoTotal,
                PageFault::EmptyBeforeTotal,
                PageFault::MoreThanTotal,
                PageFault::Slow(Duration::from_millis(700)),
                PageFault::Slow(Duration::from_secs(8)),
                PageFault::Never,
            ])
        });
        Self {
            number,
            kind,
            is_attach,
            bindings,
            on_every: rng.percent(5).then(|| format!("every.call-{number}.example.com")),
            deadline: match kind {
                Kind::Later(_) => rng.millis(2_000, 12_000),
                _ => rng.millis(1_000, 4_000),
            },
            is_applied: rng.percent(50),
            fault,
            others: usize::try_from(rng.pick(&[0, 1, 7, 30])).unwrap(),
            is_shifting: rng.percent(20),
            cap: usize::try_from(rng.pick(&[500, 500, 500, 9, 4])).unwrap(),
            hides_flags: rng.percent(10),
            respells: rng.percent(10),
        }
    }

    pub(crate) fn certificate(&self) -> String {
        format!("certificate-{}", self.number)
    }

    /// Whether no reading of the list is whole.
    fn is_unreadable(&self) -> bool {
        self.fault.is_some_and(|fault| !matches!(fault, PageFault::Slow(_)))
    }

    /// Whether a list that shows all of the change confirms it.
    fn is_confirmable(&self) -> bool {
        let has_hidden_flag = self.hides_flags && self.bindings.iter().any(|binding| binding.flag.is_some());
        !self.is_attach || (self.on_every.is_none() && !has_hidden_flag)
    }

    fn domains(&self) -> Vec<AttachOrDetachDomainInfo> {
        let named = self.bindings.iter().map(|binding| AttachOrDetachDomainInfo {
            domain: binding.domain.clone(),
            instance_ids: vec![binding.instance.clone()],
            verified_client_certificate_enabled: binding.flag,
        });
        let on_every = self.on_every.iter().map(|domain| AttachOrDetachDomainInfo {
            domain: domain.clone(),
            instance_ids: Vec::new(),
            verified_client_certificate_enabled: None,
        });
        named.chain(on_every).collect()
    }
}

/// The end of a call for its caller, and the record of the cloud beside it.
#[derive(Debug)]
pub(crate) struct Told {
    result: Result<MetadataMap, Status>,
    pub(crate) took: Duration,
    ended: Instant,
    pub(crate) readings: usize,
    changes: usize,
    /// When the cloud had made all of the change.
    applied: Option<Instant>,
}

/// Makes one call.
pub(crate) async fn perform(mut client: Client, cloud: &Cloud, plan: &Plan) -> Told {
    cloud.prepare(plan);
    let began = Instant::now();
    let domains = plan.domains();
    let (project_id, certificate_id) = (PROJECT.to_owned(), plan.certificate());
    let result = if plan.is_attach {
        let message = AttachDomainsRequest { project_id, certificate_id, domains };
        client.attach_domains(request(message, plan)).await.map(|done| done.metadata().clone())
    } else {
        let message = DetachDomainsRequest { project_id, certificate_id, domains };
        client.detach_domains(request(message, plan)).await.map(|done| done.metadata().clone())
    };
    let ended = Instant::now();
    let record = cloud.record(plan.number);
    let (readings, changes, applied) = (record.readings, record.changes, record.applied);
    Told { result, took: ended - began, ended, readings, changes, applied }
}

fn request<T>(message: T, plan: &Plan) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("grpc-timeout", format!("{}m", plan.deadline.as_millis()).parse().unwrap());
    request.metadata_mut().insert("x-auth-token", TOKEN.parse().unwrap());
    request.metadata_mut().insert("x-request-id", id(plan.number).parse().unwrap());
    request
}

impl Told {
    pub(crate) fn is_ok(&self) -> bool {
        self.result.is_ok()
    }

    /// Whether the gateway's own error says that the deadline has passed; the cloud's 504 has the same code.
    fn passed_deadline(&self) -> bool {
        let info = self.result.as_ref().err().and_then(StatusExt::get_details_error_info);
        info.is_some_and(|info| info.reason == "DEADLINE_EXCEEDED")
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.result.as_ref().err()?.get_details_error_info()?.metadata.get(key).cloned()
    }

    /// The end as text.
    pub(crate) fn end(&self) -> String {
        match &self.result {
            Ok(_) => "OK, confirmed".to_owned(),
            Err(status) => {
                format!("{:?}, observed {}", status.code(), self.metadata("observed").as_deref().unwrap_or("nothing"))
            }
        }
    }

    /// Finds the first deviation from the contract.
    pub(crate) fn judge(&self, plan: &Plan, allowance: Duration) -> Result<(), String> {
        if self.changes != 1 {
            return Err(format!("{} changes were sent", self.changes));
        }
        if self.took > plan.deadline + Duration::from_millis(50) + allowance {
            return Err(format!("answered after {:?}, the deadline was {:?}", self.took, plan.deadline));
        }
        let is_applied = self.applied.is_some_and(|applied| applied <= self.ended);
        let status = match &self.result {
            Ok(metadata) => {
                let outcome = metadata.get("apig-outcome").and_then(|value| value.to_str().ok());
                return if outcome != Some("confirmed") {
                    Err(format!("OK without `confirmed`: {outcome:?}"))
                } else if plan.is_unreadable() {
                    Err("OK, and the list could not be read".to_owned())
                } else if !is_applied {
                    Err("OK, and the cloud had not made the change".to_owned())
                } else if !plan.is_confirmable() {
                    Err("OK, and the list can't confirm the change".to_owned())
                } else {
                    Ok(())
                };
            }
            Err(status) => status,
        };
        if self.metadata("outcome").as_deref() != Some("unknown") {
            return Err(format!("not unknown: {status:?}"));
        }
        let observed = self.metadata("observed");
        let allowed = self.allowed(plan, is_applied, allowance);
        if allowed.contains(&observed.as_deref()) {
            Ok(())
        } else {
            Err(format!("observed {observed:?}, allowed are {allowed:?}; {plan:?}"))
        }
    }

    /// The states that an error may tell.
    fn allowed(&self, plan: &Plan, is_applied: bool, allowance: Duration) -> Vec<Option<&'static str>> {
        let mut allowed = Vec::new();
        // On a busy machine the last moments before the deadline may not suffice for a reading.
        let is_late = self.took + Duration::from_millis(150) + allowance > plan.deadline;
        if self.passed_deadline() {
            return if is_late { vec![None] } else { Vec::new() };
        }
        if plan.is_shifting && plan.cap < plan.others || plan.kind == Kind::Unreadable || is_late {
            allowed.push(None);
        }
        if plan.is_unreadable() {
            return allowed;
        }
        match plan.kind {
            Kind::InPart => allowed.push(Some("some")),
            // Nothing shows before the change is made; all of it after, and then it is confirmed if it can be.
            Kind::NotApplied | Kind::Later(_) | Kind::Unreadable => allowed.push(Some("none")),
            Kind::Applied => {}
        }
        if is_applied && !plan.is_confirmable() {
            allowed.push(Some("all"));
        }
        allowed
    }
}
