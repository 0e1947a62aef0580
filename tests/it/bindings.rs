//! The generator of REST bindings: what a rule must not say fails the build with a sentence that names the method.

#[allow(dead_code, reason = "the build uses what this test does not")]
#[path = "../../build/binding.rs"]
mod binding;

use std::path::Path;

/// Compiles a service with these methods; gives the bindings, or what the build would say.
fn read(imports: &str, messages: &str, methods: &str) -> Result<String, String> {
    let source =
        format!("syntax = \"proto3\";\npackage t;\n{imports}\nservice S {{ {methods} }}\nmessage R {{}}\n{messages}\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.proto");
    std::fs::write(&file, source).unwrap();
    let google = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut compiler = protox::Compiler::new([folder.path(), &google]).unwrap();
    compiler.open_file(&file).map_err(|fault| panic!("the test's proto is wrong: {fault:?}")).unwrap();
    binding::read(&compiler.descriptor_pool()).map(|bindings| bindings.code())
}

fn rule(messages: &str, rule: &str) -> Result<String, String> {
    let method = format!("rpc M(Q) returns (R) {{ option (google.api.http) = {{ {rule} }}; }}");
    read("import \"google/api/annotations.proto\";", messages, &method)
}

const QUESTION: &str = "message Q { string id = 1; optional bool on = 2; }";

#[test]
fn a_rule_becomes_verb_path_and_body() {
    let code = rule(QUESTION, r#"put: "/v2/{id}/apic/x" body: "*""#).unwrap();
    assert!(code.contains("impl Operation for pb::Q"), "{code}");
    assert!(
        code.contains("\"t.S/M\"") && code.contains("Verb::PUT") && code.contains("HAS_BODY: bool = true"),
        "{code}"
    );
    let path = r#"Segment::Literal("v2"), Segment::Field { name: "id", value: &self.id }, Segment::Family, Segment::Literal("x")"#;
    assert!(code.contains(path), "{code}");
    let code = rule("message Q { string id = 1; }", r#"delete: "/v2/{id}""#).unwrap();
    assert!(code.contains("HAS_BODY: bool = false"), "{code}");
}

#[test]
fn what_can_not_be_bound_names_the_method() {
    let post = |path: &str| format!(r#"post: "{path}" body: "*""#);
    let cases = [
        (QUESTION, post("/v2/{nobody}"), "the path names `nobody`, which t.Q does not have"),
        (QUESTION, post("/v2/{id.x}"), "`{id.x}`: nested fields and patterns can't be bound"),
        (QUESTION, post("/v2/{id=**}"), "`{id=**}`: nested fields and patterns can't be bound"),
        (QUESTION, post("/v2/{id}/{id}"), "the path names `id` twice"),
        (QUESTION, post("/v2/{on}"), "the path field `on` is not a plain string"),
        (QUESTION, post("v2"), "the path `v2` does not begin with `/`"),
        (QUESTION, post("/v2/{id}:verb"), "the path segment `{id}:verb` can't be bound"),
        (QUESTION, post("/v2//x"), "the path segment `` can't be bound"),
        (QUESTION, post("/v2/../x"), "the path segment `..` can't be bound"),
        (QUESTION, r#"post: "/x" body: "on""#.into(), "`body: \"on\"`: only `*` or no body can be bound"),
        (QUESTION, r#"get: "/v2/{id}""#.into(), "`on` is neither in the path nor in a body; queries can't be bound"),
        (QUESTION, r#"post: "/x" body: "*" response_body: "y""#.into(), "the binding has no place for `response_body`"),
        (
            QUESTION,
            r#"post: "/x" body: "*" additional_bindings { get: "/y" }"#.into(),
            "the binding has no place for `additional_bindings`",
        ),
        (
            QUESTION,
            r#"custom { kind: "HEAD" path: "/x" }"#.into(),
            "the rule names none of get, put, post, delete and patch",
        ),
        (
            "message Q { bool on = 1; }",
            post("/x"),
            "`t.Q.on` must be `optional`: its zero can't be told from its absence",
        ),
        ("message Q { map<string, string> m = 1; }", post("/x"), "`t.Q.m`: maps and oneofs have no JSON form here"),
        ("message Q { oneof o { string a = 1; } }", post("/x"), "`t.Q.a`: maps and oneofs have no JSON form here"),
        ("message Q { bytes b = 1; }", post("/x"), "`t.Q.b`: bytes has no JSON form here"),
    ];
    for (messages, text, sentence) in cases {
        assert_eq!(rule(messages, &text).unwrap_err(), format!("t.S.M: {sentence}"), "{text}");
    }
}

#[test]
fn a_method_without_a_rule_fails_the_build() {
    let bare = "rpc M(Q) returns (R);";
    assert_eq!(
        read("import \"google/api/annotations.proto\";", QUESTION, bare).unwrap_err(),
        "t.S.M: the google.api.http option is missing"
    );
    assert_eq!(read("", QUESTION, bare).unwrap_err(), "t.S.M: google/api/annotations.proto is not imported");
}

#[test]
fn an_answer_with_fields_and_a_stream_can_not_be_bound_yet() {
    let import = "import \"google/api/annotations.proto\";";
    let fault = read(import, QUESTION, "rpc M(Q) returns (Q);").unwrap_err();
    assert_eq!(fault, "t.S.M: the binding reads no answer's body yet, but the response message has fields");
    let fault = read(import, QUESTION, "rpc M(stream Q) returns (R);").unwrap_err();
    assert_eq!(fault, "t.S.M: a streaming method has no REST form");
}
