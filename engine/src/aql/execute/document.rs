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
    let wanted = match projection {
        Projection::Whole => return Object::of_text(document.json(collection)).into(),
        Projection::Attributes(names) if names.is_empty() => return Value::Null,
        Projection::Attributes(names) => names,
    };
    let mut members = Vec::with_capacity(wanted.len());
    if wanted.contains("_key") {
        members.push(("_key".into(), document.key.into()));
    }
    if wanted.contains("_id") {
        members.push(("_id".into(), [collection, "/", document.key].concat().into()));
    }
    if wanted.contains("_rev") {
        members.push(("_rev".into(), document.revision.encode().into()));
    }
    // What was stored is well-formed.
    let mut parser = serde_json::Deserializer::from_slice(document.body);
    let _ = Members { wanted, members: &mut members }.deserialize(&mut parser);
    members.into_iter().collect::<Object>().into()
}

/// Takes the members of an object out of its text.
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
        let mut row = Vec::new();
        document_value(&document, "c", &Projection::Whole).write_row(&mut row);
        assert_eq!(row, document.to_document().json("c"), "a row is the document as it was stored");
        assert_eq!(some(&["ab", "_id", "nothing"]), r#"{"_id":"c/k","ab":"ä"}"#);
        assert_eq!(some(&["e", "b"]), r#"{"b":{"c":[1,2,{"d":"x\"}"}]},"e":1.5}"#);
        assert_eq!(some(&[]), "null");
    }
}
