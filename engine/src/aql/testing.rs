//! Values for tests.

use super::value::{Object, Value};
use proptest::prelude::*;

/// From JSON text that is well-formed.
pub fn value(json: &str) -> Value {
    Value::parse(json.as_bytes()).unwrap_or_else(|e| panic!("{json}: {e}"))
}

/// The elements of an array.
pub fn values(json: &str) -> Vec<Value> {
    value(json).as_array().expect("an array").to_vec()
}

/// Values of all types, small ones that often meet.
pub fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..40).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-8i32..8).prop_map(|half| Value::number(f64::from(half) / 2.0)),
        any::<f64>().prop_map(Value::number),
        "[a-c%_\\\\.*(\u{e4}]{0,4}".prop_map(Value::from),
        "20[0-9]{2}-[01][0-9]-[0-3][0-9]|P[0-9]{1,2}[YMWD]|[ymwdhisf]".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((prop_oneof!["[a-c]", "_id|_key|type|coordinates"], inner), 0..5).prop_map(
                |members| { members.into_iter().map(|(name, value)| (name.into(), value)).collect::<Object>().into() }
            ),
        ]
    })
}
