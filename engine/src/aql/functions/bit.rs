//! Functions of bits: numbers from 0 to 2^32 - 1.

use super::{Context, Function, pure};
use crate::aql::aggregate::{Accumulator, Aggregate, as_bits};
use crate::aql::value::Value;
use crate::errors::Error;

pub(super) const FUNCTIONS: &[Function] = &[
    pure("BIT_AND", 1, 2, |context, args| combine(context, args, Aggregate::BitAnd)),
    pure("BIT_OR", 1, 2, |context, args| combine(context, args, Aggregate::BitOr)),
    pure("BIT_XOR", 1, 2, |context, args| combine(context, args, Aggregate::BitXor)),
    pure("BIT_CONSTRUCT", 1, 1, |context, args| {
        let positions: Option<Vec<u32>> =
            args[0].as_array().and_then(|positions| positions.iter().map(|place| up_to(place, 31)).collect());
        or_invalid(
            context,
            positions.map(|positions| number(positions.into_iter().fold(0, |bits, place| bits | 1 << place))),
        )
    }),
    pure("BIT_DECONSTRUCT", 1, 1, |context, args| {
        let bits = as_bits(&args[0]);
        or_invalid(context, bits.map(|bits| (0..32).filter(|place| bits >> place & 1 == 1).map(Value::Int).collect()))
    }),
    pure("BIT_FROM_STRING", 1, 1, |context, args| {
        let text =
            args[0].as_str().filter(|text| text.len() <= 32 && text.bytes().all(|byte| matches!(byte, b'0' | b'1')));
        or_invalid(context, text.and_then(|text| u32::from_str_radix(text, 2).ok()).map(number))
    }),
    pure("BIT_NEGATE", 2, 2, |context, args| {
        or_invalid(
            context,
            as_bits(&args[0]).zip(up_to(&args[1], 32)).map(|(value, bits)| keep(!u64::from(value), bits)),
        )
    }),
    pure("BIT_POPCOUNT", 1, 1, |context, args| {
        or_invalid(context, as_bits(&args[0]).map(|bits| number(bits.count_ones())))
    }),
    pure("BIT_SHIFT_LEFT", 3, 3, |context, args| shift(context, args, |value, count| value << count)),
    pure("BIT_SHIFT_RIGHT", 3, 3, |context, args| shift(context, args, |value, count| value >> count)),
    pure("BIT_TEST", 2, 2, |context, args| {
        or_invalid(
            context,
            as_bits(&args[0]).zip(up_to(&args[1], 31)).map(|(bits, place)| (bits >> place & 1 == 1).into()),
        )
    }),
    pure("BIT_TO_STRING", 2, 2, |context, args| {
        let text = as_bits(&args[0]).zip(up_to(&args[1], 32)).map(|(bits, width)| {
            let all = format!("{bits:032b}");
            all[32 - width as usize..].into()
        });
        or_invalid(context, text)
    }),
];

fn number(bits: u32) -> Value {
    Value::Int(i64::from(bits))
}

fn or_invalid(context: &mut Context<'_>, result: Option<Value>) -> Result<Value, Error> {
    result.map_or_else(|| context.invalid_type(), Ok)
}

fn up_to(value: &Value, most: u32) -> Option<u32> {
    as_bits(value).filter(|&value| value <= most)
}

/// The lowest `bits` bits.
fn keep(value: u64, bits: u32) -> Value {
    number((value & ((1 << bits) - 1)) as u32)
}

fn combine(context: &mut Context<'_>, args: &[Value], how: Aggregate) -> Result<Value, Error> {
    match args {
        [Value::Array(values)] => Accumulator::over(how, values.iter()).finish(context),
        [left, right] if left.is_number() && right.is_number() => Accumulator::over(how, args).finish(context),
        _ => context.invalid_type(),
    }
}

fn shift(context: &mut Context<'_>, args: &[Value], shift: fn(u64, u32) -> u64) -> Result<Value, Error> {
    let parts = as_bits(&args[0]).zip(up_to(&args[1], 32)).zip(up_to(&args[2], 32));
    or_invalid(context, parts.map(|((value, count), bits)| keep(shift(u64::from(value), count), bits)))
}

#[cfg(test)]
mod tests {
    crate::aql::testing::table! {
        "BIT_AND([1,4,8,16])" => "0",
        "BIT_AND([3,7,63])" => "3",
        "BIT_AND([255,127,null,63])" => "63",
        "BIT_AND(127, 255)" => "127",
        "BIT_AND(\"foo\")" => "null" 1542,
        "BIT_CONSTRUCT([1,2,3])" => "14",
        "BIT_CONSTRUCT([0,1,10,31])" => "2147484675",
        "BIT_DECONSTRUCT(2147484675)" => "[0,1,10,31]",
        "BIT_FROM_STRING(\"0111\")" => "7",
        "BIT_FROM_STRING(\"11010111011101\")" => "13789",
        "BIT_FROM_STRING(\"0b1\")" => "null" 1542,
        "BIT_NEGATE(0, 8)" => "255",
        "BIT_NEGATE(3, 4)" => "12",
        "BIT_NEGATE(446359921, 32)" => "3848607374",
        "BIT_OR([1,4,8,16])" => "29",
        "BIT_OR(255, 127)" => "255",
        "BIT_OR([-1])" => "null" 1542,
        "BIT_POPCOUNT(69399252)" => "12",
        "BIT_SHIFT_LEFT(2, 10, 16)" => "2048",
        "BIT_SHIFT_LEFT(878836, 16, 32)" => "1760821248",
        "BIT_SHIFT_RIGHT(33, 1, 16)" => "16",
        "BIT_SHIFT_RIGHT(878836, 4, 32)" => "54927",
        "BIT_TEST(255, 0)" => "true",
        "BIT_TEST(255, 8)" => "false",
        "BIT_TO_STRING(7, 4)" => "\"0111\"",
        "BIT_TO_STRING(1048576, 32)" => "\"00000000000100000000000000000000\"",
        "BIT_XOR([255,127,null,63])" => "191",
        "BIT_XOR(255, 257)" => "510",
    }
}
