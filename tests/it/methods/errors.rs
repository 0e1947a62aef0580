//! Documented errors of the cloud, for every method: code, details, outcome, and the requests that reached the cloud.

use tonic::Code::{self, *};

use super::{Sample, call, samples};
use crate::support::{Cloud, Failed, Gateway, Reply, failed};

/// An answer of the cloud, and the error that it becomes.
#[derive(Debug, Clone, Copy)]
struct Case {
    status: u16,
    /// Empty: the body has none.
    error_code: &'static str,
    code: Code,
    /// `ResourceInfo.type`, or the type of a precondition.
    about: &'static str,
    /// It was not processed, and waiting helps.
    is_repeated: bool,
    /// A change may have been made.
    is_unknown: bool,
}

const fn case(status: u16, error_code: &'static str, code: Code, about: &'static str) -> Case {
    Case { status, error_code, code, about, is_repeated: false, is_unknown: false }
}

const CASES: &[Case] = &[
    case(400, "", InvalidArgument, ""),
    case(400, "APIG.2000", InvalidArgument, ""),
    case(400, "APIG.2001", InvalidArgument, ""),
    case(401, "", Unauthenticated, ""),
    case(401, "APIG.1002", Unauthenticated, ""),
    case(401, "APIG.1005", PermissionDenied, ""),
    case(403, "", PermissionDenied, ""),
    case(403, "APIG.1005", PermissionDenied, ""),
    case(404, "", NotFound, "resource"),
    case(404, "APIG.3001", NotFound, "api-group"),
    case(404, "APIG.3020", NotFound, "domain"),
    case(404, "APIG.3021", NotFound, "certificate"),
    case(404, "APIG.3025", NotFound, "certificate"),
    case(404, "APIG.3030", NotFound, "instance"),
    case(404, "APIG.3093", NotFound, "app-quota"),
    case(409, "", Aborted, ""),
    case(400, "APIG.2029", AlreadyExists, "certificate"),
    case(412, "", FailedPrecondition, "CLOUD_STATE"),
    case(400, "APIG.2101", FailedPrecondition, "CERTIFICATE_KEY_MISMATCH"),
    case(400, "APIG.2102", FailedPrecondition, "CERTIFICATE_EXPIRED"),
    case(400, "APIG.2103", FailedPrecondition, "CERTIFICATE_NAME_MISMATCH"),
    case(400, "APIG.2104", FailedPrecondition, "CERTIFICATE_CHAIN_BROKEN"),
    case(400, "APIG.2105", FailedPrecondition, "PRIVATE_KEY_ENCRYPTED"),
    case(400, "APIG.2106", FailedPrecondition, "CERTIFICATE_INVALID"),
    case(400, "APIG.2107", InvalidArgument, ""),
    case(400, "APIG.2108", FailedPrecondition, "MICROSERVICE_UNAVAILABLE"),
    case(400, "APIG.2109", FailedPrecondition, "CERTIFICATE_SAN_MISSING"),
    case(400, "APIG.3148", FailedPrecondition, "CERTIFICATE_ENDS_TOO_LATE"),
    case(400, "APIG.3708", FailedPrecondition, "CERTIFICATE_KEY_USAGE_MISMATCH"),
    case(400, "APIG.3709", FailedPrecondition, "CERTIFICATE_SIGNATURE_MISMATCH"),
    Case { is_repeated: true, ..case(429, "", ResourceExhausted, "requests") },
    Case { is_repeated: true, ..case(429, "APIG.0308", ResourceExhausted, "requests") },
    Case { is_unknown: true, ..case(500, "", Internal, "") },
    Case { is_unknown: true, ..case(500, "APIG.9999", Internal, "") },
    Case { is_repeated: true, ..case(500, "APIG.3500", Aborted, "") },
    Case { is_repeated: true, ..case(500, "APIG.9008", ResourceExhausted, "requests") },
];

/// As many attempts as a gateway makes by default.
const ATTEMPTS: usize = 3;

impl Case {
    fn attempts(&self) -> usize {
        if self.is_repeated { ATTEMPTS } else { 1 }
    }

    fn reply(&self) -> Reply {
        let body = match self.error_code {
            "" => r#"{"error_msg":"the text"}"#.to_owned(),
            code => format!(r#"{{"error_code":"{code}","error_msg":"the text","request_id":"in-body"}}"#),
        };
        let headers = [("Content-Type", "application/json"), ("X-Request-Id", "cloud-1"), ("Retry-After", "0")];
        let headers = if self.is_repeated { &headers[..] } else { &headers[..2] };
        Reply::with(self.status, headers, body.as_bytes())
    }

    fn reason(&self) -> String {
        match self.error_code {
            "" => format!("HTTP_{}", self.status),
            code => code.replace('.', "_"),
        }
    }

    fn assert_is(&self, failure: &Failed, sample: &Sample) {
        let about = format!("{} {self:?} {failure:?}", sample.name);
        assert_eq!(failure.verdict(), (self.code, &*self.reason()), "{about}");
        assert_eq!(failure.status.message(), "the text", "{about}");
        assert_eq!(failure.fact("http_status"), Some(&*self.status.to_string()), "{about}");
        assert_eq!(failure.fact("error_code").unwrap_or_default(), self.error_code, "{about}");
        let outcome = (self.is_unknown && sample.is_change).then_some("unknown");
        assert_eq!(failure.fact("outcome"), outcome, "{about}");
        assert_eq!(failure.details.retry_info().is_some(), self.is_repeated, "{about}");
        assert_eq!(failure.details.request_info().unwrap().request_id, failure.fact("request_id").unwrap(), "{about}");
        assert!(failure.status.metadata().contains_key("apig-request-id"), "{about}");

        let resource = failure.details.resource_info();
        assert_eq!(resource.is_some(), matches!(self.code, NotFound | AlreadyExists), "{about}");
        if let Some(resource) = resource {
            assert_eq!((&*resource.resource_type, &*resource.owner), (self.about, "projects/p1"), "{about}");
            assert_eq!(resource.resource_name, sample.resource(self.about).unwrap_or_default(), "{about}");
        }
        let precondition = failure.details.precondition_failure();
        assert_eq!(precondition.is_some(), self.code == FailedPrecondition, "{about}");
        if let Some(precondition) = precondition {
            let violation = &precondition.violations[0];
            assert_eq!(violation.r#type, self.about, "{about}");
            let subject = sample.resource("certificate").map(|id| format!("certificates/{id}"));
            assert_eq!(violation.subject, subject.unwrap_or_default(), "{about}");
        }
        let quota = failure.details.quota_failure();
        assert_eq!(quota.is_some(), self.code == ResourceExhausted, "{about}");
        if let Some(quota) = quota {
            assert_eq!(quota.violations[0].subject, self.about, "{about}");
        }
    }
}

#[tokio::test]
async fn each_documented_error_has_its_code_details_and_outcome_and_only_the_unprocessed_is_repeated() {
    for sample in samples() {
        let script = CASES.iter().flat_map(|case| vec![case.reply(); case.attempts()]);
        let cloud = Cloud::answering(script).await;
        let mut gateway = Gateway::facing(cloud.address).start().await;
        let mut expected = 0;
        for case in CASES {
            if case.is_repeated {
                // Another's repeats would use up the budget.
                gateway = Gateway::facing(cloud.address).start().await;
            }
            let channel = gateway.channel().await;
            let failure = failed(call(&channel, &sample, &sample.full).await);
            case.assert_is(&failure, &sample);
            expected += case.attempts();
            let seen = cloud.seen();
            assert_eq!(seen.len(), expected, "{} {case:?}", sample.name);
            let repeats = &seen[expected - case.attempts()..];
            let first = (&repeats[0].line, &repeats[0].body);
            assert!(repeats.iter().all(|seen| (&seen.line, &seen.body) == first), "{} {case:?}", sample.name);
        }
    }
}

/// A text that names a parameter of the cloud leads to the field that carries it.
#[tokio::test]
async fn a_parameter_that_the_cloud_names_is_the_field_of_the_request() {
    for (method, parameter, field) in [
        ("ListCertificates", "instance_id", "instance_id"),
        ("GetCertificate", "certificate_id", "certificate_id"),
        ("CreateCertificate", "private_key", "private_key"),
        ("CreateCertificate", "type", "type"),
        ("UpdateCertificate", "trusted_root_ca", "trusted_root_ca"),
        ("DeleteCertificate", "elsewhere", "elsewhere"),
        ("AttachCertificates", "certificate_id", "certificate_ids"),
        ("AttachCertificates", "domain_id", "domain_id"),
        ("DetachCertificates", "group_id", "group_id"),
    ] {
        let text =
            format!("Invalid parameter value,parameterName:{parameter}. Please refer to the support documentation");
        let cloud = Cloud::answering([Reply::refused(400, "APIG.2012", &text)]).await;
        let gateway = Gateway::facing(cloud.address).start().await;
        let sample = samples().into_iter().find(|sample| sample.name == method).unwrap();
        let failure = failed(call(&gateway.channel().await, &sample, &sample.full).await);
        assert_eq!(failure.verdict(), (InvalidArgument, "APIG_2012"), "{method}");
        assert_eq!(failure.fields(), [field], "{method}");
    }
}

/// One of several certificates is named only if the text does.
#[tokio::test]
async fn one_of_several_certificates_is_named_by_the_text_alone() {
    use apig_grpc_gateway::pb::AttachCertificatesRequest;
    use prost::Message as _;

    let script = ["The certificate does not exist", "The certificate does not exist;id:c2"];
    let cloud = Cloud::answering(script.map(|text| Reply::refused(404, "APIG.3025", text))).await;
    let gateway = Gateway::facing(cloud.address).start().await;
    let channel = gateway.channel().await;
    let sample = samples().into_iter().find(|sample| sample.name == "AttachCertificates").unwrap();
    let mut message = AttachCertificatesRequest::decode(&*sample.full).unwrap();
    message.certificate_ids = vec!["c1".into(), "c2".into()];
    for expected in ["", "c2"] {
        let failure = failed(call(&channel, &sample, &message.encode_to_vec()).await);
        let resource = failure.details.resource_info().unwrap();
        assert_eq!((&*resource.resource_type, &*resource.resource_name), ("certificate", expected));
    }
}
