//! The order of strings.
//!
//! ArangoDB sorts as ICU does for English. This is an approximation of that (the root collation), by a rule of its own
//! that never changes under an index: strings are compared by their base letters first, then by accents, then by case
//! (lower before upper), and at last by their bytes, so that only identical strings are equal. White space comes before
//! punctuation, then symbols, digits and letters. Other than in ICU, a letter outside the Latin script stands at its
//! code point, and there are no contractions or expansions beyond canonical decomposition.
//!
//! [`key`] gives bytes that compare as [`compare`] does.

use std::cmp::Ordering;
use unicode_normalization::char::{decompose_canonical, is_combining_mark};

/// What ASCII has in the way of punctuation and symbols, in the order of the root collation.
const ASCII_SIGNS: &[u8] = b"\t\n\x0b\x0c\r _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$";

/// Primary weights: signs from 1, other signs and letters at their code points in bands of their own.
const OTHER_SIGNS: u32 = 0x100;
const DIGITS: u32 = 0x20_0000;
const LETTERS: u32 = 0x20_0100;
const OTHER_LETTERS: u32 = 0x20_0200;

const fn ascii_weights() -> [u32; 128] {
    let mut weights = [0; 128];
    let mut i = 0;
    while i < ASCII_SIGNS.len() {
        weights[ASCII_SIGNS[i] as usize] = i as u32 + 1;
        i += 1;
    }
    let mut byte = 0u8;
    while byte < 128 {
        if byte.is_ascii_digit() {
            weights[byte as usize] = DIGITS + byte as u32;
        } else if byte.is_ascii_alphabetic() {
            weights[byte as usize] = LETTERS + byte.to_ascii_lowercase() as u32;
        }
        byte += 1;
    }
    weights
}

static ASCII: [u32; 128] = ascii_weights();

/// A piece of a string: a base character or an accent, with its weight on each level; 0 has none there.
#[derive(Clone, Copy)]
struct Weights {
    primary: u32,
    accent: u32,
    case: u8,
}

fn weigh(c: char) -> Weights {
    if c.is_ascii() {
        return Weights { primary: ASCII[c as usize], accent: 0, case: if c.is_ascii_uppercase() { 2 } else { 1 } };
    }
    if is_combining_mark(c) {
        return Weights { primary: 0, accent: c as u32, case: 0 };
    }
    let mut lower = c.to_lowercase();
    let folded = lower.next().unwrap_or(c);
    let primary = if c.is_alphanumeric() { OTHER_LETTERS + folded as u32 } else { OTHER_SIGNS + c as u32 };
    Weights { primary, accent: 0, case: if folded == c { 1 } else { 2 } }
}

fn pieces(text: &str) -> impl Iterator<Item = Weights> + '_ {
    text.chars().flat_map(|c| {
        // The longest canonical decomposition has four characters.
        let mut parts = [None; 4];
        if c.is_ascii() {
            parts[0] = Some(weigh(c));
        } else {
            let mut at = 0;
            decompose_canonical(c, |part| {
                if at < parts.len() {
                    parts[at] = Some(weigh(part));
                    at += 1;
                }
            });
        }
        parts.into_iter().flatten()
    })
}

/// The same as [`primary`] for a string of ASCII, faster.
fn ascii_primary(text: &str) -> impl Iterator<Item = u32> + '_ {
    text.bytes().map(|byte| ASCII[usize::from(byte & 0x7f)]).filter(|&weight| weight > 0)
}

fn primary(text: &str) -> impl Iterator<Item = u32> + '_ {
    pieces(text).map(|piece| piece.primary).filter(|&weight| weight > 0)
}

/// 1 for each base character, and the accents that follow it.
fn accents(text: &str) -> impl Iterator<Item = u32> + '_ {
    pieces(text).map(|piece| if piece.accent > 0 { piece.accent } else { 1 })
}

fn cases(text: &str) -> impl Iterator<Item = u8> + '_ {
    pieces(text).map(|piece| piece.case).filter(|&case| case > 0)
}

pub fn compare(a: &str, b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    if a.is_ascii() && b.is_ascii() {
        let order = ascii_primary(a).cmp(ascii_primary(b));
        if order.is_ne() {
            return order;
        }
    }
    primary(a)
        .cmp(primary(b))
        .then_with(|| accents(a).cmp(accents(b)))
        .then_with(|| cases(a).cmp(cases(b)))
        .then_with(|| a.cmp(b))
}

/// Appends bytes that compare as the strings do, and that no other string's are a prefix of. Levels end with a zero.
pub fn key(text: &str, out: &mut Vec<u8>) {
    for weight in primary(text) {
        // Three bytes, none of them zero in the first place: a weight is at least 1 and below 2^23.
        out.push(1 + (weight >> 16) as u8);
        out.extend_from_slice(&(weight as u16).to_be_bytes());
    }
    out.push(0);
    // Trailing ones are left out by nobody: the levels before are equal, so both sides have as many.
    for accent in accents(text) {
        if accent == 1 {
            out.push(1);
        } else {
            out.push(2 + (accent >> 16) as u8);
            out.extend_from_slice(&(accent as u16).to_be_bytes());
        }
    }
    out.push(0);
    out.extend(cases(text));
    out.push(0);
    // The bytes themselves; a zero is escaped, so that the end compares below every continuation.
    for &byte in text.as_bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strings_stand_as_a_dictionary_has_them() {
        let sorted = [
            "", " ", "_a", "-", "!", "$", "0", "1", "10", "2", "a", "A", "\u{e1}", "ab", "Ab", "AB", "b", "B", "e",
            "\u{e9}", "ea", "z", "Z", "\u{3b1}", "\u{44f}",
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a:?} {b:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn keys_compare_as_their_strings(a in "[a-cA-C\u{e1}\u{301}\u{0} _0]{0,6}|\\PC{0,6}", b in "[a-cA-C\u{e1}\u{301}\u{0} _0]{0,6}|\\PC{0,6}") {
            let bytes = |text| { let mut out = Vec::new(); key(text, &mut out); out };
            prop_assert_eq!(bytes(&a).cmp(&bytes(&b)), compare(&a, &b));
        }
    }
}
