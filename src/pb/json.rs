//! Reads the fields of answers from JSON as the cloud writes them: absent and `null` are the same, and an empty string
//! stands for an absent number, boolean or time. A member of another type is an error.

use std::{fmt, marker::PhantomData};

use prost_types::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// Reads the whole body of an answer.
///
/// # Errors
///
/// It is not one JSON object with members of the documented types.
pub(crate) fn decode<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice::<Object<T>>(body).map(|Object(message)| message)
}

/// A message out of a JSON object. Serde alone would take an array of its fields, too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfObject<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OfObject<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(OfObject(PhantomData))
    }
}

/// A message out of a JSON object.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(message)| message)
}

pub(super) fn message<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(message)| message))
}

pub(super) fn messages<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let objects = Option::<Vec<Object<T>>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(objects.into_iter().map(|Object(message)| message).collect())
}

/// A text or a list; `null` is an empty one.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A number, a boolean, or the number of an enum's value.
pub(crate) fn scalar<'de, D: Deserializer<'de>, T: Scalar>(deserializer: D) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_any(OfScalar(PhantomData))
}

pub(super) fn scalar_or_default<'de, D: Deserializer<'de>, T: Scalar>(deserializer: D) -> Result<T, D::Error> {
    scalar(deserializer).map(Option::unwrap_or_default)
}

/// A time, RFC 3339.
pub(super) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let time = text.parse().ok().filter(|_| has_all_parts(&text));
    time.map(Some).ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &"a time as in RFC 3339"))
}

/// Whether a time has its date, its seconds and its zone: the parser of times takes less.
fn has_all_parts(text: &str) -> bool {
    let at = |index: usize| text.as_bytes().get(index).copied();
    let from_end = |index: usize| text.len().checked_sub(index).and_then(at);
    at(4) == Some(b'-')
        && matches!(at(10), Some(b'T' | b't'))
        && at(16) == Some(b':')
        && (matches!(from_end(1), Some(b'Z' | b'z'))
            || (text.len() > 24 && matches!(from_end(6), Some(b'+' | b'-')) && from_end(3) == Some(b':')))
}

/// A type of a single value.
pub(crate) trait Scalar: Default {
    const EXPECTED: &'static str;

    fn from_integer(_: i128) -> Option<Self> {
        None
    }

    fn from_bool(_: bool) -> Option<Self> {
        None
    }
}

impl Scalar for bool {
    const EXPECTED: &'static str = "a boolean";

    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

macro_rules! integers {
    ($($integer:ty),*) => {
        $(impl Scalar for $integer {
            const EXPECTED: &'static str = concat!("an integer (", stringify!($integer), ")");

            fn from_integer(value: i128) -> Option<Self> {
                Self::try_from(value).ok()
            }
        })*
    };
}
integers!(i32, u32, i64, u64);

struct OfScalar<T>(PhantomData<T>);

impl<T: Scalar> OfScalar<T> {
    fn found<E: de::Error>(&self, value: Option<T>, unexpected: de::Unexpected<'_>) -> Result<Option<T>, E> {
        value.map(Some).ok_or_else(|| E::invalid_type(unexpected, self))
    }
}

impl<T: Scalar> Visitor<'_> for OfScalar<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Option<T>, E> {
        self.found(T::from_bool(value), de::Unexpected::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Option<T>, E> {
        self.found(T::from_integer(value.into()), de::Unexpected::Signed(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Option<T>, E> {
        self.found(T::from_integer(value.into()), de::Unexpected::Unsigned(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Option<T>, E> {
        if value.is_empty() { Ok(None) } else { Err(E::invalid_type(de::Unexpected::Str(value), &self)) }
    }
}

#[cfg(test)]
mod tests;
