//! Functions of arrays. Results that the manual gives in any order are in the order of the first occurrence.

use super::{ANY, Context, Function, pure};
use crate::aql::operators::RANGE_ELEMENTS_MAX;
use crate::aql::value::Value;
use crate::errors::{self, Error};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const FUNCTIONS: &[Function] = &[
    pure("APPEND", 2, 3, append),
    pure("CONTAINS_ARRAY", 2, 3, position),
    pure("COUNT", 1, 1, length),
    pure("COUNT_DISTINCT", 1, 1, count_distinct),
    pure("COUNT_UNIQUE", 1, 1, count_distinct),
    pure("FIRST", 1, 1, |context, args| {
        with_array(context, &args[0], |array| array.first().cloned().unwrap_or_default())
    }),
    pure("FLATTEN", 1, 2, flatten),
    pure("INTERLEAVE", 2, ANY, interleave),
    pure("INTERSECTION", 2, ANY, intersection),
    pure("JACCARD", 2, 2, jaccard),
    pure("LAST", 1, 1, |context, args| {
        with_array(context, &args[0], |array| array.last().cloned().unwrap_or_default())
    }),
    pure("LENGTH", 1, 1, length),
    pure("MINUS", 2, ANY, minus),
    pure("NTH", 2, 2, nth),
    pure("OUTERSECTION", 2, ANY, outersection),
    pure("POP", 1, 1, |context, args| {
        without(context, &args[0], |array| array.truncate(array.len().saturating_sub(1)))
    }),
    pure("POSITION", 2, 3, position),
    pure("PUSH", 2, 3, |context, args| add(context, args, |array, value| array.push(value))),
    pure("REMOVE_NTH", 2, 2, remove_nth),
    pure("REMOVE_VALUE", 2, 3, remove_value),
    pure("REMOVE_VALUES", 2, 2, remove_values),
    pure("REPLACE_NTH", 3, 4, replace_nth),
    pure("REVERSE", 1, 1, reverse),
    pure("SHIFT", 1, 1, |context, args| without(context, &args[0], |array| drop(array.drain(..array.len().min(1))))),
    pure("SLICE", 2, 3, slice),
    pure("SORTED", 1, 1, |context, args| with_array(context, &args[0], |array| sorted(array).into())),
    pure("SORTED_UNIQUE", 1, 1, |context, args| {
        with_array(context, &args[0], |array| {
            let mut array = sorted(array);
            array.dedup();
            array.into()
        })
    }),
    pure("UNION", 2, ANY, |context, args| {
        let Some(arrays) = arrays(args) else { return context.invalid_type() };
        Ok(arrays.concat().into())
    }),
    pure("UNION_DISTINCT", 2, ANY, |context, args| {
        let Some(arrays) = arrays(args) else { return context.invalid_type() };
        Ok(unique(arrays.into_iter().flatten()).into())
    }),
    pure("UNIQUE", 1, 1, |context, args| with_array(context, &args[0], |array| unique(array).into())),
    pure("UNSHIFT", 2, 3, |context, args| add(context, args, |array, value| array.insert(0, value))),
];

type Called = Result<Value, Error>;

fn with_array(context: &mut Context<'_>, value: &Value, then: impl FnOnce(&[Value]) -> Value) -> Called {
    match value.as_array() {
        Some(array) => Ok(then(array)),
        None => context.array_expected(),
    }
}

/// All arguments, if they are arrays.
fn arrays(args: &[Value]) -> Option<Vec<&[Value]>> {
    args.iter().map(Value::as_array).collect()
}

fn flag(args: &[Value], place: usize) -> bool {
    args.get(place).is_some_and(Value::truthy)
}

pub(super) fn unique<'v>(values: impl IntoIterator<Item = &'v Value>) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    values.into_iter().filter(|value| seen.insert(*value)).cloned().collect()
}

pub(super) fn sorted(array: &[Value]) -> Vec<Value> {
    let mut array = array.to_vec();
    array.sort();
    array
}

fn append(context: &mut Context<'_>, args: &[Value]) -> Called {
    let (list, more) = (&args[0], &args[1]);
    if more.is_null() || more.as_array().is_some_and(<[Value]>::is_empty) {
        return Ok(list.clone());
    }
    if list.is_null() {
        return Ok(more.clone());
    }
    let Some(array) = list.as_array() else { return context.invalid_type() };
    let more = more.as_array().unwrap_or(std::slice::from_ref(more));
    let all = array.iter().chain(more);
    Ok(if flag(args, 2) { unique(all).into() } else { all.cloned().collect() })
}

/// `PUSH()` and `UNSHIFT()`.
fn add(context: &mut Context<'_>, args: &[Value], insert: fn(&mut Vec<Value>, Value)) -> Called {
    let mut array = match &args[0] {
        Value::Null => Vec::new(),
        Value::Array(array) => array.to_vec(),
        _ => return context.invalid_type(),
    };
    if !(flag(args, 2) && array.contains(&args[1])) {
        insert(&mut array, args[1].clone());
    }
    Ok(array.into())
}

/// `POP()` and `SHIFT()`: null stays null.
fn without(context: &mut Context<'_>, list: &Value, remove: fn(&mut Vec<Value>)) -> Called {
    match list {
        Value::Null => Ok(Value::Null),
        Value::Array(array) => {
            let mut array = array.to_vec();
            remove(&mut array);
            Ok(array.into())
        }
        _ => context.invalid_type(),
    }
}

/// Of arrays, objects and strings; of a collection see `COLLECTION_COUNT()`.
fn length(_: &mut Context<'_>, args: &[Value]) -> Called {
    Ok(match &args[0] {
        Value::Null => Value::Int(0),
        Value::Bool(value) => Value::Int(i64::from(*value)),
        Value::Array(array) => array.len().into(),
        Value::Object(object) => object.len().into(),
        other => other.to_string().chars().count().into(),
    })
}

fn count_distinct(context: &mut Context<'_>, args: &[Value]) -> Called {
    with_array(context, &args[0], |array| array.iter().collect::<BTreeSet<_>>().len().into())
}

fn flatten(context: &mut Context<'_>, args: &[Value]) -> Called {
    fn collect(array: &[Value], depth: i64, out: &mut Vec<Value>) {
        for element in array {
            match element.as_array() {
                Some(inner) if depth > 0 => collect(inner, depth - 1, out),
                _ => out.push(element.clone()),
            }
        }
    }
    let depth = args.get(1).map_or(1, |depth| depth.to_int().max(1));
    with_array(context, &args[0], |array| {
        let mut out = Vec::new();
        collect(array, depth, &mut out);
        out.into()
    })
}

fn interleave(context: &mut Context<'_>, args: &[Value]) -> Called {
    let Some(arrays) = arrays(args) else { return context.invalid_type() };
    let longest = arrays.iter().map(|array| array.len()).max().unwrap_or(0);
    Ok((0..longest).flat_map(|place| arrays.iter().filter_map(move |array| array.get(place))).cloned().collect())
}

fn intersection(context: &mut Context<'_>, args: &[Value]) -> Called {
    let Some(arrays) = arrays(args) else { return context.invalid_type() };
    let others: Vec<BTreeSet<&Value>> = arrays[1..].iter().map(|array| array.iter().collect()).collect();
    Ok(unique(arrays[0].iter().filter(|value| others.iter().all(|other| other.contains(value)))).into())
}

fn minus(context: &mut Context<'_>, args: &[Value]) -> Called {
    let Some(arrays) = arrays(args) else { return context.invalid_type() };
    let others: BTreeSet<&Value> = arrays[1..].iter().copied().flatten().collect();
    Ok(unique(arrays[0].iter().filter(|value| !others.contains(value))).into())
}

fn outersection(context: &mut Context<'_>, args: &[Value]) -> Called {
    let Some(arrays) = arrays(args) else { return context.invalid_type() };
    let mut counts = BTreeMap::new();
    arrays.iter().copied().flatten().for_each(|value| *counts.entry(value).or_insert(0u64) += 1);
    Ok(arrays.into_iter().flatten().filter(|value| counts[value] == 1).cloned().collect())
}

fn jaccard(context: &mut Context<'_>, args: &[Value]) -> Called {
    let Some(arrays) = arrays(args) else { return context.invalid_type() };
    let sets: Vec<BTreeSet<&Value>> = arrays.iter().map(|array| array.iter().collect()).collect();
    let union = sets[0].union(&sets[1]).count();
    let common = sets[0].intersection(&sets[1]).count();
    Ok(if union == 0 { Value::Int(1) } else { Value::number(common as f64 / union as f64) })
}

fn nth(context: &mut Context<'_>, args: &[Value]) -> Called {
    let place = args[1].to_int();
    with_array(context, &args[0], |_| if place < 0 { Value::Null } else { args[0].element(place) })
}

fn position(context: &mut Context<'_>, args: &[Value]) -> Called {
    with_array(context, &args[0], |array| {
        let found = array.iter().position(|element| *element == args[1]);
        if flag(args, 2) { found.map_or(Value::Int(-1), Value::from) } else { found.is_some().into() }
    })
}

fn remove_nth(context: &mut Context<'_>, args: &[Value]) -> Called {
    let Value::Array(array) = &args[0] else {
        return if args[0].is_null() { Ok(Vec::new().into()) } else { context.invalid_type() };
    };
    let mut array = array.to_vec();
    let place = args[1].to_int();
    let place = if place < 0 { place.saturating_add_unsigned(array.len() as u64) } else { place };
    if (0..array.len() as i64).contains(&place) {
        array.remove(place as usize);
    }
    Ok(array.into())
}

fn remove_value(context: &mut Context<'_>, args: &[Value]) -> Called {
    let Value::Array(array) = &args[0] else {
        return if args[0].is_null() { Ok(Vec::new().into()) } else { context.invalid_type() };
    };
    let mut left = args.get(2).filter(|limit| !limit.is_null()).map_or(i64::MAX, Value::to_int);
    let keep = |element: &&Value| {
        let removed = left > 0 && **element == args[1];
        left -= i64::from(removed);
        !removed
    };
    Ok(array.iter().filter(keep).cloned().collect())
}

fn remove_values(context: &mut Context<'_>, args: &[Value]) -> Called {
    match (&args[0], &args[1]) {
        (list, Value::Null) => Ok(list.clone()),
        (Value::Null, _) => Ok(Vec::new().into()),
        (Value::Array(array), Value::Array(values)) => {
            let values: BTreeSet<&Value> = values.iter().collect();
            Ok(array.iter().filter(|element| !values.contains(element)).cloned().collect())
        }
        _ => context.invalid_type(),
    }
}

fn replace_nth(context: &mut Context<'_>, args: &[Value]) -> Called {
    let Some(array) = args[0].as_array() else { return context.array_expected() };
    let place = args[1].to_int();
    let place = if place < 0 { place.saturating_add_unsigned(array.len() as u64).max(0) } else { place } as usize;
    let mut array = array.to_vec();
    if place > array.len() {
        let Some(padding) = args.get(3) else {
            let kind = errors::QUERY_FUNCTION_ARGUMENT_TYPE_MISMATCH;
            return Err(kind.says(format!("{} 'REPLACE_NTH()'", kind.message)));
        };
        if place as u64 >= RANGE_ELEMENTS_MAX {
            return Err(errors::RESOURCE_LIMIT.because("a function's result would be too large"));
        }
        array.resize(place, padding.clone());
    }
    if place < array.len() {
        array[place] = args[2].clone();
    } else {
        array.push(args[2].clone());
    }
    Ok(array.into())
}

/// Of an array or a string.
fn reverse(context: &mut Context<'_>, args: &[Value]) -> Called {
    match &args[0] {
        Value::Array(array) => Ok(array.iter().rev().cloned().collect()),
        Value::String(text) => Ok(text.chars().rev().collect::<String>().into()),
        _ => context.invalid_type(),
    }
}

fn slice(context: &mut Context<'_>, args: &[Value]) -> Called {
    with_array(context, &args[0], |array| {
        let count = array.len() as i64;
        let from = args[1].to_int();
        let from = if from < 0 { from.saturating_add(count) } else { from }.clamp(0, count);
        let to = match args.get(2).filter(|length| !length.is_null()).map(Value::to_int) {
            None => count,
            Some(length) if length < 0 => length.saturating_add(count),
            Some(length) => from.saturating_add(length),
        };
        array[from as usize..to.clamp(from, count) as usize].to_vec().into()
    })
}

#[cfg(test)]
mod tests {
    crate::aql::testing::table! {
        "APPEND([1,2,3], [5,6,9])" => "[1,2,3,5,6,9]",
        "APPEND([1,2,3], [3,4,5,2,9], true)" => "[1,2,3,4,5,9]",
        "APPEND([1], 2)" => "[1,2]",
        "APPEND(null, [2])" => "[2]",
        "COUNT_DISTINCT([\"yes\",\"no\",\"yes\",\"sauron\",\"no\",\"yes\"])" => "3",
        "FIRST([1,2,3])" => "1",
        "FIRST([])" => "null",
        "FIRST(1)" => "null" 1563,
        "FLATTEN([1,2,[3,4],5,[6,7],[8,[9,10]]])" => "[1,2,3,4,5,6,7,8,[9,10]]",
        "FLATTEN([1,2,[3,4],5,[6,7],[8,[9,10]]], 2)" => "[1,2,3,4,5,6,7,8,9,10]",
        "INTERLEAVE([1,1,1], [2,2,2], [3,3,3])" => "[1,2,3,1,2,3,1,2,3]",
        "INTERLEAVE([1], [2,2], [3,3,3])" => "[1,2,3,2,3,3]",
        "INTERSECTION([1,2,3,4,5], [2,3,4,5,6], [3,4,5,6,7])" => "[3,4,5]",
        "INTERSECTION([2,4,6], [8,10,12], [14,16,18])" => "[]",
        "INTERSECTION([2], 1)" => "null" 1542,
        "JACCARD([1,2,3,4], [3,4,5,6])" => "0.3333333333333333",
        "JACCARD([1,1,2,2,2,3], [2,2,3,4])" => "0.5",
        "JACCARD([1,2,3], [])" => "0",
        "JACCARD([], [])" => "1",
        "LAST([1,2,3,4,5])" => "5",
        "LENGTH(\"\u{1f951}\")" => "1",
        "LENGTH(1234)" => "4",
        "LENGTH([1,2,3,4,5,6,7])" => "7",
        "LENGTH(false)" => "0",
        "LENGTH({\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":{\"f\":5,\"g\":6}})" => "5",
        "MINUS([1,2,3,4], [3,4,5,6], [5,6,7,8])" => "[1,2]",
        "NTH([\"foo\",\"bar\",\"baz\"], 2)" => "\"baz\"",
        "NTH([\"foo\",\"bar\",\"baz\"], 3)" => "null",
        "NTH([\"foo\",\"bar\",\"baz\"], -1)" => "null",
        "OUTERSECTION([1,2,3], [2,3,4], [3,4,5])" => "[1,5]",
        "POP([1,2,3,4])" => "[1,2,3]",
        "POP([1])" => "[]",
        "POSITION([2,4,6,8], 4)" => "true",
        "POSITION([2,4,6,8], 4, true)" => "1",
        "POSITION([2,4,6,8], 5, true)" => "-1",
        "PUSH([1,2,3], 4)" => "[1,2,3,4]",
        "PUSH([1,2,2,3], 2, true)" => "[1,2,2,3]",
        "REMOVE_NTH([\"a\",\"b\",\"c\",\"d\",\"e\"], 1)" => "[\"a\",\"c\",\"d\",\"e\"]",
        "REMOVE_NTH([\"a\",\"b\",\"c\",\"d\",\"e\"], -2)" => "[\"a\",\"b\",\"c\",\"e\"]",
        "REPLACE_NTH([\"a\",\"b\",\"c\"], 1, \"z\")" => "[\"a\",\"z\",\"c\"]",
        "REPLACE_NTH([\"a\",\"b\",\"c\"], 3, \"z\")" => "[\"a\",\"b\",\"c\",\"z\"]",
        "REPLACE_NTH([\"a\",\"b\",\"c\"], 6, \"z\", \"y\")" => "[\"a\",\"b\",\"c\",\"y\",\"y\",\"y\",\"z\"]",
        "REPLACE_NTH([\"a\",\"b\",\"c\"], -1, \"z\")" => "[\"a\",\"b\",\"z\"]",
        "REPLACE_NTH([\"a\",\"b\",\"c\"], -9, \"z\")" => "[\"z\",\"b\",\"c\"]",
        "REPLACE_NTH([\"a\",\"b\",\"c\"], 6, \"z\")" => "error 1542",
        "REMOVE_VALUE([\"a\",\"b\",\"b\",\"a\",\"c\"], \"a\")" => "[\"b\",\"b\",\"c\"]",
        "REMOVE_VALUE([\"a\",\"b\",\"b\",\"a\",\"c\"], \"a\", 1)" => "[\"b\",\"b\",\"a\",\"c\"]",
        "REMOVE_VALUES([\"a\",\"a\",\"b\",\"c\",\"d\",\"e\",\"f\"], [\"a\",\"f\",\"d\"])" => "[\"b\",\"c\",\"e\"]",
        "REVERSE([2,4,6,8,10])" => "[10,8,6,4,2]",
        "SHIFT([1,2,3,4])" => "[2,3,4]",
        "SHIFT([1])" => "[]",
        "SLICE([1,2,3,4,5], 0, 1)" => "[1]",
        "SLICE([1,2,3,4,5], 1, 2)" => "[2,3]",
        "SLICE([1,2,3,4,5], 3)" => "[4,5]",
        "SLICE([1,2,3,4,5], 1, -1)" => "[2,3,4]",
        "SLICE([1,2,3,4,5], 0, -2)" => "[1,2,3]",
        "SLICE([1,2,3,4,5], -3, 2)" => "[3,4]",
        "SORTED([8,4,2,10,6])" => "[2,4,6,8,10]",
        "SORTED_UNIQUE([8,4,2,10,6,2,8,6,4])" => "[2,4,6,8,10]",
        "UNION([1,2,3], [1,2])" => "[1,2,3,1,2]",
        "UNION_DISTINCT([1,2,3], [1,2])" => "[1,2,3]",
        "UNIQUE([1,2,2,3,3,3])" => "[1,2,3]",
        "UNSHIFT([1,2,3], 4)" => "[4,1,2,3]",
        "UNSHIFT([1,2,3], 2, true)" => "[1,2,3]",
        "FIRST()" => "error 1541",
    }
}
