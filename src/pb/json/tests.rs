use super::*;

/// An answer with the attributes that the build gives a message.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Sample {
    #[serde(deserialize_with = "or_default")]
    id: String,
    note: Option<String>,
    #[serde(deserialize_with = "scalar_or_default")]
    size: i32,
    #[serde(deserialize_with = "scalar")]
    total: Option<i64>,
    #[serde(deserialize_with = "scalar")]
    status: Option<i32>,
    #[serde(deserialize_with = "scalar")]
    on: Option<bool>,
    #[serde(deserialize_with = "time")]
    at: Option<Timestamp>,
    #[serde(deserialize_with = "or_default")]
    names: Vec<String>,
    #[serde(deserialize_with = "message")]
    one: Option<Inner>,
    #[serde(deserialize_with = "messages")]
    many: Vec<Inner>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Inner {
    #[serde(deserialize_with = "or_default")]
    id: String,
}

fn read(text: &str) -> Result<Sample, String> {
    decode(text.as_bytes()).map_err(|fault| fault.to_string())
}

fn at(seconds: i64, nanos: i32) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos })
}

#[test]
fn members_become_fields_and_unknown_ones_are_ignored() {
    let answer = read(
        r#"{"id":"a","note":"","size":2,"total":9000000000,"status":77,"on":false,"at":"2031-08-16T06:36:13Z",
            "names":["x","y"],"one":{"id":"b","more":[1]},"many":[{"id":"c"},{}],"unknown":{"deep":[null]}}"#,
    );
    let inner = |id: &str| Inner { id: id.into() };
    assert_eq!(
        answer.unwrap(),
        Sample {
            id: "a".into(),
            note: Some(String::new()),
            size: 2,
            total: Some(9_000_000_000),
            status: Some(77),
            on: Some(false),
            at: at(1_944_628_573, 0),
            names: vec!["x".into(), "y".into()],
            one: Some(inner("b")),
            many: vec![inner("c"), inner("")],
        }
    );
}

#[test]
fn absent_null_and_empty_are_absent() {
    let nulls = r#"{"id":null,"note":null,"size":null,"total":null,"status":null,"on":null,"at":null,"names":null,"one":null,"many":null}"#;
    let empty = r#"{"size":"","total":"","status":"","on":"","at":""}"#;
    for text in ["{}", nulls, empty] {
        assert_eq!(read(text).unwrap(), Sample::default(), "{text}");
    }
}

#[test]
fn a_member_of_another_type_is_an_error() {
    let wrong = [
        r#"{"id":1}"#,
        r#"{"note":{}}"#,
        r#"{"size":"2"}"#,
        r#"{"size":2.0}"#,
        r#"{"size":2147483648}"#,
        r#"{"total":true}"#,
        r#"{"total":18446744073709551616}"#,
        r#"{"status":"1"}"#,
        r#"{"on":0}"#,
        r#"{"on":"true"}"#,
        r#"{"at":1944628573}"#,
        r#"{"names":"x"}"#,
        r#"{"names":[1]}"#,
        r#"{"names":[null]}"#,
        r#"{"one":["b"]}"#,
        r#"{"many":{}}"#,
        r#"{"many":[["b"]]}"#,
        r#"{"id":"a","id":"b"}"#,
        r#"["a"]"#,
        "[]",
        "null",
        "",
        r#"{"id":"a""#,
        r#"{"id":"a"} x"#,
        "<html>",
        "{\"id\":\"\u{0}\"}",
    ];
    for text in wrong {
        assert!(read(text).is_err(), "{text}");
    }
    assert!(decode::<Sample>(b"{\"id\":\"\xff\"}").is_err(), "not UTF-8");
}

#[test]
fn times_have_up_to_nine_digits_and_a_zone() {
    let time = |text: &str| read(&format!(r#"{{"at":"{text}"}}"#)).map(|answer| answer.at);
    assert_eq!(time("2021-08-26T07:27:06.304004Z").unwrap(), at(1_629_962_826, 304_004_000));
    assert_eq!(time("2021-08-26T07:27:06.123456789Z").unwrap(), at(1_629_962_826, 123_456_789));
    assert_eq!(time("2021-08-26T07:27:06.12345678901Z").unwrap(), at(1_629_962_826, 123_456_789), "no type has more");
    assert_eq!(time("2021-08-26T07:27:06.5Z").unwrap(), at(1_629_962_826, 500_000_000));
    assert_eq!(time("2021-08-26T15:27:06+08:00").unwrap(), at(1_629_962_826, 0));
    assert_eq!(time("1969-12-31T23:59:59Z").unwrap(), at(-1, 0));
    let wrong = [
        "2021-08-26",
        "2021-08-26T07:27Z",
        "2021-08-26T07:27:06",
        "2021-08-26 07:27:06Z",
        "2021-13-26T07:27:06Z",
        "2021-08-26T25:27:06Z",
        "2021-08-26T07:27:06+0800",
        "soon",
    ];
    for text in wrong {
        assert!(time(text).is_err(), "{text}");
    }
}
