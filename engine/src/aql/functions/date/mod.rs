//! Functions of dates: timestamps in milliseconds, or text that [`parse`] reads. All reckon in UTC and in the Gregorian
//! calendar, in the years 0 to 9999; time zones come from the database that is built in.
//!
//! Days that a month does not have run over into the next one, as in ArangoDB: a month after January 31st is March 2nd
//! or 3rd.

mod format;
mod parse;
mod zone;

use super::{Context, Function, impure, pure};
use crate::aql::value::Value;
use crate::errors::{self, Error};
use jiff::ToSpan;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use parse::{Duration, Unit};

type Called = Result<Value, Error>;

/// From the year 0 to the year 9999, in milliseconds.
const RANGE_MS: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;
const DAY_MS: i64 = 86_400_000;

macro_rules! of_date {
    ($name:literal, $take:expr) => {
        pure($name, 1, 1, |context, args| with_date(context, &args[0], |date| Ok($take(date))))
    };
}

pub(super) const FUNCTIONS: &[Function] = &[
    pure("DATE_ADD", 2, 3, |context, args| add(context, args, 1)),
    pure("DATE_COMPARE", 3, 4, compare),
    of_date!("DATE_DAY", |date: DateTime| Value::Int(date.day().into())),
    of_date!("DATE_DAYOFWEEK", |date: DateTime| Value::Int(date.weekday().to_sunday_zero_offset().into())),
    of_date!("DATE_DAYOFYEAR", |date: DateTime| Value::Int(date.day_of_year().into())),
    of_date!("DATE_DAYS_IN_MONTH", |date: DateTime| Value::Int(date.days_in_month().into())),
    pure("DATE_DIFF", 3, 4, difference),
    pure("DATE_FORMAT", 2, 2, |context, args| {
        let Some(pattern) = args[1].as_str() else { return context.invalid_type() };
        with_date(context, &args[0], |date| Ok(format::format(date, pattern).into()))
    }),
    of_date!("DATE_HOUR", |date: DateTime| Value::Int(date.hour().into())),
    pure("DATE_ISO8601", 1, 7, |context, args| {
        let ms = timestamp_of(context, args)?;
        iso_or_invalid(context, ms)
    }),
    of_date!("DATE_ISOWEEK", |date: DateTime| Value::Int(date.date().iso_week_date().week().into())),
    of_date!("DATE_ISOWEEKYEAR", |date: DateTime| {
        let week = date.date().iso_week_date();
        Value::object([("week", Value::Int(week.week().into())), ("year", Value::Int(week.year().into()))])
    }),
    of_date!("DATE_LEAPYEAR", |date: DateTime| date.in_leap_year().into()),
    pure("DATE_LOCALTOUTC", 2, 3, zone::local_to_utc),
    of_date!("DATE_MILLISECOND", |date: DateTime| Value::Int(date.millisecond().into())),
    of_date!("DATE_MINUTE", |date: DateTime| Value::Int(date.minute().into())),
    of_date!("DATE_MONTH", |date: DateTime| Value::Int(date.month().into())),
    impure("DATE_NOW", 0, 0, |context, _| Ok(Value::Int(context.now_ms))),
    of_date!("DATE_QUARTER", |date: DateTime| Value::Int((i64::from(date.month()) + 2) / 3)),
    pure("DATE_ROUND", 3, 3, round),
    of_date!("DATE_SECOND", |date: DateTime| Value::Int(date.second().into())),
    pure("DATE_SUBTRACT", 2, 3, |context, args| add(context, args, -1)),
    pure("DATE_TIMESTAMP", 1, 7, |context, args| Ok(timestamp_of(context, args)?.map_or(Value::Null, Value::Int))),
    // The one that dates are reckoned in, wherever the server stands.
    pure("DATE_TIMEZONE", 0, 0, |_, _| Ok("Etc/UTC".into())),
    pure("DATE_TIMEZONES", 0, 0, |_, _| Ok(zone::names())),
    pure("DATE_TRUNC", 2, 2, truncate),
    pure("DATE_UTCTOLOCAL", 2, 3, zone::utc_to_local),
    of_date!("DATE_YEAR", |date: DateTime| Value::Int(date.year().into())),
    pure("IS_DATESTRING", 1, 1, |_, args| Ok(args[0].as_str().is_some_and(|text| parse::date(text).is_some()).into())),
];

/// Whether a text is a duration (`P1DT2H`) that a date can be moved by.
pub fn is_duration(text: &str) -> bool {
    parse::duration(text).is_some()
}

/// The moment that a date's text names, in milliseconds since 1970.
pub fn parse_ms(text: &str) -> Option<i64> {
    parse::date(text)
}

/// `2019-03-11T16:15:05.314Z`; none if it is out of range.
pub fn iso_text(ms: i64) -> Option<String> {
    civil(ms).map(|date| format!("{}Z", local_text(date)))
}

/// The same without a zone.
fn local_text(date: DateTime) -> String {
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}",
        date.year(),
        date.month(),
        date.day(),
        date.hour(),
        date.minute(),
        date.second(),
        date.millisecond()
    )
}

/// So many days before the end of the year 9999 jiff's timestamps have ended, at the latest: each can be told in every
/// time zone.
const DAYS_BEYOND: i64 = 4;

/// Date and time in UTC; none if it is out of range.
fn civil(ms: i64) -> Option<DateTime> {
    let date = |ms| jiff::Timestamp::from_millisecond(ms).ok().map(|timestamp| TimeZone::UTC.to_datetime(timestamp));
    let beyond = || date(ms - DAYS_BEYOND * DAY_MS)?.checked_add(DAYS_BEYOND.days()).ok();
    RANGE_MS.contains(&ms).then(|| date(ms).or_else(beyond))?
}

fn timestamp(date: DateTime) -> Option<i64> {
    let ms = |date| TimeZone::UTC.to_timestamp(date).ok().map(|timestamp| timestamp.as_millisecond());
    let beyond = || Some(ms(date.checked_sub(DAYS_BEYOND.days()).ok()?)? + DAYS_BEYOND * DAY_MS);
    ms(date).or_else(beyond)
}

/// Milliseconds from the parts of a date, which may run over; none if it is out of range.
fn from_parts(year: i64, month: i64, day: i64, time_ms: i64) -> Option<i64> {
    let months = year.checked_mul(12)?.checked_add(month)?.checked_sub(1)?;
    let (year, month) = (i16::try_from(months.div_euclid(12)).ok()?, months.rem_euclid(12) as i8 + 1);
    let first = timestamp(Date::new(year, month, 1).ok()?.at(0, 0, 0, 0))?;
    let ms = first.checked_add(day.checked_sub(1)?.checked_mul(DAY_MS)?)?.checked_add(time_ms)?;
    RANGE_MS.contains(&ms).then_some(ms)
}

fn invalid_date(context: &mut Context<'_>) -> Called {
    context.warn_of(errors::QUERY_INVALID_DATE_VALUE)
}

/// An argument as a timestamp; none after a warning.
fn timestamp_arg(context: &mut Context<'_>, value: &Value) -> Result<Option<i64>, Error> {
    let ms = match value {
        Value::Int(ms) => Some(*ms),
        Value::Double(ms) => Some(*ms as i64),
        Value::String(text) => parse::date(text),
        _ => return context.invalid_type().map(|_| None),
    };
    match ms.filter(|ms| RANGE_MS.contains(ms)) {
        Some(ms) => Ok(Some(ms)),
        None => invalid_date(context).map(|_| None),
    }
}

fn with_date(context: &mut Context<'_>, value: &Value, then: impl FnOnce(DateTime) -> Called) -> Called {
    match timestamp_arg(context, value)?.and_then(civil) {
        Some(date) => then(date),
        None => Ok(Value::Null),
    }
}

fn iso_or_invalid(context: &mut Context<'_>, ms: Option<i64>) -> Called {
    Ok(match ms {
        None => Value::Null,
        Some(ms) => match iso_text(ms) {
            Some(text) => text.into(),
            None => return invalid_date(context),
        },
    })
}

/// Of a date, or of its parts from the year to the millisecond.
fn timestamp_of(context: &mut Context<'_>, args: &[Value]) -> Result<Option<i64>, Error> {
    if let [date] = args {
        return timestamp_arg(context, date);
    }
    if args.len() < 3 || !args.iter().all(|part| matches!(part, Value::Int(_) | Value::Double(_) | Value::String(_))) {
        return context.invalid_type().map(|_| None);
    }
    let part = |place: usize| args.get(place).map_or(0, Value::to_int);
    let time = || {
        let seconds = part(3).checked_mul(3600)?.checked_add(part(4).checked_mul(60)?)?.checked_add(part(5))?;
        seconds.checked_mul(1000)?.checked_add(part(6))
    };
    let negative = (0..args.len()).any(|place| part(place) < 0);
    let ms = if negative { None } else { time().and_then(|time| from_parts(part(0), part(1), part(2), time)) };
    if ms.is_none() {
        invalid_date(context)?;
    }
    Ok(ms)
}

/// `date, amount, unit` or `date, ISO duration`
fn add(context: &mut Context<'_>, args: &[Value], sign: i64) -> Called {
    let duration = match args {
        [_, Value::String(text)] => parse::duration(text),
        [_, amount, Value::String(unit)] if amount.is_number() => {
            Unit::named(unit).and_then(|unit| Duration::of(amount.to_double(), unit))
        }
        _ => None,
    };
    let Some(duration) = duration else { return context.invalid_type() };
    let Some(ms) = timestamp_arg(context, &args[0])? else { return Ok(Value::Null) };
    let sum = || {
        let date = civil(ms)?;
        let month = i64::from(date.month()).checked_add(duration.months.checked_mul(sign)?)?;
        let moved = from_parts(date.year().into(), month, date.day().into(), ms.rem_euclid(DAY_MS))?;
        moved.checked_add(duration.ms.checked_mul(sign)?).filter(|ms| RANGE_MS.contains(ms))
    };
    match sum() {
        Some(ms) => iso_or_invalid(context, Some(ms)),
        None => invalid_date(context),
    }
}

fn difference(context: &mut Context<'_>, args: &[Value]) -> Called {
    let Some(unit) = args[2].as_str().and_then(Unit::named) else { return context.invalid_type() };
    let Some(from) = timestamp_arg(context, &args[0])? else { return Ok(Value::Null) };
    let Some(to) = timestamp_arg(context, &args[1])? else { return Ok(Value::Null) };
    let difference = (to - from) as f64 / unit.mean_ms();
    let exact = args.get(3).is_some_and(Value::truthy);
    Ok(if exact { Value::number(difference) } else { Value::whole_number(difference.round()) })
}

/// What the units that can be compared take of a date, the largest first.
fn fields(date: DateTime) -> [(Unit, i64); 7] {
    [
        (Unit::Year, date.year().into()),
        (Unit::Month, date.month().into()),
        (Unit::Day, date.day().into()),
        (Unit::Hour, date.hour().into()),
        (Unit::Minute, date.minute().into()),
        (Unit::Second, date.second().into()),
        (Unit::Millisecond, date.millisecond().into()),
    ]
}

fn compare(context: &mut Context<'_>, args: &[Value]) -> Called {
    let place = |value: &Value| {
        let unit = Unit::named(value.as_str()?)?;
        fields(DateTime::ZERO).iter().position(|(other, _)| *other == unit)
    };
    let (Some(start), Some(end)) = (place(&args[2]), place(args.get(3).unwrap_or(&args[2]))) else {
        return context.invalid_type();
    };
    if start > end {
        return context.invalid_type();
    }
    let Some(a) = timestamp_arg(context, &args[0])?.and_then(civil) else { return Ok(Value::Null) };
    let Some(b) = timestamp_arg(context, &args[1])?.and_then(civil) else { return Ok(Value::Null) };
    Ok((fields(a)[start..=end] == fields(b)[start..=end]).into())
}

fn truncate(context: &mut Context<'_>, args: &[Value]) -> Called {
    let unit = args[1].as_str().and_then(Unit::named).filter(|unit| *unit != Unit::Week);
    let Some(unit) = unit else { return context.invalid_type() };
    with_date(context, &args[0], |date| {
        let kept = |place: usize, least: i64| {
            let all = fields(date);
            let last = all.iter().position(|(other, _)| *other == unit).unwrap_or(0);
            if place <= last { all[place].1 } else { least }
        };
        let time = ((kept(3, 0) * 60 + kept(4, 0)) * 60 + kept(5, 0)) * 1000 + kept(6, 0);
        let ms = from_parts(kept(0, 0), kept(1, 1), kept(2, 1), time);
        Ok(ms.and_then(iso_text).map_or(Value::Null, Value::from))
    })
}

/// Down to a multiple of so many units since 1970.
fn round(context: &mut Context<'_>, args: &[Value]) -> Called {
    let unit = args[2].as_str().and_then(Unit::named).and_then(Unit::exact_ms);
    let amount = Some(args[1].to_int()).filter(|amount| args[1].is_number() && *amount > 0);
    let Some(step) = unit.zip(amount).and_then(|(unit, amount)| unit.checked_mul(amount)) else {
        return context.invalid_type();
    };
    let rounded = timestamp_arg(context, &args[0])?.map(|ms| ms.div_euclid(step).saturating_mul(step));
    iso_or_invalid(context, rounded)
}

#[cfg(test)]
mod tests {
    crate::aql::testing::table! {
        r#"DATE_NOW()"# => "1399472349522",
        r#"DATE_TIMESTAMP("2014-05-07T14:19:09.522")"# => "1399472349522",
        r#"DATE_TIMESTAMP("2014-05-07 14:19:09.522Z")"# => "1399472349522",
        r#"DATE_TIMESTAMP(2014, 5, 7, 14, 19, 9, 522)"# => "1399472349522",
        r#"DATE_TIMESTAMP("2014-05-07T14:19:09+01:00")"# => "1399468749000",
        r#"DATE_TIMESTAMP("2014-05-07Z")"# => "1399420800000",
        r#"DATE_TIMESTAMP("2014-5-7")"# => "1399420800000",
        r#"DATE_TIMESTAMP(2016, 12, -1)"# => "null" 1572,
        r#"DATE_TIMESTAMP(2016, 2, 32)"# => "1456963200000",
        r#"DATE_TIMESTAMP(1970, 1, 1, 26)"# => "93600000",
        r#"DATE_TIMESTAMP("milk")"# => "null" 1572,
        r#"DATE_TIMESTAMP([])"# => "null" 1542,
        r#"DATE_TIMESTAMP(253402300800000)"# => "null" 1572,
        r#"DATE_ISO8601(2014, 5, 7, 14, 19, 9, 522)"# => r#""2014-05-07T14:19:09.522Z""#,
        r#"DATE_ISO8601(1399472349522)"# => r#""2014-05-07T14:19:09.522Z""#,
        r#"DATE_ISO8601("0000-01-01")"# => r#""0000-01-01T00:00:00.000Z""#,
        r#"IS_DATESTRING("2015")"# => "true",
        r#"IS_DATESTRING("2015-10")"# => "true",
        r#"IS_DATESTRING("2015-02-31")"# => "true",
        r#"IS_DATESTRING("2015-02-41")"# => "false",
        r#"IS_DATESTRING(2015)"# => "false",
        r#"DATE_DAYOFWEEK("2020-08-29")"# => "6",
        r#"DATE_DAYOFWEEK(0)"# => "4",
        r#"DATE_YEAR("2020-08-29")"# => "2020",
        r#"DATE_MONTH("2020-08-29")"# => "8",
        r#"DATE_DAY("2020-08-29")"# => "29",
        r#"DATE_HOUR("2020-08-29T16:30:05.123")"# => "16",
        r#"DATE_MINUTE("2020-08-29T16:30:05.123")"# => "30",
        r#"DATE_SECOND("2020-08-29T16:30:05.123")"# => "5",
        r#"DATE_MILLISECOND("2020-08-29T16:30:05.123")"# => "123",
        r#"DATE_DAYOFYEAR("2020-08-29")"# => "242",
        r#"DATE_ISOWEEK("2020-08-29")"# => "35",
        r#"DATE_ISOWEEKYEAR("2023-01-01")"# => r#"{"week":52,"year":2022}"#,
        r#"DATE_ISOWEEKYEAR("2019-12-30")"# => r#"{"week":1,"year":2020}"#,
        r#"DATE_LEAPYEAR("2020-01-01")"# => "true",
        r#"DATE_LEAPYEAR("2021-01-01")"# => "false",
        r#"DATE_QUARTER("2020-08-29")"# => "3",
        r#"DATE_DAYS_IN_MONTH("2020-02-01")"# => "29",
        r#"DATE_DAYS_IN_MONTH("2021-02-01")"# => "28",
        r#"DATE_TRUNC("2017-02-03", "month")"# => r#""2017-02-01T00:00:00.000Z""#,
        r#"DATE_TRUNC("2017-02-03 04:05:06", "hours")"# => r#""2017-02-03T04:00:00.000Z""#,
        r#"DATE_TRUNC("2017-02-03 04:05:06", "W")"# => "null" 1542,
        r#"DATE_ROUND("2000-04-28T11:11:11.111Z", 1, "day")"# => r#""2000-04-28T00:00:00.000Z""#,
        r#"DATE_ROUND("2000-04-10T11:39:29Z", 15, "minutes")"# => r#""2000-04-10T11:30:00.000Z""#,
        r#"DATE_ROUND(0, 0, "minutes")"# => "null" 1542,
        r#"DATE_ADD("2015-04-01", 61, "months")"# => r#""2020-05-01T00:00:00.000Z""#,
        r#"DATE_ADD("2016-02", 1, "month")"# => r#""2016-03-01T00:00:00.000Z""#,
        r#"DATE_ADD("2015-01-31", 1, "month")"# => r#""2015-03-03T00:00:00.000Z""#,
        r#"DATE_ADD("2000-01-01", "PT30M44.4S")"# => r#""2000-01-01T00:30:44.400Z""#,
        r#"DATE_ADD("2000-01-01", "P1Y2M3W4DT5H6M7.89S")"# => r#""2001-03-26T05:06:07.890Z""#,
        r#"DATE_ADD("2000-01-01", "-P1Y")"# => "null" 1542,
        r#"DATE_ADD("9999-12-31", 1, "day")"# => "null" 1572,
        r#"DATE_SUBTRACT("2016-03-01", 1, "day")"# => r#""2016-02-29T00:00:00.000Z""#,
        r#"DATE_SUBTRACT("2016-03-01", "P4D")"# => r#""2016-02-26T00:00:00.000Z""#,
        r#"DATE_DIFF("2000-01-01", "2001-01-01", "days")"# => "366",
        r#"DATE_DIFF("2001-01-01", "2000-01-01T12:00:00", "d", true)"# => "-365.5",
        r#"DATE_COMPARE("1985-04-04", "2014-04-04", "months", "days")"# => "true",
        r#"DATE_COMPARE("1984-02-29", "2014-03-01", "months", "days")"# => "false",
        r#"DATE_COMPARE("2001-01-01T15:30:45.678Z", "2001-01-01T08:08:08.008Z", "years", "days")"# => "true",
        r#"DATE_COMPARE(0, 0, "days", "years")"# => "null" 1542,
    }
}
