//! The serde attributes of messages: how a request's fields are written as JSON, and how an answer's are read.

use std::collections::BTreeMap;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// The Rust type of times, and its name in a .proto.
const TIMESTAMP: &str = "google.protobuf.Timestamp";

/// The messages that travel as JSON, by name, and in which direction.
#[derive(Debug, Default)]
pub(crate) struct Json(BTreeMap<String, Use>);

#[derive(Debug)]
struct Use {
    message: MessageDescriptor,
    is_written: bool,
    is_read: bool,
    /// Fields that travel elsewhere.
    skipped: Vec<String>,
}

impl Json {
    /// Adds a message of requests with all that its fields lead to, but for the fields that travel elsewhere.
    pub(crate) fn write(&mut self, message: &MessageDescriptor, skipped: &[String]) -> Result<(), String> {
        let entry = self.entry(message);
        if std::mem::replace(&mut entry.is_written, true) {
            return Ok(());
        }
        skipped.clone_into(&mut entry.skipped);
        for field in message.fields().filter(|field| !skipped.iter().any(|name| name == field.name())) {
            if let Some(inner) = written(&field)? {
                self.write(&inner, &[])?;
            }
        }
        Ok(())
    }

    /// Adds a message of answers with all that its fields lead to.
    pub(crate) fn read(&mut self, message: &MessageDescriptor) -> Result<(), String> {
        if std::mem::replace(&mut self.entry(message).is_read, true) {
            return Ok(());
        }
        for field in message.fields() {
            if let Some(inner) = read(&field)? {
                self.read(&inner)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, message: &MessageDescriptor) -> &mut Use {
        let new = || Use { message: message.clone(), is_written: false, is_read: false, skipped: Vec::new() };
        self.0.entry(message.full_name().to_owned()).or_insert_with(new)
    }

    /// Attributes of messages, by path.
    pub(crate) fn message_attributes(&self) -> Vec<(String, &'static str)> {
        let attribute = |used: &Use| match (used.is_written, used.is_read) {
            (true, false) => "#[derive(::serde::Serialize)]",
            (false, _) => "#[derive(::serde::Deserialize)] #[serde(default)]",
            (true, true) => "#[derive(::serde::Serialize, ::serde::Deserialize)] #[serde(default)]",
        };
        self.0.iter().map(|(name, used)| (format!(".{name}"), attribute(used))).collect()
    }

    /// Attributes of fields, by path.
    pub(crate) fn field_attributes(&self) -> Vec<(String, String)> {
        let mut attributes = Vec::new();
        for used in self.0.values() {
            for field in used.message.fields() {
                let mut parts = Vec::new();
                if used.skipped.iter().any(|name| name == field.name()) {
                    parts.push("skip".to_owned());
                } else {
                    if used.is_written {
                        parts.push(format!("skip_serializing_if = \"{}\"", is_left_out(&field)));
                    }
                    if let Some(reader) = reader(&field).filter(|_| used.is_read) {
                        parts.push(format!("deserialize_with = \"crate::pb::json::{reader}\""));
                    }
                }
                if !parts.is_empty() {
                    attributes.push((format!(".{}", field.full_name()), format!("#[serde({})]", parts.join(", "))));
                }
            }
        }
        attributes
    }
}

/// Checks that a field of a request has a JSON form; gives the message that it holds.
fn written(field: &FieldDescriptor) -> Result<Option<MessageDescriptor>, String> {
    let name = field.full_name();
    refuse_maps_and_oneofs(field)?;
    match field.kind() {
        Kind::Message(inner) if !inner.full_name().starts_with("google.") => Ok(Some(inner)),
        Kind::String => Ok(None),
        Kind::Bool | Kind::Int32 | Kind::Uint32 | Kind::Int64 | Kind::Uint64 | Kind::Enum(_) => {
            if field.is_list() || field.supports_presence() {
                Ok(None)
            } else {
                Err(format!("`{name}` must be `optional`: its zero can't be told from its absence"))
            }
        }
        other => Err(format!("`{name}`: {other:?} has no JSON form here")),
    }
}

/// Checks that a field of an answer can be read from JSON; gives the message that it holds.
fn read(field: &FieldDescriptor) -> Result<Option<MessageDescriptor>, String> {
    refuse_maps_and_oneofs(field)?;
    match field.kind() {
        Kind::Message(inner) if inner.full_name() == TIMESTAMP && !field.is_list() => Ok(None),
        Kind::Message(inner) if !inner.full_name().starts_with("google.") => Ok(Some(inner)),
        Kind::String | Kind::Bool | Kind::Int32 | Kind::Uint32 | Kind::Int64 | Kind::Uint64 | Kind::Enum(_) => Ok(None),
        other => Err(format!("`{}`: {other:?} can't be read from JSON here", field.full_name())),
    }
}

pub(crate) fn refuse_maps_and_oneofs(field: &FieldDescriptor) -> Result<(), String> {
    let is_optional = field.field_descriptor_proto().proto3_optional();
    if field.is_map() || (field.containing_oneof().is_some() && !is_optional) {
        return Err(format!("`{}`: maps and oneofs have no JSON form here", field.full_name()));
    }
    Ok(())
}

/// When a field is left out of the JSON.
fn is_left_out(field: &FieldDescriptor) -> &'static str {
    if field.is_list() {
        "Vec::is_empty"
    } else if field.supports_presence() {
        "Option::is_none"
    } else {
        "String::is_empty"
    }
}

/// The function that reads a field; `None` for serde's own.
fn reader(field: &FieldDescriptor) -> Option<&'static str> {
    match field.kind() {
        Kind::Message(inner) if inner.full_name() == TIMESTAMP => Some("time"),
        Kind::Message(_) => Some(if field.is_list() { "messages" } else { "message" }),
        _ if field.is_list() => Some("or_default"),
        Kind::String => (!field.supports_presence()).then_some("or_default"),
        _ => Some(if field.supports_presence() { "scalar" } else { "scalar_or_default" }),
    }
}
