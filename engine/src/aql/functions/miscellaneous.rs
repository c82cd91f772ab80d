//! Functions that fit nowhere else: choices between arguments, the store, hashes, calls by name, and those for tests.
//!
//! Of the manual's page these are not here: `MINHASH()` and `PREGEL_RESULT()`.

use super::document::identifier;
use super::{ANY, Context, Function, date, impure, lookup, pure};
use crate::aql::value::{Object, Value};
use crate::db::index::lookup::Lookup;
use crate::db::rows::Revision;
use crate::db::rules::schema::Schema;
use crate::errors::{self, Error};
use crate::types::Duration;

type Called = Result<Value, Error>;

pub(super) const FUNCTIONS: &[Function] = &[
    impure("APPLY", 1, 2, |context, args| match args.get(1) {
        None => apply(context, &args[0], &[]),
        Some(Value::Array(elements)) => apply(context, &args[0], elements),
        Some(_) => context.invalid_type(),
    }),
    impure("ASSERT", 2, 2, |context, args| match (&args[1], args[0].truthy()) {
        (Value::String(_), true) => Ok(true.into()),
        (Value::String(message), false) => Err(errors::QUERY_USER_ASSERT.says(message.to_string())),
        _ => context.invalid_type(),
    }),
    impure("CALL", 1, ANY, |context, args| apply(context, &args[0], &args[1..])),
    pure("CHECK_DOCUMENT", 1, 1, |_, args| Ok(args[0].as_object().is_some().into())),
    impure("COLLECTIONS", 0, 0, |context, _| {
        let mut collections = context.environment.collections()?;
        collections.sort_by(|a, b| a.1.cmp(&b.1));
        let collection = |(id, name): (String, String)| Value::object([("_id", id.into()), ("name", name.into())]);
        Ok(collections.into_iter().map(collection).collect())
    }),
    impure("COLLECTION_COUNT", 1, 1, |context, args| match args[0].as_str() {
        Some(name) => Ok((context.environment.count(name)? as usize).into()),
        None => context.invalid_type(),
    }),
    impure("CURRENT_DATABASE", 0, 0, |context, _| Ok(context.environment.database().into())),
    impure("CURRENT_USER", 0, 0, |context, _| Ok(context.environment.user().map_or(Value::Null, Value::from))),
    pure("DECODE_REV", 1, 1, |context, args| match args[0].as_str().and_then(Revision::decode) {
        Some(revision) => {
            let date = i64::try_from(revision.wall_ms()).ok().and_then(date::iso_text);
            let count = (revision.0 & 0xf_ffff) as usize;
            Ok(Value::object([("date", date.map_or(Value::Null, Value::from)), ("count", count.into())]))
        }
        None => context.invalid_type(),
    }),
    impure("DOCUMENT", 1, 2, |context, args| match args {
        [id] => document(context, None, id),
        [Value::String(collection), id] => document(context, Some(collection), id),
        _ => context.invalid_type(),
    }),
    impure("FAIL", 0, 1, |_, args| {
        let reason = args.first().map_or_else(|| "".into(), Value::to_string);
        Err(errors::QUERY_FAIL_CALLED.says(format!("FAIL({reason}) called")))
    }),
    pure("FIRST_DOCUMENT", 1, ANY, |_, args| Ok(first(args, |value| matches!(value, Value::Object(_))))),
    pure("FIRST_LIST", 1, ANY, |_, args| Ok(first(args, |value| matches!(value, Value::Array(_))))),
    impure("FULLTEXT", 3, 4, |context, args| {
        let limit = match args.get(3) {
            None | Some(Value::Null) => usize::MAX,
            Some(limit) => match limit.as_double() {
                Some(limit) if limit >= 0.0 => limit as usize,
                _ => return context.invalid_type(),
            },
        };
        match (&args[0], &args[1], &args[2]) {
            (Value::String(collection), Value::String(field), Value::String(query)) => {
                let (field, query) = (field.to_string(), query.to_string());
                // To the lookup nothing means everything; ArangoDB puts a LIMIT behind it.
                let lookup = Lookup::Fulltext { field, query, limit: limit.max(1) };
                let found = context.environment.look_up(collection, &lookup)?;
                Ok(found.into_iter().take(limit).map(|(document, _)| document).collect())
            }
            _ => context.invalid_type(),
        }
    }),
    pure("HASH", 1, 1, |_, args| {
        // Below 2^53, so that every client can hold it.
        let hash = super::string::fnv64(canonical(&args[0]).to_json().as_bytes());
        Ok(Value::Int((hash >> 11) as i64))
    }),
    pure("IN_RANGE", 5, 5, |context, args| {
        let [value, low, high, Value::Bool(include_low), Value::Bool(include_high)] = args else {
            return context.invalid_type();
        };
        let above = if *include_low { value >= low } else { value > low };
        let below = if *include_high { value <= high } else { value < high };
        Ok((above && below).into())
    }),
    pure("MINHASH_COUNT", 1, 1, |context, args| match args[0].as_double().filter(|error| (0.0..1.0).contains(error)) {
        Some(error) => Ok(Value::whole_number((1.0 / (error * error)).round())),
        None => context.invalid_type(),
    }),
    pure("MINHASH_ERROR", 1, 1, |context, args| match args[0].as_double().filter(|count| *count >= 1.0) {
        Some(count) => Ok(Value::number(1.0 / count.trunc().sqrt())),
        None => context.invalid_type(),
    }),
    pure("MIN_MATCH", 2, ANY, |context, args| {
        let (expressions, least) = args.split_at(args.len() - 1);
        let Some(least) = least.first().filter(|least| least.is_number()).map(Value::to_int) else {
            return context.invalid_type();
        };
        Ok((expressions.iter().filter(|value| value.truthy()).count() as i64 >= least).into())
    }),
    impure("NOEVAL", 1, 1, |_, args| Ok(args[0].clone())),
    impure("NOOPT", 1, 1, |_, args| Ok(args[0].clone())),
    pure("NOT_NULL", 1, ANY, |_, args| Ok(first(args, |value| !value.is_null()))),
    pure("PASSTHRU", 1, 1, |_, args| Ok(args[0].clone())),
    impure("SCHEMA_GET", 1, 1, |context, args| match args[0].as_str() {
        Some(name) => context.environment.schema(name),
        None => context.invalid_type(),
    }),
    pure("SCHEMA_VALIDATE", 2, 2, schema_validate),
    pure("SHARD_ID", 2, 2, |context, args| match args {
        // Without shards, it is the collection.
        [Value::String(_), Value::Object(_)] => Ok(args[0].clone()),
        _ => context.invalid_type(),
    }),
    impure("SLEEP", 1, 1, |context, args| {
        let seconds = args[0].is_number().then(|| args[0].to_double());
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match time.map(|time| context.environment.sleep(time)) {
            None => context.invalid_type(),
            Some(Ok(true)) => Ok(Value::Null),
            Some(Ok(false)) => {
                let kind = errors::RESOURCE_LIMIT;
                context.warn(kind, format!("{}: a query may not sleep for so long", kind.message))
            }
            Some(Err(error)) => Err(error),
        }
    }),
    pure("V8", 1, 1, |_, args| Ok(args[0].clone())),
    impure("VERSION", 0, 0, |context, _| Ok(context.environment.version().into())),
    impure("WARN", 2, 2, |context, args| match (&args[1], args[0].truthy()) {
        (Value::String(_), true) => Ok(true.into()),
        (Value::String(message), false) => {
            context.warn(errors::QUERY_USER_WARN, message.to_string())?;
            Ok(false.into())
        }
        _ => context.invalid_type(),
    }),
];

fn first(args: &[Value], fits: fn(&Value) -> bool) -> Value {
    args.iter().find(|value| fits(value)).cloned().unwrap_or_default()
}

fn apply(context: &mut Context<'_>, name: &Value, args: &[Value]) -> Called {
    let Some(name) = name.as_str() else { return context.invalid_type() };
    match lookup(name) {
        Some(function) => function.invoke(context, args),
        None => {
            let kind = errors::QUERY_FUNCTION_NAME_UNKNOWN;
            Err(kind.says(format!("{} '{}()'", kind.message, name.to_ascii_uppercase())))
        }
    }
}

/// By `_id`, or by key if the collection is given; of an array, those that are there.
fn document(context: &mut Context<'_>, collection: Option<&str>, id: &Value) -> Called {
    if let Value::Array(ids) = id {
        let mut found = Vec::new();
        for id in ids.iter().filter(|id| id.as_array().is_none()) {
            found.push(document(context, collection, id)?);
        }
        found.retain(|document| !document.is_null());
        return Ok(found.into());
    }
    let (named, key) = match (identifier(id), collection, id.as_str()) {
        (Some((named, key)), _, _) => (named, key),
        (None, Some(collection), Some(key)) if !key.contains('/') => (collection, key),
        _ => return Ok(Value::Null),
    };
    if collection.is_some_and(|collection| collection != named) {
        return Ok(Value::Null);
    }
    Ok(context.environment.document(named, key)?.unwrap_or_default())
}

/// The same for all values that are equal but for attributes that are null.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Double(value) => Value::whole_number(*value),
        Value::Array(elements) => elements.iter().map(canonical).collect(),
        Value::Object(object) => {
            object.sorted().into_iter().map(|(name, value)| (name.clone(), canonical(value))).collect::<Object>().into()
        }
        other => other.clone(),
    }
}

/// Whether a document fits a schema such as `SCHEMA_GET()` gives, whomever that binds.
fn schema_validate(context: &mut Context<'_>, args: &[Value]) -> Called {
    let [document, schema] = args else { return context.invalid_type() };
    if document.as_object().is_none() {
        return context.invalid_type();
    }
    if schema.is_null() || schema.as_object().is_some_and(Object::is_empty) {
        return Ok(Value::object([("valid", true.into())]));
    }
    let schema = serde_json::from_str(&schema.to_json()).unwrap_or_default();
    let schema = match Schema::read(&schema) {
        Ok(Some(schema)) => schema,
        Ok(None) => return Ok(Value::object([("valid", true.into())])),
        Err(error) => return context.warn(error.kind, error.message),
    };
    match schema.fits(document) {
        Ok(()) => Ok(Value::object([("valid", true.into())])),
        Err(error) if error.kind == errors::VALIDATION_FAILED => {
            Ok(Value::object([("valid", false.into()), ("errorMessage", error.message.as_ref().into())]))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use crate::aql::testing::call;

    crate::aql::testing::table! {
        r#"APPLY("SUBSTRING", ["this is a test",0,7])"# => r#""this is""#,
        r#"APPLY("pi")"# => "3.141592653589793",
        r#"APPLY("NOTHING", [])"# => "error 1540",
        r#"APPLY("SUBSTRING", [])"# => "error 1541",
        r#"CALL("SUBSTRING", "this is a test", 0, 4)"# => r#""this""#,
        r#"ASSERT(1, "no")"# => "true",
        r#"ASSERT(0, "no")"# => "error 1593",
        r#"CHECK_DOCUMENT({"a":1})"# => "true",
        r#"CHECK_DOCUMENT([])"# => "false",
        r#"COLLECTIONS()"# => r#"[{"_id":"17","name":"c"}]"#,
        r#"COLLECTION_COUNT("c")"# => "2",
        r#"COLLECTION_COUNT("d")"# => "error 1203",
        r#"CURRENT_DATABASE()"# => r#""_system""#,
        r#"CURRENT_USER()"# => r#""root""#,
        r#"DECODE_REV("_YU0HOEG---")"# => r#"{"date":"2019-03-11T16:15:05.314Z","count":0}"#,
        r##"DECODE_REV("#")"## => "null" 1542,
        r#"DOCUMENT("c/1")"# => r#"{"_key":"1","_id":"c/1"}"#,
        r#"DOCUMENT("c", "2")"# => r#"{"_key":"2","_id":"c/2"}"#,
        r#"DOCUMENT("c", ["1","c/2","3","d/1"])"# => r#"[{"_key":"1","_id":"c/1"},{"_key":"2","_id":"c/2"}]"#,
        r#"DOCUMENT("d", "c/1")"# => "null",
        r#"DOCUMENT("nothing")"# => "null",
        r#"FAIL("x")"# => "error 1569",
        r#"FIRST_DOCUMENT(1, {"a":1}, {})"# => r#"{"a":1}"#,
        r#"FIRST_LIST(1, {}, [2])"# => "[2]",
        r#"FIRST_LIST(1)"# => "null",
        r#"FULLTEXT("c", "t", "fox", 2)"# => r#"["Fulltext { field: \"t\", query: \"fox\", limit: 2 }"]"#,
        r#"FULLTEXT("c", "t", "fox", 0)"# => "[]",
        r#"FULLTEXT("c", "t", 1)"# => "null" 1542,
        r#"IN_RANGE(4, 3, 5, true, true)"# => "true",
        r#"IN_RANGE(3, 3, 5, false, true)"# => "false",
        r#"IN_RANGE("fox grape", "fo", "fp", true, false)"# => "true",
        r#"MINHASH_COUNT(0.05)"# => "400",
        r#"MINHASH_ERROR(400)"# => "0.05",
        r#"MIN_MATCH(true, 0, 1, 2)"# => "true",
        r#"MIN_MATCH(true, 0, 0, 2)"# => "false",
        r#"NOT_NULL(null, false, 1)"# => "false",
        r#"NOOPT(123)"# => "123",
        "SLEEP(0.5)" => "null",
        "SLEEP(2)" => "null" 32,
        "SLEEP(-1)" => "null" 1542,
        r#"SLEEP("1")"# => "null" 1542,
        r#"SHARD_ID("c", {})"# => r#""c""#,
        r#"VERSION()"# => r#""3.11.0""#,
        r#"SCHEMA_GET("c")"# => r#"{"rule":{"required":["a"]},"message":"no a"}"#,
        r#"SCHEMA_GET("d")"# => "error 1203",
        r#"SCHEMA_VALIDATE({"a":1}, {"rule":{"required":["a"]}})"# => r#"{"valid":true}"#,
        r#"SCHEMA_VALIDATE({}, {"rule":{"required":["a"]},"message":"no","level":"none"})"# => r#"{"valid":false,"errorMessage":"no"}"#,
        r#"SCHEMA_VALIDATE({}, null)"# => r#"{"valid":true}"#,
        r#"SCHEMA_VALIDATE({}, {})"# => r#"{"valid":true}"#,
        r#"SCHEMA_VALIDATE(1, {"rule":{}})"# => "null" 1542,
        r#"SCHEMA_VALIDATE({}, 1)"# => "null" 1621,
        r#"SCHEMA_VALIDATE({}, {"rule":{"type":"x"}})"# => "null" 1621,
        r#"WARN(true, "x")"# => "true",
        r#"WARN(false, "x")"# => "false" 1594,
    }

    #[test]
    fn hashes_are_those_of_values() {
        let hash = |json: &str| call(&format!("HASH({json})")).0.unwrap();
        assert_eq!(hash(r#"{"a":1,"b":[2.0]}"#), hash(r#"{"b":[2],"a":1.0}"#));
        assert_ne!(hash("1"), hash(r#""1""#));
        assert_ne!(hash("[1,2]"), hash("[2,1]"));
    }
}
