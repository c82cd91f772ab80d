//! The timeline: what happened, as numbers that a page can draw (see [`crate::html`]).
//!
//! It is collected next to the trace and only if somebody asks; nobody else pays for it. Times are microseconds. Texts
//! are kept as a template and the numbers in it, because most of a history says the same with other numbers.

use crate::clock::At;
use crate::trace::Columns;
use serde::Serialize;
use std::collections::BTreeMap;

/// Stands for a number in a template.
const NUMBER: char = '¤';

/// Rows in order of their time, flat: the time since the row before, then the rest.
#[derive(Default, Serialize)]
struct Rows {
    #[serde(skip)]
    at_us: u64,
    numbers: Vec<i64>,
}

impl Rows {
    fn push(&mut self, at: At, rest: &[i64]) {
        let at_us = at.0 / 1000;
        self.numbers.push(at_us as i64 - self.at_us as i64);
        self.at_us = at_us;
        self.numbers.extend(rest);
    }
}

#[derive(Serialize)]
struct Span {
    at_us: u64,
    until_us: u64,
    lanes: Vec<usize>,
    text: String,
}

#[derive(Default, Serialize)]
pub struct Timeline {
    /// Everything that is nobody's own, then the nodes, then the clients, then the etcd that is there.
    lanes: Vec<String>,
    strings: Vec<String>,
    #[serde(skip)]
    known: BTreeMap<String, i64>,
    /// lane, template, numbers...
    events: Rows,
    /// lane, role, epoch, tick, milliseconds of lease left (-1: none)
    states: Rows,
    /// from, to, microseconds under way (-1: lost), kind, template, numbers...
    messages: Rows,
    faults: Vec<Span>,
    /// A client's operation, until it was answered.
    operations: Vec<Span>,
    healed_us: Option<u64>,
    /// By id.
    #[serde(skip)]
    names: BTreeMap<String, String>,
    #[serde(skip)]
    states_now: BTreeMap<usize, [i64; 5]>,
}

impl Timeline {
    pub fn new(nodes: impl Iterator<Item = String>, clients: usize, etcd: bool) -> Timeline {
        let lanes = std::iter::once("faults".to_owned()).chain(nodes).chain((0..clients).map(|c| format!("c{c}")));
        Timeline { lanes: lanes.chain(etcd.then(|| "etcd".to_owned())).collect(), ..Timeline::default() }
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(number) = self.known.get(text) {
            return *number;
        }
        let number = self.strings.len() as i64;
        self.strings.push(text.to_owned());
        self.known.insert(text.to_owned(), number);
        number
    }

    /// The template of a text and its numbers, behind `row`.
    fn text(&mut self, mut row: Vec<i64>, text: &str) -> Vec<i64> {
        let mut text = text.to_owned();
        for (id, name) in self.names.iter().filter(|(id, _)| text.contains(id.as_str())).collect::<Vec<_>>() {
            text = text.replace(id, name);
        }
        let (mut template, mut numbers) = (String::new(), Vec::new());
        let mut words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
        words.by_ref().for_each(|word| {
            let digits = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            match digits.parse::<u32>() {
                Ok(number) if number.to_string() == digits => {
                    template.push(NUMBER);
                    template.push_str(&word[digits.len()..]);
                    numbers.push(i64::from(number));
                }
                _ => template.extend(word.chars().map(|c| if c == NUMBER { '?' } else { c })),
            }
        });
        row.push(self.string(&template));
        row.extend(numbers);
        row
    }

    /// A line of the trace. Messages are told on their own, with both their ends.
    pub fn line(&mut self, who: &str, columns: &Columns, what: &str) {
        let lane = self.lanes.iter().position(|name| name == who.trim_end_matches(['*', '!'])).unwrap_or(0);
        self.state(lane, columns);
        if ["-> ", "<- ", "=> ", "<= "].iter().all(|arrow| !what.starts_with(arrow)) {
            let row = self.text(vec![lane as i64], what);
            self.events.push(columns.at, &row);
        }
    }

    /// What a node is now, if that has changed.
    pub fn state(&mut self, lane: usize, columns: &Columns) {
        if columns.role == "-" {
            return;
        }
        let lease = columns.lease_left_ms.map_or(-1, |left| left.max(-1));
        let role = self.string(columns.role);
        let now = [lane as i64, role, columns.epoch as i64, columns.tick as i64, lease];
        if self.states_now.get(&lane) != Some(&now) {
            self.states.push(columns.at, &now);
            self.states_now.insert(lane, now);
        }
    }

    /// A message between two places, and when its copies arrive.
    pub fn message(&mut self, at: At, from: usize, to: usize, copies: [Option<At>; 2], kind: &str, text: &str) {
        let kind = self.string(kind);
        let [first, second] = copies;
        for arrives in std::iter::once(first).chain(second.map(Some)) {
            let under_way = arrives.map_or(-1, |arrives| (arrives.0 - at.0) as i64 / 1000);
            let row = self.text(vec![from as i64 + 1, to as i64 + 1, under_way, kind], text);
            self.messages.push(at, &row);
        }
    }

    pub fn fault(&mut self, at: At, until: At, nodes: &[usize], text: String) {
        let lanes = nodes.iter().map(|node| node + 1).collect();
        self.faults.push(Span { at_us: at.0 / 1000, until_us: until.0 / 1000, lanes, text });
    }

    pub fn operation(&mut self, client_place: usize, at: At, until: At, text: String) {
        let (at_us, until_us) = (at.0 / 1000, until.0 / 1000);
        self.operations.push(Span { at_us, until_us, lanes: vec![client_place + 1], text });
    }

    /// From here on a node's id is told by its name.
    pub fn name(&mut self, id: String, name: String) {
        self.names.insert(id, name);
    }

    pub fn healed(&mut self, at: At) {
        self.healed_us = Some(at.0 / 1000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the page does it.
    fn read(timeline: &Timeline, row: &[i64]) -> String {
        let mut numbers = row[1..].iter();
        let template = timeline.strings[row[0] as usize].chars();
        template.map(|c| if c == NUMBER { numbers.next().unwrap().to_string() } else { c.to_string() }).collect()
    }

    #[test]
    fn texts_come_back_from_templates_and_numbers() {
        let mut timeline = Timeline::default();
        let texts = ["Beat 12 at 3/40, s1", "", "007 0 -5 4294967296 ends in 9", "a¤b 1", "#71 PUT /_api/x?n=3 …"];
        for text in texts {
            let row = timeline.text(Vec::new(), text);
            assert_eq!(read(&timeline, &row), text.replace(NUMBER, "?"));
        }
        let (one, two) = (timeline.text(Vec::new(), "Beat 1 at 2/3"), timeline.text(Vec::new(), "Beat 9 at 7/7"));
        assert_eq!(one[0], two[0]);
        assert_eq!(two[1..], [9, 7, 7]);
    }

    #[test]
    fn only_changes_of_state_are_kept() {
        let mut timeline = Timeline::new(["a0".to_owned()].into_iter(), 1, false);
        let columns = |ms, epoch| Columns { at: At::from_ms(ms), role: "agent", epoch, ..Columns::default() };
        timeline.line("a0", &columns(1, 1), "starts");
        timeline.line("a0*", &columns(2, 1), "-> a0 Beat 3");
        timeline.line("a0", &columns(3, 2), "ends");
        assert_eq!(timeline.states.numbers, [1000, 1, 0, 1, 0, -1, 2000, 1, 0, 2, 0, -1]);
        assert_eq!(timeline.events.numbers, [1000, 1, 1, 2000, 1, 2]);
        timeline.message(At::from_ms(4), 0, 1, [None, None], "Beat", "Beat 7");
        timeline.message(At::from_ms(4), 0, 1, [Some(At::from_ms(6)); 2], "Beat", "Beat 7");
        assert_eq!(
            timeline.messages.numbers,
            [[4000, 1, 2, -1, 3, 4, 7], [0, 1, 2, 2000, 3, 4, 7], [0, 1, 2, 2000, 3, 4, 7]].concat()
        );
    }
}
