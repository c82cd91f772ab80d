//! Dates, durations and units as text.

use super::{DAY_MS, from_parts};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Year,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
}

impl Unit {
    pub fn named(name: &str) -> Option<Unit> {
        Some(match name.to_ascii_lowercase().as_str() {
            "y" | "year" | "years" => Unit::Year,
            "m" | "month" | "months" => Unit::Month,
            "w" | "week" | "weeks" => Unit::Week,
            "d" | "day" | "days" => Unit::Day,
            "h" | "hour" | "hours" => Unit::Hour,
            "i" | "minute" | "minutes" => Unit::Minute,
            "s" | "second" | "seconds" => Unit::Second,
            "f" | "millisecond" | "milliseconds" => Unit::Millisecond,
            _ => return None,
        })
    }

    /// Of units that are always equally long.
    pub fn exact_ms(self) -> Option<i64> {
        Some(match self {
            Unit::Year | Unit::Month => return None,
            Unit::Week => 7 * DAY_MS,
            Unit::Day => DAY_MS,
            Unit::Hour => 3_600_000,
            Unit::Minute => 60_000,
            Unit::Second => 1000,
            Unit::Millisecond => 1,
        })
    }

    /// A year counts as 365.2425 days.
    pub fn mean_ms(self) -> f64 {
        const YEAR_MS: f64 = 365.2425 * DAY_MS as f64;
        match self {
            Unit::Year => YEAR_MS,
            Unit::Month => YEAR_MS / 12.0,
            exact => exact.exact_ms().unwrap_or(1) as f64,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duration {
    pub months: i64,
    pub ms: i64,
}

impl Duration {
    /// So many units; of months, whole ones only. None if it is more than any date can take.
    pub fn of(amount: f64, unit: Unit) -> Option<Duration> {
        const MOST: f64 = 1e15;
        let (months, ms) = match unit {
            Unit::Year => (amount * 12.0, 0.0),
            Unit::Month => (amount, 0.0),
            exact => (0.0, amount * exact.mean_ms()),
        };
        (months.abs() <= MOST && ms.abs() <= MOST).then_some(Duration { months: months as i64, ms: ms as i64 })
    }
}

/// Text that is taken apart from the left.
struct Scan<'a>(&'a str);

impl<'a> Scan<'a> {
    fn eat(&mut self, characters: &[char]) -> Option<char> {
        let found = self.0.chars().next().filter(|c| characters.contains(c))?;
        self.0 = &self.0[found.len_utf8()..];
        Some(found)
    }

    /// So many digits.
    fn digits(&mut self, least: usize, most: usize) -> Option<&'a str> {
        let count = self.0.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.0.split_at(count);
        self.0 = rest;
        (count >= least).then_some(digits)
    }

    fn number(&mut self, least: usize, most: usize, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        self.digits(least, most)?.parse().ok().filter(|number| range.contains(number))
    }

    fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

/// The first three digits after the point, as milliseconds.
fn fraction_ms(digits: &str) -> i64 {
    format!("{digits:0<3}")[..3].parse().unwrap_or(0)
}

/// `2014`, `2014-05`, `2014-05-07`, each with ` 14:19`, `T14:19:09` or `T14:19:09.522`, and then with `Z` or `+01:00`.
pub fn date(text: &str) -> Option<i64> {
    let mut scan = Scan(text.trim_matches([' ', '\t', '\n', '\r']));
    let year = scan.number(1, 4, 0..=9999)?;
    let part = |scan: &mut Scan<'_>, range| match scan.eat(&['-']) {
        Some(_) => scan.number(1, 2, range),
        None => Some(1),
    };
    // An offset is not taken for a month: it would come after a time.
    let month = part(&mut scan, 1..=12)?;
    let day = part(&mut scan, 1..=31)?;
    let mut time_ms = 0;
    if scan.eat(&['T', 't', ' ']).is_some() {
        let hour = scan.number(2, 2, 0..=24)?;
        scan.eat(&[':'])?;
        let minute = scan.number(2, 2, 0..=59)?;
        let second = if scan.eat(&[':']).is_some() { scan.number(2, 2, 0..=59)? } else { 0 };
        let ms = if scan.eat(&['.']).is_some() { fraction_ms(scan.digits(1, 9)?) } else { 0 };
        time_ms = ((hour * 60 + minute) * 60 + second) * 1000 + ms;
    }
    match scan.eat(&['Z', 'z', '+', '-']) {
        None | Some('Z' | 'z') => {}
        Some(sign) => {
            let hours = scan.number(2, 2, 0..=23)?;
            scan.eat(&[':']);
            let offset_ms = (hours * 60 + scan.number(2, 2, 0..=59)?) * 60_000;
            time_ms += if sign == '+' { -offset_ms } else { offset_ms };
        }
    }
    scan.end(from_parts(year, month, day, time_ms)?)
}

/// `P1Y2M3W4DT5H6M7.890S`, of which parts may be missing.
pub fn duration(text: &str) -> Option<Duration> {
    let mut scan = Scan(text);
    scan.eat(&['P'])?;
    let (mut sum, mut in_time) = (Duration::default(), false);
    let mut units: &[(char, Unit)] = &[('Y', Unit::Year), ('M', Unit::Month), ('W', Unit::Week), ('D', Unit::Day)];
    while !scan.0.is_empty() {
        if !in_time && scan.eat(&['T']).is_some() {
            in_time = true;
            units = &[('H', Unit::Hour), ('M', Unit::Minute), ('S', Unit::Second)];
        }
        let amount: i64 = scan.digits(1, 9)?.parse().ok()?;
        let ms = if scan.eat(&['.']).is_some() { Some(fraction_ms(scan.digits(1, 3)?)) } else { None };
        let letter = scan.eat(&['Y', 'M', 'W', 'D', 'H', 'S'])?;
        // Each unit at most once, in their order; only seconds have decimals.
        let place = units.iter().position(|(name, _)| *name == letter)?;
        let unit = units[place].1;
        units = &units[place + 1..];
        if ms.is_some() && unit != Unit::Second {
            return None;
        }
        let part = Duration::of(amount as f64, unit)?;
        sum = Duration { months: sum.months + part.months, ms: sum.ms + part.ms + ms.unwrap_or(0) };
    }
    (text.len() > 1 && !text.ends_with('T')).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_date_is_refused() {
        for text in
            ["", "x", "20145", "2014-13", "2014-00-01", "2014-05-07T1:00", "2014-05-07T14:60", "2014-05-07 ", "-1"]
        {
            let accepted = date(text).is_some();
            assert_eq!(accepted, text == "2014-05-07 ", "{text}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("P5DT26H"), Some(Duration { months: 0, ms: 5 * DAY_MS + 26 * 3_600_000 }));
        assert_eq!(duration("P3M2W"), Some(Duration { months: 3, ms: 14 * DAY_MS }));
        for text in ["", "P", "PT", "P1", "P1H", "P1.5D", "PT1S1H", "P1D1D", "1D", "P1DT"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
