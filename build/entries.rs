//! Generates a table of the repeated fields of each message, so that the gateway can count their entries in the encoded
//! request before decoding it.

use std::fmt::Write as _;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

/// The Rust code of the table, included where the entries are counted.
pub(crate) fn code(pool: &DescriptorPool) -> String {
    let mut shapes: Vec<MessageDescriptor> = Vec::new();
    let mut requests = String::new();
    for service in pool.services().filter(|service| !service.full_name().starts_with("google.")) {
        for method in service.methods() {
            let shape = index(&method.input(), &mut shapes);
            let _ = writeln!(requests, "    (\"{}/{}\", {shape}),", service.full_name(), method.name());
        }
    }
    let mut text = String::new();
    let mut at = 0;
    // Writing a shape appends the message types of its fields to `shapes`.
    while let Some(message) = shapes.get(at).cloned() {
        let _ = writeln!(text, "    // {}", message.full_name());
        text.push_str("    &[");
        for field in message.fields() {
            if let Some(kind) = kind(&field, &mut shapes) {
                let _ = write!(text, "({}, {kind}), ", field.number());
            }
        }
        text.push_str("],\n");
        at += 1;
    }
    format!(
        "static SHAPES: &[Shape] = &[\n{text}];\n\n\
         /// The shape of each method's request.\nstatic REQUESTS: &[(&str, usize)] = &[\n{requests}];\n"
    )
}

fn index(message: &MessageDescriptor, shapes: &mut Vec<MessageDescriptor>) -> usize {
    shapes.iter().position(|known| known == message).unwrap_or_else(|| {
        shapes.push(message.clone());
        shapes.len() - 1
    })
}

fn kind(field: &FieldDescriptor, shapes: &mut Vec<MessageDescriptor>) -> Option<String> {
    // A map is encoded as a list of entries.
    let is_many = field.is_list() || field.is_map();
    match field.kind() {
        Kind::Message(message) => {
            Some(format!("Field::Message {{ is_many: {is_many}, shape: {} }}", index(&message, shapes)))
        }
        _ if !is_many => None,
        Kind::String | Kind::Bytes => Some("Field::Texts".into()),
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Some("Field::Numbers(Width::Eight)".into()),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Some("Field::Numbers(Width::Four)".into()),
        _ => Some("Field::Numbers(Width::Varint)".into()),
    }
}
