//! The answers of the cloud in protobuf's JSON form. Fields without presence are always there, so that scripts meet no
//! `null` in place of a list.

use prost_types::Timestamp;
use serde_json::{Map, Value};

use crate::pb::{
    AttachDomainsResponse, BoundDomain, Certificate, CnameStatus, DeleteCertificateResponse, DetachDomainsResponse,
    ListAttachedDomainsResponse, ListCertificatesResponse,
};

/// A message in protobuf's JSON form.
pub(super) trait ProtoJson {
    /// The object.
    fn json(&self) -> Value;
}

/// An object, and how a field's value is written.
#[derive(Debug, Default)]
struct Object(Map<String, Value>);

impl Object {
    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// A field with presence.
    fn with_some(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    fn with_time(self, name: &str, time: Option<&Timestamp>) -> Self {
        self.with_some(name, time.map(ToString::to_string))
    }

    fn with_list<T: ProtoJson>(self, name: &str, list: &[T]) -> Self {
        self.with(name, list.iter().map(T::json).collect::<Vec<_>>())
    }
}

impl ProtoJson for AttachDomainsResponse {
    fn json(&self) -> Value {
        Value::Object(Map::new())
    }
}

impl ProtoJson for DetachDomainsResponse {
    fn json(&self) -> Value {
        Value::Object(Map::new())
    }
}

impl ProtoJson for DeleteCertificateResponse {
    fn json(&self) -> Value {
        Value::Object(Map::new())
    }
}

impl ProtoJson for ListAttachedDomainsResponse {
    fn json(&self) -> Value {
        let object = Object::default().with("size", self.size).with("total", self.total.to_string());
        Value::Object(object.with_list("boundDomains", &self.bound_domains).0)
    }
}

impl ProtoJson for ListCertificatesResponse {
    fn json(&self) -> Value {
        let object = Object::default().with("size", self.size).with("total", self.total.to_string());
        Value::Object(object.with_list("certs", &self.certs).0)
    }
}

impl ProtoJson for BoundDomain {
    fn json(&self) -> Value {
        // A number without a name is written as a number.
        let status = CnameStatus::try_from(self.status).map_or(Value::from(self.status), |it| it.as_str_name().into());
        let object = Object::default()
            .with("urlDomain", self.url_domain.as_str())
            .with("id", self.id.as_str())
            .with("status", status)
            .with("minSslVersion", self.min_ssl_version.as_str())
            .with_some("isHttpRedirectToHttps", self.is_http_redirect_to_https)
            .with_some("verifiedClientCertificateEnabled", self.verified_client_certificate_enabled)
            .with_some("ingressHttpPort", self.ingress_http_port)
            .with_some("ingressHttpsPort", self.ingress_https_port)
            .with("sslId", self.ssl_id.as_str())
            .with("sslName", self.ssl_name.as_str())
            .with("apiGroupId", self.api_group_id.as_str())
            .with("apiGroupName", self.api_group_name.as_str())
            .with("instanceId", self.instance_id.as_str());
        Value::Object(object.0)
    }
}

impl ProtoJson for Certificate {
    fn json(&self) -> Value {
        let object = Object::default()
            .with("id", self.id.as_str())
            .with("name", self.name.as_str())
            .with("type", self.r#type.as_str())
            .with("instanceId", self.instance_id.as_str())
            .with("projectId", self.project_id.as_str())
            .with("commonName", self.common_name.as_str())
            .with("san", self.san.clone())
            .with_time("notAfter", self.not_after.as_ref())
            .with("signatureAlgorithm", self.signature_algorithm.as_str())
            .with_time("createTime", self.create_time.as_ref())
            .with_time("updateTime", self.update_time.as_ref())
            .with_some("isHasTrustedRootCa", self.is_has_trusted_root_ca)
            .with("algorithmType", self.algorithm_type.as_str())
            .with_some("version", self.version)
            .with("organization", self.organization.clone())
            .with("organizationalUnit", self.organizational_unit.clone())
            .with("locality", self.locality.clone())
            .with("state", self.state.clone())
            .with("country", self.country.clone())
            .with_time("notBefore", self.not_before.as_ref())
            .with("serialNumber", self.serial_number.as_str())
            .with("issuer", self.issuer.clone());
        Value::Object(object.0)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_reflect::{
        DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, SerializeOptions,
    };
    use serde_json::value::Serializer;

    use super::*;

    /// A message with every field set, or with none.
    fn message(descriptor: &MessageDescriptor, is_full: bool) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for field in descriptor.fields().filter(|_| is_full) {
            let value = value(&field);
            let value = if field.is_list() { prost_reflect::Value::List(vec![value]) } else { value };
            message.set_field(&field, value);
        }
        message
    }

    fn value(field: &FieldDescriptor) -> prost_reflect::Value {
        match field.kind() {
            Kind::String => prost_reflect::Value::String(format!("the {}", field.name())),
            Kind::Bool => prost_reflect::Value::Bool(false),
            Kind::Int32 => prost_reflect::Value::I32(-7),
            Kind::Int64 => prost_reflect::Value::I64(1 << 60),
            Kind::Enum(_) => prost_reflect::Value::EnumNumber(3),
            Kind::Message(inner) => {
                let mut inner = message(&inner, true);
                if let Some(nanos) = inner.descriptor().get_field_by_name("nanos") {
                    inner.set_field_by_name("seconds", prost_reflect::Value::I64(1_923_811_200));
                    inner.set_field(&nanos, prost_reflect::Value::I32(4_000));
                }
                prost_reflect::Value::Message(inner)
            }
            other => panic!("{other:?} is new here"),
        }
    }

    /// Compares with another implementation of protobuf's JSON form, on every field of the .proto.
    fn agrees<T: ProtoJson + Message + Default>(name: &str) {
        let pool = DescriptorPool::decode(crate::pb::DESCRIPTORS).unwrap();
        let descriptor = pool.get_message_by_name(&format!("huaweicloud.apic.v2.{name}")).unwrap();
        for is_full in [true, false] {
            let reflected = message(&descriptor, is_full);
            let options = SerializeOptions::new().skip_default_fields(false);
            let expected = reflected.serialize_with_options(Serializer, &options).unwrap();
            let ours = T::decode(reflected.encode_to_vec().as_slice()).unwrap().json();
            assert_eq!(ours, expected, "{name}");
        }
    }

    #[test]
    fn every_answer_is_written_as_protobuf_defines_it() {
        agrees::<AttachDomainsResponse>("AttachDomainsResponse");
        agrees::<DetachDomainsResponse>("DetachDomainsResponse");
        agrees::<DeleteCertificateResponse>("DeleteCertificateResponse");
        agrees::<ListAttachedDomainsResponse>("ListAttachedDomainsResponse");
        agrees::<ListCertificatesResponse>("ListCertificatesResponse");
        agrees::<Certificate>("Certificate");
        agrees::<BoundDomain>("BoundDomain");
    }

    #[test]
    fn a_state_that_has_no_name_is_a_number() {
        let domain = BoundDomain { status: 9, ..BoundDomain::default() };
        assert_eq!(domain.json()["status"], 9);
    }
}
