//! Values for tests.

use super::functions::{self, Context, Environment};
use super::value::{Object, Value};
use crate::db::index::lookup::Lookup;
use crate::errors::{self, Error};
use crate::types::{Duration, Rng};
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

/// A store with one collection, `c`, and two documents.
pub struct World;

impl Environment for World {
    fn database(&self) -> &str {
        "_system"
    }

    fn user(&self) -> Option<&str> {
        Some("root")
    }

    fn sleep(&self, time: Duration) -> Result<bool, Error> {
        Ok(time <= Duration::from_secs(1))
    }

    fn version(&self) -> &str {
        "3.11.0"
    }

    fn document(&self, collection: &str, key: &str) -> Result<Option<Value>, Error> {
        let found = collection == "c" && matches!(key, "1" | "2");
        Ok(found.then(|| Value::object([("_key", key.into()), ("_id", format!("c/{key}").into())])))
    }

    fn count(&self, collection: &str) -> Result<u64, Error> {
        if collection == "c" { Ok(2) } else { Err(errors::DATA_SOURCE_NOT_FOUND.into()) }
    }

    fn look_up(&self, collection: &str, lookup: &Lookup) -> Result<Vec<(Value, f64)>, Error> {
        self.count(collection).map(|_| vec![(Value::from(format!("{lookup:?}")), 1.5)])
    }

    fn schema(&self, collection: &str) -> Result<Value, Error> {
        self.count(collection).map(|_| value(r#"{"rule":{"required":["a"]},"message":"no a"}"#))
    }

    fn collections(&self) -> Result<Vec<(String, String)>, Error> {
        Ok(vec![("17".into(), "c".into())])
    }
}

/// What comes out, and the numbers of the warnings.
pub fn with_context<T>(then: impl FnOnce(&mut Context<'_>) -> T) -> (T, Vec<u32>) {
    let mut context = Context::new(&World, 1_399_472_349_522, Rng::new(7));
    let result = then(&mut context);
    (result, context.warnings.iter().map(|warning| warning.number).collect())
}

/// `NAME(arguments as JSON)`.
pub fn call(text: &str) -> (Result<Value, Error>, Vec<u32>) {
    let (name, args) = text.strip_suffix(')').and_then(|call| call.split_once('(')).expect("a call");
    let function = functions::lookup(name).unwrap_or_else(|| panic!("no function {name}"));
    with_context(|context| function.invoke(context, &values(&format!("[{args}]"))))
}

/// Equal but for the last digits of doubles, which hang on the order of additions.
pub fn close(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| close(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| close(value, other)))
        }
        _ => match (a.as_double(), b.as_double()) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-3),
            _ => a == b,
        },
    }
}

/// What a call gives: JSON or `error` and its number. Warnings are those named, or else none.
pub fn check(text: &str, expected: &str, warnings: &[u32]) {
    let (result, warned) = call(text);
    match expected.strip_prefix("error ") {
        Some(number) => assert_eq!(result.map_err(|e| e.kind.number.to_string()), Err(number.into()), "{text}"),
        None => {
            let result = result.unwrap_or_else(|e| panic!("{text}: {e:?}"));
            assert!(close(&result, &value(expected)), "{text} gives {} instead of {expected}", result.to_json());
        }
    }
    assert_eq!(warned, warnings, "{text}");
}

macro_rules! table {
    ($($call:literal => $expected:literal $($warning:literal)*,)*) => {
        #[test]
        fn calls_give_what_the_manual_says() {
            $($crate::aql::testing::check($call, $expected, &[$($warning),*]);)*
        }
    };
}
pub(crate) use table;
