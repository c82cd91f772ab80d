//! Values as bytes whose order is AQL's order of the values.
//!
//! Two values have the same bytes exactly if AQL takes them for equal: an integer and a double that mean the same, an
//! array and the same one with nulls at its end, an object and the same one with attributes that are null. No value's
//! bytes are the beginning of another's, so that the values of several attributes can stand one after the other.
//!
//! A value begins with a byte for its type. Where an array or an object ends stands [`END`], which is below all types.

use crate::aql::collation;
use crate::aql::value::{Object, Value};

const END: u8 = 0;
const NULL: u8 = 2;
const FALSE: u8 = 3;
const TRUE: u8 = 4;
const NUMBER: u8 = 5;
const STRING: u8 = 6;
const ARRAY: u8 = 7;
const OBJECT: u8 = 8;
/// Before each attribute of an object.
const ATTRIBUTE: u8 = 1;

/// Appends the bytes of a value.
pub fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(false) => out.push(FALSE),
        Value::Bool(true) => out.push(TRUE),
        Value::Int(number) => {
            let nearest = *number as f64;
            // How far rounding went: up to 2^9 in either way.
            encode_number(nearest, (i128::from(*number) - nearest as i128) as i16, out);
        }
        Value::Double(number) => encode_number(*number, 0, out),
        Value::String(text) => {
            out.push(STRING);
            collation::key(text, out);
        }
        Value::Array(elements) => {
            out.push(ARRAY);
            let mut end = out.len();
            for element in elements.iter() {
                encode(element, out);
                if !element.is_null() {
                    end = out.len();
                }
            }
            // What is missing in the shorter of two arrays counts as null.
            out.truncate(end);
            out.push(END);
        }
        Value::Object(object) => encode_object(object, out),
    }
}

/// A double, and what an integer has beyond its nearest double.
fn encode_number(double: f64, rest: i16, out: &mut Vec<u8>) {
    out.push(NUMBER);
    // Both zeroes are equal.
    let bits = (double + 0.0).to_bits();
    let ordered = if bits >> 63 == 0 { bits | 1 << 63 } else { !bits };
    out.extend_from_slice(&ordered.to_be_bytes());
    out.extend_from_slice(&((i32::from(rest) + 0x8000) as u16).to_be_bytes());
}

/// Attributes in the order of their names, without those that are null: what one object lacks counts as null. So of two
/// objects that differ in which attribute comes next, the one whose attribute comes earlier is the greater, and names
/// are written with all bits inverted.
fn encode_object(object: &Object, out: &mut Vec<u8>) {
    out.push(OBJECT);
    for (name, value) in object.sorted() {
        if value.is_null() {
            continue;
        }
        out.push(ATTRIBUTE);
        for &byte in name.as_bytes() {
            out.push(!byte);
            if byte == 0 {
                out.push(!0xff);
            }
        }
        out.extend_from_slice(&[!0, !0]);
        encode(value, out);
    }
    out.push(END);
}

#[cfg(test)]
pub(in crate::db::index) mod tests {
    use super::*;
    use crate::aql::value::compare;
    use proptest::prelude::*;

    fn bytes(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        encode(value, &mut out);
        out
    }

    fn value(text: &str) -> Value {
        Value::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn values_in_order_have_bytes_in_order() {
        let texts = [
            "null",
            "false",
            "true",
            "-1e300",
            "-9223372036854775808",
            "-9223372036854775807",
            "-1",
            "-0.5",
            "0",
            "1e-300",
            "1",
            "1.5",
            "9007199254740992",
            "9007199254740993",
            "9007199254740994",
            "9223372036854775807",
            "9223372036854775808",
            "1e300",
            r#""""#,
            r#"" ""#,
            r#""1""#,
            r#""a""#,
            r#""A""#,
            r#""a\u0000""#,
            r#""ab""#,
            r#""b""#,
            "[]",
            "[null,1]",
            "[false]",
            "[1]",
            "[1,1]",
            "[2]",
            r#"["a"]"#,
            "[[]]",
            "{}",
            r#"{"b":1}"#,
            r#"{"b":2}"#,
            r#"{"ab":1}"#,
            r#"{"a":1}"#,
            r#"{"a":1,"b":1}"#,
            r#"{"a":2}"#,
        ];
        for pair in texts.windows(2) {
            let (low, high) = (bytes(&value(pair[0])), bytes(&value(pair[1])));
            assert!(low < high, "{} < {}", pair[0], pair[1]);
            assert!(compare(&value(pair[0]), &value(pair[1])).is_lt(), "{} < {}", pair[0], pair[1]);
        }
        for (left, right) in [("1", "1.0"), ("0", "-0.0"), ("[1]", "[1,null,null]"), ("{}", r#"{"a":null}"#)] {
            assert_eq!(bytes(&value(left)), bytes(&value(right)), "{left} and {right}");
        }
    }

    pub fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-3i64..3).prop_map(Value::Int),
            any::<i64>().prop_map(Value::Int),
            (-3i8..3).prop_map(|n| Value::Double(f64::from(n) / 2.0)),
            any::<f64>().prop_map(Value::number),
            ((1i64 << 53)..(1 << 53) + 8).prop_map(Value::Int),
            ((1i64 << 53)..(1 << 53) + 8).prop_map(|n| Value::Double(n as f64)),
            "[aAbä\u{0}]{0,3}".prop_map(|text| Value::String(text.into())),
            any::<String>().prop_map(|text| Value::String(text.into())),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec(("[ab\u{0}]{0,2}", inner), 0..4).prop_map(|members| {
                    let members = members.into_iter().map(|(name, value)| (std::sync::Arc::from(name), value));
                    Value::from(members.collect::<Object>())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn bytes_compare_as_values_do(a in any_value(), b in any_value()) {
            let (left, right) = (bytes(&a), bytes(&b));
            prop_assert_eq!(left.cmp(&right), compare(&a, &b));
            prop_assert!(left == right || !right.starts_with(&left));
        }
    }
}
