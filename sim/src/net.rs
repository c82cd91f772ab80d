//! The network: what becomes of a message between two places.
//!
//! Every directed link has its own delay, loss, duplication and reordering, and can be cut one way or both. A message
//! that meets a cut is mostly lost; sometimes it arrives after the cut is healed, as a retransmission would.

use crate::clock::At;
use std::collections::BTreeMap;
use std::time::Duration;
use tanist_engine::types::Rng;

/// Nodes come first (agents, then servers), then clients. At most 64 places.
pub type Places = u64;

pub fn only(place: usize) -> Places {
    1 << place
}

/// What a link is like. Permille are per message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    pub loss_permille: u64,
    pub duplicate_permille: u64,
    pub delay_us: u64,
    /// How often a message is held up, and by how much at most.
    pub straggler_permille: u64,
    pub straggler_ms: u64,
    /// Nothing overtakes on a link, as on a TCP connection.
    pub ordered: bool,
}

impl Weather {
    pub const CALM: Weather = Weather {
        loss_permille: 0,
        duplicate_permille: 0,
        delay_us: 1000,
        straggler_permille: 0,
        straggler_ms: 0,
        ordered: true,
    };
}

struct Cut {
    id: usize,
    from: Places,
    to: Places,
    until: At,
}

struct Storm {
    id: usize,
    around: Places,
    weather: Weather,
}

pub struct Net {
    rng: Rng,
    base: Weather,
    cuts: Vec<Cut>,
    storms: Vec<Storm>,
    /// When the last message of each link arrives.
    last: BTreeMap<(usize, usize), At>,
}

/// How a message may be treated: a client's HTTP exchange is never repeated by the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Peer,
    Http,
}

impl Net {
    pub fn new(seed: u64, base: Weather) -> Net {
        Net { rng: Rng::new(seed), base, cuts: Vec::new(), storms: Vec::new(), last: BTreeMap::new() }
    }

    /// When copies of a message sent now arrive: none, one or two.
    pub fn carry(&mut self, at: At, from: usize, to: usize, kind: Kind) -> [Option<At>; 2] {
        let weather = self.weather(from, to);
        let mut start = at;
        if let Some(until) = self.cut(from, to) {
            if kind == Kind::Http || !self.rng.chance(1, 4) {
                return [None, None];
            }
            start = until;
        }
        if self.rng.below(1000) < weather.loss_permille {
            return [None, None];
        }
        let mut first = start.plus(self.delay(&weather));
        let last = self.last.entry((from, to)).or_default();
        if weather.ordered {
            first = first.max(*last);
        }
        *last = first.max(*last);
        let again = kind == Kind::Peer && self.rng.below(1000) < weather.duplicate_permille;
        let second = again.then(|| first.plus(self.delay(&weather) * 3));
        [Some(first), second]
    }

    fn weather(&self, from: usize, to: usize) -> Weather {
        let link = only(from) | only(to);
        self.storms.iter().rev().find(|s| s.around & link != 0).map_or(self.base, |s| s.weather)
    }

    fn cut(&self, from: usize, to: usize) -> Option<At> {
        let cuts = self.cuts.iter().filter(|c| c.from & only(from) != 0 && c.to & only(to) != 0);
        cuts.map(|c| c.until).max()
    }

    fn delay(&mut self, weather: &Weather) -> Duration {
        let usual = Duration::from_micros(weather.delay_us / 10 + self.rng.below(weather.delay_us.max(1)));
        if weather.straggler_ms > 0 && self.rng.below(1000) < weather.straggler_permille {
            usual + Duration::from_millis(self.rng.below(weather.straggler_ms))
        } else {
            usual
        }
    }

    pub fn add_cut(&mut self, id: usize, from: Places, to: Places, until: At) {
        self.cuts.push(Cut { id, from, to, until });
    }

    pub fn add_storm(&mut self, id: usize, around: Places, weather: Weather) {
        self.storms.push(Storm { id, around, weather });
    }

    /// Ends what fault `id` began.
    pub fn heal(&mut self, id: usize) {
        self.cuts.retain(|c| c.id != id);
        self.storms.retain(|s| s.id != id);
    }

    /// Ends everything, bad weather included.
    pub fn heal_all(&mut self) {
        self.cuts.clear();
        self.storms.clear();
        self.base = Weather::CALM;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_works_in_its_direction_only_and_heals() {
        let mut net = Net::new(1, Weather::CALM);
        net.add_cut(7, only(0), only(1), At::from_ms(50));
        let lost = (0..100).filter(|_| net.carry(At(0), 0, 1, Kind::Peer)[0].is_none()).count();
        assert!((50..100).contains(&lost), "most are lost, some come late: {lost}");
        let late = (0..100).filter_map(|_| net.carry(At(0), 0, 1, Kind::Peer)[0]).min().unwrap();
        assert!(late >= At::from_ms(50));
        assert!(net.carry(At(0), 0, 1, Kind::Http)[0].is_none());
        assert!(net.carry(At(0), 1, 0, Kind::Peer)[0].is_some());
        net.heal(7);
        assert!(net.carry(At(0), 0, 1, Kind::Http)[0].is_some());
    }

    #[test]
    fn weather_loses_repeats_and_reorders_but_never_repeats_http() {
        let weather = Weather { loss_permille: 300, duplicate_permille: 300, ordered: false, ..Weather::CALM };
        let mut net = Net::new(2, weather);
        let arrivals: Vec<_> = (0..1000).map(|i| net.carry(At::from_ms(i / 10), 0, 1, Kind::Peer)).collect();
        let lost = arrivals.iter().filter(|a| a[0].is_none()).count();
        let twice = arrivals.iter().filter(|a| a[1].is_some()).count();
        assert!((200..400).contains(&lost), "{lost}");
        assert!((120..300).contains(&twice), "{twice}");
        let times: Vec<At> = arrivals.iter().filter_map(|a| a[0]).collect();
        assert!(times.windows(2).any(|w| w[0] > w[1]), "some overtake others");
        assert!((0..1000).all(|_| net.carry(At(0), 0, 1, Kind::Http)[1].is_none()));
        let mut calm = Net::new(3, Weather::CALM);
        let times: Vec<At> = (0..100).filter_map(|_| calm.carry(At(0), 0, 1, Kind::Peer)[0]).collect();
        assert!(times.is_sorted());
    }
}
