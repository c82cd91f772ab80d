//! Parts of a state that are shared by many states, each with the fingerprint of its whole content.
//!
//! Fingerprints come from derived `Hash`, so a field that is added later is in them, or does not compile. Two states
//! are taken for one if their fingerprints are equal: 128 bits, so with a hundred million states the chance that two
//! different ones are mixed up is below 1 in 10^22.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// Multiply and fold, in two lanes. The same on every machine and in every run.
#[derive(Clone, Debug)]
pub struct Fingerprint {
    a: u64,
    b: u64,
}

fn fold(x: u64, y: u64) -> u64 {
    let product = u128::from(x) * u128::from(y);
    product as u64 ^ (product >> 64) as u64
}

impl Fingerprint {
    pub fn new() -> Fingerprint {
        Fingerprint { a: 0x243f_6a88_85a3_08d3, b: 0x1319_8a2e_0370_7344 }
    }

    pub fn of(value: &impl Hash) -> u128 {
        let mut print = Fingerprint::new();
        value.hash(&mut print);
        print.sum()
    }

    pub fn sum(&self) -> u128 {
        let (a, b) = (fold(self.a, 0xa409_3822_299f_31d1), fold(self.b, 0x082e_fa98_ec4e_6c89));
        u128::from(a ^ self.b.rotate_left(17)) << 64 | u128::from(b ^ self.a.rotate_left(41))
    }
}

impl Default for Fingerprint {
    fn default() -> Fingerprint {
        Fingerprint::new()
    }
}

impl Hasher for Fingerprint {
    fn write_u64(&mut self, word: u64) {
        self.a = fold(self.a ^ word, 0x9e37_79b9_7f4a_7c15).wrapping_add(self.b);
        self.b = fold(self.b ^ word.rotate_left(32), 0xd1b5_4a32_d192_ed03) ^ self.a.rotate_left(23);
    }

    fn write(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        for chunk in chunks {
            self.write_u64(u64::from_le_bytes(*chunk));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.write_u64(u64::from_le_bytes(last) ^ ((bytes.len() as u64) << 56));
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }

    fn finish(&self) -> u64 {
        self.sum() as u64
    }
}

/// A value that is never changed in place, with its fingerprint.
#[derive(Debug)]
pub struct Part<T>(Arc<(u128, T)>);

impl<T: Hash> Part<T> {
    pub fn new(value: T) -> Part<T> {
        Part(Arc::new((Fingerprint::of(&value), value)))
    }

    pub fn print(&self) -> u128 {
        self.0.0
    }

    /// Puts what `change` makes of it in its place.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R
    where
        T: Clone,
    {
        let mut value = self.0.1.clone();
        let result = change(&mut value);
        *self = Part::new(value);
        result
    }
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Part<T> {
        Part(Arc::clone(&self.0))
    }
}

impl<T> Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T: Hash> Hash for Part<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.print() as u64);
        state.write_u64((self.print() >> 64) as u64);
    }
}

/// A map by fingerprint, which needs no hashing of its own.
pub type ByPrint<V> = HashMap<u128, V, BuildHasherDefault<Taken>>;

#[derive(Default)]
pub struct Taken(u64);

impl Hasher for Taken {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are keys")
    }

    fn write_u128(&mut self, print: u128) {
        self.0 = print as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Equal parts are kept once: there are many more states than there are states of one node.
pub struct Pool<T> {
    parts: ByPrint<Part<T>>,
    sweep_at: usize,
}

/// Below this many, unused parts are not looked for.
const SWEEP_MIN: usize = 10_000;

impl<T> Default for Pool<T> {
    fn default() -> Pool<T> {
        Pool { parts: ByPrint::default(), sweep_at: SWEEP_MIN }
    }
}

impl<T: Hash> Pool<T> {
    pub fn share(&mut self, part: &mut Part<T>) {
        *part = self.parts.entry(part.print()).or_insert_with(|| part.clone()).clone();
        if self.parts.len() >= self.sweep_at {
            self.parts.retain(|_, part| Arc::strong_count(&part.0) > 1);
            self.sweep_at = (self.parts.len() * 2).max(SWEEP_MIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_differs_has_another_fingerprint() {
        let words = ["", "a", "b", "aa", "a\0", "abcdefgh", "abcdefgh\0", "abcdefghi"];
        let mut prints: BTreeSet<u128> = words.iter().map(Fingerprint::of).collect();
        prints.extend((0..10_000u64).map(|n| Fingerprint::of(&n)));
        prints.extend((0..100u64).flat_map(|a| (0..100u64).map(move |b| Fingerprint::of(&(a, b)))));
        assert_eq!(prints.len(), words.len() + 10_000 + 10_000);
        assert_ne!(Fingerprint::of(&vec![vec![1u8], vec![]]), Fingerprint::of(&vec![vec![], vec![1u8]]));
        assert_ne!(Fingerprint::of(&(Some(0u64), None::<u64>)), Fingerprint::of(&(None::<u64>, Some(0u64))));
    }

    #[test]
    fn equal_parts_are_shared_and_unused_ones_forgotten() {
        let mut pool = Pool::default();
        let (mut one, mut other) = (Part::new(7u64), Part::new(7u64));
        pool.share(&mut one);
        pool.share(&mut other);
        assert!(Arc::ptr_eq(&one.0, &other.0));
        one.change(|n| *n += 1);
        assert_eq!((*one, *other), (8, 7));
        for n in 0..20_000u64 {
            pool.share(&mut Part::new(n));
        }
        assert!(pool.parts.len() <= SWEEP_MIN, "{}", pool.parts.len());
    }
}
