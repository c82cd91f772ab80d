//! Documents as values: as queries see them, and no more of them than the query reads.

use super::super::plan::projection::Projection;
use super::super::select::select;
use super::super::value::{Object, Value};
use crate::db::rows::StoredDocument;

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
    let _ = select(document.body, wanted, &mut members);
    members.into_iter().collect::<Object>().into()
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
