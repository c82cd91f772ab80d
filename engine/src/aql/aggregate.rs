//! Aggregate functions: values go in one by one, the result comes out at the end.
//!
//! `COLLECT … AGGREGATE` keeps one accumulator a group, and the functions of arrays with the same names use them as
//! well. What an accumulator holds is counted by [`Accumulator::size_bytes`], so that a query can be limited.

use super::functions::Context;
use super::value::Value;
use crate::errors::{self, Error};
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    Count,
    CountDistinct,
    Min,
    Max,
    Sum,
    Product,
    Average,
    /// Mean of the squares of the differences from the mean.
    Variance {
        sample: bool,
        root: bool,
    },
    Unique,
    SortedUnique,
    BitAnd,
    BitOr,
    BitXor,
    /// All values; what `INTO` collects.
    Push,
}

impl Aggregate {
    /// By the name of the function, in whatever case.
    pub fn named(name: &str) -> Option<Aggregate> {
        use Aggregate::*;
        Some(match name.to_ascii_uppercase().as_str() {
            "COUNT" | "LENGTH" => Count,
            "COUNT_DISTINCT" | "COUNT_UNIQUE" => CountDistinct,
            "MIN" => Min,
            "MAX" => Max,
            "SUM" => Sum,
            "AVERAGE" | "AVG" => Average,
            "VARIANCE" | "VARIANCE_POPULATION" => Variance { sample: false, root: false },
            "VARIANCE_SAMPLE" => Variance { sample: true, root: false },
            "STDDEV" | "STDDEV_POPULATION" => Variance { sample: false, root: true },
            "STDDEV_SAMPLE" => Variance { sample: true, root: true },
            "UNIQUE" => Unique,
            "SORTED_UNIQUE" => SortedUnique,
            "BIT_AND" => BitAnd,
            "BIT_OR" => BitOr,
            "BIT_XOR" => BitXor,
            "PUSH" => Push,
            _ => return None,
        })
    }
}

/// Numbers added up: exactly while they are integers.
#[derive(Clone, Debug, Default)]
struct Total {
    whole: i128,
    rest: f64,
    any_double: bool,
}

impl Total {
    fn add(&mut self, value: &Value) {
        match value {
            // 2^64 integers would have to come for an overflow.
            Value::Int(value) => self.whole += i128::from(*value),
            other => {
                self.rest += other.to_double();
                self.any_double = true;
            }
        }
    }

    fn double(&self) -> f64 {
        self.whole as f64 + self.rest
    }

    fn value(&self) -> Value {
        match i64::try_from(self.whole) {
            Ok(whole) if !self.any_double => Value::Int(whole),
            _ => Value::number(self.double()),
        }
    }
}

#[derive(Clone, Debug)]
enum State {
    Count(u64),
    Extreme(Option<Value>),
    Total(Total, u64),
    Product(f64),
    /// Welford's method.
    Moments {
        count: u64,
        mean: f64,
        squares: f64,
    },
    Bits(Option<u32>),
    List(Vec<Value>),
    Set(BTreeSet<Value>),
    /// The values that are distinct, and in which order they came.
    Distinct {
        seen: BTreeSet<Value>,
        order: Vec<Value>,
    },
    /// A value did not fit: the result is null, with this warning.
    Invalid(errors::Kind),
}

#[derive(Clone, Debug)]
pub struct Accumulator {
    aggregate: Aggregate,
    state: State,
    held_bytes: usize,
}

impl Accumulator {
    pub fn new(aggregate: Aggregate) -> Accumulator {
        use Aggregate::*;
        let state = match aggregate {
            Count => State::Count(0),
            Min | Max => State::Extreme(None),
            Sum | Average => State::Total(Total::default(), 0),
            Product => State::Product(1.0),
            Variance { .. } => State::Moments { count: 0, mean: 0.0, squares: 0.0 },
            BitAnd | BitOr | BitXor => State::Bits(None),
            Push => State::List(Vec::new()),
            CountDistinct | SortedUnique => State::Set(BTreeSet::new()),
            Unique => State::Distinct { seen: BTreeSet::new(), order: Vec::new() },
        };
        Accumulator { aggregate, state, held_bytes: 0 }
    }

    /// Of an array's elements.
    pub fn over<'v>(aggregate: Aggregate, values: impl IntoIterator<Item = &'v Value>) -> Accumulator {
        let mut accumulator = Accumulator::new(aggregate);
        values.into_iter().for_each(|value| accumulator.add(value));
        accumulator
    }

    pub fn add(&mut self, value: &Value) {
        // Null counts where values are counted or kept, and nowhere else.
        if value.is_null()
            && !matches!(self.state, State::Count(_) | State::List(_) | State::Set(_) | State::Distinct { .. })
        {
            return;
        }
        let needs_number = matches!(self.state, State::Total(..) | State::Product(_) | State::Moments { .. });
        if needs_number && !value.is_number() {
            self.state = State::Invalid(errors::QUERY_INVALID_ARITHMETIC_VALUE);
            return;
        }
        match &mut self.state {
            State::Count(count) => *count += 1,
            State::Extreme(found) => {
                let better = match found {
                    None => true,
                    Some(known) if self.aggregate == Aggregate::Min => value < known,
                    Some(known) => value > known,
                };
                if better {
                    self.held_bytes = value.size_bytes();
                    *found = Some(value.clone());
                }
            }
            State::Total(total, count) => {
                total.add(value);
                *count += 1;
            }
            State::Product(product) => *product *= value.to_double(),
            State::Moments { count, mean, squares } => {
                *count += 1;
                let delta = value.to_double() - *mean;
                *mean += delta / *count as f64;
                *squares += delta * (value.to_double() - *mean);
            }
            State::Bits(bits) => match as_bits(value) {
                Some(value) => {
                    *bits = Some(match (self.aggregate, *bits) {
                        (_, None) => value,
                        (Aggregate::BitAnd, Some(bits)) => bits & value,
                        (Aggregate::BitOr, Some(bits)) => bits | value,
                        (_, Some(bits)) => bits ^ value,
                    });
                }
                None => self.state = State::Invalid(errors::QUERY_FUNCTION_ARGUMENT_TYPE_MISMATCH),
            },
            State::List(list) => {
                self.held_bytes += value.size_bytes();
                list.push(value.clone());
            }
            State::Set(set) => {
                if !set.contains(value) {
                    self.held_bytes += value.size_bytes();
                    set.insert(value.clone());
                }
            }
            State::Distinct { seen, order } => {
                if !seen.contains(value) {
                    self.held_bytes += value.size_bytes() + size_of::<Value>();
                    seen.insert(value.clone());
                    order.push(value.clone());
                }
            }
            State::Invalid(_) => {}
        }
    }

    /// About the memory it takes.
    pub fn size_bytes(&self) -> usize {
        size_of::<Accumulator>() + self.held_bytes
    }

    pub fn finish(self, context: &mut Context<'_>) -> Result<Value, Error> {
        Ok(match self.state {
            State::Count(count) => (count as usize).into(),
            State::Extreme(found) => found.unwrap_or_default(),
            State::Total(total, _) if self.aggregate == Aggregate::Sum => total.value(),
            State::Total(_, 0) => Value::Null,
            State::Total(total, count) => Value::number(total.double() / count as f64),
            State::Product(product) => Value::whole_number(product),
            State::Moments { count, squares, .. } => {
                let Aggregate::Variance { sample, root } = self.aggregate else { return Ok(Value::Null) };
                let divisor = if sample { count.saturating_sub(1) } else { count };
                let variance = squares / divisor as f64;
                // Nothing to divide by gives no number, so null.
                if divisor == 0 { Value::Null } else { Value::number(if root { variance.sqrt() } else { variance }) }
            }
            State::Bits(bits) => bits.map_or(Value::Null, |bits| Value::Int(i64::from(bits))),
            State::List(list) => list.into(),
            State::Set(set) if self.aggregate == Aggregate::CountDistinct => set.len().into(),
            State::Set(set) => set.into_iter().collect(),
            State::Distinct { order, .. } => order.into(),
            State::Invalid(kind) if kind == errors::QUERY_FUNCTION_ARGUMENT_TYPE_MISMATCH => {
                return context.invalid_type();
            }
            State::Invalid(kind) => return context.warn_of(kind),
        })
    }
}

/// A number that the bit functions take: whole, from 0 to 2^32 - 1.
pub fn as_bits(value: &Value) -> Option<u32> {
    match value {
        Value::Int(value) => u32::try_from(*value).ok(),
        Value::Double(value) if value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(value) => {
            Some(*value as u32)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aql::testing::{any_value, close, value, values, with_context};
    use proptest::prelude::*;

    #[test]
    fn accumulators_give_what_the_functions_of_arrays_give() {
        let table = [
            ("COUNT", "[1,null,2]", "3"),
            ("count_unique", "[1,null,1,null]", "2"),
            ("MIN", "[5,9,-2,null,1]", "-2"),
            ("MAX", "[null,null]", "null"),
            ("SUM", "[null,-5,6]", "1"),
            ("SUM", "[0.5,1]", "1.5"),
            ("SUM", "[]", "0"),
            ("AVG", "[5,2,9,2]", "4.5"),
            ("AVERAGE", "[null]", "null"),
            ("STDDEV", "[1,3,6,5,2]", "1.854723699099141"),
            ("STDDEV_SAMPLE", "[1]", "null"),
            ("VARIANCE_SAMPLE", "[1,3,6,5,2]", "4.3"),
            ("UNIQUE", "[2,1,2,null]", "[2,1,null]"),
            ("SORTED_UNIQUE", "[2,1,2,null]", "[null,1,2]"),
            ("BIT_AND", "[255,127,null,63]", "63"),
            ("BIT_XOR", "[255,127,null,63]", "191"),
            ("PUSH", "[null,1]", "[null,1]"),
        ];
        for (name, elements, expected) in table {
            let accumulator = Accumulator::over(Aggregate::named(name).unwrap(), &values(elements));
            let (result, warnings) = with_context(|context| accumulator.finish(context).unwrap());
            assert!(close(&result, &value(expected)) && warnings.is_empty(), "{name} {result:?}");
        }
        let accumulator = Accumulator::over(Aggregate::Sum, &values(r#"[1,"2"]"#));
        assert_eq!(with_context(|context| accumulator.finish(context).unwrap()), (Value::Null, vec![1561]));
    }

    proptest! {
        #[test]
        fn what_is_held_is_counted(all in prop::collection::vec(any_value(), 0..20)) {
            let accumulator = Accumulator::over(Aggregate::Push, &all);
            prop_assert!(accumulator.size_bytes() >= all.iter().map(Value::size_bytes).sum());
        }
    }
}
