//! The generator of operations: a description that can't be expressed fails the build with a sentence that names the method.

#[allow(dead_code, reason = "the build uses what this test does not")]
#[path = "../../build/binding.rs"]
mod binding;

use std::path::Path;

/// Compiles a service with these methods; gives the bindings, or the error that stops the build.
fn read(imports: &[&str], messages: &str, methods: &str) -> Result<binding::Bindings, String> {
    let imports: Vec<_> = imports.iter().map(|name| format!("import \"google/{name}.proto\";")).collect();
    let imports = imports.join("\n");
    let source =
        format!("syntax = \"proto3\";\npackage t;\n{imports}\nservice S {{ {methods} }}\nmessage R {{}}\n{messages}\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.proto");
    std::fs::write(&file, source).unwrap();
    let google = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut compiler = protox::Compiler::new([folder.path(), &google]).unwrap();
    compiler.open_file(&file).map_err(|fault| panic!("the test's proto is wrong: {fault:?}")).unwrap();
    binding::read(&compiler.descriptor_pool())
}

const ALL: [&str; 4] = ["api/annotations", "api/field_behavior", "api/resource", "protobuf/timestamp"];

fn method(messages: &str, answer: &str, options: &str, rule: &str) -> Result<binding::Bindings, String> {
    let method = format!("rpc M(Q) returns ({answer}) {{ {options} option (google.api.http) = {{ {rule} }}; }}");
    read(&ALL, messages, &method)
}

fn rule(messages: &str, rule: &str) -> Result<String, String> {
    method(messages, "R", "", rule).map(|bindings| bindings.operations())
}

fn contains(code: &str, parts: &[&str]) {
    for part in parts {
        assert!(code.contains(part), "{part}\nis not in\n{code}");
    }
}

const QUESTION: &str = "message Q { string id = 1; optional bool on = 2; }";

const READ: &str = "option idempotency_level = NO_SIDE_EFFECTS;";

#[test]
fn a_rule_becomes_verb_path_and_body() {
    let code = rule(QUESTION, r#"put: "/v2/{id}/apic/x" body: "*""#).unwrap();
    contains(
        &code,
        &[
            "impl Operation for pb::Q",
            "Verb::PUT",
            "SUCCESS: StatusCode = StatusCode::NO_CONTENT",
            "HAS_ANSWER: bool = false",
            r#"TEMPLATE: &'static str = "/v2/{id}/{family}/x""#,
            "Some(json(self, ",
            r#"Segment::Literal("v2"), Segment::Field { name: "id", value: &self.id }, Segment::Family, Segment::Literal("x")"#,
        ],
    );
    assert!(!code.contains("query.add"), "{code}");
    let code = rule("message Q { string id = 1; }", r#"delete: "/v2/{id}""#).unwrap();
    contains(&code, &["Verb::DELETE", "fn body(&self) -> Option<Vec<u8>> { None }"]);
}

#[test]
fn fields_outside_path_and_body_become_a_query_in_the_order_of_their_names() {
    let messages = "enum E { E_UNSPECIFIED = 0; } message Q { string id = 1; optional int64 offset = 2; optional int32 limit = 3;
        string name = 4; optional string type = 5; repeated string tags = 6; optional E kind = 7; optional bool on = 8; }";
    for verb in ["get", "delete"] {
        let code = rule(messages, &format!(r#"{verb}: "/v2/{{id}}""#)).unwrap();
        contains(
            &code,
            &[concat!(
                r#"query.add("kind", self.kind.as_ref()); query.add("limit", self.limit.as_ref()); "#,
                r#"query.add("name", Some(&self.name).filter(|text| !text.is_empty())); "#,
                r#"query.add("offset", self.offset.as_ref()); query.add("on", self.on.as_ref()); "#,
                r#"query.add_all("tags", &self.tags); query.add("type", self.r#type.as_ref()); }"#
            )],
        );
    }
}

#[test]
fn a_field_alone_can_be_the_body() {
    let messages = "message Q { string id = 1; B inner = 2; string name = 3; } message B { string text = 1; }";
    let bindings = method(messages, "R", "", r#"post: "/v2/{id}" body: "inner""#).unwrap();
    contains(&bindings.operations(), &["Some(json(&self.inner, ", r#"query.add("name", "#]);
    let serialized: Vec<_> = bindings.message_attributes().into_iter().map(|(name, _)| name).collect();
    assert_eq!(serialized, [".t.B"], "the request itself is not written");
}

#[test]
fn what_a_field_names_and_requires_becomes_resources_and_rules() {
    let reference = |kind: &str| format!("(google.api.resource_reference).type = \"apic.huaweicloud.com/{kind}\"");
    let required = "(google.api.field_behavior) = REQUIRED";
    let messages = format!(
        "message Q {{ string project_id = 1 [{}]; string instance_id = 2 [{}]; string group_id = 3 [{}];
            repeated string certificate_ids = 4 [{required}, {}]; repeated D domains = 5; string name = 6 [{required}];
            optional bool on = 7 [{required}]; }}
         message D {{ string domain = 1 [{required}, {}]; repeated string instance_ids = 2 [{}]; string note = 3; }}",
        reference("Project"),
        reference("Instance"),
        reference("ApiGroup"),
        reference("Certificate"),
        reference("Domain"),
        reference("Instance"),
    );
    let bindings = method(&messages, "R", "", r#"post: "/v2/{project_id}/{group_id}" body: "*""#).unwrap();
    contains(&bindings.operations(), &[r#"Segment::Project { name: "project_id" }"#]);
    contains(
        &bindings.resources(),
        &[
            r#"name: "t.S/M""#,
            "is_change: true",
            "names: &[Kind::Project, Kind::Instance, Kind::ApiGroup, Kind::Certificate, Kind::Domain, Kind::Instance]",
            "resources.project = &self.project_id;",
            "resources.add(Kind::Instance, &self.instance_id);",
            "for id in &self.certificate_ids { resources.add(Kind::Certificate, id); }",
            "resources.domains.extend(self.domains.iter().map(|entry| Domain { name: &entry.domain, instances: &entry.instance_ids }));",
            r#"Parameter { name: "domain", field: "domains[0].domain", of_many: "domains" }"#,
            r#"Parameter { name: "instance_id", field: "instance_id", of_many: "instance_id" }"#,
            r#"Parameter { name: "certificate_id", field: "certificate_ids", of_many: "certificate_ids" }"#,
            "METHODS: &[&Method] = &[<pb::Q as Describe>::METHOD]",
        ],
    );
    contains(
        bindings.checks(),
        &[
            r#"found.project(&at.field("project_id"), &self.project_id, rules);"#,
            r#"found.id(&at.field("instance_id"), &self.instance_id, false);"#,
            r#"found.id(&at.field("group_id"), &self.group_id, true);"#,
            r#"found.not_empty(&at.field("certificate_ids"), self.certificate_ids.len());"#,
            r#"found.id(&at.entry("certificate_ids", index), id, true);"#,
            r#"entry.check(&at.entry("domains", index), rules, found);"#,
            r#"found.not_empty(&at.field("name"), self.name.len());"#,
            r#"found.required(&at.field("on"), self.on.is_some());"#,
            r#"found.domain(&at.field("domain"), &self.domain, true);"#,
            r#"found.instances(&at.field("instance_ids"), self.instance_ids.len(), rules);"#,
        ],
    );
    assert!(!bindings.checks().contains("note"), "{}", bindings.checks());
}

#[test]
fn only_a_method_without_side_effects_is_a_read() {
    let get = r#"get: "/v2/{id}""#;
    let is_change = |options| method(QUESTION, "R", options, get).unwrap().resources().contains("is_change: true");
    assert!(!is_change(READ));
    assert!(is_change(""), "GET alone says nothing");
    assert!(is_change("option idempotency_level = IDEMPOTENT;"));
    for verb in ["put", "delete"] {
        let fault = method("message Q { string id = 1; }", "R", READ, &format!(r#"{verb}: "/v2/{{id}}""#)).unwrap_err();
        assert_eq!(fault, format!("t.S.M: NO_SIDE_EFFECTS does not go with {}", verb.to_uppercase()));
    }
}

#[test]
fn each_message_says_whether_it_asks_for_a_change() {
    let code = |options| method(QUESTION, "R", options, r#"get: "/v2/{id}""#).unwrap().decoded();
    contains(
        &code(""),
        &["Decoded for Q { const IS_CHANGE: bool = true; }", "for R { const IS_CHANGE: bool = false; }"],
    );
    contains(&code(READ), &["Decoded for Q { const IS_CHANGE: bool = false; }"]);
    let messages = "message Q { string id = 1; }";
    let both = method(messages, "Q", "", r#"put: "/v2/{id}" body: "*""#).unwrap().decoded();
    assert_eq!(both, "impl Decoded for Q { const IS_CHANGE: bool = true; }\n", "once");
}

#[test]
fn an_answer_with_fields_is_read_from_json() {
    let messages = "message Q { string id = 1; } enum E { E_UNSPECIFIED = 0; E_ONE = 1; }
        message A { int32 size = 1; optional int64 total = 2; repeated B many = 3; B one = 4; string id = 5; repeated string names = 6;
            google.protobuf.Timestamp at = 7; optional E status = 8; optional bool on = 9; optional string note = 10; }
        message B { E kind = 1; optional string type = 2; }";
    let bindings = method(messages, "A", READ, r#"get: "/v2/{id}""#).unwrap();
    contains(
        &bindings.operations(),
        &["StatusCode::OK", "HAS_ANSWER: bool = true", "pb::json::decode(body)", "type Response = pb::A"],
    );
    let messages = bindings.message_attributes();
    let attribute = "#[derive(::serde::Deserialize)] #[serde(default)]";
    assert_eq!(messages, [(".t.A".to_owned(), attribute), (".t.B".to_owned(), attribute)]);
    let reader = |name: &str| {
        let field = format!(".t.{name}");
        let attribute = bindings.field_attributes().into_iter().find(|(path, _)| *path == field)?.1;
        let reader = attribute.strip_prefix("#[serde(deserialize_with = \"crate::pb::json::")?.strip_suffix("\")]")?;
        Some(reader.to_owned())
    };
    for (field, expected) in [
        ("A.size", Some("scalar_or_default")),
        ("A.total", Some("scalar")),
        ("A.many", Some("messages")),
        ("A.one", Some("message")),
        ("A.id", Some("or_default")),
        ("A.names", Some("or_default")),
        ("A.at", Some("time")),
        ("A.status", Some("scalar")),
        ("A.on", Some("scalar")),
        ("A.note", None),
        ("B.kind", Some("scalar_or_default")),
        ("B.type", None),
    ] {
        assert_eq!(reader(field).as_deref(), expected, "{field}");
    }
}

#[test]
fn secrets_are_redacted_and_known_to_the_operation() {
    let messages = "message Q { string id = 1; string private_key = 2 [debug_redact = true]; optional string sign = 3 [debug_redact = true];
        string type = 4; }";
    let bindings = method(messages, "R", "", r#"post: "/v2/{id}" body: "*""#).unwrap();
    assert_eq!(bindings.redacted_messages(), [".t.Q"]);
    contains(
        bindings.redacted(),
        &[
            "impl ::core::fmt::Debug for Q",
            r#".field("id", &self.id)"#,
            r#".field("private_key", &::core::format_args!("[redacted]"))"#,
            r#".field("sign", &::core::format_args!("[redacted]"))"#,
            r#".field("type", &self.r#type)"#,
        ],
    );
    let code = bindings.operations();
    contains(&code, &["secrets.push(&self.private_key); secrets.extend(self.sign.as_deref());"]);
    assert!(method(QUESTION, "R", "", r#"post: "/v2/{id}" body: "*""#).unwrap().redacted().is_empty());
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
        (QUESTION, r#"post: "/x" body: "on""#.into(), "the body field `on` is not a message"),
        (QUESTION, r#"post: "/x" body: "nope""#.into(), "the body is `nope`, which t.Q does not have"),
        (QUESTION, r#"post: "/{id}" body: "id""#.into(), "`id` is both in the path and the body"),
        (QUESTION, r#"get: "/v2/{id}" body: "*""#.into(), "GET has no body"),
        (QUESTION, r#"delete: "/v2/{id}" body: "*""#.into(), "DELETE has no body"),
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
        (
            "message Q { int32 limit = 1; }",
            r#"get: "/x""#.into(),
            "`t.Q.limit` must be `optional`: its zero can't be told from its absence",
        ),
        ("message Q { R r = 1; }", r#"get: "/x""#.into(), "`t.Q.r`: t.R can't be in a query"),
        ("message Q { map<string, string> m = 1; }", post("/x"), "`t.Q.m`: maps and oneofs have no JSON form here"),
        ("message Q { map<string, string> m = 1; }", r#"get: "/x""#.into(), "`t.Q.m`: maps and oneofs have no JSON form here"),
        ("message Q { oneof o { string a = 1; } }", post("/x"), "`t.Q.a`: maps and oneofs have no JSON form here"),
        ("message Q { bytes b = 1; }", post("/x"), "`t.Q.b`: bytes has no JSON form here"),
        (
            "message Q { string key = 1 [debug_redact = true]; }",
            r#"get: "/x""#.into(),
            "`t.Q.key`: a secret must not be in a query, which servers log",
        ),
        (
            "message Q { repeated D d = 1; } message D { string key = 1 [debug_redact = true]; }",
            post("/x"),
            "`t.D.key`: a secret in a nested message can't be masked",
        ),
        (
            "message Q { string id = 1 [(google.api.resource_reference).type = \"x/Y\"]; }",
            post("/x"),
            "`t.Q.id`: `x/Y` is not a known type of resource",
        ),
        (
            "message Q { repeated D d = 1; }
             message D { string id = 1 [(google.api.resource_reference).type = \"apic.huaweicloud.com/Certificate\"]; }",
            post("/x"),
            "`t.D.id`: a Certificate can't be named in a nested message like this",
        ),
    ];
    for (messages, text, sentence) in cases {
        assert_eq!(rule(messages, &text).unwrap_err(), format!("t.S.M: {sentence}"), "{text}");
    }
}

#[test]
fn an_answer_that_can_not_be_read_names_the_field() {
    let cases = [
        ("double d = 1;", "`t.A.d`: double can't be read from JSON here"),
        ("bytes b = 1;", "`t.A.b`: bytes can't be read from JSON here"),
        ("map<string, string> m = 1;", "`t.A.m`: maps and oneofs have no JSON form here"),
        ("oneof o { string a = 1; }", "`t.A.a`: maps and oneofs have no JSON form here"),
        (
            "repeated google.protobuf.Timestamp at = 1;",
            "`t.A.at`: google.protobuf.Timestamp can't be read from JSON here",
        ),
    ];
    for (fields, sentence) in cases {
        let messages = format!("message Q {{ string id = 1; }} message A {{ {fields} }}");
        let fault = method(&messages, "A", READ, r#"get: "/v2/{id}""#).unwrap_err();
        assert_eq!(fault, format!("t.S.M: {sentence}"));
    }
}

#[test]
fn several_services_and_files_are_bound_together() {
    let folder = tempfile::tempdir().unwrap();
    let google = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let file = |name: &str, package: &str, service: &str, request: &str| {
        let text = format!(
            "syntax = \"proto3\";\npackage {package};\nimport \"google/api/annotations.proto\";\n\
             message {request} {{ string id = 1; }}\nmessage {request}Answer {{}}\n\
             service {service} {{ rpc M({request}) returns ({request}Answer) {{ option (google.api.http) = {{ post: \"/{{id}}\" }}; }} }}"
        );
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let bound = |files: &[std::path::PathBuf]| {
        let mut compiler = protox::Compiler::new([folder.path(), &google]).unwrap();
        for file in files {
            compiler.open_file(file).unwrap();
        }
        binding::read(&compiler.descriptor_pool()).map(|bindings| bindings.resources())
    };
    let (one, two) = (file("a.proto", "t", "S", "Q"), file("b.proto", "t", "T", "P"));
    let code = bound(&[one.clone(), two]).unwrap();
    contains(&code, &["\"t.S/M\"", "\"t.T/M\"", "&[<pb::Q as Describe>::METHOD, <pb::P as Describe>::METHOD]"]);
    let elsewhere = file("c.proto", "u", "S", "O");
    assert_eq!(bound(&[one, elsewhere]).unwrap_err(), "u.S: all services must be in one package");
}

#[test]
fn a_method_without_a_rule_fails_the_build() {
    let bare = "rpc M(Q) returns (R);";
    assert_eq!(read(&["api/annotations"], QUESTION, bare).unwrap_err(), "t.S.M: the google.api.http option is missing");
    assert_eq!(read(&[], QUESTION, bare).unwrap_err(), "t.S.M: google/api/annotations.proto is not imported");
    let fault = read(&["api/annotations"], QUESTION, "rpc M(stream Q) returns (R);").unwrap_err();
    assert_eq!(fault, "t.S.M: a streaming method has no REST form");
}
