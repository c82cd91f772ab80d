//! Type checks and casts.

use super::{Function, pure};
use crate::aql::value::Value;
use crate::db::users::is_key;

macro_rules! is {
    ($name:literal, $pattern:pat) => {
        pure($name, 1, 1, |_, args| Ok(matches!(args[0], $pattern).into()))
    };
}

pub(super) const FUNCTIONS: &[Function] = &[
    pure("TO_BOOL", 1, 1, |_, args| Ok(args[0].truthy().into())),
    pure("TO_NUMBER", 1, 1, |_, args| Ok(args[0].to_number())),
    pure("TO_STRING", 1, 1, |_, args| Ok(Value::String(args[0].to_string()))),
    pure("TO_ARRAY", 1, 1, |_, args| Ok(to_array(&args[0]))),
    pure("TO_LIST", 1, 1, |_, args| Ok(to_array(&args[0]))),
    is!("IS_NULL", Value::Null),
    is!("IS_BOOL", Value::Bool(_)),
    is!("IS_NUMBER", Value::Int(_) | Value::Double(_)),
    is!("IS_STRING", Value::String(_)),
    is!("IS_ARRAY", Value::Array(_)),
    is!("IS_LIST", Value::Array(_)),
    is!("IS_OBJECT", Value::Object(_)),
    is!("IS_DOCUMENT", Value::Object(_)),
    pure("IS_KEY", 1, 1, |_, args| Ok(args[0].as_str().is_some_and(is_key).into())),
    pure("TYPENAME", 1, 1, |_, args| Ok(args[0].type_name().into())),
];

pub fn to_array(value: &Value) -> Value {
    match value {
        Value::Null => Vec::new().into(),
        Value::Array(_) => value.clone(),
        Value::Object(object) => object.iter().map(|(_, value)| value.clone()).collect(),
        other => vec![other.clone()].into(),
    }
}

#[cfg(test)]
mod tests {
    crate::aql::testing::table! {
        r#"TO_BOOL("")"# => "false",
        r#"TO_BOOL([])"# => "true",
        r#"TO_NUMBER("5")"# => "5",
        r#"TO_NUMBER([8])"# => "8",
        r#"TO_NUMBER([8,9])"# => "0",
        r#"TO_STRING(null)"# => r#""""#,
        r#"TO_STRING(-1.23)"# => r#""-1.23""#,
        r#"TO_STRING(0.0000002)"# => r#""2e-7""#,
        r#"TO_STRING({"foo":"bar","baz":null})"# => r#""{\"foo\":\"bar\",\"baz\":null}""#,
        r#"TO_ARRAY(null)"# => "[]",
        r#"TO_ARRAY("foo")"# => r#"["foo"]"#,
        r#"TO_ARRAY({"foo":1,"bar":2,"baz":[3,4,5]})"# => "[1,2,[3,4,5]]",
        r#"IS_NULL(null)"# => "true",
        r#"IS_NUMBER(1.5)"# => "true",
        r#"IS_LIST({})"# => "false",
        r#"IS_DOCUMENT({})"# => "true",
        r#"IS_KEY("a-1:b")"# => "true",
        r#"IS_KEY("a/b")"# => "false",
        r#"IS_KEY(1)"# => "false",
        r#"TYPENAME(-4.56)"# => r#""number""#,
        r#"TYPENAME(true)"# => r#""bool""#,
    }
}
