//! The definition of an `inverted` index: what a client may leave open, completed as ArangoDB does. It is kept and
//! shown; there is no search that would use it.

use super::*;
use crate::db::index::FIELDS_MAX;
use serde_json::json;

/// Attributes of a field that are kept if they are given.
const FIELD_MEMBERS: [&str; 7] =
    ["analyzer", "features", "includeAllFields", "searchField", "trackListPositions", "cache", "nested"];
const FEATURES: [&str; 4] = ["frequency", "norm", "position", "offset"];

fn bad(what: impl std::fmt::Display) -> Failure {
    errors::BAD_PARAMETER.because(what).into()
}

fn flag(of: &Value, name: &str) -> Result<bool, Failure> {
    match of.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| bad(format!("'{name}' must be a boolean"))),
    }
}

/// The names of the fields, and all that is kept.
pub(super) fn read(body: &Value) -> Result<(Vec<String>, Value), Failure> {
    let all = flag(body, "includeAllFields")?;
    let given = match body.get("fields") {
        None | Some(Value::Null) => &[][..],
        Some(fields) => fields.as_array().ok_or_else(|| bad("'fields' must be an array"))?,
    };
    if given.len() > FIELDS_MAX || (given.is_empty() && !all) {
        return Err(bad(format!("illegal number of 'fields': 1 to {FIELDS_MAX} of an inverted index")));
    }
    let mut names: Vec<String> = Vec::new();
    let mut fields = Vec::new();
    for field in given {
        let shown = self::field(field)?;
        let name = shown["name"].as_str().unwrap_or_default().to_owned();
        if names.contains(&name) {
            return Err(bad(format!("duplicate attribute name in 'fields': {name}")));
        }
        names.push(name);
        fields.push(shown);
    }
    let number = |name: &str, default: u64| match body.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value.as_u64().ok_or_else(|| bad(format!("'{name}' must be a number from 0"))),
    };
    let analyzer = match body.get("analyzer") {
        None | Some(Value::Null) => "identity",
        Some(name) => name.as_str().ok_or_else(|| bad("'analyzer' must be a string"))?,
    };
    let properties = json!({
        "analyzer": analyzer,
        "cleanupIntervalStep": number("cleanupIntervalStep", 2)?,
        "commitIntervalMsec": number("commitIntervalMsec", 1000)?,
        "consolidationIntervalMsec": number("consolidationIntervalMsec", 1000)?,
        "consolidationPolicy": body.get("consolidationPolicy").filter(|policy| policy.is_object()).cloned()
            .unwrap_or_else(view::consolidation_policy),
        "features": features(body.get("features"))?,
        "fields": fields,
        "includeAllFields": all,
        "primarySort": primary_sort(body.get("primarySort"))?,
        "searchField": flag(body, "searchField")?,
        "storedValues": stored_values(body.get("storedValues"))?,
        "trackListPositions": flag(body, "trackListPositions")?,
        "version": 1,
        "writebufferActive": number("writebufferActive", 0)?,
        "writebufferIdle": number("writebufferIdle", 64)?,
        "writebufferSizeMax": number("writebufferSizeMax", 33_554_432)?,
    });
    if !json::fits(&properties) {
        return Err(bad("too deep"));
    }
    Ok((names, properties))
}

/// Each analyzer that a definition names, wherever it does, must be there.
pub(super) fn check_analyzers(call: &Call<'_, '_>, of: &Value) -> Result<(), Failure> {
    if let Some(name) = of.get("analyzer").and_then(Value::as_str) {
        analyzer::check_known(call, name)?;
    }
    let parts = ["fields", "nested"].into_iter().filter_map(|member| of.get(member)?.as_array()).flatten();
    parts.into_iter().try_for_each(|part| check_analyzers(call, part))
}

fn field(given: &Value) -> Result<Value, Failure> {
    let name = given.as_str().or_else(|| given.get("name")?.as_str()).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| bad("a field must be a string, or an object with a 'name'"))?;
    let mut field = json!({"name": path(name)?});
    for member in FIELD_MEMBERS {
        let Some(value) = given.get(member).filter(|value| !value.is_null()) else { continue };
        let value = match member {
            "features" => features(Some(value))?,
            "analyzer" if !value.is_string() => return Err(bad("'analyzer' must be a string")),
            "analyzer" => value.clone(),
            "nested" => {
                let nested = value.as_array().ok_or_else(|| bad("'nested' must be an array"))?;
                nested.iter().map(self::field).collect::<Result<Value, _>>()?
            }
            _ => flag(given, member)?.into(),
        };
        field[member] = value;
    }
    Ok(field)
}

fn path(name: &str) -> Result<&str, Failure> {
    let bare = name.replace("[*]", "");
    let legal = name.len() <= crate::db::index::FIELD_BYTES_MAX
        && bare.split('.').all(|part| !part.is_empty() && !part.contains(['[', ']']) && part != "_id");
    if legal { Ok(name) } else { Err(bad(format!("'{name}' is not an attribute path"))) }
}

fn features(given: Option<&Value>) -> Result<Value, Failure> {
    let given = match given {
        None | Some(Value::Null) => return Ok(json!([])),
        Some(given) => given.as_array().ok_or_else(|| bad("'features' must be an array"))?,
    };
    match given.iter().find(|name| !FEATURES.iter().any(|known| *name == known)) {
        Some(unknown) => Err(bad(format!("{unknown} is no feature"))),
        None => Ok(given.clone().into()),
    }
}

fn compression(given: &Value) -> Result<&'static str, Failure> {
    match given.get("compression") {
        None | Some(Value::Null) => Ok("lz4"),
        Some(name) if name == "lz4" => Ok("lz4"),
        Some(name) if name == "none" => Ok("none"),
        Some(_) => Err(bad("'compression' must be lz4 or none")),
    }
}

fn primary_sort(given: Option<&Value>) -> Result<Value, Failure> {
    let nothing = json!({});
    let given = given.filter(|given| !given.is_null()).unwrap_or(&nothing);
    let keys = match given.get("fields") {
        None | Some(Value::Null) => &[][..],
        Some(fields) => fields.as_array().ok_or_else(|| bad("'primarySort.fields' must be an array"))?,
    };
    let key = |key: &Value| -> Result<Value, Failure> {
        let field = key.get("field").and_then(Value::as_str).ok_or_else(|| bad("a sort key must have a 'field'"))?;
        let ascending = match (key.get("direction").and_then(Value::as_str), key.get("asc").and_then(Value::as_bool)) {
            (Some(direction), _) if direction.eq_ignore_ascii_case("asc") => true,
            (Some(direction), _) if direction.eq_ignore_ascii_case("desc") => false,
            (None, Some(ascending)) => ascending,
            _ => return Err(bad("a sort key must have a 'direction': asc or desc")),
        };
        Ok(json!({"field": path(field)?, "asc": ascending}))
    };
    let keys = keys.iter().map(key).collect::<Result<Value, _>>()?;
    Ok(json!({"fields": keys, "compression": compression(given)?}))
}

fn stored_values(given: Option<&Value>) -> Result<Value, Failure> {
    let given = match given {
        None | Some(Value::Null) => &[][..],
        Some(given) => given.as_array().ok_or_else(|| bad("'storedValues' must be an array"))?,
    };
    let nothing = json!({});
    let one = |value: &Value| -> Result<Value, Failure> {
        let (fields, options) = match value {
            Value::Object(_) => (value.get("fields").cloned().unwrap_or_default(), value),
            Value::String(_) => (json!([value]), &nothing),
            other => (other.clone(), &nothing),
        };
        let fields = fields.as_array().filter(|fields| !fields.is_empty()).cloned();
        let fields = fields.ok_or_else(|| bad("'storedValues' must have 'fields'"))?;
        for field in &fields {
            path(field.as_str().ok_or_else(|| bad("a stored value must be an attribute path"))?)?;
        }
        Ok(json!({"fields": fields, "compression": compression(options)?}))
    };
    given.iter().map(one).collect()
}
