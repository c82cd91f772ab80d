//! Documents as values: as queries see them, and no more of them than the query reads.

use super::super::plan::projection::Projection;
use super::super::value::{Object, Value};
use crate::db::rows::StoredDocument;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// What a document is, or what the projection leaves of it.
pub fn document_value(document: &StoredDocument<'_>, collection: &str, projection: &Projection) -> Value {
    Documents::of(collection, projection).value(document)
}

/// Makes values of one collection's documents, which mostly have the same names in the same order: they share them.
pub struct Documents<'a> {
    collection: &'a str,
    projection: &'a Projection,
    names: Names,
}

impl<'a> Documents<'a> {
    pub fn of(collection: &'a str, projection: &'a Projection) -> Documents<'a> {
        Documents { collection, projection, names: Names::default() }
    }

    /// What a document is, or what the projection leaves of it.
    pub fn value(&mut self, document: &StoredDocument<'_>) -> Value {
        self.names.next = 0;
        value(document, self.collection, self.projection, &mut self.names)
    }
}

/// Names that were met, each at the place where it was met first. There is a bound to how many are remembered.
#[derive(Default)]
struct Names {
    met: Vec<Arc<str>>,
    /// Where the next one is likely to be.
    next: usize,
}

const NAMES_MAX: usize = 64;

impl Names {
    fn shared(&mut self, name: &str) -> Arc<str> {
        let expected = self.next;
        if self.met.get(expected).is_none_or(|met| **met != *name) {
            match self.met.iter().position(|met| **met == *name) {
                Some(place) => self.next = place,
                None if self.met.len() < NAMES_MAX => {
                    self.next = self.met.len();
                    self.met.push(name.into());
                }
                None => return name.into(),
            }
        }
        self.next += 1;
        self.met[self.next - 1].clone()
    }
}

fn value(document: &StoredDocument<'_>, collection: &str, projection: &Projection, names: &mut Names) -> Value {
    let wanted = match projection {
        Projection::Whole => None,
        Projection::Attributes(names) if names.is_empty() => return Value::Null,
        Projection::Attributes(names) => Some(names),
    };
    let mut members = Vec::with_capacity(wanted.map_or(12, BTreeSet::len));
    let is_wanted = |name: &str| wanted.is_none_or(|names| names.contains(name));
    if is_wanted("_key") {
        members.push((names.shared("_key"), document.key.into()));
    }
    if is_wanted("_id") {
        members.push((names.shared("_id"), [collection, "/", document.key].concat().into()));
    }
    if is_wanted("_rev") {
        members.push((names.shared("_rev"), document.revision.encode().into()));
    }
    // What was stored is well-formed.
    let mut parser = serde_json::Deserializer::from_slice(document.body);
    let _ = Members { wanted, names, members: &mut members }.deserialize(&mut parser);
    members.into_iter().collect::<Object>().into()
}

/// Takes the members of an object out of its text.
struct Members<'a> {
    wanted: Option<&'a BTreeSet<Arc<str>>>,
    names: &'a mut Names,
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
        while let Some(name) = access.next_key_seed(Name(self.wanted, self.names))? {
            match name {
                Some(name) => self.members.push((name, access.next_value()?)),
                None => drop(access.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A name, if it is wanted.
struct Name<'a>(Option<&'a BTreeSet<Arc<str>>>, &'a mut Names);

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
        Ok(match self.0 {
            None => Some(self.1.shared(name)),
            Some(wanted) => wanted.get(name).cloned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Revision;

    #[test]
    fn a_document_is_read_as_far_as_it_is_wanted() {
        let body = r#"{"a":1,"b":{"c":[1,2,{"d":"x\"}"}]},"\u0061b":"ä","e":1.5}"#.as_bytes();
        let document = StoredDocument { key: "k", revision: Revision(64), body };
        let read = |projection: Projection| document_value(&document, "c", &projection).to_json();
        let some = |names: &[&str]| read(Projection::Attributes(names.iter().map(|&name| name.into()).collect()));
        let whole = r#"{"_key":"k","_id":"c/k","_rev":"_-","a":1,"b":{"c":[1,2,{"d":"x\"}"}]},"ab":"ä","e":1.5}"#;
        assert_eq!(read(Projection::Whole), whole);
        assert_eq!(some(&["ab", "_id", "nothing"]), r#"{"_id":"c/k","ab":"ä"}"#);
        assert_eq!(some(&["e", "b"]), r#"{"b":{"c":[1,2,{"d":"x\"}"}]},"e":1.5}"#);
        assert_eq!(some(&[]), "null");
    }
}
