//! The statuses of missing and refused credentials.

use tonic::Code;

use super::{Detail, Local, Reason};
use crate::{
    cloud::{ClockSkew, Refusal},
    credentials::CredentialError,
};

/// There is no credential to call the cloud with.
pub(crate) fn unauthorized(missing: &CredentialError, project_id: &str) -> Local {
    match missing {
        CredentialError::Token => {
            let message = "the call needs an IAM token in its metadata: x-auth-token";
            Local::new(Code::Unauthenticated, Reason::TokenMissing, message)
                .fact("metadata_key", "x-auth-token")
                .not_sent()
        }
        CredentialError::Identity => {
            let message = "the gateway serves other projects than this one";
            Local::new(Code::PermissionDenied, Reason::CallerNotAllowed, message)
                .fact("project_id", project_id)
                .not_sent()
        }
        CredentialError::Unavailable { cause, wait } => {
            let message = "the gateway can't get a credential for the cloud now";
            Local::new(Code::Unavailable, Reason::CredentialsUnavailable, message)
                .caused_by(cause)
                .not_sent()
                .retry_in(*wait)
        }
        CredentialError::Suspended { code, wait } => {
            let message = format!(
                "the cloud refused the gateway's signatures, so the gateway stopped signing with this key pair and tries \
                 again in {} s; its operator has to check the key pair and this machine's clock",
                wait.as_secs().max(1)
            );
            let local = Local::new(Code::Internal, Reason::CredentialsRefused, message).not_sent().retry_in(*wait);
            match code {
                Some(code) => local.fact("error_code", code),
                None => local,
            }
        }
        CredentialError::Refused(cause) => {
            let message = "the gateway is refused a credential, which its operator must mend";
            Local::new(Code::Internal, Reason::CredentialsRefused, message).caused_by(cause).not_sent()
        }
    }
}

pub(crate) fn credentials_refused(refusal: &Refusal, skew: Option<ClockSkew>) -> Local {
    let (clock, skew) = match skew {
        None => (String::new(), None),
        Some(ClockSkew { by, is_ahead }) => {
            let (sign, side) = if is_ahead { ("", "ahead of") } else { ("-", "behind") };
            let seconds = by.as_secs();
            (format!(" (this machine's clock is {seconds} s {side} the cloud's)"), Some(format!("{sign}{seconds}s")))
        }
    };
    let message = format!("the cloud refuses the gateway's credentials, which its operator must mend{clock}");
    let mut local = Local::new(Code::Internal, Reason::CredentialsRefused, message)
        .fact("http_status", refusal.status.to_string())
        .caused_by(&refusal.message);
    if let Some(code) = &refusal.code {
        local = local.fact("error_code", code);
    }
    if let Some(id) = &refusal.request_id {
        local = local.fact("request_id", id).detail(Detail::request_info(id));
    }
    if let Some(skew) = skew {
        local = local.fact("clock_skew", skew);
    }
    local
}
