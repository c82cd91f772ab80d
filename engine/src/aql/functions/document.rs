//! Functions of objects and documents.

use super::{ANY, Context, Function, pure};
use crate::aql::value::{Object, Value, compare_strings};
use crate::errors::Error;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Called = Result<Value, Error>;

pub(super) const FUNCTIONS: &[Function] = &[
    pure("ATTRIBUTES", 1, 3, attributes),
    pure("HAS", 2, 2, |_, args| {
        Ok(args[0].as_object().is_some_and(|object| object.get(&args[1].to_string()).is_some()).into())
    }),
    pure("IS_SAME_COLLECTION", 2, 2, |context, args| {
        let Some(collection) = args[0].as_str() else { return context.invalid_type() };
        match identifier(&args[1]) {
            Some((other, _)) => Ok((collection == other).into()),
            None => context.invalid_type(),
        }
    }),
    pure("KEEP", 2, ANY, |context, args| choose(context, args, true, false)),
    pure("KEEP_RECURSIVE", 2, ANY, |context, args| choose(context, args, true, true)),
    pure("MATCHES", 2, 3, matches),
    pure("MERGE", 1, ANY, |context, args| merge_all(context, args, false)),
    pure("MERGE_RECURSIVE", 1, ANY, |context, args| merge_all(context, args, true)),
    pure("PARSE_IDENTIFIER", 1, 1, |context, args| match identifier(&args[0]) {
        Some((collection, key)) => Ok(Value::object([("collection", collection.into()), ("key", key.into())])),
        None => context.invalid_type(),
    }),
    pure("TRANSLATE", 2, 3, |context, args| {
        let Some(mapping) = args[1].as_object() else { return context.invalid_type() };
        let found = mapping.get(&args[0].to_string());
        Ok(found.or(args.get(2)).unwrap_or(&args[0]).clone())
    }),
    pure("UNSET", 2, ANY, |context, args| choose(context, args, false, false)),
    pure("UNSET_RECURSIVE", 2, ANY, |context, args| choose(context, args, false, true)),
    pure("VALUE", 2, 2, |context, args| {
        let (Value::Object(_), Some(path)) = (&args[0], args[1].as_array()) else { return context.invalid_type() };
        Ok(path.iter().fold(args[0].clone(), |value, step| match step {
            Value::String(name) => value.attribute(name),
            step if step.is_number() => value.element(step.to_int()),
            _ => Value::Null,
        }))
    }),
    pure("VALUES", 1, 2, |context, args| {
        let Some(object) = args[0].as_object() else { return context.invalid_type() };
        let no_system = args.get(1).is_some_and(Value::truthy);
        Ok(object
            .iter()
            .filter(|(name, _)| !(no_system && name.starts_with('_')))
            .map(|(_, value)| value.clone())
            .collect())
    }),
    pure("ZIP", 2, 2, |context, args| match (args[0].as_array(), args[1].as_array()) {
        (Some(names), Some(values)) if names.len() == values.len() => {
            Ok(names.iter().map(Value::to_string).zip(values.iter().cloned()).collect::<Object>().into())
        }
        _ => context.invalid_type(),
    }),
];

/// Collection and key of a document's `_id`, or of the document that has it.
pub(super) fn identifier(value: &Value) -> Option<(&str, &str)> {
    let id = match value {
        Value::Object(object) => object.get("_id")?.as_str()?,
        other => other.as_str()?,
    };
    id.split_once('/').filter(|(collection, key)| !collection.is_empty() && !key.is_empty() && !key.contains('/'))
}

fn attributes(context: &mut Context<'_>, args: &[Value]) -> Called {
    let Some(object) = args[0].as_object() else { return context.invalid_type() };
    let flag = |place| args.get(place).is_some_and(Value::truthy);
    let mut members: Vec<_> = object.iter().collect();
    if flag(2) {
        members.sort_by(|(a, _), (b, _)| compare_strings(a, b));
    }
    let names = members.into_iter().map(|(name, _)| name).filter(|name| !(flag(1) && name.starts_with('_')));
    Ok(names.map(|name| Value::String(name.clone())).collect())
}

/// `KEEP()` and `UNSET()`, at the top or at all levels of objects within objects.
fn choose(context: &mut Context<'_>, args: &[Value], keep: bool, recursive: bool) -> Called {
    fn walk(object: &Object, names: &BTreeSet<&str>, keep: bool, recursive: bool) -> Value {
        let kept = object.iter().filter(|(name, _)| names.contains(&***name) == keep);
        let members = kept.map(|(name, value)| match value {
            Value::Object(inner) if recursive => (name.clone(), walk(inner, names, keep, recursive)),
            other => (name.clone(), other.clone()),
        });
        members.collect::<Object>().into()
    }
    let Some(object) = args[0].as_object() else { return context.invalid_type() };
    let mut names = BTreeSet::new();
    for arg in &args[1..] {
        match arg {
            Value::String(name) => drop(names.insert(&**name)),
            Value::Array(more) => names.extend(more.iter().filter_map(Value::as_str)),
            _ => return context.invalid_type(),
        }
    }
    Ok(walk(object, &names, keep, recursive))
}

fn matches(context: &mut Context<'_>, args: &[Value]) -> Called {
    let return_index = args.get(2).is_some_and(Value::truthy);
    let answer = |found: Option<usize>| match found {
        _ if !return_index => found.is_some().into(),
        Some(place) => place.into(),
        None => Value::Int(-1),
    };
    let Some(document) = args[0].as_object() else { return Ok(answer(None)) };
    let examples = args[1].as_array().unwrap_or(std::slice::from_ref(&args[1]));
    if examples.is_empty() {
        return context.invalid_type();
    }
    for (place, example) in examples.iter().enumerate() {
        let Some(example) = example.as_object() else {
            context.invalid_type()?;
            continue;
        };
        if example.iter().all(|(name, value)| document.get(name).unwrap_or(&Value::Null) == value) {
            return Ok(answer(Some(place)));
        }
    }
    Ok(answer(None))
}

/// Of all arguments, or of the elements of an array that is the only one.
fn merge_all(context: &mut Context<'_>, args: &[Value], recursive: bool) -> Called {
    let documents = match args {
        [Value::Array(documents)] => documents.as_slice(),
        several => several,
    };
    let Some(objects) = documents.iter().map(Value::as_object).collect::<Option<Vec<_>>>() else {
        return context.invalid_type();
    };
    if objects.len() == 1 {
        return Ok(documents[0].clone());
    }
    Ok(merge(&objects, recursive))
}

fn merge(objects: &[&Object], recursive: bool) -> Value {
    let mut members: Vec<(Arc<str>, Value)> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, value) in objects.iter().flat_map(|object| object.iter()) {
        let Some(&place) = places.get(&**name) else {
            places.insert(name, members.len());
            members.push((name.clone(), value.clone()));
            continue;
        };
        let merged = match (&members[place].1, value) {
            (Value::Object(base), Value::Object(patch)) if recursive => merge(&[base, patch], true),
            _ => value.clone(),
        };
        members[place].1 = merged;
    }
    members.into_iter().collect::<Object>().into()
}

#[cfg(test)]
mod tests {
    crate::aql::testing::table! {
        r#"ATTRIBUTES({"foo":"bar","_key":"123","_custom":"yes"})"# => r#"["foo","_key","_custom"]"#,
        r#"ATTRIBUTES({"foo":"bar","_key":"123","_custom":"yes"}, true)"# => r#"["foo"]"#,
        r#"ATTRIBUTES({"foo":"bar","_key":"123","_custom":"yes"}, false, true)"# => r#"["_custom","_key","foo"]"#,
        r#"ATTRIBUTES(1)"# => "null" 1542,
        r#"HAS({"name":"Jane"}, "name")"# => "true",
        r#"HAS({"name":"Jane"}, "age")"# => "false",
        r#"HAS({"name":null}, "name")"# => "true",
        r#"IS_SAME_COLLECTION("_users", "_users/my-user")"# => "true",
        r#"IS_SAME_COLLECTION("_users", {"_id":"_users/my-user"})"# => "true",
        r#"IS_SAME_COLLECTION("_users", "foobar/baz")"# => "false",
        r#"IS_SAME_COLLECTION("_users", {"_id":"something/else"})"# => "false",
        r#"IS_SAME_COLLECTION("_users", {})"# => "null" 1542,
        r#"KEEP({"foo":{"bar":{"foo":1,"baz":2},"baz":3},"baz":4}, "foo")"# => r#"{"foo":{"bar":{"foo":1,"baz":2},"baz":3}}"#,
        r#"KEEP({"foo":1,"baz":4}, "bar")"# => "{}",
        r#"KEEP({"foo":1,"bar":2,"baz":4}, ["foo","baz"])"# => r#"{"foo":1,"baz":4}"#,
        r#"KEEP_RECURSIVE({"foo":{"bar":{"foo":1,"baz":2},"baz":3},"baz":4}, "foo")"# => r#"{"foo":{}}"#,
        r#"KEEP_RECURSIVE({"foo":{"bar":{"foo":1,"baz":2},"baz":3},"baz":4}, "foo", "bar")"# => r#"{"foo":{"bar":{"foo":1}}}"#,
        r#"KEEP_RECURSIVE({"foo":{"bar":{"foo":1,"baz":2},"baz":3},"baz":4}, ["foo","baz"])"# => r#"{"foo":{"baz":3},"baz":4}"#,
        r#"MATCHES({"name":"jane","age":27,"active":true}, {"age":27,"active":true})"# => "true",
        r#"MATCHES({"test":1}, [{"test":1,"foo":"bar"},{"foo":1},{"test":1}], true)"# => "2",
        r#"MATCHES({"test":1}, {"foo":null})"# => "true",
        r#"MERGE({"user1":{"name":"Jane"}}, {"user2":{"name":"Tom"}})"# => r#"{"user1":{"name":"Jane"},"user2":{"name":"Tom"}}"#,
        r#"MERGE({"users":{"name":"Jane","a":1}}, {"users":{"name":"Tom"}})"# => r#"{"users":{"name":"Tom"}}"#,
        r#"MERGE([{"foo":"bar"},{"quux":"q","ruled":true},{"bar":"baz","foo":"done"}])"# => r#"{"foo":"done","quux":"q","ruled":true,"bar":"baz"}"#,
        r#"MERGE([])"# => "{}",
        r#"MERGE({}, 1)"# => "null" 1542,
        r#"MERGE_RECURSIVE({"u":{"name":"Jane","livesIn":{"city":"LA"}}}, {"u":{"age":42,"livesIn":{"state":"CA"}}})"# => r#"{"u":{"name":"Jane","livesIn":{"city":"LA","state":"CA"},"age":42}}"#,
        r#"MERGE_RECURSIVE([{"u":{"name":"Jane","livesIn":{"city":"LA"}}}, {"u":{"age":42,"livesIn":{"city":"NY"}}}])"# => r#"{"u":{"name":"Jane","livesIn":{"city":"NY"},"age":42}}"#,
        r#"PARSE_IDENTIFIER("_users/my-user")"# => r#"{"collection":"_users","key":"my-user"}"#,
        r#"PARSE_IDENTIFIER({"_id":"mycollection/mykey","value":"some value"})"# => r#"{"collection":"mycollection","key":"mykey"}"#,
        r#"PARSE_IDENTIFIER("x")"# => "null" 1542,
        r#"TRANSLATE("FR", {"US":"United States","FR":"France"})"# => r#""France""#,
        r#"TRANSLATE(42, {"foo":"bar"})"# => "42",
        r#"TRANSLATE(42, {"foo":"bar"}, "not found!")"# => r#""not found!""#,
        r#"TRANSLATE(42, {"42":true})"# => "true",
        r#"UNSET({"foo":{"bar":1},"baz":4}, "foo")"# => r#"{"baz":4}"#,
        r#"UNSET({"foo":1,"baz":4}, ["foo","bar"])"# => r#"{"baz":4}"#,
        r#"UNSET_RECURSIVE({"foo":{"bar":{"foo":1,"baz":2},"baz":3},"baz":4}, "baz")"# => r#"{"foo":{"bar":{"foo":1}}}"#,
        r#"VALUE({"foo":{"bar":"baz"}}, ["foo","bar"])"# => r#""baz""#,
        r#"VALUE({"foo":[{"bar":"baz"},{"bar":{"inner":true}}]}, ["foo",1,"bar"])"# => r#"{"inner":true}"#,
        r#"VALUES({"_id":"users/jane","name":"Jane","age":35})"# => r#"["users/jane","Jane",35]"#,
        r#"VALUES({"_id":"users/jane","name":"Jane","age":35}, true)"# => r#"["Jane",35]"#,
        r#"ZIP(["name","active"], ["some user",true])"# => r#"{"name":"some user","active":true}"#,
        r#"ZIP(["name"], [])"# => "null" 1542,
    }
}
