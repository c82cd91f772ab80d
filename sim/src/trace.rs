//! The trace: one line for each thing that happens, in fixed columns, and a running hash of all of it.
//!
//! `time node role epoch tick lease-left what`. Lines are formatted only if somebody reads them; the hash is always
//! kept, and two runs of one seed must agree on it. It covers every message's bytes, so that nothing can hide.

use crate::clock::At;
use crate::timeline::Timeline;
use std::fmt;
use std::io::Write;

/// A running 64-bit hash; good for comparing two runs, not for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(pub u64);

impl Hash {
    pub fn new() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }

    pub fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        for chunk in chunks {
            self.word(u64::from_le_bytes(*chunk));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last) ^ ((bytes.len() as u64) << 56));
    }
}

impl Default for Hash {
    fn default() -> Hash {
        Hash::new()
    }
}

/// What stands before the text of a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Columns {
    pub at: At,
    pub role: &'static str,
    pub epoch: u64,
    pub tick: u64,
    /// Milliseconds of lease left by the machine's own clock; negative once it is over.
    pub lease_left_ms: Option<i64>,
}

pub struct Trace {
    pub hash: Hash,
    sink: Option<Box<dyn Write + Send>>,
    /// For a page that draws it; boxed, because hardly anybody wants it.
    pub timeline: Option<Box<Timeline>>,
}

impl Trace {
    pub fn new(sink: Option<Box<dyn Write + Send>>) -> Trace {
        Trace { hash: Hash::new(), sink, timeline: None }
    }

    /// Whether lines are wanted at all.
    pub fn on(&self) -> bool {
        self.sink.is_some() || self.timeline.is_some()
    }

    pub fn line(&mut self, node: impl fmt::Display, columns: Columns, what: impl fmt::Display) {
        if let Some(timeline) = &mut self.timeline {
            timeline.line(&node.to_string(), &columns, &what.to_string());
        }
        let Some(sink) = &mut self.sink else { return };
        let lease: &dyn fmt::Display = match &columns.lease_left_ms {
            Some(ms) => ms,
            None => &"-",
        };
        let (Columns { at, role, epoch, tick, .. }, node) = (columns, node.to_string());
        // A reader that went away (`| head`) is no reason to stop the simulation.
        let _ = writeln!(sink, "{at:>11} {node:<4} {role:<11} {epoch:>4} {tick:>6} {lease:>6} {what}");
    }

    pub fn heading(&mut self) {
        if let Some(sink) = &mut self.sink {
            let _ = writeln!(
                sink,
                "# {:>9} {:<4} {:<11} {:>4} {:>6} {:>6} what",
                "time", "node", "role", "epo", "tick", "lease"
            );
        }
    }

    pub fn flush(&mut self) {
        if let Some(sink) = &mut self.sink {
            let _ = sink.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_sees_order_length_and_content() {
        let of = |parts: &[&[u8]]| {
            let mut hash = Hash::new();
            parts.iter().for_each(|p| hash.bytes(p));
            hash.0
        };
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"a\0"]), of(&[b"a"]));
        assert_ne!(of(&[b"12345678", b"abcdefgh"]), of(&[b"abcdefgh", b"12345678"]));
        assert_eq!(of(&[b"12345678x"]), of(&[b"12345678x"]));
    }
}
