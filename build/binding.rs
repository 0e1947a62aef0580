//! Makes an operation of each method out of its description in the .proto: REST form, answer, resources, rules of its
//! fields, secrets. What can't be expressed is an error that names the method, the field and the reason. It writes Rust
//! text.

mod describe;
mod json;
mod options;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};

use self::{describe::Described, json::Json};

/// The operations of every service outside `google.`.
#[derive(Debug)]
pub(crate) struct Bindings {
    methods: Vec<Binding>,
    json: Json,
    described: Described,
}

#[derive(Debug)]
struct Binding {
    method: MethodDescriptor,
    verb: &'static str,
    path: Vec<Segment>,
    /// In the order of their names.
    query: Vec<FieldDescriptor>,
    body: Body,
    is_read: bool,
}

#[derive(Debug)]
enum Segment {
    Literal(String),
    Field(FieldDescriptor),
    /// The project, which a gateway can have a default for.
    Project(FieldDescriptor),
    /// The segment that tells the API families apart; see `api-family` in the settings.
    Family,
}

#[derive(Debug)]
enum Body {
    None,
    /// Every field that is not in the path.
    Rest,
    Field(FieldDescriptor),
}

/// Reads the operations of all methods in the pool.
pub(crate) fn read(pool: &DescriptorPool) -> Result<Bindings, String> {
    let mut bindings = Bindings { methods: Vec::new(), json: Json::default(), described: Described::default() };
    let mut requests = BTreeSet::new();
    let mut package: Option<String> = None;
    for service in pool.services().filter(|service| !service.full_name().starts_with("google.")) {
        if *package.get_or_insert_with(|| service.package_name().to_owned()) != service.package_name() {
            return Err(format!("{}: all services must be in one package", service.full_name()));
        }
        for method in service.methods() {
            let name = method.full_name().to_owned();
            let request = method.input();
            if !requests.insert(request.full_name().to_owned()) {
                return Err(format!("{name}: {} already belongs to another method", request.full_name()));
            }
            bindings.add(method).map_err(|fault| format!("{name}: {fault}"))?;
        }
    }
    bindings.described.add_redacted(pool);
    Ok(bindings)
}

fn read_method(method: MethodDescriptor) -> Result<Binding, String> {
    if method.is_client_streaming() || method.is_server_streaming() {
        return Err("a streaming method has no REST form".into());
    }
    let rule = options::http_rule(&method)?;
    for unsupported in ["response_body", "additional_bindings", "selector"] {
        if rule.has_field_by_name(unsupported) {
            return Err(format!("the binding has no place for `{unsupported}`"));
        }
    }
    let patterns = [("get", "GET"), ("put", "PUT"), ("post", "POST"), ("delete", "DELETE"), ("patch", "PATCH")];
    let (verb, template) = patterns
        .iter()
        .find(|(field, _)| rule.has_field_by_name(field))
        .map(|(field, verb)| (*verb, text(&rule, field)))
        .ok_or("the rule names none of get, put, post, delete and patch")?;
    let is_read = options::is_read(&method);
    if is_read && !matches!(verb, "GET" | "POST") {
        return Err(format!("NO_SIDE_EFFECTS does not go with {verb}"));
    }
    let request = method.input();
    let path = read_path(&template, &request)?;
    let in_path: BTreeSet<&str> = path_fields(&path).map(FieldDescriptor::name).collect();
    let body = match text(&rule, "body").as_str() {
        "" => Body::None,
        _ if matches!(verb, "GET" | "DELETE") => return Err(format!("{verb} has no body")),
        "*" => Body::Rest,
        name => Body::Field(body_field(name, &request, &in_path)?),
    };
    let is_in_query = |field: &FieldDescriptor| match &body {
        Body::None => !in_path.contains(field.name()),
        Body::Rest => false,
        Body::Field(body) => field != body && !in_path.contains(field.name()),
    };
    let mut query: Vec<FieldDescriptor> = request.fields().filter(is_in_query).collect();
    query.iter().try_for_each(check_query_field)?;
    query.sort_by(|one, other| one.name().cmp(other.name()));
    Ok(Binding { method, verb, path, query, body, is_read })
}

fn text(rule: &DynamicMessage, field: &str) -> String {
    rule.get_field_by_name(field).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn read_path(template: &str, request: &MessageDescriptor) -> Result<Vec<Segment>, String> {
    let rest = template.strip_prefix('/').ok_or_else(|| format!("the path `{template}` does not begin with `/`"))?;
    let mut path: Vec<Segment> = Vec::new();
    for segment in rest.split('/') {
        let field = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
        path.push(match field {
            Some(name) => {
                let field = path_field(name, request, &path)?;
                match options::kind(&field)? {
                    Some("Project") => Segment::Project(field),
                    _ => Segment::Field(field),
                }
            }
            None if segment == "apic" => Segment::Family,
            None if is_literal(segment) => Segment::Literal(segment.to_owned()),
            None => return Err(format!("the path segment `{segment}` can't be bound")),
        });
    }
    Ok(path)
}

fn path_fields(path: &[Segment]) -> impl Iterator<Item = &FieldDescriptor> {
    path.iter().filter_map(|segment| match segment {
        Segment::Field(field) | Segment::Project(field) => Some(field),
        Segment::Literal(_) | Segment::Family => None,
    })
}

/// RFC 3986 unreserved characters: a literal that needs no encoding, and so none of the template language's marks.
fn is_literal(segment: &str) -> bool {
    !segment.is_empty()
        && !matches!(segment, "." | "..")
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

fn path_field(name: &str, request: &MessageDescriptor, before: &[Segment]) -> Result<FieldDescriptor, String> {
    if name.contains(['.', '=', '*']) {
        return Err(format!("`{{{name}}}`: nested fields and patterns can't be bound"));
    }
    let field = request
        .get_field_by_name(name)
        .ok_or_else(|| format!("the path names `{name}`, which {} does not have", request.full_name()))?;
    if field.kind() != Kind::String || field.is_list() || field.supports_presence() {
        return Err(format!("the path field `{name}` is not a plain string"));
    }
    if path_fields(before).any(|other| *other == field) {
        return Err(format!("the path names `{name}` twice"));
    }
    Ok(field)
}

fn body_field(name: &str, request: &MessageDescriptor, in_path: &BTreeSet<&str>) -> Result<FieldDescriptor, String> {
    let field = request
        .get_field_by_name(name)
        .ok_or_else(|| format!("the body is `{name}`, which {} does not have", request.full_name()))?;
    if in_path.contains(name) {
        return Err(format!("`{name}` is both in the path and the body"));
    }
    if !matches!(field.kind(), Kind::Message(_)) || field.is_map() {
        return Err(format!("the body field `{name}` is not a message"));
    }
    Ok(field)
}

/// Refuses fields that a query can't carry.
fn check_query_field(field: &FieldDescriptor) -> Result<(), String> {
    let name = field.full_name();
    json::refuse_maps_and_oneofs(field)?;
    if options::is_secret(field) {
        return Err(format!("`{name}`: a secret must not be in a query, which servers log"));
    }
    match field.kind() {
        Kind::String => Ok(()),
        Kind::Bool | Kind::Int32 | Kind::Uint32 | Kind::Int64 | Kind::Uint64 | Kind::Enum(_) => {
            if field.is_list() || field.supports_presence() {
                Ok(())
            } else {
                Err(format!("`{name}` must be `optional`: its zero can't be told from its absence"))
            }
        }
        other => Err(format!("`{name}`: {other:?} can't be in a query")),
    }
}

impl Binding {
    /// The path with the names of its fields.
    fn template(&self) -> String {
        let segment = |segment: &Segment| match segment {
            Segment::Literal(text) => format!("/{text}"),
            Segment::Family => "/{family}".into(),
            Segment::Project(field) | Segment::Field(field) => format!("/{{{}}}", field.name()),
        };
        self.path.iter().map(segment).collect()
    }

    fn code(&self) -> String {
        let segments: Vec<String> = self
            .path
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => format!("Segment::Literal({text:?})"),
                Segment::Family => "Segment::Family".into(),
                Segment::Project(field) => format!("Segment::Project {{ name: {:?} }}", field.name()),
                Segment::Field(field) => {
                    format!("Segment::Field {{ name: {:?}, value: &self.{} }}", field.name(), ident(field))
                }
            })
            .collect();
        let query: String = self
            .query
            .iter()
            .map(|field| {
                let (name, ident) = (field.name(), ident(field));
                if field.is_list() {
                    format!("query.add_all({name:?}, &self.{ident}); ")
                } else if field.supports_presence() {
                    format!("query.add({name:?}, self.{ident}.as_ref()); ")
                } else {
                    format!("query.add({name:?}, Some(&self.{ident}).filter(|text| !text.is_empty())); ")
                }
            })
            .collect();
        let body = match &self.body {
            Body::None => "None".into(),
            Body::Rest => "Some(json(self, prost::Message::encoded_len(self)))".into(),
            Body::Field(field) => {
                format!("Some(json(&self.{}, prost::Message::encoded_len(self)))", ident(field))
            }
        };
        let secrets: String = describe::secrets(&self.method.input())
            .map(|field| {
                let ident = ident(&field);
                match (field.is_list(), field.supports_presence()) {
                    (true, _) => format!("secrets.extend(self.{ident}.iter().map(String::as_str)); "),
                    (false, true) => format!("secrets.extend(self.{ident}.as_deref()); "),
                    (false, false) => format!("secrets.push(&self.{ident}); "),
                }
            })
            .collect();
        let answer = self.method.output();
        let has_answer = answer.fields().len() > 0;
        format!(
            "impl Operation for pb::{request} {{\n    \
                type Response = pb::{response};\n    \
                const VERB: Verb = Verb::{verb};\n    \
                const SUCCESS: StatusCode = StatusCode::{success};\n    \
                const HAS_ANSWER: bool = {has_answer};\n    \
                const TEMPLATE: &'static str = {template:?};\n    \
                fn path(&self) -> impl Iterator<Item = Segment<'_>> {{\n        \
                    [{segments}].into_iter()\n    \
                }}\n    \
                fn query(&self, query: &mut Query) {{ let _ = &query; {query}}}\n    \
                fn body(&self) -> Option<Vec<u8>> {{ {body} }}\n    \
                fn secrets<'a>(&'a self, secrets: &mut Vec<&'a str>) {{ let _ = &secrets; {secrets}}}\n    \
                fn decode(body: &[u8]) -> Result<Self::Response, serde_json::Error> {{ {decode} }}\n\
            }}\n",
            request = self.method.input().name(),
            response = answer.name(),
            verb = self.verb,
            success = if has_answer { "OK" } else { "NO_CONTENT" },
            template = self.template(),
            segments = segments.join(", "),
            decode = if has_answer { "pb::json::decode(body)" } else { "let _ = body; Ok(Self::Response::default())" },
        )
    }
}

/// The name of a field in Rust.
fn ident(field: &FieldDescriptor) -> String {
    const KEYWORDS: [&str; 37] = [
        "as", "async", "await", "break", "const", "continue", "dyn", "else", "enum", "false", "fn", "for", "gen", "if",
        "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "static", "struct",
        "trait", "true", "try", "type", "unsafe", "use", "where", "while", "yield", "box",
    ];
    let name = field.name();
    if KEYWORDS.contains(&name) { format!("r#{name}") } else { name.to_owned() }
}

impl Bindings {
    fn add(&mut self, method: MethodDescriptor) -> Result<(), String> {
        let binding = read_method(method)?;
        let request = binding.method.input();
        match &binding.body {
            Body::None => {}
            Body::Rest => {
                let in_path: Vec<_> = path_fields(&binding.path).map(|field| field.name().to_owned()).collect();
                self.json.write(&request, &in_path)?;
            }
            Body::Field(field) => {
                if let Kind::Message(inner) = field.kind() {
                    self.json.write(&inner, &[])?;
                }
            }
        }
        if binding.method.output().fields().len() > 0 {
            self.json.read(&binding.method.output())?;
        }
        let in_path: Vec<&FieldDescriptor> = path_fields(&binding.path).collect();
        self.described.add(&binding.method, &in_path, binding.is_read)?;
        self.methods.push(binding);
        Ok(())
    }

    /// The operations, to include beside their trait.
    pub(crate) fn operations(&self) -> String {
        self.methods.iter().map(Binding::code).collect()
    }

    /// The resources of each request, to include beside their trait.
    pub(crate) fn resources(&self) -> String {
        let mut code = self.described.resources().to_owned();
        let methods: Vec<String> = self
            .methods
            .iter()
            .map(|binding| format!("<pb::{} as Describe>::METHOD", binding.method.input().name()))
            .collect();
        let _ = writeln!(
            code,
            "/// Every method of the API.\npub(crate) const METHODS: &[&Method] = &[{}];",
            methods.join(", ")
        );
        code
    }

    /// The rules of each request's fields, to include beside their trait.
    pub(crate) fn checks(&self) -> &str {
        self.described.checks()
    }

    /// `Debug` of messages with secrets, to include beside them.
    pub(crate) fn redacted(&self) -> &str {
        self.described.redacted()
    }

    /// The messages that have it.
    pub(crate) fn redacted_messages(&self) -> &[String] {
        self.described.redacted_messages()
    }

    /// Whether each message asks for a change, to include beside the messages.
    pub(crate) fn decoded(&self) -> String {
        // A message that is both is a request.
        let mut messages: BTreeMap<String, bool> = BTreeMap::new();
        for binding in &self.methods {
            messages.entry(binding.method.output().name().to_owned()).or_default();
            messages.insert(binding.method.input().name().to_owned(), !binding.is_read);
        }
        let code = |(name, is_change)| format!("impl Decoded for {name} {{ const IS_CHANGE: bool = {is_change}; }}\n");
        messages.into_iter().map(code).collect()
    }

    /// Attributes that make messages travel as JSON.
    pub(crate) fn message_attributes(&self) -> Vec<(String, &'static str)> {
        self.json.message_attributes()
    }

    /// Attributes of their fields.
    pub(crate) fn field_attributes(&self) -> Vec<(String, String)> {
        self.json.field_attributes()
    }
}
