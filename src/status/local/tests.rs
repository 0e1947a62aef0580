use super::*;

#[test]
fn the_advice_is_that_of_the_documentation() {
    let page = include_str!("../../../docs/troubleshoot.md").replace('`', "");
    for reason in [
        Reason::InvalidRequest,
        Reason::TokenMissing,
        Reason::CredentialsUnavailable,
        Reason::CredentialsRefused,
        Reason::CallerNotAllowed,
        Reason::UpstreamUnreachable,
        Reason::UpstreamConnectionLost,
        Reason::UpstreamProtocolError,
        Reason::UpstreamRedirect,
        Reason::DeadlineExceeded,
        Reason::Overloaded,
        Reason::CircuitOpen,
        Reason::ShuttingDown,
        Reason::InternalError,
    ] {
        let row = page.lines().find(|line| line.starts_with("| ") && line.contains(reason.as_str()));
        let remedy = row.and_then(|row| row.split(" | ").nth(2)).unwrap_or_default();
        assert!(remedy.starts_with(reason.advice()), "{}: {remedy}", reason.as_str());
    }
}
