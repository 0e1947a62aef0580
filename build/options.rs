//! Reads the options of methods and fields that describe an API: `google.api.http`, `idempotency_level`,
//! `google.api.field_behavior`, `google.api.resource_reference` and `debug_redact`.

use prost_reflect::{DynamicMessage, FieldDescriptor, MethodDescriptor, Value};

/// A kind of resource that a field can name: its type in the .proto and its name in `resources::Kind`.
const KINDS: [(&str, &str); 6] = [
    ("apic.huaweicloud.com/Project", "Project"),
    ("apic.huaweicloud.com/Certificate", "Certificate"),
    ("apic.huaweicloud.com/Domain", "Domain"),
    ("apic.huaweicloud.com/Instance", "Instance"),
    ("apic.huaweicloud.com/ApiGroup", "ApiGroup"),
    ("apic.huaweicloud.com/DomainId", "DomainId"),
];

/// `google.api.FieldBehavior.REQUIRED`
const REQUIRED: i32 = 2;

/// `google.protobuf.MethodOptions.IdempotencyLevel.NO_SIDE_EFFECTS`
const NO_SIDE_EFFECTS: i32 = 1;

/// The HTTP rule of a method.
pub(crate) fn http_rule(method: &MethodDescriptor) -> Result<DynamicMessage, String> {
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

/// Whether a method is marked as a read.
pub(crate) fn is_read(method: &MethodDescriptor) -> bool {
    let level = method.options().get_field_by_name("idempotency_level").and_then(|value| value.as_enum_number());
    level == Some(NO_SIDE_EFFECTS)
}

/// Whether a request without the field is refused.
pub(crate) fn is_required(field: &FieldDescriptor) -> bool {
    let Some(behavior) = field.parent_pool().get_extension_by_name("google.api.field_behavior") else { return false };
    let options = field.options();
    let value = options.get_extension(&behavior);
    value.as_list().is_some_and(|list| list.iter().any(|value| value.as_enum_number() == Some(REQUIRED)))
}

/// Whether the field's value must never be printed.
pub(crate) fn is_secret(field: &FieldDescriptor) -> bool {
    field.options().get_field_by_name("debug_redact").and_then(|value| value.as_bool()).unwrap_or_default()
}

/// The kind of the resource that the field names.
pub(crate) fn kind(field: &FieldDescriptor) -> Result<Option<&'static str>, String> {
    let Some(extension) = field.parent_pool().get_extension_by_name("google.api.resource_reference") else {
        return Ok(None);
    };
    let options = field.options();
    if !options.has_extension(&extension) {
        return Ok(None);
    }
    let value = options.get_extension(&extension);
    let reference = value.as_message().and_then(|reference| reference.get_field_by_name("type"));
    let name = reference.as_ref().and_then(|name| name.as_str()).unwrap_or_default();
    match KINDS.iter().find(|(known, _)| *known == name) {
        Some((_, kind)) => Ok(Some(kind)),
        None => Err(format!("`{}`: `{name}` is not a known type of resource", field.full_name())),
    }
}
