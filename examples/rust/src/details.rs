//! The details of an error, by type.

use tonic::Status;
use tonic_types::{ErrorDetail, StatusExt as _};

pub fn print(status: &Status) {
    let details = status.get_error_details_vec();
    if details.is_empty() {
        println!("  no details: not the gateway's error; the change may have been made if the client was connected");
    }
    for detail in details {
        match detail {
            ErrorDetail::ErrorInfo(info) => {
                println!("  ErrorInfo: {} of {}", info.reason, info.domain);
                for (key, value) in info.metadata {
                    println!("  ErrorInfo: {key} = {value}");
                }
            }
            ErrorDetail::BadRequest(request) => {
                for violation in request.field_violations {
                    println!("  BadRequest: {}: {}", violation.field, violation.description);
                }
            }
            ErrorDetail::ResourceInfo(resource) => {
                println!("  ResourceInfo: {} {}", resource.resource_type, resource.resource_name);
            }
            ErrorDetail::QuotaFailure(quota) => {
                for violation in quota.violations {
                    println!("  QuotaFailure: {}: {}", violation.subject, violation.description);
                }
            }
            ErrorDetail::PreconditionFailure(precondition) => {
                for violation in precondition.violations {
                    let (kind, subject) = (violation.r#type, violation.subject);
                    println!("  PreconditionFailure: {kind} of {subject}: {}", violation.description);
                }
            }
            ErrorDetail::RetryInfo(retry) => {
                println!("  RetryInfo: {} ms", retry.retry_delay.unwrap_or_default().as_millis());
            }
            ErrorDetail::RequestInfo(request) => println!("  RequestInfo: {}", request.request_id),
            ErrorDetail::Help(help) => {
                for link in help.links {
                    println!("  Help: {}", link.url);
                }
            }
            _ => {}
        }
    }
}

/// The name that the documentation uses, such as `NOT_FOUND`.
pub fn code_name(status: &Status) -> String {
    let mut name = String::new();
    for letter in format!("{:?}", status.code()).chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
