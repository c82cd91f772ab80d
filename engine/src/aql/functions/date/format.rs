//! `DATE_FORMAT()`.

use super::{iso_text, timestamp};
use jiff::civil::DateTime;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The longer ones first where one begins with another.
const PLACEHOLDERS: [&str; 30] = [
    "yyyyyy", "yyyy", "yy", "y", "mmmm", "mmm", "mm", "m", "wwww", "www", "w", "xxx", "x", "fff", "f", "dd", "d", "hh",
    "h", "ii", "i", "ss", "s", "kk", "k", "t", "z", "l", "q", "a",
];

/// A percent sign that begins no placeholder is left out.
pub fn format(date: DateTime, pattern: &str) -> String {
    let (mut out, mut rest) = (String::new(), pattern);
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('&') {
            rest = after;
        } else {
            let begins = |name: &&&str| rest.get(..name.len()).is_some_and(|part| part.eq_ignore_ascii_case(name));
            if let Some(name) = PLACEHOLDERS.iter().find(begins) {
                out.push_str(&fill(date, name));
                rest = &rest[name.len()..];
            }
        }
    }
    out + rest
}

fn fill(date: DateTime, placeholder: &str) -> String {
    let padded = |number: i64, width: usize| format!("{number:0width$}");
    let month = MONTHS[date.month() as usize - 1];
    let weekday = WEEKDAYS[date.weekday().to_sunday_zero_offset() as usize];
    let week = || date.date().iso_week_date().week();
    let ms = timestamp(date).unwrap_or(0);
    match placeholder {
        "yyyyyy" => format!("+{:06}", date.year()),
        "yyyy" => padded(date.year().into(), 4),
        "yy" => padded(i64::from(date.year()) % 100, 2),
        "y" => date.year().to_string(),
        "mmmm" => month.into(),
        "mmm" => month[..3].into(),
        "mm" => padded(date.month().into(), 2),
        "m" => date.month().to_string(),
        "wwww" => weekday.into(),
        "www" => weekday[..3].into(),
        "w" => date.weekday().to_sunday_zero_offset().to_string(),
        "xxx" => padded(date.day_of_year().into(), 3),
        "x" => date.day_of_year().to_string(),
        "fff" => padded(date.millisecond().into(), 3),
        "f" => date.millisecond().to_string(),
        "dd" => padded(date.day().into(), 2),
        "d" => date.day().to_string(),
        "hh" => padded(date.hour().into(), 2),
        "h" => date.hour().to_string(),
        "ii" => padded(date.minute().into(), 2),
        "i" => date.minute().to_string(),
        "ss" => padded(date.second().into(), 2),
        "s" => date.second().to_string(),
        "kk" => padded(week().into(), 2),
        "k" => week().to_string(),
        "t" => ms.to_string(),
        "z" => iso_text(ms).unwrap_or_default(),
        "l" => i8::from(date.in_leap_year()).to_string(),
        "q" => ((date.month() + 2) / 3).to_string(),
        "a" => date.days_in_month().to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    crate::aql::testing::table! {
        r#"DATE_FORMAT("2015-09-18T15:30:49.374Z", "%q/%yyyy")"# => r#""3/2015""#,
        r#"DATE_FORMAT("2015-09-18T15:30:49.374Z", "%dd.%mm.%yyyy %hh:%ii:%ss,%fff")"# => r#""18.09.2015 15:30:49,374""#,
        r#"DATE_FORMAT("1969", "Summer of '%yy")"# => r#""Summer of '69""#,
        r#"DATE_FORMAT("2016", "%%l = %l")"# => r#""%l = 1""#,
        r#"DATE_FORMAT("2016-03-01", "%xxx%")"# => r#""061""#,
        r#"DATE_FORMAT("2016-03-01", "%m%&month %MMM %wwww %yyyyyy %kk %a %t")"# => r#""3month Mar Tuesday +002016 09 31 1456790400000""#,
        r#"DATE_FORMAT(0, "%z")"# => r#""1970-01-01T00:00:00.000Z""#,
        r#"DATE_FORMAT(0, 1)"# => "null" 1542,
    }
}
