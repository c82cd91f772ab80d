//! The operators of AQL.
//!
//! What ArangoDB casts is cast here, and what it answers with null and a warning is answered so: no operator fails but
//! by a limit. `&&`, `||` and `?:` are not here, because they decide what is evaluated.

use super::functions::{Context, VALUE_BYTES_MAX};
use super::value::{Value, compare};
use crate::errors::{self, Error};
use std::cmp::Ordering;

/// A range becomes an array up to so many elements.
pub const RANGE_ELEMENTS_MAX: u64 = (VALUE_BYTES_MAX / size_of::<Value>()) as u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulus,
}

/// Integers stay integers while that is exact; what is not finite is null.
pub fn arithmetic(context: &mut Context<'_>, how: Arithmetic, left: &Value, right: &Value) -> Result<Value, Error> {
    use Arithmetic::*;
    let (left, right) = (left.to_number(), right.to_number());
    if matches!(how, Divide | Modulus) && right == Value::Int(0) {
        return context.warn_of(errors::QUERY_DIVISION_BY_ZERO);
    }
    if let (Value::Int(left), Value::Int(right)) = (&left, &right) {
        let exact = match how {
            Add => left.checked_add(*right),
            Subtract => left.checked_sub(*right),
            Multiply => left.checked_mul(*right),
            Divide => left.checked_div(*right).filter(|quotient| quotient.checked_mul(*right) == Some(*left)),
            // The one overflow there is has the remainder 0.
            Modulus => Some(left.checked_rem(*right).unwrap_or(0)),
        };
        if let Some(exact) = exact {
            return Ok(Value::Int(exact));
        }
    }
    let (left, right) = (left.to_double(), right.to_double());
    Ok(Value::number(match how {
        Add => left + right,
        Subtract => left - right,
        Multiply => left * right,
        Divide => left / right,
        Modulus => left % right,
    }))
}

/// Unary minus.
pub fn negate(value: &Value) -> Value {
    match value.to_number() {
        Value::Int(value) => value.checked_neg().map_or(Value::Double(-(value as f64)), Value::Int),
        other => Value::number(-other.to_double()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

impl Comparison {
    /// What is no array contains nothing and lacks nothing: `IN` and `NOT IN` are both false.
    pub fn holds(self, left: &Value, right: &Value) -> bool {
        use Comparison::*;
        if matches!(self, In | NotIn) {
            return right.as_array().is_some_and(|elements| elements.contains(left) == (self == In));
        }
        let order = compare(left, right);
        match self {
            Equal => order == Ordering::Equal,
            NotEqual => order != Ordering::Equal,
            Less => order == Ordering::Less,
            LessOrEqual => order != Ordering::Greater,
            Greater => order == Ordering::Greater,
            GreaterOrEqual => order != Ordering::Less,
            In | NotIn => unreachable!("answered above"),
        }
    }
}

/// How many elements of an array must compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantifier {
    All,
    Any,
    None,
    AtLeast(i64),
}

/// `left ALL IN right` and the like; false if the left side is no array.
pub fn array_comparison(quantifier: Quantifier, how: Comparison, left: &Value, right: &Value) -> bool {
    let Some(elements) = left.as_array() else { return false };
    if matches!(how, Comparison::In | Comparison::NotIn) && right.as_array().is_none() {
        return false;
    }
    // Each of many is looked for among many.
    let sorted = match right {
        Value::Array(all)
            if elements.len() > 8 && all.len() > 8 && matches!(how, Comparison::In | Comparison::NotIn) =>
        {
            let mut sorted: Vec<&Value> = all.iter().collect();
            sorted.sort();
            Some(sorted)
        }
        _ => None,
    };
    let mut holds = elements.iter().map(|element| match &sorted {
        Some(sorted) => sorted.binary_search(&element).is_ok() == (how == Comparison::In),
        None => how.holds(element, right),
    });
    match quantifier {
        Quantifier::All => holds.all(|holds| holds),
        Quantifier::Any => holds.any(|holds| holds),
        Quantifier::None => !holds.any(|holds| holds),
        Quantifier::AtLeast(least) => holds.filter(|&holds| holds).count() as i64 >= least,
    }
}

/// The bounds of `low..high`. A loop over a range needs no array.
pub fn range_bounds(low: &Value, high: &Value) -> (i64, i64) {
    (low.to_int(), high.to_int())
}

/// `low..high` as an array; downwards if `low` is the higher one.
pub fn range(low: &Value, high: &Value) -> Result<Value, Error> {
    let (low, high) = range_bounds(low, high);
    if low.abs_diff(high) >= RANGE_ELEMENTS_MAX {
        return Err(errors::RESOURCE_LIMIT.because("a range has too many elements to be an array"));
    }
    Ok(if low <= high { (low..=high).map(Value::Int).collect() } else { (high..=low).rev().map(Value::Int).collect() })
}

/// `LIKE`: `%` is any characters, `_` is one; both are literal after a backslash.
pub fn like(text: &str, pattern: &str, ignore_case: bool) -> bool {
    #[derive(PartialEq)]
    enum Part {
        Character(char),
        One,
        Many,
    }
    let fold = |c: char| if ignore_case { c.to_lowercase().next().unwrap_or(c) } else { c };
    let mut parts = Vec::new();
    let mut characters = pattern.chars().peekable();
    while let Some(c) = characters.next() {
        parts.push(match c {
            '%' => Part::Many,
            '_' => Part::One,
            '\\' => Part::Character(match characters.peek() {
                Some('%' | '_' | '\\') => fold(characters.next().unwrap_or(c)),
                _ => c,
            }),
            other => Part::Character(fold(other)),
        });
    }
    let text: Vec<char> = text.chars().map(fold).collect();
    // Greedy: it suffices to go back to the last `%`.
    let (mut at, mut part, mut retry) = (0, 0, None);
    while at < text.len() {
        match parts.get(part) {
            Some(Part::Many) => {
                retry = Some((at, part));
                part += 1;
            }
            Some(Part::One) => (at, part) = (at + 1, part + 1),
            Some(Part::Character(c)) if *c == text[at] => (at, part) = (at + 1, part + 1),
            _ => match &mut retry {
                Some((from, many)) => {
                    *from += 1;
                    (at, part) = (*from, *many + 1);
                }
                None => return false,
            },
        }
    }
    parts[part..].iter().all(|part| *part == Part::Many)
}

/// `=~`: whether the pattern is found in the text; null and a warning if it is no regular expression.
///
/// The syntax is that of the crate `regex`, which matches in linear time: other than in ArangoDB there are no
/// look-around and no back-references.
pub fn matches_regex(context: &mut Context<'_>, text: &Value, pattern: &Value) -> Result<Value, Error> {
    match context.regex(&pattern.to_string(), false) {
        Some(regex) => Ok(regex.is_match(&text.to_string()).into()),
        None => context.warn_of(errors::QUERY_INVALID_REGEX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aql::testing::{any_value, value, with_context};
    use proptest::prelude::*;

    #[test]
    fn arithmetic_is_as_in_the_manual() {
        use Arithmetic::*;
        let table = [
            ("1", Add, r#""a""#, "1"),
            ("1", Add, r#""99""#, "100"),
            ("3", Add, "[]", "3"),
            ("24", Add, "[2]", "26"),
            ("24", Add, "[2,4]", "24"),
            ("17", Subtract, "true", "16"),
            ("23", Multiply, "{}", "0"),
            ("24", Divide, r#""12""#, "2"),
            ("1", Divide, "2", "0.5"),
            ("1", Divide, "0", "null"),
            ("23", Modulus, "7", "2"),
            ("-5.5", Modulus, "2", "-1.5"),
            ("9223372036854775807", Add, "1", "9223372036854775808"),
            ("-9223372036854775808", Modulus, "-1", "0"),
            ("1e308", Multiply, "10", "null"),
        ];
        for (left, how, right, expected) in table {
            let (result, _) = with_context(|context| arithmetic(context, how, &value(left), &value(right)));
            assert_eq!(result.unwrap(), value(expected), "{left} {how:?} {right}");
        }
        let (_, warnings) = with_context(|context| arithmetic(context, Modulus, &Value::Int(1), &Value::Null));
        assert_eq!(warnings, [1562]);
        assert_eq!(negate(&value(r#"["8"]"#)), value("-8"));
    }

    #[test]
    fn comparisons_are_as_in_the_manual() {
        use Comparison::*;
        use Quantifier::*;
        assert!(In.holds(&value("1.5"), &value("[2,3,1.5]")));
        assert!(NotIn.holds(&value("42"), &value("[17]")));
        assert!(!In.holds(&value("1"), &Value::Null) && !NotIn.holds(&value("1"), &Value::Null));
        let table = [
            ("[1,2,3]", All, In, "[2,3,4]", false),
            ("[1,2,3]", Quantifier::None, In, "[23,42]", true),
            ("[1,2,3]", Any, Equal, "2", true),
            ("[1,2,3]", Quantifier::None, Less, "99", false),
            ("[1,2,3]", All, Greater, "0", true),
            ("[1,2,3]", AtLeast(2), In, "[2,3,4]", true),
            ("[]", All, Equal, "1", true),
            ("7", Quantifier::None, Equal, "1", false),
        ];
        for (left, quantifier, how, right, expected) in table {
            assert_eq!(array_comparison(quantifier, how, &value(left), &value(right)), expected, "{left} {right}");
        }
    }

    #[test]
    fn like_and_ranges() {
        let table = [
            ("cart", "ca_t", true),
            ("carrot", "ca_t", false),
            ("carrot", "ca%t", true),
            ("foo bar baz", "bar", false),
            ("foo bar baz", "%bar%", true),
            ("bar", "%bar%", true),
            ("a_b", "a\\_b", true),
            ("axb", "a\\_b", false),
            ("aab", "%ab", true),
            ("", "%", true),
            ("", "_", false),
            ("a\\b", "a\\\\b", true),
        ];
        for (text, pattern, expected) in table {
            assert_eq!(like(text, pattern, false), expected, "{text} {pattern}");
        }
        assert!(like("FoO bAr BaZ", "fOo%bAz", true));
        assert_eq!(range(&value("3"), &value("1.9")).unwrap(), value("[3,2,1]"));
        assert_eq!(range(&Value::Int(i64::MIN), &Value::Int(i64::MAX)).unwrap_err().kind, errors::RESOURCE_LIMIT);
        let (result, warnings) = with_context(|context| matches_regex(context, &value(r#""foo""#), &value(r#""(""#)));
        assert_eq!((result.unwrap(), warnings), (Value::Null, vec![1543]));
    }

    proptest! {
        #[test]
        fn operators_take_everything(a in any_value(), b in any_value()) {
            use Arithmetic::*;
            for how in [Add, Subtract, Multiply, Divide, Modulus] {
                let (result, _) = with_context(|context| arithmetic(context, how, &a, &b));
                prop_assert!(result.is_ok());
            }
            with_context(|context| matches_regex(context, &a, &b)).0.unwrap();
            like(&a.to_string(), &b.to_string(), true);
            negate(&a);
        }
    }
}
