//! The schema of a collection: what its documents must be like, from when on, and what is said where they are not.

use super::draft4::{self, Verdict};
use crate::aql::value::{Object, Value};
use crate::errors::{self, Error};
use serde_json::json;

/// Attributes that no schema sees.
const SYSTEM: [&str; 5] = ["_key", "_id", "_rev", "_from", "_to"];

/// Which writes a schema binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    None,
    /// Inserts.
    New,
    /// A document that did not fit before it was changed may go on like that.
    Moderate,
    Strict,
}

const LEVELS: [(&str, Level); 4] =
    [("none", Level::None), ("new", Level::New), ("moderate", Level::Moderate), ("strict", Level::Strict)];

#[derive(Debug)]
pub struct Schema {
    level: Level,
    message: String,
    rule: draft4::Rule,
}

impl Schema {
    /// What a collection's property says; null and `{}` say that there is none.
    pub fn read(given: &serde_json::Value) -> Result<Option<Schema>, Error> {
        let bad = |what: &str| errors::VALIDATION_BAD_PARAMETER.says(what.to_owned());
        let given = match given {
            serde_json::Value::Null => return Ok(None),
            serde_json::Value::Object(members) if members.is_empty() => return Ok(None),
            serde_json::Value::Object(members) => members,
            _ => return Err(bad("Schema description is not an object.")),
        };
        let level = match given.get("level").and_then(serde_json::Value::as_str) {
            None => Level::Strict,
            Some(name) => match LEVELS.iter().find(|(known, _)| *known == name) {
                Some((_, level)) => *level,
                None => return Err(bad("Valid validation levels are: none, new, moderate, strict")),
            },
        };
        if given.get("type").is_some_and(|kind| !kind.is_null() && kind != "json") {
            return Err(bad("the only type of a schema is 'json'"));
        }
        let message = given.get("message").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let rule = given.get("rule").filter(|rule| rule.is_object());
        let rule = rule.ok_or_else(|| bad("No valid schema in rule attribute given (no object)"))?;
        let rule = draft4::Rule::read(rule).map_err(|what| bad(&format!("invalid schema: {what}")))?;
        Ok(Some(Schema { level, message, rule }))
    }

    /// As it is kept and shown, with what was left open.
    pub fn shown(&self, given: &serde_json::Value) -> serde_json::Value {
        let level = LEVELS.iter().find(|(_, level)| *level == self.level).map_or("strict", |(name, _)| *name);
        json!({"message": self.message, "level": level, "type": "json", "rule": given["rule"]})
    }

    /// Whether a document may be written in the place of `before`, or as a new one.
    pub fn check(&self, after: &Value, before: Option<&Value>) -> Result<(), Error> {
        let bound = match (self.level, before) {
            (Level::None, _) | (Level::New, Some(_)) => false,
            (Level::Moderate, Some(before)) => self.fits(before).is_ok(),
            (Level::Strict, _) | (Level::New | Level::Moderate, None) => true,
        };
        if bound { self.fits(after) } else { Ok(()) }
    }

    /// Whether a document fits, whomever the schema binds.
    pub fn fits(&self, document: &Value) -> Result<(), Error> {
        let kind = errors::VALIDATION_FAILED;
        match self.rule.judge(&without_system(document)) {
            Verdict::Fits => Ok(()),
            Verdict::FitsNot if self.message.is_empty() => Err(kind.into()),
            Verdict::FitsNot => Err(kind.says(self.message.clone())),
            Verdict::TooMuch => Err(errors::RESOURCE_LIMIT.because("the schema takes too long for this document")),
        }
    }
}

fn without_system(document: &Value) -> Value {
    match document {
        Value::Object(object) if object.iter().any(|(name, _)| SYSTEM.contains(&&**name)) => {
            let own = object.iter().filter(|(name, _)| !SYSTEM.contains(&&***name));
            own.map(|(name, value)| (name.clone(), value.clone())).collect::<Object>().into()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_say_which_writes_are_bound() {
        let rule = json!({"required": ["a"]});
        let (good, bad) = (Value::object([("a", Value::Int(1))]), Value::object([("b", Value::Int(1))]));
        for (level, insert, of_good, of_bad) in [
            ("none", true, true, true),
            ("new", false, true, true),
            ("moderate", false, false, true),
            ("strict", false, false, false),
        ] {
            let schema = Schema::read(&json!({"level": level, "rule": rule, "message": "no"})).unwrap().unwrap();
            let may = |before: Option<&Value>| schema.check(&bad, before).is_ok();
            assert_eq!((may(None), may(Some(&good)), may(Some(&bad))), (insert, of_good, of_bad), "{level}");
            assert!(schema.check(&good, None).is_ok());
        }
        let strict = Schema::read(&json!({"rule": {"additionalProperties": false}})).unwrap().unwrap();
        let edge = Value::object([("_from", "v/1".into()), ("_key", "k".into())]);
        assert_eq!(strict.check(&edge, None), Ok(()), "system attributes are not seen");
        assert_eq!(strict.fits(&bad), Err(errors::VALIDATION_FAILED.into()));
    }
}
