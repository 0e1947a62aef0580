//! A JSON object and the objects in it, without what is deeper. It borrows its texts and hashes no names.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Number;

/// An object.
#[derive(Debug)]
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

/// A member's value.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    Number(Number),
    /// A member of the outer object.
    Object(Object<'a>),
    /// An array, a boolean, `null`, or an object in an inner one.
    Other,
}

impl<'a> Object<'a> {
    /// The value of a member; of several with this name, the last.
    pub(super) fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.0.iter().rev().find_map(|(other, value)| (other == name).then_some(value))
    }

    /// The members that are objects.
    pub(super) fn inner(&self) -> impl Iterator<Item = &Self> {
        self.0.iter().filter_map(|(_, value)| if let Value::Object(object) = value { Some(object) } else { None })
    }
}

impl Value<'_> {
    pub(super) fn as_str(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members { is_outer: true })
    }
}

/// Reads an object.
#[derive(Debug, Clone, Copy)]
struct Members {
    is_outer: bool,
}

impl<'de> Visitor<'de> for Members {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(Text(name)) = map.next_key()? {
            members.push((name, map.next_value_seed(Member { is_outer: self.is_outer })?));
        }
        Ok(Object(members))
    }
}

/// Reads the value of an object's member.
#[derive(Debug, Clone, Copy)]
struct Member {
    /// The object is the outer one.
    is_outer: bool,
}

impl<'de> DeserializeSeed<'de> for Member {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Member {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Number::from_f64(number).map_or(Value::Other, Value::Number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Value<'de>, A::Error> {
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        if self.is_outer {
            return Members { is_outer: false }.visit_map(map).map(Value::Object);
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }
}

/// A text, borrowed where it has no escapes. (`Cow` itself always copies.)
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_str(Member { is_outer: false })? {
            Value::Text(text) => Ok(Self(text)),
            Value::Number(_) | Value::Object(_) | Value::Other => Ok(Self(Cow::Borrowed(""))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Map;

    use super::*;

    fn values() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<String>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<u64>().prop_map(serde_json::Value::from),
            any::<f64>().prop_map(serde_json::Value::from),
            any::<bool>().prop_map(serde_json::Value::from),
            Just(serde_json::Value::Null),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                prop::collection::vec((".{0,4}", inner), 0..5).prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    /// Whether an object is the part of the same object that is kept.
    fn is_kept(object: &Object<'_>, whole: &Map<String, serde_json::Value>, is_outer: bool) -> bool {
        object.0.len() == whole.len()
            && whole.iter().all(|(name, whole)| match (object.get(name), whole) {
                (Some(Value::Text(text)), serde_json::Value::String(whole)) => text == whole,
                (Some(Value::Number(number)), serde_json::Value::Number(whole)) => number == whole,
                (Some(Value::Object(inner)), serde_json::Value::Object(whole)) => {
                    is_outer && is_kept(inner, whole, false)
                }
                (Some(Value::Other), serde_json::Value::Object(_)) => !is_outer,
                (Some(Value::Other), whole) => whole.is_null() || whole.is_boolean() || whole.is_array(),
                _ => false,
            })
    }

    proptest! {
        #[test]
        fn an_object_is_read_as_by_serde_json(whole in values()) {
            let text = whole.to_string();
            let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
            let object = serde_json::from_str::<Object<'_>>(&text);
            match whole.as_object() {
                Some(whole) => prop_assert!(is_kept(&object.unwrap(), whole, true)),
                None => prop_assert!(object.is_err()),
            }
        }
    }

    #[test]
    fn the_last_of_several_members_with_a_name_counts() {
        let object: Object<'_> =
            serde_json::from_str(r#"{"a": 1, "b": {"c": "first", "c": "last"}, "a": "\u0032"}"#).unwrap();
        assert_eq!(object.get("a").and_then(Value::as_str), Some("2"));
        let inner: Vec<_> = object.inner().map(|inner| inner.get("c").and_then(Value::as_str)).collect();
        assert_eq!(inner, [Some("last")]);
        assert!(object.get("c").is_none());
    }

    #[test]
    fn broken_and_deep_bodies_are_no_objects_or_cheap() {
        for broken in ["", "{", r#"{"a"}"#, r#"{"a": tru}"#, r#"{"a": 1} {}"#, "[]", "3", r#"{"a": "\ud800"}"#] {
            assert!(serde_json::from_str::<Object<'_>>(broken).is_err(), "{broken}");
        }
        let deep = format!(r#"{{"a": {}1{}, "error_code": "X.1"}}"#, "[".repeat(100_000), "]".repeat(100_000));
        let object: Object<'_> = serde_json::from_str(&deep).unwrap();
        assert_eq!(object.get("error_code").and_then(Value::as_str), Some("X.1"));
        assert_eq!(object.inner().count(), 0);
    }
}
