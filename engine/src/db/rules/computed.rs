//! Values that a collection computes while a document is written.
//!
//! Each is the result of an AQL expression that sees the document, as `@doc`, and nothing else of the data. All see the
//! document as it was given; what is computed for one is not seen by the others.

use super::{Draft, Event};
use crate::aql::ast::{Expression, ExpressionKind, OperationKind, Query};
use crate::aql::execute::{self, Settings};
use crate::aql::parser;
use crate::aql::value::{Object, Value};
use crate::db::json::{self, Member};
use crate::db::writer::Writer;
use crate::errors::{self, Error};
use serde_json::{Value as Json, json};

const VALUES_MAX: usize = 100;
const EXPRESSION_BYTES_MAX: usize = 16 << 10;
/// What one expression may take, in steps and in memory.
const STEPS_MAX: u64 = 100_000;
const MEMORY_BYTES_MAX: usize = 64 << 20;

/// Attributes that are not computed.
const FIXED: [&str; 5] = ["_id", "_key", "_rev", "_from", "_to"];

/// Functions that look at the data, or call others by name.
const FORBIDDEN: [&str; 12] = [
    "APPLY",
    "CALL",
    "COLLECTIONS",
    "COLLECTION_COUNT",
    "CURRENT_USER",
    "DOCUMENT",
    "FULLTEXT",
    "NEAR",
    "PREGEL_RESULT",
    "SCHEMA_GET",
    "WITHIN",
    "WITHIN_RECTANGLE",
];

const EVENTS: [(&str, Event); 3] = [("insert", Event::Insert), ("update", Event::Update), ("replace", Event::Replace)];

#[derive(Clone, Debug, PartialEq)]
pub struct ComputedValue {
    name: String,
    expression: String,
    on: Vec<Event>,
    /// Also where the document has that attribute.
    overwrite: bool,
    fail_on_warning: bool,
    keep_null: bool,
}

/// What a collection's property says.
pub fn read(given: &Json) -> Result<Vec<ComputedValue>, Error> {
    let given = match given {
        Json::Null => return Ok(Vec::new()),
        Json::Array(given) => given,
        _ => return Err(errors::BAD_PARAMETER.says("Computed values description is not an array.")),
    };
    if given.len() > VALUES_MAX {
        return Err(bad(format!("there may be {VALUES_MAX} of them")));
    }
    let mut values: Vec<ComputedValue> = Vec::new();
    for entry in given {
        let value = ComputedValue::read(entry)?;
        if values.iter().any(|other| other.name == value.name) {
            return Err(bad(format!("duplicate attribute name '{}'", value.name)));
        }
        values.push(value);
    }
    Ok(values)
}

/// As they are kept and shown, with what was left open; null if there are none.
pub fn shown(values: &[ComputedValue]) -> Json {
    if values.is_empty() {
        return Json::Null;
    }
    let on = |value: &ComputedValue| -> Vec<&str> {
        EVENTS.iter().filter(|(_, event)| value.on.contains(event)).map(|(name, _)| *name).collect()
    };
    let shown = values.iter().map(|value| {
        json!({
            "name": value.name,
            "expression": value.expression,
            "computeOn": on(value),
            "overwrite": value.overwrite,
            "failOnWarning": value.fail_on_warning,
            "keepNull": value.keep_null,
        })
    });
    shown.collect()
}

fn bad(what: impl std::fmt::Display) -> Error {
    errors::BAD_PARAMETER.says(format!("invalid 'computedValues' entry: {what}"))
}

impl ComputedValue {
    fn read(entry: &Json) -> Result<ComputedValue, Error> {
        let name = entry.get("name").and_then(Json::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| bad("invalid attribute name"))?;
        if FIXED.contains(&name) {
            return Err(bad(format!("'{name}' attribute must not be computed via computation expression")));
        }
        let flag = |name: &str| entry.get(name).and_then(Json::as_bool);
        let overwrite = flag("overwrite").ok_or_else(|| bad("'overwrite' must be a boolean"))?;
        let on = match entry.get("computeOn") {
            None => EVENTS.iter().map(|(_, event)| *event).collect(),
            Some(Json::Array(names)) if names.is_empty() => return Err(bad("empty 'computeOn' value")),
            Some(Json::Array(names)) => names.iter().map(event).collect::<Result<Vec<_>, _>>()?,
            Some(_) => return Err(bad("invalid 'computeOn' value")),
        };
        let expression = entry.get("expression").and_then(Json::as_str);
        let expression = expression.ok_or_else(|| bad("invalid 'expression' value"))?;
        if expression.len() > EXPRESSION_BYTES_MAX {
            return Err(bad(format!("an expression may have {EXPRESSION_BYTES_MAX} bytes")));
        }
        let parsed = parsed(expression, Value::object([])).map_err(|error| bad(error.message))?;
        if let Some(what) = forbidden(&parsed) {
            return Err(bad(format!("{what} in computation expression")));
        }
        Ok(ComputedValue {
            name: name.to_owned(),
            expression: expression.to_owned(),
            on,
            overwrite,
            fail_on_warning: flag("failOnWarning").unwrap_or(false),
            keep_null: flag("keepNull").unwrap_or(true),
        })
    }

    fn value(&self, document: &Value, db: &mut Writer<'_>) -> Result<Value, Error> {
        let query = parsed(&self.expression, document.clone())?;
        let settings = Settings {
            memory_bytes: MEMORY_BYTES_MAX,
            steps: STEPS_MAX,
            full_count: false,
            fail_on_warning: self.fail_on_warning,
            warnings_max: 0,
            profile: false,
            now_ms: i64::try_from(db.wall_ms()).unwrap_or(i64::MAX),
            seed: db.chance(),
        };
        let computed = execute::evaluate_alone(query, db.reader(), settings);
        computed.map_err(|error| {
            let text = format!("computed values runtime error for attribute '{}': {}", self.name, error.message);
            error.kind.says(text)
        })
    }
}

fn event(name: &Json) -> Result<Event, Error> {
    let Some(name) = name.as_str() else { return Err(bad("invalid 'computeOn' value")) };
    let found = EVENTS.iter().find(|(known, _)| *known == name);
    found.map(|(_, event)| *event).ok_or_else(|| bad(format!("invalid 'computeOn' value: '{name}'")))
}

fn parsed(expression: &str, document: Value) -> Result<Query, Error> {
    let with_document = [("doc".into(), document)].into_iter().collect::<Object>();
    match parser::parse(expression, Some(&with_document)) {
        // One that does not ask for the document.
        Err(error) if error.kind == errors::QUERY_BIND_PARAMETER_UNDECLARED => {
            parser::parse(expression, Some(&Object::default()))
        }
        parsed => parsed,
    }
}

/// What an expression has that none may have.
fn forbidden(query: &Query) -> Option<String> {
    let value = match &query.body.operations[..] {
        [only] => match &only.kind {
            OperationKind::Return { value, distinct: false } => value,
            _ => return Some("no RETURN".into()),
        },
        _ => return Some("another operation than one RETURN".into()),
    };
    if let Some(used) = query.collections.first() {
        return Some(format!("the collection '{}'", used.name.text));
    }
    fn look(expression: &Expression, found: &mut Option<String>) {
        match &expression.kind {
            ExpressionKind::Subquery(_) => *found = Some("a subquery".into()),
            ExpressionKind::Call(name, _) if FORBIDDEN.contains(&&**name) => {
                *found = Some(format!("the function '{name}'"));
            }
            _ => {}
        }
        expression.kind.for_each_child(&mut |child| look(child, found));
    }
    let mut found = None;
    look(value, &mut found);
    found
}

/// The members of a document, with what is computed in the place of what is there, or after it.
pub fn compute<'m>(
    values: &[ComputedValue],
    draft: &Draft<'_>,
    mut members: Vec<Member<'m>>,
    db: &mut Writer<'_>,
) -> Result<Vec<Member<'m>>, Error> {
    let is_there = |members: &[Member<'_>], name: &str| members.iter().any(|(member, _)| member == name);
    let wanted = |value: &&ComputedValue| {
        value.on.contains(&draft.event) && (value.overwrite || !is_there(&members, &value.name))
    };
    let wanted: Vec<&ComputedValue> = values.iter().filter(wanted).collect();
    if wanted.is_empty() {
        return Ok(members);
    }
    let id = format!("{}/{}", draft.collection.name, draft.key);
    let mut whole: Vec<Member<'_>> =
        vec![("_key".into(), json::quote(draft.key).into()), ("_id".into(), json::quote(&id).into())];
    whole.extend(members.iter().cloned());
    let document = Value::parse_stored(&json::object(&whole));
    for value in wanted {
        let computed = value.value(&document, db)?;
        members.retain(|(name, _)| *name != value.name);
        if !computed.is_null() || value.keep_null {
            members.push((value.name.clone().into(), computed.to_json().into()));
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_checked_and_completed() {
        let entry = json!({"name": "a", "expression": "RETURN 1", "overwrite": true});
        let with = |name: &str, value: Json| {
            let mut entry = entry.clone();
            entry[name] = value;
            read(&json!([entry]))
        };
        let complete = shown(&read(&json!([entry])).unwrap());
        assert_eq!(complete[0]["computeOn"], json!(["insert", "update", "replace"]));
        assert_eq!((&complete[0]["keepNull"], &complete[0]["failOnWarning"]), (&json!(true), &json!(false)));
        assert_eq!(read(&complete).map(|values| shown(&values)), Ok(complete));
        assert_eq!(shown(&read(&json!([])).unwrap()), Json::Null);
        for (name, value) in [
            ("name", json!("")),
            ("name", json!("_key")),
            ("name", json!("_from")),
            ("overwrite", json!(null)),
            ("computeOn", json!([])),
            ("computeOn", json!(["read"])),
            ("computeOn", json!("insert")),
            ("expression", json!(1)),
            ("expression", json!("RETURN")),
            ("expression", json!("LET x = 1 RETURN x")),
            ("expression", json!("FOR x IN [1] RETURN x")),
            ("expression", json!("RETURN (FOR x IN [1] RETURN x)")),
            ("expression", json!("RETURN @other")),
            ("expression", json!("RETURN DOCUMENT('c/1')")),
            ("expression", json!("RETURN LENGTH(c)")),
            ("expression", json!("INSERT {} INTO c")),
        ] {
            let error = with(name, value.clone()).unwrap_err();
            assert_eq!(error.kind, errors::BAD_PARAMETER, "{name} {value}");
        }
        assert!(read(&json!([entry, entry])).is_err());
        assert!(with("expression", json!("RETURN @doc.a[* FILTER CURRENT > RAND() RETURN DATE_NOW()]")).is_ok());
    }
}
