use proptest::prelude::*;

use super::*;

fn read(status: u16, body: &str) -> Refusal {
    Refusal::read(&Masker::default(), status, None, None, body.as_bytes())
}

#[test]
fn every_shape_of_body_gives_code_and_message() {
    for body in [
        r#"{"error_code":"APIG.2012","error_msg":"no"}"#,
        r#"{"error_msg":"no","error_code":"APIG.2012","request_id":"r"}"#,
        r#"{"errorCode":"APIG.2012","errorMsg":"no"}"#,
        r#"{"code":"APIG.2012","message":"no"}"#,
        r#"{"error":{"error_code":"APIG.2012","error_msg":"no"}}"#,
        r#"{"error":{"errorCode":"APIG.2012","errorMsg":"no"}}"#,
        r#"{"error":{"code":"APIG.2012","message":"no","title":"t"}}"#,
        "\u{feff} {\"error_code\":\"APIG.2012\",\"error_msg\":\"no\"}\n",
    ] {
        let refusal = read(400, body);
        assert_eq!((refusal.code.as_deref(), refusal.message.as_str()), (Some("APIG.2012"), "no"), "{body}");
    }
}

#[test]
fn a_code_may_be_a_number_and_ids_are_kept() {
    let refusal = read(
        401,
        r#"{"error":{"code":401,"message":"wrong","request_id":"r1"},"encoded_authorization_message":"abc"}"#,
    );
    assert_eq!(refusal.code.as_deref(), Some("401"));
    assert_eq!(refusal.request_id.as_deref(), Some("r1"));
    assert_eq!(refusal.encoded_authorization_message.as_deref(), Some("abc"));
}

#[test]
fn the_header_has_the_better_request_id() {
    let refusal = Refusal::read(
        &Masker::default(),
        400,
        Some("header".into()),
        None,
        br#"{"error_code":"A.1","error_msg":"m","request_id":"body"}"#,
    );
    assert_eq!(refusal.request_id.as_deref(), Some("header"));
}

#[test]
fn a_body_that_is_no_error_object_still_has_its_kind_and_a_message() {
    let deep = "[".repeat(100_000);
    for (body, glimpse) in [
        ("", "without a body"),
        ("<html>\n<h1>Login</h1></html>", "<html> <h1>Login</h1></html>"),
        (r#"{"error_code":"APIG.2012","error_m"#, r#"{"error_code""#),
        (r#"["error_code"]"#, "error_code"),
        ("null", "null"),
        (deep.as_str(), "[[["),
        ("\u{0}\u{1b}[31m", "[31m"),
    ] {
        let refusal = read(404, body);
        assert_eq!((refusal.code.as_deref(), refusal.kind()), (None, Kind::NotFound), "{glimpse}");
        assert!(refusal.message.contains(glimpse), "{}", refusal.message);
        assert!(refusal.message.len() < 300);
    }
}

#[test]
fn bytes_that_are_not_utf8_are_replaced() {
    let refusal = Refusal::read(
        &Masker::default(),
        400,
        None,
        None,
        b"{\"error_code\":\"APIG.2012\",\"error_msg\":\"a\xff\xfeb\"}",
    );
    assert_eq!(refusal.message, "a\u{fffd}\u{fffd}b");
    assert_eq!(refusal.code.as_deref(), Some("APIG.2012"));
}

#[test]
fn a_long_message_is_cut_at_a_character() {
    for text in ["x".repeat(5_000), "é".repeat(5_000), "𝕏".repeat(5_000)] {
        let refusal = read(400, &format!(r#"{{"error_code":"APIG.2012","error_msg":"{text}"}}"#));
        assert!(refusal.message.len() <= MAX_MESSAGE && refusal.message.len() > MAX_MESSAGE - 8);
        assert!(refusal.message.ends_with('…'));
    }
    let whole = "y".repeat(MAX_MESSAGE);
    assert_eq!(read(400, &format!(r#"{{"error_code":"A.1","error_msg":"{whole}"}}"#)).message, whole);
}

#[test]
fn a_status_speaks_when_no_code_does() {
    let expected = [
        (400, Kind::InvalidArgument),
        (401, Kind::Unauthenticated),
        (403, Kind::PermissionDenied),
        (404, Kind::NotFound),
        (405, Kind::Internal),
        (407, Kind::Internal),
        (409, Kind::Aborted),
        (412, Kind::FailedPrecondition),
        (429, Kind::ResourceExhausted),
        (500, Kind::Internal),
        (501, Kind::Unimplemented),
        (502, Kind::Unavailable),
        (503, Kind::Unavailable),
        (504, Kind::DeadlineExceeded),
        (505, Kind::Internal),
        (599, Kind::Internal),
    ];
    for (status, kind) in expected {
        assert_eq!(read(status, "").kind(), kind, "{status}");
    }
    assert_eq!(read(418, r#"{"error_code":"NEW.1","error_msg":"m"}"#).kind(), Kind::InvalidArgument);
}

#[test]
fn a_code_beats_the_status() {
    for status in [400, 401, 403, 500] {
        assert_eq!(read(status, r#"{"error_code":"APIG.1005","error_msg":"m"}"#).kind(), Kind::PermissionDenied);
    }
}

#[test]
fn the_named_parameters_are_found() {
    let message = |text: &str| read(400, &format!(r#"{{"error_code":"APIG.2012","error_msg":"{text}"}}"#));
    let named = |text: &str| message(text).parameters().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        named("Invalid parameter value,parameterName:domain_id. Please refer to the support documentation"),
        ["domain_id"]
    );
    assert_eq!(named("parameterName:a,parameterName:b.c"), ["a", "b.c"]);
    assert_eq!(named("Invalid parameter value."), Vec::<String>::new());
    assert_eq!(named("parameterName:"), Vec::<String>::new());
}

#[test]
fn waiting_is_advised_when_it_helps() {
    let after = |status, body: &str, seconds: Option<u64>| {
        Refusal::read(&Masker::default(), status, None, seconds.map(Duration::from_secs), body.as_bytes()).wait()
    };
    assert_eq!(after(429, "", Some(7)), Some(Duration::from_secs(7)));
    assert_eq!(after(503, "", None), Some(Duration::from_secs(1)));
    assert_eq!(after(404, "", None), None);
    assert_eq!(after(503, "", Some(1_000_000)), Some(MAX_WAIT));
    assert_eq!(after(400, r#"{"error_code":"APIG.2012","error_msg":"m"}"#, None), None);
}

#[test]
fn a_throttling_text_names_policy_limit_and_window() {
    let text = "The throttling threshold has been reached: policy user over ratelimit,limit:200,time:5 minute";
    let refusal = read(429, &format!(r#"{{"error_msg":"{text}","error_code":"APIG.0308"}}"#));
    let throttle = Throttle { policy: "user", limit: 200, window: Duration::from_secs(300) };
    assert_eq!(refusal.throttle(), Some(throttle));
    assert_eq!(refusal.wait(), Some(Duration::from_secs(300)));
    for other in [
        "The throttling threshold has been reached: policy user over ratelimit,limit:XX,time:1 minute",
        "policy a b over ratelimit,limit:1,time:1 minute",
        "policy user over ratelimit,limit:1,time:1 fortnight",
        "policy user over ratelimit,limit:1,time:99999999999999999999 day",
    ] {
        let refusal = read(429, &format!(r#"{{"error_msg":"{other}","error_code":"APIG.0308"}}"#));
        assert_eq!((refusal.throttle(), refusal.wait()), (None, Some(Duration::from_secs(1))), "{other}");
    }
}

proptest! {
    #[test]
    fn no_body_is_too_strange(status in 100u16..1000, body in prop::collection::vec(any::<u8>(), 0..2048)) {
        let refusal = Refusal::read(&Masker::default(), status, None, None, &body);
        prop_assert!(refusal.message.len() <= MAX_MESSAGE);
        prop_assert!(refusal.code.is_none_or(|code| code.len() <= 64));
    }

    #[test]
    fn no_message_is_too_strange(message in ".{0,2000}") {
        let body = serde_json::json!({ "error_code": "APIG.2012", "error_msg": message }).to_string();
        let refusal = read(400, &body);
        prop_assert!(refusal.message.len() <= MAX_MESSAGE);
        prop_assert_eq!(refusal.code.as_deref(), Some("APIG.2012"));
    }
}
