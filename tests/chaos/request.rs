//! Checks whether a request at the upstream is one that a caller has asked for.

use testkit::http1::Request;

use super::plan::PROJECT;

/// The beginning of all tokens: that of the callers, and those of a gateway with a token of its own.
pub(crate) const TOKEN: &str = "chaos-token";

/// The id of the request of a call.
pub(crate) fn id(number: u64) -> String {
    format!("chaos-{number}")
}

/// The domain that the call attaches, which holds its number.
pub(crate) fn domain(number: u64) -> String {
    format!("n{number}.chaos.example")
}

/// The certificate in the path of a request.
pub(crate) fn certificate(request: &Request) -> String {
    request.line.split('/').nth(5).unwrap_or_default().to_owned()
}

/// The number in the id of a request.
pub(crate) fn number_of(id: &str) -> Option<u64> {
    id.strip_prefix("chaos-")?.parse().ok()
}

/// The number of the call, if the request is exactly the one that this call asked for.
pub(crate) fn number(request: &Request) -> Result<u64, String> {
    let number = request.header("x-request-id").and_then(number_of);
    let number = number.ok_or("no call's request id")?;
    let line = format!("POST /v2/{PROJECT}/apic/certificates/{}/domains/attach", certificate(request));
    if request.line != line {
        return Err("not the operation's path".into());
    }
    if !request.header("x-auth-token").is_some_and(|token| token.starts_with(TOKEN)) {
        return Err("not the call's token".into());
    }
    let body: serde_json::Value = serde_json::from_str(&request.body).map_err(|fault| fault.to_string())?;
    if body != serde_json::json!({ "domains": [{ "domain": domain(number) }] }) {
        return Err("not the call's body".into());
    }
    Ok(number)
}
