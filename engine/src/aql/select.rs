//! Some members of a stored document, taken out of its text; the others are passed over, not read.

use super::value::Value;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Adds those members of an object whose names are wanted, in the order in which they stand there. Fails only if the
/// text is none of an object.
pub fn select(
    object: &[u8],
    wanted: &BTreeSet<Arc<str>>,
    members: &mut Vec<(Arc<str>, Value)>,
) -> Result<(), serde_json::Error> {
    let mut parser = serde_json::Deserializer::from_slice(object);
    Members { wanted, members }.deserialize(&mut parser)
}

struct Members<'a> {
    wanted: &'a BTreeSet<Arc<str>>,
    members: &'a mut Vec<(Arc<str>, Value)>,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        while let Some(name) = access.next_key_seed(Name(self.wanted))? {
            match name {
                Some(name) => self.members.push((name, access.next_value()?)),
                None => drop(access.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A name, if it is wanted.
struct Name<'a>(&'a BTreeSet<Arc<str>>);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<Arc<str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Arc<str>>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<Arc<str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<Arc<str>>, E> {
        Ok(self.0.get(name).cloned())
    }
}
