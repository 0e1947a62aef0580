//! Reads each method's `google.api.http` rule and writes its REST binding; a rule that the binding can't express is
//! an error that names the method. It writes Rust text and knows nothing of HTTP clients.

use std::{collections::BTreeSet, fmt::Write as _};

use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value,
};

/// The REST bindings of every service outside `google.`.
#[derive(Debug)]
pub(crate) struct Bindings {
    methods: Vec<Binding>,
    /// The messages that travel as JSON, wholly or in part.
    messages: Vec<MessageDescriptor>,
}

#[derive(Debug)]
struct Binding {
    method: MethodDescriptor,
    verb: &'static str,
    path: Vec<Segment>,
    has_body: bool,
}

#[derive(Debug)]
enum Segment {
    Literal(String),
    Field(FieldDescriptor),
    /// The segment that tells the API families apart; see `api-family` in the settings.
    Family,
}

/// Reads the bindings of all methods in the pool.
pub(crate) fn read(pool: &DescriptorPool) -> Result<Bindings, String> {
    let mut methods = Vec::new();
    let mut messages = Vec::new();
    let mut requests = BTreeSet::new();
    for service in pool.services().filter(|service| !service.full_name().starts_with("google.")) {
        for method in service.methods() {
            let name = method.full_name().to_owned();
            let binding = read_method(method).map_err(|fault| format!("{name}: {fault}"))?;
            let request = binding.method.input();
            if !requests.insert(request.full_name().to_owned()) {
                return Err(format!("{name}: {} already belongs to another method", request.full_name()));
            }
            if binding.has_body {
                let in_path = binding.path_fields();
                collect(&request, &in_path, &mut messages).map_err(|fault| format!("{name}: {fault}"))?;
            }
            methods.push(binding);
        }
    }
    Ok(Bindings { methods, messages })
}

fn read_method(method: MethodDescriptor) -> Result<Binding, String> {
    if method.is_client_streaming() || method.is_server_streaming() {
        return Err("a streaming method has no REST form".into());
    }
    if method.output().fields().len() > 0 {
        return Err("the binding reads no answer's body yet, but the response message has fields".into());
    }
    let rule = rule(&method)?;
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
    let path = read_path(&template, &method.input())?;
    let has_body = match text(&rule, "body").as_str() {
        "*" => true,
        "" => false,
        other => return Err(format!("`body: \"{other}\"`: only `*` or no body can be bound")),
    };
    let binding = Binding { method, verb, path, has_body };
    if !has_body {
        let in_path = binding.path_fields();
        if let Some(left) = binding.method.input().fields().find(|field| !in_path.contains(field.name())) {
            return Err(format!("`{}` is neither in the path nor in a body; queries can't be bound", left.name()));
        }
    }
    Ok(binding)
}

fn rule(method: &MethodDescriptor) -> Result<DynamicMessage, String> {
    let http = method
        .parent_pool()
        .get_extension_by_name("google.api.http")
        .ok_or("google/api/annotations.proto is not imported")?;
    let options = method.options();
    if !options.has_extension(&http) {
        return Err("the google.api.http option is missing".into());
    }
    match options.get_extension(&http).as_ref() {
        Value::Message(rule) => Ok(rule.clone()),
        other => Err(format!("google.api.http is no message: {other:?}")),
    }
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
            Some(name) => Segment::Field(path_field(name, request, &path)?),
            None if segment == "apic" => Segment::Family,
            None if is_literal(segment) => Segment::Literal(segment.to_owned()),
            None => return Err(format!("the path segment `{segment}` can't be bound")),
        });
    }
    Ok(path)
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
    if before.iter().any(|segment| matches!(segment, Segment::Field(other) if *other == field)) {
        return Err(format!("the path names `{name}` twice"));
    }
    Ok(field)
}

/// Adds the message and all that its fields lead to, and refuses fields whose JSON form the binding can't write.
fn collect(
    message: &MessageDescriptor,
    in_path: &BTreeSet<String>,
    messages: &mut Vec<MessageDescriptor>,
) -> Result<(), String> {
    if messages.contains(message) {
        return Ok(());
    }
    messages.push(message.clone());
    for field in message.fields().filter(|field| !in_path.contains(field.name())) {
        let name = field.full_name();
        if field.is_map() || (field.containing_oneof().is_some() && !is_optional(&field)) {
            return Err(format!("`{name}`: maps and oneofs have no JSON form here"));
        }
        match field.kind() {
            Kind::Message(inner) => collect(&inner, &BTreeSet::new(), messages)?,
            Kind::String => {}
            Kind::Bool | Kind::Int32 | Kind::Uint32 | Kind::Int64 | Kind::Uint64
                if field.is_list() || field.supports_presence() => {}
            Kind::Bool | Kind::Int32 | Kind::Uint32 | Kind::Int64 | Kind::Uint64 => {
                return Err(format!("`{name}` must be `optional`: its zero can't be told from its absence"));
            }
            other => return Err(format!("`{name}`: {other:?} has no JSON form here")),
        }
    }
    Ok(())
}

fn is_optional(field: &FieldDescriptor) -> bool {
    field.field_descriptor_proto().proto3_optional()
}

impl Binding {
    fn path_fields(&self) -> BTreeSet<String> {
        self.path
            .iter()
            .filter_map(|segment| match segment {
                Segment::Field(field) => Some(field.name().to_owned()),
                Segment::Literal(_) | Segment::Family => None,
            })
            .collect()
    }

    /// An empty response message is the family's 204 without a body; `read_method` admits no other.
    fn code(&self) -> String {
        let segments: Vec<String> = self
            .path
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => format!("Segment::Literal({text:?})"),
                Segment::Family => "Segment::Family".into(),
                Segment::Field(field) => {
                    format!("Segment::Field {{ name: {0:?}, value: &self.{0} }}", field.name())
                }
            })
            .collect();
        let service = self.method.parent_service();
        format!(
            "impl Operation for pb::{request} {{\n    \
                type Response = pb::{response};\n    \
                const METHOD: &'static str = \"{service}/{name}\";\n    \
                const VERB: Verb = Verb::{verb};\n    \
                const HAS_BODY: bool = {has_body};\n    \
                const SUCCESS: StatusCode = StatusCode::NO_CONTENT;\n    \
                fn path(&self) -> impl Iterator<Item = Segment<'_>> {{\n        \
                    [{segments}].into_iter()\n    \
                }}\n\
            }}\n",
            request = self.method.input().name(),
            response = self.method.output().name(),
            service = service.full_name(),
            name = self.method.name(),
            verb = self.verb,
            has_body = self.has_body,
            segments = segments.join(", "),
        )
    }
}

impl Bindings {
    /// The Rust text to include beside the `Operation` trait.
    pub(crate) fn code(&self) -> String {
        let mut code: String = self.methods.iter().map(Binding::code).collect();
        let names: Vec<String> = self
            .methods
            .iter()
            .map(|binding| format!("<pb::{} as Operation>::METHOD", binding.method.input().name()))
            .collect();
        let _ = writeln!(
            code,
            "/// Every method that has a REST binding.\npub(crate) const METHODS: &[&str] = &[{}];",
            names.join(", ")
        );
        let changes: Vec<&str> = self
            .methods
            .iter()
            .zip(&names)
            .filter(|(binding, _)| binding.verb != "GET")
            .map(|(_, name)| &**name)
            .collect();
        let _ = writeln!(
            code,
            "/// The methods that may change something.\npub(crate) const CHANGES: &[&str] = &[{}];",
            changes.join(", ")
        );
        code
    }

    /// Attributes that make messages serializable.
    pub(crate) fn message_attributes(&self) -> impl Iterator<Item = (String, &'static str)> {
        let rest = self.methods.iter().filter(|binding| !binding.has_body).map(|binding| binding.method.input());
        self.messages
            .iter()
            .cloned()
            .chain(rest)
            .map(|message| (format!(".{}", message.full_name()), "#[derive(::serde::Serialize)]"))
    }

    /// Attributes that leave path fields, absent fields and empty fields out of the JSON.
    pub(crate) fn field_attributes(&self) -> Vec<(String, &'static str)> {
        let in_path: BTreeSet<String> = self
            .methods
            .iter()
            .flat_map(|binding| {
                let request = binding.method.input();
                binding.path_fields().into_iter().map(move |field| format!("{}.{field}", request.full_name()))
            })
            .collect();
        let inputs = self.methods.iter().map(|binding| binding.method.input());
        let mut attributes = Vec::new();
        let mut seen = BTreeSet::new();
        for field in
            inputs.chain(self.messages.iter().cloned()).flat_map(|message| message.fields().collect::<Vec<_>>())
        {
            let name = field.full_name().to_owned();
            if !seen.insert(name.clone()) {
                continue;
            }
            let attribute = if in_path.contains(&name) {
                "#[serde(skip)]"
            } else if field.cardinality() == Cardinality::Repeated {
                "#[serde(skip_serializing_if = \"Vec::is_empty\")]"
            } else if field.supports_presence() {
                "#[serde(skip_serializing_if = \"Option::is_none\")]"
            } else {
                "#[serde(skip_serializing_if = \"String::is_empty\")]"
            };
            attributes.push((format!(".{name}"), attribute));
        }
        attributes
    }
}
