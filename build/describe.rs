//! Writes for each request the resources that it names, the rules of its fields, and for each message with secrets a
//! `Debug` that leaves them out.

use std::fmt::Write as _;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};

use super::{ident, options};

#[derive(Debug, Default)]
pub(crate) struct Described {
    resources: String,
    checks: String,
    checked: Vec<MessageDescriptor>,
    redacted: String,
    redacted_messages: Vec<String>,
}

impl Described {
    /// Adds a method; the fields are those of its path.
    pub(crate) fn add(
        &mut self,
        method: &MethodDescriptor,
        in_path: &[&FieldDescriptor],
        is_read: bool,
    ) -> Result<(), String> {
        let request = method.input();
        let mut names = Vec::new();
        let mut body = String::new();
        for field in request.fields() {
            let ident = ident(&field);
            if let Kind::Message(inner) = field.kind() {
                if let Some(line) = entries(&field, &inner, &mut names)? {
                    body.push_str(&line);
                }
                continue;
            }
            let Some(kind) = options::kind(&field)? else { continue };
            check_is_text(&field)?;
            names.push(kind);
            let line = match (kind, field.is_list()) {
                ("Project", false) => format!("resources.project = &self.{ident};"),
                ("Project", true) => return Err(format!("`{}`: a request has one project", field.full_name())),
                (_, true) => format!("for id in &self.{ident} {{ resources.add(Kind::{kind}, id); }}"),
                (_, false) if field.supports_presence() => {
                    format!("if let Some(id) = &self.{ident} {{ resources.add(Kind::{kind}, id); }}")
                }
                (_, false) => format!("resources.add(Kind::{kind}, &self.{ident});"),
            };
            let _ = writeln!(body, "        {line}");
        }
        let names: Vec<String> = names.iter().map(|kind| format!("Kind::{kind}")).collect();
        let _ = write!(
            self.resources,
            "impl Describe for pb::{request} {{\n    \
                const METHOD: &'static Method = &Method {{\n        \
                    name: \"{service}/{name}\",\n        \
                    is_change: {is_change},\n        \
                    names: &[{names}],\n        \
                    parameters: &[{parameters}],\n    \
                }};\n    \
                fn resources(&self) -> Resources<'_> {{\n        \
                    #[allow(unused_mut, reason = \"not every request names something\")]\n        \
                    let mut resources = Resources::new(Self::METHOD);\n\
                    {body}        resources\n    \
                }}\n\
            }}\n",
            request = request.name(),
            service = method.parent_service().full_name(),
            name = method.name(),
            is_change = !is_read,
            names = names.join(", "),
            parameters = parameters(&request),
        );
        self.check(&request, in_path)
    }

    /// Writes the rules of a message's fields, and of the messages in it.
    fn check(&mut self, message: &MessageDescriptor, in_path: &[&FieldDescriptor]) -> Result<(), String> {
        if self.checked.contains(message) {
            return Ok(());
        }
        self.checked.push(message.clone());
        let domain_has_instances = named(message, "Domain")?.is_some();
        let mut body = String::new();
        let mut inner_messages = Vec::new();
        for field in message.fields() {
            let (name, ident) = (field.name(), ident(&field));
            let at = format!("at.field({name:?})");
            let is_required = options::is_required(&field) || in_path.contains(&&field);
            let kind = options::kind(&field)?;
            if is_required && field.is_list() {
                let _ = writeln!(body, "        found.not_empty(&{at}, self.{ident}.len());");
            } else if is_required && field.supports_presence() {
                let _ = writeln!(body, "        found.required(&{at}, self.{ident}.is_some());");
            }
            if let Kind::Message(inner) = field.kind() {
                if inner.full_name().starts_with("google.") || field.is_map() {
                    continue;
                }
                let line = if field.is_list() {
                    format!(
                        "for (index, entry) in self.{ident}.iter().enumerate() {{ \
                         entry.check(&at.entry({name:?}, index), rules, found); }}"
                    )
                } else {
                    format!("if let Some(inner) = &self.{ident} {{ inner.check(&{at}, rules, found); }}")
                };
                let _ = writeln!(body, "        {line}");
                inner_messages.push(inner);
                continue;
            }
            let is_id = in_path.contains(&&field) || !matches!(kind, None | Some("Domain" | "Project"));
            let rule = match kind {
                Some("Project") => format!("found.project(&{at}, &self.{ident}, rules);"),
                Some("Domain") if !field.is_list() => format!("found.domain(&{at}, &self.{ident}, {is_required});"),
                Some("Domain") => format!(
                    "for (index, name) in self.{ident}.iter().enumerate() {{ \
                     found.domain(&at.entry({name:?}, index), name, true); }}"
                ),
                _ if is_id && field.is_list() => {
                    let all = if domain_has_instances && kind == Some("Instance") {
                        format!("found.instances(&{at}, self.{ident}.len(), rules); ")
                    } else {
                        String::new()
                    };
                    format!(
                        "{all}for (index, id) in self.{ident}.iter().enumerate() {{ \
                         found.id(&at.entry({name:?}, index), id, true); }}"
                    )
                }
                _ if is_id && field.supports_presence() => {
                    format!("if let Some(id) = &self.{ident} {{ found.id(&{at}, id, true); }}")
                }
                _ if is_id => format!("found.id(&{at}, &self.{ident}, {is_required});"),
                _ if is_required && field.kind() == Kind::String && !field.is_list() => {
                    let text = if field.supports_presence() { ".as_deref().unwrap_or(\"-\")" } else { "" };
                    format!("found.not_empty(&{at}, self.{ident}{text}.len());")
                }
                _ => continue,
            };
            let _ = writeln!(body, "        {rule}");
        }
        let _ = write!(
            self.checks,
            "impl Check for pb::{} {{\n    #[allow(unused_variables, reason = \"not every message has rules\")]\n    \
             fn check(&self, at: &At<'_>, rules: Rules, found: &mut Violations) {{\n{body}    }}\n}}\n",
            message.name()
        );
        inner_messages.iter().try_for_each(|inner| self.check(inner, &[]))
    }

    /// Writes `Debug` for every message that has a secret.
    pub(crate) fn add_redacted(&mut self, pool: &DescriptorPool) {
        for message in pool.all_messages().filter(|message| secrets(message).next().is_some()) {
            self.redacted_messages.push(format!(".{}", message.full_name()));
            let fields: String = message
                .fields()
                .map(|field| {
                    let name = field.name();
                    if options::is_secret(&field) {
                        format!(".field({name:?}, &::core::format_args!(\"[redacted]\"))")
                    } else {
                        format!(".field({name:?}, &self.{})", ident(&field))
                    }
                })
                .collect();
            let _ = write!(
                self.redacted,
                "impl ::core::fmt::Debug for {name} {{\n    \
                 fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{\n        \
                 f.debug_struct({name:?}){fields}.finish()\n    }}\n}}\n",
                name = message.name()
            );
        }
    }

    pub(crate) fn resources(&self) -> &str {
        &self.resources
    }

    pub(crate) fn checks(&self) -> &str {
        &self.checks
    }

    pub(crate) fn redacted(&self) -> &str {
        &self.redacted
    }

    pub(crate) fn redacted_messages(&self) -> &[String] {
        &self.redacted_messages
    }
}

/// The fields of a message that must never be printed.
pub(crate) fn secrets(message: &MessageDescriptor) -> impl Iterator<Item = FieldDescriptor> + use<> {
    message.fields().filter(options::is_secret).collect::<Vec<_>>().into_iter()
}

fn check_is_text(field: &FieldDescriptor) -> Result<(), String> {
    if field.kind() == Kind::String {
        Ok(())
    } else {
        Err(format!("`{}`: only a string names a resource", field.full_name()))
    }
}

/// The field of a message that names a resource of that kind.
fn named(message: &MessageDescriptor, wanted: &str) -> Result<Option<FieldDescriptor>, String> {
    for field in message.fields() {
        if options::kind(&field)? == Some(wanted) {
            return Ok(Some(field));
        }
    }
    Ok(None)
}

/// The line that adds the domains of a list of messages, each with its instances.
fn entries(
    field: &FieldDescriptor,
    message: &MessageDescriptor,
    names: &mut Vec<&'static str>,
) -> Result<Option<String>, String> {
    if message.full_name().starts_with("google.") {
        return Ok(None);
    }
    if let Some(secret) = secrets(message).next() {
        return Err(format!("`{}`: a secret in a nested message can't be masked", secret.full_name()));
    }
    let (domain, instances) = (named(message, "Domain")?, named(message, "Instance")?);
    for other in message.fields() {
        let is_list = other.is_list();
        match options::kind(&other)? {
            None => {
                if let Kind::Message(deeper) = other.kind() {
                    let mut deeper_names = Vec::new();
                    if entries(&other, &deeper, &mut deeper_names)?.is_some() {
                        return Err(format!("`{}`: resources can't be named as deep as this", other.full_name()));
                    }
                }
            }
            Some("Domain") if !is_list && !other.supports_presence() => check_is_text(&other)?,
            Some("Instance") if is_list && domain.is_some() => check_is_text(&other)?,
            Some(kind) => {
                return Err(format!("`{}`: a {kind} can't be named in a nested message like this", other.full_name()));
            }
        }
    }
    let Some(domain) = domain else { return Ok(None) };
    if !field.is_list() {
        return Err(format!("`{}`: domains are named in a list", field.full_name()));
    }
    names.push("Domain");
    let instances = instances.map_or_else(
        || "&[]".to_owned(),
        |instances| {
            names.push("Instance");
            format!("&entry.{}", ident(&instances))
        },
    );
    Ok(Some(format!(
        "        resources.domains.extend(self.{}.iter().map(|entry| Domain {{ name: &entry.{}, instances: {instances} }}));\n",
        ident(field),
        ident(&domain)
    )))
}

/// The cloud's parameters and the fields that carry them: those of the request, then those of its lists.
fn parameters(request: &MessageDescriptor) -> String {
    let mut rows: Vec<(String, String, String)> = Vec::new();
    let mut add = |name: &str, field: String, list: String| {
        if !rows.iter().any(|(known, ..)| known == name) {
            rows.push((name.to_owned(), field, list));
        }
    };
    let nested = |field: &FieldDescriptor| match field.kind() {
        Kind::Message(inner) if field.is_list() => Some(inner),
        _ => None,
    };
    for field in request.fields() {
        add(field.name(), field.name().to_owned(), field.name().to_owned());
    }
    for list in request.fields() {
        for field in nested(&list).iter().flat_map(MessageDescriptor::fields) {
            add(field.name(), format!("{}[0].{}", list.name(), field.name()), list.name().to_owned());
        }
    }
    // The cloud speaks of one id where a field holds several.
    let singular = |field: &FieldDescriptor| {
        field.name().strip_suffix("_ids").filter(|_| field.is_list()).map(|stem| format!("{stem}_id"))
    };
    for field in request.fields() {
        if let Some(name) = singular(&field) {
            add(&name, field.name().to_owned(), field.name().to_owned());
        }
    }
    for list in request.fields() {
        for field in nested(&list).iter().flat_map(MessageDescriptor::fields) {
            if let Some(name) = singular(&field) {
                add(&name, format!("{}[0].{}", list.name(), field.name()), list.name().to_owned());
            }
        }
    }
    let rows = rows
        .iter()
        .map(|(name, field, list)| format!("Parameter {{ name: {name:?}, field: {field:?}, of_many: {list:?} }}"));
    rows.collect::<Vec<_>>().join(", ")
}
