//! W3C trace context: `traceparent` and `tracestate`.

use std::str::FromStr as _;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Reads the context of a caller's span; `None` if its `traceparent` is invalid. An invalid `tracestate` is left out.
pub(super) fn read(parent: &HeaderValue, state: Option<&HeaderValue>) -> Option<SpanContext> {
    let text = parent.to_str().ok()?;
    let (version, rest) = text.split_once('-')?;
    let (trace, rest) = rest.split_once('-')?;
    let (span, flags) = rest.split_once('-')?;
    // Later versions may have more fields.
    let flags = if version == "00" { flags } else { flags.split('-').next()? };
    if hex(version, 2)? == 0xff {
        return None;
    }
    let trace = TraceId::from(hex(trace, 32)?);
    let span = SpanId::from(u64::try_from(hex(span, 16)?).ok()?);
    let is_sampled = hex(flags, 2)? & u128::from(TraceFlags::SAMPLED.to_u8()) != 0;
    let state = state.and_then(|state| TraceState::from_str(state.to_str().ok()?).ok()).unwrap_or_default();
    let context = SpanContext::new(trace, span, TraceFlags::default().with_sampled(is_sampled), true, state);
    context.is_valid().then_some(context)
}

/// A number of exactly so many lower-case digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_number = text.len() == digits && text.bytes().all(is_digit);
    is_number.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// Adds the context of a span to the headers of a request.
pub(super) fn write(context: &SpanContext, headers: &mut HeaderMap) {
    let flags = context.trace_flags().to_u8();
    let parent = format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id());
    headers.insert(TRACEPARENT.clone(), HeaderValue::try_from(parent).expect("hexadecimal digits and hyphens"));
    let state = context.trace_state().header();
    if let Some(state) = HeaderValue::try_from(state).ok().filter(|state| !state.is_empty()) {
        headers.insert(TRACESTATE.clone(), state);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn context(parent: &str, state: Option<&str>) -> Option<SpanContext> {
        read(&parent.parse().unwrap(), state.map(|state| state.parse().unwrap()).as_ref())
    }

    fn written(context: &SpanContext) -> HeaderMap {
        let mut headers = HeaderMap::new();
        write(context, &mut headers);
        headers
    }

    #[test]
    fn a_context_is_read_and_written() {
        let headers = written(&context(PARENT, Some("vendor=value, other@x=1")).unwrap());
        assert_eq!(headers["traceparent"], PARENT);
        assert_eq!(headers["tracestate"], "vendor=value,other@x=1");
        let unsampled = context(&PARENT.replace("-01", "-00"), None).unwrap();
        assert!(!unsampled.is_sampled());
        assert_eq!(written(&unsampled).get("tracestate"), None);
    }

    #[test]
    fn flags_and_fields_of_later_versions_are_ignored() {
        // 02 is the random flag of level 2.
        for parent in [PARENT.replace("-01", "-03"), PARENT.replacen("00", "cc", 1) + "-what-the-future-has"] {
            assert_eq!(written(&context(&parent, None).unwrap())["traceparent"], PARENT);
        }
    }

    #[test]
    fn an_invalid_parent_is_none() {
        let wrong = [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ];
        for parent in wrong {
            assert_eq!(context(parent, Some("a=1")), None, "{parent}");
        }
    }

    #[test]
    fn an_invalid_state_leaves_the_parent_alone() {
        let context = context(PARENT, Some("no pairs")).unwrap();
        assert_eq!(written(&context).get("tracestate"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(parent in "[ -~]{0,80}", state in "[ -~]{0,80}") {
            if let Some(found) = context(&parent, Some(&state)) {
                let again = written(&found);
                prop_assert_eq!(context(again["traceparent"].to_str().unwrap(), None).unwrap().trace_id(), found.trace_id());
            }
        }
    }
}
