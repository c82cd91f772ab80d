//! What a client demands of the data that answers it: "at least this tick", "at most so stale".
//!
//! Each answer of a server names what it reflects by a [`Token`]: epoch, lineage and tick (R16). A tick alone would not
//! do: after a failover the same tick may stand for something else, so a token is held against the epoch history, and
//! what is not part of it any more was rolled back. [`Freshness`] is what a follower knows of its own staleness: at
//! which moment, on its own clock, it *asked* the question to which its data are the answer. This part must never call
//! data fresher than they are: the clock's slack and its rate are taken off.

use crate::errors::{self, Error};
use crate::http::{Request, header};
use crate::types::*;
use std::fmt;

/// How long a request may wait for its demand to be met, and how long it waits if it does not say.
pub const WAIT_MAX: Duration = Duration::from_secs(10);
pub const WAIT_DEFAULT: Duration = Duration::from_secs(1);
/// Nobody means a longer staleness than this.
const STALENESS_MAX_MS: u64 = 24 * 3600 * 1000;

/// A place in the log, with the lineage of its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    pub epoch: Epoch,
    pub lineage: Lineage,
    pub tick: Tick,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}-{}", self.epoch.0, self.lineage.0, self.tick.0)
    }
}

impl Token {
    pub fn parse(text: &str) -> Option<Token> {
        let mut parts = text.split('-');
        let (epoch, lineage, tick) = (parts.next()?, parts.next()?, parts.next()?);
        let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        let lineage = u64::from_str_radix(lineage, 16).ok().filter(|_| lineage.len() == 16)?;
        let token = Token { epoch: Epoch(number(epoch)?), lineage: Lineage(lineage), tick: Tick(number(tick)?) };
        parts.next().is_none().then_some(token)
    }

    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, tick: self.tick }
    }

    /// How a log with this history, which ends at `last`, stands to the token.
    pub fn standing(&self, history: &[EpochRow], last: Position) -> Standing {
        if planted!(token_without_lineage) {
            return if last.tick >= self.tick { Standing::Reflected } else { Standing::Behind };
        }
        let Some(at) = history.iter().position(|row| row.epoch == self.epoch) else {
            // An epoch that a later one in our history has passed over never was, or is no more.
            return if last.epoch > self.epoch { Standing::RolledBack } else { Standing::Behind };
        };
        let ended = history.get(at + 1).is_some_and(|next| self.tick >= next.first);
        if history[at].lineage != self.lineage || self.tick < history[at].first || ended {
            return Standing::RolledBack;
        }
        if last.tick >= self.tick { Standing::Reflected } else { Standing::Behind }
    }
}

/// What a log has of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Reflected,
    /// Not yet.
    Behind,
    /// The token names what is not in this history and never will be.
    RolledBack,
}

/// When what a follower has was known to be all that there is, on its own clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Freshness {
    pub as_of: Now,
    /// The two clocks may have moved apart by this much since then.
    pub slack: Duration,
    pub drift_permille: u32,
}

/// Until when an answer may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FreshUntil {
    until: Time,
    of: Freshness,
}

impl Freshness {
    /// Data that are at most so stale at this moment; `None` if these are not.
    pub fn within(self, staleness: Duration, now: Now) -> Option<FreshUntil> {
        // A slow clock would count a longer time than it says.
        let counted = staleness * (1000 - self.drift_permille.min(900)) / 1000;
        let fresh = FreshUntil { until: self.as_of.time.plus(counted), of: self };
        fresh.holds(now).then_some(fresh)
    }
}

impl FreshUntil {
    pub fn holds(&self, now: Now) -> bool {
        // Time that the steady clock missed, standing still with its machine, counts as well.
        let missed = now.apart(self.of.as_of);
        now.time.plus(missed) <= self.until && missed <= self.of.slack
    }
}

/// What one request demands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Demands {
    pub at_least: Option<Token>,
    pub max_staleness: Option<Duration>,
    /// How long it will wait for that.
    pub wait: Duration,
}

impl Demands {
    pub fn of(request: &Request) -> Result<Demands, Error> {
        let mut demands = Demands { wait: WAIT_DEFAULT, ..Demands::default() };
        let bad = |name: &str, what: &str| errors::HTTP_BAD_PARAMETER.because(format!("{name} must be {what}"));
        for (name, value) in request.headers.iter().filter(|(name, _)| name.starts_with("x-tanist-")) {
            let ms = |max: u64| value.trim().parse::<u64>().ok().map(|ms| Duration::from_millis(ms.min(max)));
            match name.as_str() {
                header::AT_LEAST => {
                    let token = Token::parse(value.trim()).ok_or_else(|| bad(name, "a token of X-Tanist-Tick"))?;
                    demands.at_least = Some(token);
                }
                header::MAX_STALENESS => {
                    let staleness = ms(STALENESS_MAX_MS).ok_or_else(|| bad(name, "milliseconds"))?;
                    demands.max_staleness = Some(staleness);
                }
                header::WAIT_MS => {
                    let wait = ms(WAIT_MAX.as_millis() as u64).ok_or_else(|| bad(name, "milliseconds"))?;
                    demands.wait = wait;
                }
                _ => {}
            }
        }
        Ok(demands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Method;

    fn token(epoch: u64, lineage: u64, tick: u64) -> Token {
        Token { epoch: Epoch(epoch), lineage: Lineage(lineage), tick: Tick(tick) }
    }

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is() {
        let written = token(3, 0xab, 42).to_string();
        assert_eq!(written, "3-00000000000000ab-42");
        assert_eq!(Token::parse(&written), Some(token(3, 0xab, 42)));
        for bad in ["", "3", "3-ab-42", "3-00000000000000ab-", "3-00000000000000ab-42-1", "+3-00000000000000ab-42"] {
            assert_eq!(Token::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_token_is_held_against_the_history() {
        let row =
            |epoch, first, lineage| EpochRow { epoch: Epoch(epoch), first: Tick(first), lineage: Lineage(lineage) };
        let history = [row(1, 1, 7), row(3, 10, 8)];
        let last = Position { epoch: Epoch(3), tick: Tick(15) };
        let table = [
            (token(1, 7, 1), Standing::Reflected),
            (token(1, 7, 9), Standing::Reflected),
            (token(1, 7, 10), Standing::RolledBack),
            (token(1, 9, 5), Standing::RolledBack),
            (token(2, 7, 10), Standing::RolledBack),
            (token(3, 8, 15), Standing::Reflected),
            (token(3, 8, 16), Standing::Behind),
            (token(3, 9, 12), Standing::RolledBack),
            (token(3, 8, 9), Standing::RolledBack),
            (token(4, 1, 3), Standing::Behind),
        ];
        for (token, standing) in table {
            assert_eq!(token.standing(&history, last), standing, "{token}");
        }
    }

    #[test]
    fn staleness_is_counted_against_whoever_promises() {
        let at = |ms: u64, wall_ms| Now { time: Time(ms * 1_000_000), wall_ms };
        let ms = Duration::from_millis;
        let fresh = Freshness { as_of: at(1000, 5000), slack: ms(20), drift_permille: 200 };
        let until = fresh.within(ms(100), at(1080, 5080)).expect("80 ms by a clock that may be slow");
        assert!(until.holds(at(1080, 5080)) && !until.holds(at(1081, 5081)));
        assert_eq!(fresh.within(ms(100), at(1081, 5081)), None);
        assert!(!until.holds(at(1050, 5090)), "the steady clock stood still for a while");
    }

    #[test]
    fn demands_are_bounded_and_bad_ones_refused() {
        let with = |name, value: &str| Demands::of(&Request::new(Method::Get, "/").with_header(name, value));
        assert_eq!(with(header::WAIT_MS, "99999999999").unwrap().wait, WAIT_MAX);
        assert_eq!(with(header::WAIT_MS, "0").unwrap().wait, Duration::ZERO);
        assert_eq!(with(header::MAX_STALENESS, " 250 ").unwrap().max_staleness, Some(Duration::from_millis(250)));
        assert_eq!(with("x-other", "y").unwrap(), Demands { wait: WAIT_DEFAULT, ..Demands::default() });
        for (name, value) in [(header::WAIT_MS, "-1"), (header::MAX_STALENESS, "soon"), (header::AT_LEAST, "12")] {
            assert_eq!(with(name, value).unwrap_err().kind.number, 400, "{name}");
        }
    }
}
