//! The bounds on every answer of the cloud: the fuzzer's corpus as a plain test, and generated answers.

#[path = "../../fuzz/answer.rs"]
mod answer;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use proptest::prelude::*;

#[test]
fn the_corpus_holds() {
    let files = super::support::corpus("answer", answer::check);
    assert!(files >= 18, "{files}");
}

#[test]
fn a_body_of_64_mib_holds() {
    let body = vec![b'x'; 64 * 1024 * 1024];
    answer::check_answer(StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new(), &body);
}

proptest! {
    #[test]
    fn any_bytes_hold(input in prop::collection::vec(any::<u8>(), 0..4096)) {
        answer::check(&input);
    }

    #[test]
    fn any_error_object_holds(
        status in 100u16..1000,
        retry_after in "[ -~]{0,40}",
        code in "[ -~]{0,80}",
        message in "\\PC{0,1500}|.{0,1500}",
        more in "[ -~]{0,3000}",
    ) {
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_str(&retry_after).unwrap())]);
        let body = serde_json::json!({
            "error_code": code, "error_msg": message, "request_id": more, "encoded_authorization_message": more,
        });
        answer::check_answer(StatusCode::from_u16(status).unwrap(), headers, body.to_string().as_bytes());
    }
}
