//! Type checks and casts.

use super::{Function, pure};
use crate::aql::value::Value;

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
