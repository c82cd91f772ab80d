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
    /// What every message takes beyond that.
    pub sure_us: u64,
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
        sure_us: 0,
        straggler_permille: 0,
        straggler_ms: 0,
        ordered: true,
    };
}

struct Cut {
    id: usize,
    links: Links,
    until: At,
}

/// Directed links: all from one of these places to one of those.
#[derive(Clone, Copy, Debug)]
pub struct Links(pub Places, pub Places);

impl Links {
    fn hold(&self, from: usize, to: usize) -> bool {
        self.0 & only(from) != 0 && self.1 & only(to) != 0
    }
}

struct Storm {
    id: usize,
    links: Links,
    weather: Weather,
}

/// Links that carry only so much.
struct Narrow {
    id: usize,
    links: Links,
    bytes_per_s: u64,
}

/// What waits for a narrow link for longer than this is dropped.
const QUEUE_MAX: Duration = Duration::from_secs(3);

pub struct Net {
    rng: Rng,
    base: Weather,
    /// What each link's weather follows from, if they differ.
    uneven: Option<u64>,
    cuts: Vec<Cut>,
    storms: Vec<Storm>,
    narrows: Vec<Narrow>,
    /// When a narrow link will have sent what waits for it.
    free: BTreeMap<(usize, usize), At>,
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
        Net {
            rng: Rng::new(seed),
            base,
            uneven: None,
            cuts: Vec::new(),
            storms: Vec::new(),
            narrows: Vec::new(),
            free: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    /// From here on every link has a weather of its own around the usual one: some are slow, some lose a lot, and the
    /// way back is not like the way there.
    pub fn make_uneven(&mut self, seed: u64) {
        self.uneven = Some(seed);
    }

    /// When copies of a message of so many bytes sent now arrive: none, one or two.
    pub fn carry(&mut self, at: At, from: usize, to: usize, bytes: usize, kind: Kind) -> [Option<At>; 2] {
        let weather = self.weather(from, to);
        let mut start = at;
        if let Some(until) = self.cut(from, to) {
            if kind == Kind::Http || until == At::NEVER || !self.rng.chance(1, 4) {
                return [None, None];
            }
            start = until;
        }
        if self.rng.below(1000) < weather.loss_permille {
            return [None, None];
        }
        let Some(start) = self.queue(start, from, to, bytes) else { return [None, None] };
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

    /// When a narrow link has sent a message that comes to it now; never, if too much waits already.
    fn queue(&mut self, at: At, from: usize, to: usize, bytes: usize) -> Option<At> {
        let narrow = self.narrows.iter().filter(|n| n.links.hold(from, to)).map(|n| n.bytes_per_s).min();
        let Some(bytes_per_s) = narrow else { return Some(at) };
        let free = self.free.entry((from, to)).or_default();
        let begins = at.max(*free);
        if begins > at.plus(QUEUE_MAX) {
            return None;
        }
        *free = begins.plus(Duration::from_micros(bytes as u64 * 1_000_000 / bytes_per_s));
        Some(*free)
    }

    fn weather(&self, from: usize, to: usize) -> Weather {
        let storm = self.storms.iter().rev().find(|s| s.links.hold(from, to));
        storm.map_or_else(|| self.usual(from, to), |s| s.weather)
    }

    fn usual(&self, from: usize, to: usize) -> Weather {
        let Some(seed) = self.uneven else { return self.base };
        let mut rng = Rng::new(seed).fork((from * 64 + to) as u64);
        let mut share = |quarters: &[u64], of: u64| of * quarters[rng.below(quarters.len() as u64) as usize] / 4;
        Weather {
            delay_us: share(&[1, 2, 4, 4, 8, 32], self.base.delay_us),
            loss_permille: share(&[0, 1, 4, 12], self.base.loss_permille).min(1000),
            duplicate_permille: share(&[0, 1, 4, 12], self.base.duplicate_permille).min(1000),
            straggler_permille: share(&[0, 1, 4, 12], self.base.straggler_permille).min(1000),
            ..self.base
        }
    }

    fn cut(&self, from: usize, to: usize) -> Option<At> {
        let cuts = self.cuts.iter().filter(|c| c.links.hold(from, to));
        cuts.map(|c| c.until).max()
    }

    fn delay(&mut self, weather: &Weather) -> Duration {
        let chance_us = weather.delay_us / 10 + self.rng.below(weather.delay_us.max(1));
        let usual = Duration::from_micros(weather.sure_us + chance_us);
        if weather.straggler_ms > 0 && self.rng.below(1000) < weather.straggler_permille {
            usual + Duration::from_millis(self.rng.below(weather.straggler_ms))
        } else {
            usual
        }
    }

    pub fn add_cut(&mut self, id: usize, links: Links, until: At) {
        self.cuts.push(Cut { id, links, until });
    }

    pub fn add_storm(&mut self, id: usize, links: Links, weather: Weather) {
        self.storms.push(Storm { id, links, weather });
    }

    pub fn add_narrow(&mut self, id: usize, links: Links, bytes_per_s: u64) {
        self.narrows.push(Narrow { id, links, bytes_per_s });
    }

    /// Ends what fault `id` began.
    pub fn heal(&mut self, id: usize) {
        self.cuts.retain(|c| c.id != id);
        self.storms.retain(|s| s.id != id);
        self.narrows.retain(|n| n.id != id);
    }

    /// Ends everything, bad weather included.
    pub fn heal_all(&mut self) {
        self.cuts.clear();
        self.storms.clear();
        self.narrows.clear();
        self.base = Weather::CALM;
        self.uneven = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_works_in_its_direction_only_and_heals() {
        let mut net = Net::new(1, Weather::CALM);
        net.add_cut(7, Links(only(0), only(1)), At::from_ms(50));
        let lost = (0..100).filter(|_| net.carry(At(0), 0, 1, 100, Kind::Peer)[0].is_none()).count();
        assert!((50..100).contains(&lost), "most are lost, some come late: {lost}");
        let late = (0..100).filter_map(|_| net.carry(At(0), 0, 1, 100, Kind::Peer)[0]).min().unwrap();
        assert!(late >= At::from_ms(50));
        assert!(net.carry(At(0), 0, 1, 100, Kind::Http)[0].is_none());
        assert!(net.carry(At(0), 1, 0, 100, Kind::Peer)[0].is_some());
        net.heal(7);
        assert!(net.carry(At(0), 0, 1, 100, Kind::Http)[0].is_some());
    }

    #[test]
    fn a_narrow_link_makes_messages_queue_and_drops_what_waits_too_long() {
        let mut net = Net::new(4, Weather { delay_us: 0, ..Weather::CALM });
        net.add_narrow(1, Links(only(0), Places::MAX), 1000);
        net.add_narrow(1, Links(Places::MAX, only(0)), 1000);
        let arrivals: Vec<Option<At>> = (0..50).map(|_| net.carry(At(0), 0, 1, 100, Kind::Peer)[0]).collect();
        assert_eq!(arrivals[0], Some(At::from_ms(100)));
        assert_eq!(arrivals[30], Some(At::from_ms(3100)));
        assert!(arrivals[31..].iter().all(Option::is_none), "three seconds of queue are enough");
        assert_eq!(net.carry(At(0), 1, 2, 100, Kind::Peer)[0], Some(At(0)), "another link");
        assert_eq!(net.carry(At(0), 1, 0, 100, Kind::Peer)[0], Some(At::from_ms(100)), "each way has its own queue");
        net.heal(1);
        assert!(net.carry(At(0), 0, 3, 100, Kind::Peer)[0] < Some(At::from_ms(100)));
    }

    #[test]
    fn weather_and_narrowness_may_be_of_one_way_only() {
        let mut net = Net::new(5, Weather { delay_us: 0, ..Weather::CALM });
        net.add_storm(1, Links(only(0), only(1)), Weather { loss_permille: 1000, ..Weather::CALM });
        net.add_narrow(1, Links(only(1), only(0)), 1000);
        let mut arrives = |from, to| net.carry(At(0), from, to, 100, Kind::Peer)[0];
        assert_eq!((arrives(0, 1), arrives(1, 0)), (None, Some(At::from_ms(100))));
        assert_eq!((arrives(0, 2), arrives(2, 1)), (Some(At(0)), Some(At(0))), "other links");
    }

    #[test]
    fn uneven_links_differ_each_way_and_stay_as_they_are() {
        let base = Weather { loss_permille: 20, ..Weather::CALM };
        let mut net = Net::new(6, base);
        assert_eq!(net.weather(0, 1), base);
        net.make_uneven(6);
        let all =
            |net: &Net| (0..8).flat_map(|a| (0..8).map(move |b| (a, b))).map(|(a, b)| net.weather(a, b)).collect();
        let weathers: Vec<Weather> = all(&net);
        assert!(weathers.iter().any(|w| w.delay_us > base.delay_us) && weathers.iter().any(|w| w.loss_permille == 0));
        assert!((1..8).any(|other| net.weather(0, other) != net.weather(other, 0)), "there and back");
        assert_eq!(weathers, all(&net));
        net.heal_all();
        assert_eq!(net.weather(0, 1), Weather::CALM);
    }

    #[test]
    fn weather_loses_repeats_and_reorders_but_never_repeats_http() {
        let weather = Weather { loss_permille: 300, duplicate_permille: 300, ordered: false, ..Weather::CALM };
        let mut net = Net::new(2, weather);
        let arrivals: Vec<_> = (0..1000).map(|i| net.carry(At::from_ms(i / 10), 0, 1, 100, Kind::Peer)).collect();
        let lost = arrivals.iter().filter(|a| a[0].is_none()).count();
        let twice = arrivals.iter().filter(|a| a[1].is_some()).count();
        assert!((200..400).contains(&lost), "{lost}");
        assert!((120..300).contains(&twice), "{twice}");
        let times: Vec<At> = arrivals.iter().filter_map(|a| a[0]).collect();
        assert!(times.windows(2).any(|w| w[0] > w[1]), "some overtake others");
        assert!((0..1000).all(|_| net.carry(At(0), 0, 1, 100, Kind::Http)[1].is_none()));
        let mut calm = Net::new(3, Weather::CALM);
        let times: Vec<At> = (0..100).filter_map(|_| calm.carry(At(0), 0, 1, 100, Kind::Peer)[0]).collect();
        assert!(times.is_sorted());
    }
}
