//! Functions of numbers and of arrays of numbers. Arguments are cast to numbers, as ArangoDB does.

use super::array::sorted;
use super::{Context, Function, impure, pure};
use crate::aql::aggregate::{Accumulator, Aggregate};
use crate::aql::operators::{self, RANGE_ELEMENTS_MAX};
use crate::aql::value::Value;
use crate::errors::{self, Error};

type Called = Result<Value, Error>;

macro_rules! of_double {
    ($name:literal, $function:expr) => {
        pure($name, 1, 1, |_, args| Ok(Value::number($function(args[0].to_double()))))
    };
}

macro_rules! rounding {
    ($name:literal, $function:expr) => {
        pure($name, 1, 1, |_, args| {
            Ok(match args[0].to_number() {
                Value::Double(value) => Value::whole_number($function(value)),
                whole => whole,
            })
        })
    };
}

macro_rules! of_array {
    ($name:literal, $aggregate:expr) => {
        pure($name, 1, 1, |context, args| match args[0].as_array() {
            Some(values) => Accumulator::over($aggregate, values).finish(context),
            None => context.array_expected(),
        })
    };
}

pub(super) const FUNCTIONS: &[Function] = &[
    pure("ABS", 1, 1, |_, args| {
        Ok(match args[0].to_number() {
            Value::Int(value) => value.checked_abs().map_or(Value::Double(-(value as f64)), Value::Int),
            other => Value::number(other.to_double().abs()),
        })
    }),
    of_double!("ACOS", f64::acos),
    of_double!("ASIN", f64::asin),
    of_double!("ATAN", f64::atan),
    pure("ATAN2", 2, 2, |_, args| Ok(Value::number(args[0].to_double().atan2(args[1].to_double())))),
    of_array!("AVERAGE", Aggregate::Average),
    of_array!("AVG", Aggregate::Average),
    rounding!("CEIL", f64::ceil),
    of_double!("COS", f64::cos),
    pure("COSINE_SIMILARITY", 2, 2, |context, args| by_row(context, args, cosine_similarity)),
    pure("DECAY_EXP", 5, 5, |context, args| {
        decay(context, args, |distance, scale, decay| (decay.ln() * distance / scale).exp())
    }),
    pure("DECAY_GAUSS", 5, 5, |context, args| {
        decay(context, args, |distance, scale, decay| (decay.ln() * (distance / scale).powi(2)).exp())
    }),
    pure("DECAY_LINEAR", 5, 5, |context, args| {
        decay(context, args, |distance, scale, decay| {
            let width = scale / (1.0 - decay);
            ((width - distance) / width).max(0.0)
        })
    }),
    of_double!("DEGREES", f64::to_degrees),
    of_double!("EXP", f64::exp),
    of_double!("EXP2", f64::exp2),
    rounding!("FLOOR", f64::floor),
    pure("L1_DISTANCE", 2, 2, |context, args| {
        by_row(context, args, |x, y| Some(x.iter().zip(y).map(|(x, y)| (x - y).abs()).sum()))
    }),
    pure("L2_DISTANCE", 2, 2, |context, args| {
        by_row(context, args, |x, y| Some(x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt()))
    }),
    of_double!("LOG", f64::ln),
    of_double!("LOG10", f64::log10),
    of_double!("LOG2", f64::log2),
    of_array!("MAX", Aggregate::Max),
    pure("MEDIAN", 1, 1, |context, args| match numbers(context, &args[0])? {
        Err(null) => Ok(null),
        Ok(values) => Ok(median(&values)),
    }),
    of_array!("MIN", Aggregate::Min),
    pure("PERCENTILE", 2, 3, percentile),
    pure("PI", 0, 0, |_, _| Ok(Value::Double(std::f64::consts::PI))),
    pure("POW", 2, 2, |_, args| {
        let power = args[0].to_double().powf(args[1].to_double());
        let whole = matches!((args[0].to_number(), args[1].to_number()), (Value::Int(_), Value::Int(_)));
        Ok(if whole { Value::whole_number(power) } else { Value::number(power) })
    }),
    of_array!("PRODUCT", Aggregate::Product),
    of_double!("RADIANS", f64::to_radians),
    // Strictly between 0 and 1.
    impure("RAND", 0, 0, |context, _| {
        let bits = context.rng.next_u64() >> 12;
        Ok(Value::number((bits as f64 + 0.5) / (1u64 << 52) as f64))
    }),
    pure("RANGE", 2, 3, range),
    // Halves go up, also below zero.
    rounding!("ROUND", |value: f64| (value + 0.5).floor()),
    of_double!("SIN", f64::sin),
    of_double!("SQRT", f64::sqrt),
    of_array!("STDDEV", Aggregate::Variance { sample: false, root: true }),
    of_array!("STDDEV_POPULATION", Aggregate::Variance { sample: false, root: true }),
    of_array!("STDDEV_SAMPLE", Aggregate::Variance { sample: true, root: true }),
    of_array!("SUM", Aggregate::Sum),
    of_double!("TAN", f64::tan),
    of_array!("VARIANCE", Aggregate::Variance { sample: false, root: false }),
    of_array!("VARIANCE_POPULATION", Aggregate::Variance { sample: false, root: false }),
    of_array!("VARIANCE_SAMPLE", Aggregate::Variance { sample: true, root: false }),
];

/// The numbers of an array, sorted, without its nulls; or null, and a warning.
fn numbers(context: &mut Context<'_>, value: &Value) -> Result<Result<Vec<Value>, Value>, Error> {
    let Some(values) = value.as_array() else { return context.array_expected().map(Err) };
    let values: Vec<Value> = values.iter().filter(|value| !value.is_null()).cloned().collect();
    if values.iter().all(Value::is_number) {
        Ok(Ok(sorted(&values)))
    } else {
        context.warn_of(errors::QUERY_INVALID_ARITHMETIC_VALUE).map(Err)
    }
}

fn median(sorted: &[Value]) -> Value {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => Value::Null,
        odd if odd % 2 == 1 => sorted[middle].clone(),
        _ => Value::number(sorted[middle - 1].to_double().midpoint(sorted[middle].to_double())),
    }
}

fn percentile(context: &mut Context<'_>, args: &[Value]) -> Called {
    let interpolate = match args.get(2).map(Value::as_str) {
        None | Some(Some("rank")) => false,
        Some(Some("interpolation")) => true,
        _ => return context.invalid_type(),
    };
    let Some(percent) = args[1].as_double().filter(|percent| *percent > 0.0 && *percent <= 100.0) else {
        return context.invalid_type();
    };
    let values = match numbers(context, &args[0])? {
        Ok(values) => values,
        Err(null) => return Ok(null),
    };
    let Some(last) = values.last() else { return Ok(Value::Null) };
    let count = values.len() + usize::from(interpolate);
    let place = percent * count as f64 / 100.0;
    let rank = if interpolate { place.floor() } else { place.ceil() } as usize;
    if percent == 100.0 || rank >= values.len() {
        return Ok(last.clone());
    }
    let Some(below) = rank.checked_sub(1).map(|place| &values[place]) else { return Ok(Value::Null) };
    if !interpolate {
        return Ok(below.clone());
    }
    let (low, high) = (below.to_double(), values[rank].to_double());
    Ok(Value::number(low + (place - rank as f64) * (high - low)))
}

fn range(context: &mut Context<'_>, args: &[Value]) -> Called {
    let Some(step) = args.get(2) else { return operators::range(&args[0], &args[1]) };
    let (from, to, step) = (args[0].to_double(), args[1].to_double(), step.to_double());
    if step == 0.0 || (from < to && step < 0.0) || (from > to && step > 0.0) {
        return context.invalid_type();
    }
    let steps = ((to - from) / step).floor();
    if steps.is_nan() || steps >= RANGE_ELEMENTS_MAX as f64 {
        return Err(errors::RESOURCE_LIMIT.because("a range has too many elements to be an array"));
    }
    Ok((0..=steps as u64).map(|i| Value::whole_number(from + i as f64 * step)).collect())
}

/// A vector of numbers.
fn vector(value: &Value) -> Option<Vec<f64>> {
    value.as_array()?.iter().map(Value::as_double).collect()
}

/// Of two vectors, or of each row of a matrix and a vector.
fn by_row(context: &mut Context<'_>, args: &[Value], measure: fn(&[f64], &[f64]) -> Option<f64>) -> Called {
    let one = |x: &Value, y: &Value| -> Option<Value> {
        let (x, y) = (vector(x)?, vector(y)?);
        (x.len() == y.len()).then(|| measure(&x, &y))?.map(Value::number)
    };
    let is_matrix = |value: &Value| matches!(value.element(0), Value::Array(_));
    let result = match (&args[0], &args[1]) {
        (Value::Array(rows), y) if is_matrix(&args[0]) => rows.iter().map(|row| one(row, y)).collect(),
        (x, Value::Array(rows)) if is_matrix(&args[1]) => rows.iter().map(|row| one(x, row)).collect(),
        (x, y) => one(x, y),
    };
    result.map_or_else(|| context.invalid_type(), Ok)
}

fn cosine_similarity(x: &[f64], y: &[f64]) -> Option<f64> {
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let norms = (product(x, x) * product(y, y)).sqrt();
    (norms > 0.0).then(|| (product(x, y) / norms).clamp(-1.0, 1.0))
}

/// `value, origin, scale, offset, decay`
fn decay(context: &mut Context<'_>, args: &[Value], score: fn(f64, f64, f64) -> f64) -> Called {
    let numbers: Option<Vec<f64>> = args[1..].iter().map(Value::as_double).collect();
    let Some(&[origin, scale, offset, decay]) = numbers.as_deref() else { return context.invalid_type() };
    if scale <= 0.0 || offset < 0.0 || decay <= 0.0 || decay >= 1.0 {
        return context.invalid_type();
    }
    let one = |value: &Value| {
        let distance = ((value.as_double()? - origin).abs() - offset).max(0.0);
        Some(Value::number(score(distance, scale, decay)))
    };
    let result = match &args[0] {
        Value::Array(values) => values.iter().map(one).collect(),
        value => one(value),
    };
    result.map_or_else(|| context.invalid_type(), Ok)
}

#[cfg(test)]
mod tests {
    crate::aql::testing::table! {
        "ABS(-5)" => "5",
        "ABS(3.5)" => "3.5",
        "ABS(-9223372036854775808)" => "9223372036854775808",
        "ACOS(-1)" => "3.141592653589793",
        "ACOS(2)" => "null",
        "ASIN(1)" => "1.5707963267948966",
        "ATAN(10)" => "1.4711276743037347",
        "ATAN2(-10, 20)" => "-0.4636476090008061",
        "AVERAGE([5,2,9,2])" => "4.5",
        "AVERAGE([999,80,4,4,4,3,3,3])" => "137.5",
        "AVERAGE([])" => "null",
        "AVERAGE([\"1\"])" => "null" 1561,
        "AVERAGE(1)" => "null" 1563,
        "CEIL(2.49)" => "3",
        "CEIL(-2.51)" => "-2",
        "COS(1)" => "0.5403023058681398",
        "COSINE_SIMILARITY([0,1], [1,0])" => "0",
        "COSINE_SIMILARITY([[0,1,0,1],[0,0,0,1]], [1,1,1,1])" => "[0.7071067811865475,0.5]",
        "COSINE_SIMILARITY([-1,0], [1,0])" => "-1",
        "COSINE_SIMILARITY([-1,0], [1])" => "null" 1542,
        "DECAY_GAUSS(41, 40, 5, 5, 0.5)" => "1",
        "DECAY_GAUSS([20,41], 40, 5, 5, 0.5)" => "[0.0019531250000000017,1]",
        "DECAY_GAUSS(49.9889, 49.987, 0.001, 0.001, 0.2)" => "0.2715403018822964",
        "DECAY_EXP(2, 0, 10, 0, 0.2)" => "0.7247796636776955",
        "DECAY_LINEAR(9.8, 0, 10, 0, 0.2)" => "0.216",
        "DECAY_LINEAR([5,6,7], 0, 10, 0, 0.2)" => "[0.6,0.52,0.44]",
        "DEGREES(0.7853981633974483)" => "45",
        "EXP(10)" => "22026.46579480671",
        "EXP2(16)" => "65536",
        "FLOOR(2.49)" => "2",
        "FLOOR(-2.50)" => "-3",
        "LOG(10)" => "2.302585092994046",
        "LOG(0)" => "null",
        "LOG2(1024)" => "10",
        "LOG10(10000)" => "4",
        "L1_DISTANCE([-1,-1], [2,2])" => "6",
        "L1_DISTANCE([[1,2,3],[-1,-2,-3],[3,4,5],[-5,2,1]], [1,1,1])" => "[3,9,9,7]",
        "L2_DISTANCE([1,1], [5,2])" => "4.1231056256176606",
        "MAX([5,9,-2,null,1])" => "9",
        "MEDIAN([1,2,3])" => "2",
        "MEDIAN([4,2,3,1])" => "2.5",
        "MEDIAN([999,80,4,4,4,3,3,3])" => "4",
        "MEDIAN([])" => "null",
        "MIN([5,9,-2,null,1])" => "-2",
        "PERCENTILE([1,2,3,4], 50)" => "2",
        "PERCENTILE([1,2,3,4], 50, \"interpolation\")" => "2.5",
        "PERCENTILE([1,2,3,4], 100)" => "4",
        "PERCENTILE([1,2,3,4], 0)" => "null" 1542,
        "PI()" => "3.141592653589793",
        "POW(2, 4)" => "16",
        "POW(5, -1)" => "0.2",
        "POW(5, 0)" => "1",
        "PRODUCT([null,-5,6])" => "-30",
        "PRODUCT([])" => "1",
        "RADIANS(180)" => "3.141592653589793",
        "RANGE(1, 4)" => "[1,2,3,4]",
        "RANGE(1, 4, 2)" => "[1,3]",
        "RANGE(1, 4, 3)" => "[1,4]",
        "RANGE(1.5, 2.5)" => "[1,2]",
        "RANGE(1.5, 2.5, 1)" => "[1.5,2.5]",
        "RANGE(1.5, 2.5, 0.5)" => "[1.5,2,2.5]",
        "RANGE(-0.75, 1.1, 0.5)" => "[-0.75,-0.25,0.25,0.75]",
        "RANGE(1, 2, -1)" => "null" 1542,
        "RANGE(1, 1e300, 1)" => "error 32",
        "ROUND(2.49)" => "2",
        "ROUND(2.50)" => "3",
        "ROUND(-2.50)" => "-2",
        "ROUND(-2.51)" => "-3",
        "SQRT(2)" => "1.4142135623730951",
        "SQRT(-1)" => "null",
        "STDDEV_POPULATION([1,3,6,5,2])" => "1.854723699099141",
        "STDDEV_SAMPLE([1,3,6,5,2])" => "2.0736441353327724",
        "SUM([1,2,3,4])" => "10",
        "SUM([null,-5,6])" => "1",
        "TAN(5)" => "-3.380515006246586",
        "VARIANCE_POPULATION([1,3,6,5,2])" => "3.4400000000000004",
        "VARIANCE_SAMPLE([1,3,6,5,2])" => "4.300000000000001",
    }
}
