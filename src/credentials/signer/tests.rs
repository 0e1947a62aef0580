//! Tests against vectors signed by the vendor's SDK.

use serde_json::Value;

use super::*;

fn vectors() -> Vec<Value> {
    let text = include_str!("../../../tests/it/fixtures/signing-vectors.json");
    let file: Value = serde_json::from_str(text).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The headers of a vector, with the headers that credentials add before signing.
fn headers(vector: &Value) -> HeaderMap {
    let given = vector["headers"].as_object().unwrap().iter();
    let mut headers: HeaderMap = given
        .map(|(name, value)| {
            let value = HeaderValue::from_bytes(value.as_str().unwrap().as_bytes()).unwrap();
            (name.parse::<HeaderName>().unwrap(), value)
        })
        .collect();
    for (key, name) in [("project_id", "x-project-id"), ("domain_id", "x-domain-id")] {
        if let Some(id) = vector[key].as_str() {
            headers.insert(name, id.parse().unwrap());
        }
    }
    headers
}

/// The path and the query of a vector's URL.
fn target(vector: &Value) -> (&str, &str) {
    let url = text(vector, "url").strip_prefix("https://").unwrap();
    let rest = url.find('/').map_or("/", |at| &url[at..]);
    rest.split_once('?').unwrap_or((rest, ""))
}

fn at(clock: &str) -> SystemTime {
    let [year, month, day, hour, minute, second] = [0..4, 4..6, 6..8, 9..11, 11..13, 13..15].map(|range| &clock[range]);
    humantime::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).unwrap()
}

#[test]
fn every_vector_of_the_vendors_sdk_is_reproduced() {
    let vectors = vectors();
    assert!(vectors.len() >= 30, "{} vectors", vectors.len());
    for vector in &vectors {
        let name = text(vector, "name");
        let keys = Keys::new(text(vector, "ak"), text(vector, "sk"), vector["security_token"].as_str()).unwrap();
        let (path, query) = target(vector);
        let body = text(vector, "body").as_bytes();
        let input = SigningInput { verb: text(vector, "method"), authority: text(vector, "host"), path, query, body };
        let mut headers = headers(vector);
        sign(&keys, input, &mut headers, at("20251022T083015Z"));

        let expected = &vector["expected"];
        let authorization = headers[header::AUTHORIZATION].to_str().unwrap();
        let Some(canonical) = expected["canonical_request"].as_str() else {
            assert_eq!(authorization, vector["headers"]["Authorization"], "{name}: it is not signed again");
            continue;
        };
        let mut signed = headers.clone();
        signed.remove(header::AUTHORIZATION);
        let (ours, names) = canonical_request(input, &signed);
        assert_eq!(String::from_utf8_lossy(&ours), canonical, "{name}");
        assert_eq!(names, text(expected, "signed_headers"), "{name}");
        let string = string_to_sign(&headers[&X_SDK_DATE], &ours);
        assert_eq!(String::from_utf8_lossy(&string), text(expected, "string_to_sign"), "{name}");
        assert_eq!(authorization, text(expected, "authorization"), "{name}");
        for (header, value) in expected["wire_headers"].as_object().unwrap() {
            // Set by the SDK; the vector shows its bytes decoded as Latin-1.
            let ours = match headers.get(header.as_str()) {
                None if header.eq_ignore_ascii_case("host") => input.authority.to_owned(),
                ours => ours
                    .unwrap_or_else(|| panic!("{name}: no {header}"))
                    .as_bytes()
                    .iter()
                    .map(|b| char::from(*b))
                    .collect(),
            };
            // White space around a header's value is not part of it (RFC 9110, section 5.5).
            assert_eq!(ours.trim(), value.as_str().unwrap().trim(), "{name}: {header}");
        }
    }
}

#[test]
fn the_secret_is_nowhere_in_what_is_sent() {
    let keys = Keys::new("access", "canary", None).unwrap();
    let mut headers = HeaderMap::new();
    let input = SigningInput { verb: "GET", authority: "h", path: "/", query: "", body: b"" };
    sign(&keys, input, &mut headers, SystemTime::now());
    assert!(headers[header::AUTHORIZATION].is_sensitive());
    assert!(headers.values().all(|value| !String::from_utf8_lossy(value.as_bytes()).contains("canary")));
    assert!(!format!("{keys:?} {headers:?}").contains("canary"));
}
