//! The values of AQL: what they are, their order, their truth and their casts.
//!
//! A [`Value`] is cheap to clone: what is long is shared. Numbers are 64-bit integers while they are exact and doubles
//! otherwise; a double is always finite ([`Value::number`]), as JSON has nothing else. Integers above 2^63 are doubles.
//!
//! Values are as deep as the JSON text ([`crate::db::json::NESTING_MAX`]) and the query that built them, both of which
//! have limits; functions that walk a value rely on that.

use super::collation;
use crate::db::json::{self, Malformed};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::cmp::Ordering;
use std::fmt;
use std::io::Write;
use std::sync::{Arc, OnceLock};

#[derive(Clone, Debug, Default)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    String(Arc<str>),
    Array(Arc<List>),
    Object(Arc<Object>),
}

/// The elements of an array, and how large they are together: so that it need not be added up again, and an array of
/// arrays that share theirs is known for what it would be if it were written out.
#[derive(Clone, Debug, Default)]
pub struct List {
    elements: Vec<Value>,
    bytes: usize,
}

impl std::ops::Deref for List {
    type Target = Vec<Value>;

    fn deref(&self) -> &Vec<Value> {
        &self.elements
    }
}

/// Attributes in the order in which they came; each name once.
#[derive(Clone, Debug, Default)]
pub struct Object {
    members: OnceLock<Members>,
    /// Of a document: its JSON, taken apart when somebody looks into it. Most that are found are only handed on.
    text: Option<Vec<u8>>,
    /// About what it takes with its text taken apart.
    text_bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct Members {
    list: Vec<(Arc<str>, Value)>,
    /// Places of the members in the order of their names, if there are many.
    by_name: Vec<u32>,
    bytes: usize,
}

impl Members {
    fn new(list: Vec<(Arc<str>, Value)>, by_name: Vec<u32>) -> Members {
        let sizes = list.iter().map(|(name, value)| 36 + name.len() + value.size_bytes());
        let bytes = sizes.fold(0, usize::saturating_add);
        Members { list, by_name, bytes }
    }
}

/// Up to so many members are searched one by one.
const MEMBERS_SEARCHED: usize = 12;

impl Object {
    /// From the JSON of an object, which is well-formed.
    pub fn of_text(text: Vec<u8>) -> Object {
        debug_assert!(text.first() == Some(&b'{') && text.last() == Some(&b'}'), "the text of an object");
        // A comma stands between two values, each of which is some seventy bytes beside its text.
        let text_bytes = 64 + text.len() + 70 * memchr::memchr_iter(b',', &text).count();
        Object { members: OnceLock::new(), text: Some(text), text_bytes }
    }

    fn members(&self) -> &Members {
        self.members.get_or_init(|| match &self.text {
            None => Members::default(),
            Some(text) => {
                let Ok(Value::Object(object)) = serde_json::from_slice(text) else { return Members::default() };
                Arc::unwrap_or_clone(object).members.into_inner().unwrap_or_default()
            }
        })
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        let Members { list, by_name, .. } = self.members();
        if by_name.is_empty() {
            return list.iter().find(|(member, _)| **member == *name).map(|(_, value)| value);
        }
        let found = by_name.binary_search_by(|&place| list[place as usize].0.as_ref().cmp(name)).ok()?;
        Some(&list[by_name[found] as usize].1)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Value)> {
        self.members().list.iter().map(|(name, value)| (name, value))
    }

    pub fn len(&self) -> usize {
        self.members().list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members().list.is_empty()
    }

    /// The members in the byte order of their names.
    pub fn sorted(&self) -> Vec<(&Arc<str>, &Value)> {
        let mut members: Vec<_> = self.iter().collect();
        members.sort_by(|a, b| a.0.cmp(b.0));
        members
    }
}

/// Of a name that comes twice, the first place and the last value count.
impl FromIterator<(Arc<str>, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Value)>>(iter: I) -> Object {
        let mut members: Vec<(Arc<str>, Value)> = iter.into_iter().collect();
        let again = |(at, (name, _)): (usize, &(Arc<str>, Value))| members[..at].iter().any(|(other, _)| other == name);
        if members.len() <= MEMBERS_SEARCHED && !members.iter().enumerate().any(again) {
            return Members::new(members, Vec::new()).into();
        }
        let mut by_name: Vec<u32> = (0..members.len() as u32).collect();
        by_name.sort_by(|&a, &b| members[a as usize].0.cmp(&members[b as usize].0));
        if by_name.windows(2).any(|pair| members[pair[0] as usize].0 == members[pair[1] as usize].0) {
            // The sort is stable: within a run of one name, places grow.
            let mut dropped = vec![false; members.len()];
            for run in by_name
                .chunk_by(|&a, &b| members[a as usize].0 == members[b as usize].0)
                .map(<[u32]>::to_vec)
                .collect::<Vec<_>>()
            {
                let (first, last) = (run[0] as usize, run[run.len() - 1] as usize);
                if first != last {
                    members[first].1 = std::mem::take(&mut members[last].1);
                    run[1..].iter().for_each(|&place| dropped[place as usize] = true);
                }
            }
            let mut place = 0;
            members.retain(|_| {
                place += 1;
                !dropped[place - 1]
            });
            by_name = (0..members.len() as u32).collect();
            by_name.sort_by(|&a, &b| members[a as usize].0.cmp(&members[b as usize].0));
        }
        if members.len() <= MEMBERS_SEARCHED {
            by_name = Vec::new();
        }
        Members::new(members, by_name).into()
    }
}

impl From<Members> for Object {
    fn from(members: Members) -> Object {
        Object { members: members.into(), text: None, text_bytes: 0 }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Int(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Value {
        i64::try_from(value).map_or(Value::Double(value as f64), Value::Int)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::String(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::String(value.into())
    }
}

impl From<Vec<Value>> for List {
    fn from(elements: Vec<Value>) -> List {
        let bytes = elements.iter().map(Value::size_bytes).fold(0, usize::saturating_add);
        List { elements, bytes }
    }
}

impl From<Vec<Value>> for Value {
    fn from(elements: Vec<Value>) -> Value {
        Value::Array(Arc::new(elements.into()))
    }
}

impl From<Object> for Value {
    fn from(value: Object) -> Value {
        Value::Object(Arc::new(value))
    }
}

impl FromIterator<Value> for Value {
    fn from_iter<I: IntoIterator<Item = Value>>(iter: I) -> Value {
        iter.into_iter().collect::<Vec<Value>>().into()
    }
}

impl Value {
    /// Null if the number is not finite.
    pub fn number(value: f64) -> Value {
        if value.is_finite() { Value::Double(value) } else { Value::Null }
    }

    /// As an integer if the number is a whole one that a double can hold exactly.
    pub fn whole_number(value: f64) -> Value {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if value.fract() == 0.0 && value.abs() <= EXACT { Value::Int(value as i64) } else { Value::number(value) }
    }

    /// From members with names that are literals.
    pub fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
        members.into_iter().map(|(name, value)| (Arc::from(name), value)).collect::<Object>().into()
    }

    pub fn parse(text: &[u8]) -> Result<Value, Malformed> {
        let checked = json::compact(text)?;
        serde_json::from_str(&checked).map_err(|_| Malformed { at: 0, why: "invalid JSON" })
    }

    /// Text that was stored, and so is well-formed.
    pub fn parse_stored(text: &str) -> Value {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// Equal values are written equally.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        self.write(out, false);
    }

    /// As the row of a result: documents as they were stored, so that their numbers stay what they were.
    pub fn write_row(&self, out: &mut Vec<u8>) {
        self.write(out, true);
    }

    fn write(&self, out: &mut Vec<u8>, as_stored: bool) {
        match self {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::Int(value) => write!(out, "{value}").expect("a vector takes all"),
            Value::Double(value) => out.extend_from_slice(double_text(*value).as_bytes()),
            Value::String(text) => write_string(text, out),
            Value::Array(elements) => {
                out.push(b'[');
                for (i, element) in elements.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    element.write(out, as_stored);
                }
                out.push(b']');
            }
            Value::Object(object) => {
                if let Some(text) = object.text.as_deref().filter(|_| as_stored) {
                    out.extend_from_slice(text);
                    return;
                }
                out.push(b'{');
                for (i, (name, value)) in object.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    write_string(name, out);
                    out.push(b':');
                    value.write(out, as_stored);
                }
                out.push(b'}');
            }
        }
    }

    pub fn to_json(&self) -> String {
        let mut out = Vec::new();
        self.write_json(&mut out);
        String::from_utf8(out).expect("JSON is written as UTF-8")
    }

    pub fn truthy(&self) -> bool {
        match self {
            Value::Null => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Double(value) => *value != 0.0,
            Value::String(text) => !text.is_empty(),
            Value::Array(_) | Value::Object(_) => true,
        }
    }

    /// The cast to a number: always [`Value::Int`] or [`Value::Double`].
    pub fn to_number(&self) -> Value {
        let mut value = self;
        loop {
            return match value {
                Value::Int(_) | Value::Double(_) => value.clone(),
                Value::Bool(value) => Value::Int(i64::from(*value)),
                Value::String(text) => parse_number(text),
                Value::Array(elements) if elements.len() == 1 => {
                    value = &elements[0];
                    continue;
                }
                Value::Null | Value::Array(_) | Value::Object(_) => Value::Int(0),
            };
        }
    }

    /// The cast to a number, as a double.
    pub fn to_double(&self) -> f64 {
        self.to_number().as_double().unwrap_or(0.0)
    }

    /// The cast to a number without its fraction; what is out of range becomes the nearest integer there is.
    pub fn to_int(&self) -> i64 {
        match self.to_number() {
            Value::Int(value) => value,
            Value::Double(value) => value as i64,
            _ => 0,
        }
    }

    /// The cast to a string.
    pub fn to_string(&self) -> Arc<str> {
        match self {
            Value::Null => "".into(),
            Value::String(text) => text.clone(),
            other => other.to_json().into(),
        }
    }

    /// The number, if it is one.
    pub fn as_double(&self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(*value as f64),
            Value::Double(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(elements) => Some(elements),
            _ => None,
        }
    }

    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Value::Object(object) => Some(object),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    pub fn is_number(&self) -> bool {
        matches!(self, Value::Int(_) | Value::Double(_))
    }

    /// As `TYPENAME()` has it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::Double(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        }
    }

    /// An attribute; null if this is no object or has none of that name.
    pub fn attribute(&self, name: &str) -> Value {
        self.as_object().and_then(|object| object.get(name)).cloned().unwrap_or_default()
    }

    /// An element, from the end if the place is negative; null if there is none.
    pub fn element(&self, place: i64) -> Value {
        let Some(elements) = self.as_array() else { return Value::Null };
        let place = if place < 0 { place.checked_add_unsigned(elements.len() as u64) } else { Some(place) };
        place.and_then(|place| elements.get(usize::try_from(place).ok()?)).cloned().unwrap_or_default()
    }

    /// About the memory that it takes, in bytes; what is shared counts each time. Costs nothing to ask.
    pub fn size_bytes(&self) -> usize {
        let own = size_of::<Value>();
        match self {
            Value::String(text) => own + text.len() + 16,
            Value::Array(list) => list.bytes.saturating_add(own + 40),
            // Whether it has been taken apart or not.
            Value::Object(object) => match (&object.text, object.members.get()) {
                (Some(_), _) => own + object.text_bytes,
                (None, members) => members.map_or(0, |members| members.bytes).saturating_add(own + 64),
            },
            _ => own,
        }
    }

    fn weight(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Int(_) | Value::Double(_) => 2,
            Value::String(_) => 3,
            Value::Array(_) => 4,
            Value::Object(_) => 5,
        }
    }
}

/// Equal is what compares as equal: `1` and `1.0`, `{}` and `{a: null}`.
impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        compare(self, other).is_eq()
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Value) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Value) -> Ordering {
        compare(self, other)
    }
}

/// ArangoDB's order: by type, then by value. What is missing in the shorter of two arrays or objects counts as null.
pub fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b).unwrap_or_else(|| a.total_cmp(b)),
        (Value::Int(a), Value::Double(b)) => compare_int_double(*a, *b),
        (Value::Double(a), Value::Int(b)) => compare_int_double(*b, *a).reverse(),
        (Value::String(a), Value::String(b)) => compare_strings(a, b),
        (Value::Array(a), Value::Array(b)) if Arc::ptr_eq(a, b) => Ordering::Equal,
        (Value::Array(a), Value::Array(b)) => {
            let at = |array: &[Value], i: usize| array.get(i).cloned().unwrap_or_default();
            let shared = a.len().min(b.len());
            let first = a.iter().zip(b.iter()).map(|(a, b)| compare(a, b)).find(|order| order.is_ne());
            first.unwrap_or_else(|| {
                (shared..a.len().max(b.len()))
                    .map(|i| compare(&at(a, i), &at(b, i)))
                    .find(|order| order.is_ne())
                    .unwrap_or(Ordering::Equal)
            })
        }
        (Value::Object(a), Value::Object(b)) if Arc::ptr_eq(a, b) => Ordering::Equal,
        (Value::Object(a), Value::Object(b)) => compare_objects(a, b),
        _ => a.weight().cmp(&b.weight()),
    }
}

/// The one place that decides how strings are ordered.
pub fn compare_strings(a: &str, b: &str) -> Ordering {
    collation::compare(a, b)
}

/// Without rounding the integer, so that the order stays transitive.
fn compare_int_double(a: i64, b: f64) -> Ordering {
    const TOO_LARGE: f64 = 9_223_372_036_854_775_808.0;
    if b.is_nan() || b >= TOO_LARGE {
        Ordering::Less
    } else if b < -TOO_LARGE {
        Ordering::Greater
    } else {
        let whole = b.trunc();
        a.cmp(&(whole as i64)).then(0.0.partial_cmp(&(b - whole)).unwrap_or(Ordering::Equal))
    }
}

fn compare_objects(a: &Object, b: &Object) -> Ordering {
    let (a, b) = (a.sorted(), b.sorted());
    let (mut i, mut j) = (0, 0);
    loop {
        let (left, right) = match (a.get(i), b.get(j)) {
            (None, None) => return Ordering::Equal,
            (Some((_, value)), None) => (Some(*value), None),
            (None, Some((_, value))) => (None, Some(*value)),
            (Some((name, value)), Some((other, other_value))) => match name.cmp(other) {
                Ordering::Less => (Some(*value), None),
                Ordering::Greater => (None, Some(*other_value)),
                Ordering::Equal => (Some(*value), Some(*other_value)),
            },
        };
        i += usize::from(left.is_some());
        j += usize::from(right.is_some());
        let order = compare(left.unwrap_or(&Value::Null), right.unwrap_or(&Value::Null));
        if order.is_ne() {
            return order;
        }
    }
}

/// A string as a number; 0 if it is none.
fn parse_number(text: &str) -> Value {
    let text = text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    // Nothing but digits, so that no `inf` or `nan` gets through.
    if !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
        return Value::Int(0);
    }
    if let Ok(value) = text.parse::<i64>() {
        return Value::Int(value);
    }
    text.parse().ok().filter(|value: &f64| value.is_finite()).map_or(Value::Int(0), Value::Double)
}

/// The shortest text that reads back as the same double, laid out as ArangoDB does: `1`, `0.25`, `1e+21`, `2e-7`.
pub fn double_text(value: f64) -> String {
    if !value.is_finite() {
        return "null".into();
    }
    let scientific = format!("{:e}", value.abs());
    let (mantissa, exponent) = scientific.split_once('e').expect("an exponent is always written");
    let digits: String = mantissa.chars().filter(|&c| c != '.').collect();
    let exponent: i32 = exponent.parse().expect("an exponent is an integer");
    let sign = if value.is_sign_negative() { "-" } else { "" };
    let count = digits.len() as i32;
    // The power of ten of the last digit.
    let scale = exponent - count + 1;
    if scale >= 0 && exponent < count + 7 {
        return format!("{sign}{digits}{}", "0".repeat(scale as usize));
    }
    if scale < 0 && (scale > -7 || exponent.abs() < 4) {
        let point = count + scale;
        return if point <= 0 {
            format!("{sign}0.{}{digits}", "0".repeat(-point as usize))
        } else {
            format!("{sign}{}.{}", &digits[..point as usize], &digits[point as usize..])
        };
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{point}{rest}e{}{}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is always written");
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        struct Values;

        impl<'de> Visitor<'de> for Values {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Int(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(i64::try_from(value).map_or(Value::Double(value as f64), Value::Int))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Value::number(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(Value::from(value))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = access.next_element()? {
                    elements.push(element);
                }
                Ok(elements.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
                let mut members: Vec<(Arc<str>, Value)> = Vec::new();
                while let Some((name, value)) = access.next_entry::<std::borrow::Cow<'_, str>, Value>()? {
                    members.push((name.into(), value));
                }
                Ok(members.into_iter().collect::<Object>().into())
            }
        }

        deserializer.deserialize_any(Values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aql::testing::{value, values};
    use proptest::prelude::*;

    #[test]
    fn values_are_ordered_by_type_and_value() {
        let sorted = values(
            r#"[null, false, true, -1e300, -2, -1.5, 0, 0.5, 1, 9007199254740993, 1e300, "", " ", "0", "abc", "abd",
                [], [false], [true], [0], [1, 2], [2], [99, 99], [100], {}, {"b": 1}, {"a": 0}, {"a": 1}, {"a": {}}]"#,
        );
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a:?} {b:?}");
            }
        }
        for [a, b] in [[r#"{}"#, r#"{"a":null}"#], ["[]", "[null]"], ["1", "1.0"], ["0", "-0.0"]] {
            assert_eq!(value(a), value(b));
        }
        assert_eq!(value(r#"{"a":1,"b":2}"#), value(r#"{"b":2,"a":1}"#));
    }

    #[test]
    fn casts() {
        let numbers = [
            ("null", "0"),
            ("true", "1"),
            ("1.5", "1.5"),
            (r#"" 12 ""#, "12"),
            (r#""-3e2""#, "-300"),
            (r#""x1""#, "0"),
            (r#""inf""#, "0"),
            ("[]", "0"),
            ("[[\"7\"]]", "7"),
            ("[8,9]", "0"),
            ("{}", "0"),
        ];
        for (from, to) in numbers {
            assert_eq!(value(from).to_number(), value(to), "{from}");
        }
        let strings =
            [("null", ""), ("false", "false"), ("0.0000002", "2e-7"), (r#"{"a":[1,null]}"#, r#"{"a":[1,null]}"#)];
        for (from, to) in strings {
            assert_eq!(&*value(from).to_string(), to);
        }
    }

    #[test]
    fn doubles_are_written_as_arangodb_does() {
        let doubles = [
            (1.0, "1"),
            (-0.25, "-0.25"),
            (1e7, "10000000"),
            (1e21, "1e+21"),
            (2e-7, "2e-7"),
            (1.25e-9, "1.25e-9"),
            (123456.789, "123456.789"),
            (0.001, "0.001"),
            (f64::NAN, "null"),
        ];
        for (double, text) in doubles {
            assert_eq!(double_text(double), text);
        }
    }

    #[test]
    fn of_a_name_that_comes_twice_the_last_value_counts() {
        let many: Vec<String> = (0..40).map(|i| format!(r#""a{}":{i}"#, i % 20)).collect();
        let object = value(&format!("{{{}}}", many.join(",")));
        assert_eq!(object.as_object().unwrap().len(), 20);
        assert_eq!(object.attribute("a3"), value("23"));
        assert_eq!(value(r#"{"b":1,"a":2,"b":3}"#).to_json(), r#"{"b":3,"a":2}"#);
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in crate::aql::testing::any_value(), b in crate::aql::testing::any_value(), c in crate::aql::testing::any_value()) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert!(compare(&a, &a).is_eq());
            let mut sorted = [a, b, c];
            sorted.sort();
            prop_assert!(compare(&sorted[0], &sorted[2]).is_le());
        }

        #[test]
        fn what_is_written_is_read_back(a in crate::aql::testing::any_value()) {
            let text = a.to_json();
            // A double that is written as a long integer comes back as one, so the text is what is compared.
            prop_assert_eq!(Value::parse(text.as_bytes()).unwrap().to_json(), text);
        }
    }
}
