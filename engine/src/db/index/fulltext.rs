//! The words of documents, and what a fulltext query says of them.
//!
//! A text is taken apart where Unicode has the bounds of words. Words are in lower case and in normal form C; those
//! that are shorter than the index's `minLength` are left out, longer ones than [`WORD_CHARS_MAX`] cut. An entry is a
//! word's bytes and a zero, so that words that begin alike stand together.

use super::super::rows::Revision;
use super::Index;
use crate::aql::value::Value;
use crate::errors::{self, Error};
use std::collections::BTreeSet;
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// ArangoDB's.
pub const WORD_CHARS_MAX: usize = 40;
const QUERY_WORDS_MAX: usize = 32;
/// After a word's bytes.
const END: u8 = 0;

fn normal(word: &str) -> String {
    let lower: String = word.nfc().collect::<String>().to_lowercase();
    lower.nfc().take(WORD_CHARS_MAX).filter(|c| *c != '\0').collect()
}

/// The words of a text, of an array's texts, or of an object's.
pub fn words(index: &Index, value: &Value) -> BTreeSet<String> {
    let least = index.properties.get("minLength").and_then(serde_json::Value::as_u64).unwrap_or(2) as usize;
    let mut words = BTreeSet::new();
    let mut take = |value: &Value| {
        if let Value::String(text) = value {
            let long = text.unicode_words().filter(|word| word.chars().count() >= least);
            words.extend(long.map(normal).filter(|word| !word.is_empty()));
        }
    };
    match value {
        Value::Array(elements) => elements.iter().for_each(take),
        Value::Object(object) => object.iter().for_each(|(_, value)| take(value)),
        other => take(other),
    }
    words
}

/// What a document has in the index.
pub fn entries(index: &Index, value: &Value) -> Vec<Vec<u8>> {
    words(index, value).into_iter().map(|word| entry(&word)).collect()
}

fn entry(word: &str) -> Vec<u8> {
    let mut bytes = word.as_bytes().to_vec();
    bytes.push(END);
    bytes
}

/// What is done with the documents that have a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// Only those are left.
    And,
    /// They are added.
    Or,
    /// They are taken away.
    Without,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    operation: Operation,
    /// Or what words begin with.
    word: String,
    prefix: bool,
}

/// `banana,|prefix:app,-complete:pear`: from the left to the right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query(Vec<Term>);

impl Query {
    pub fn parse(text: &str) -> Result<Query, Error> {
        let bad = || errors::BAD_PARAMETER.because("a fulltext query is expected: words, with commas between them");
        let ends = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{c}' | '\u{8}' | ',');
        let mut terms = Vec::new();
        for part in text.split(ends).filter(|part| !part.is_empty()).take(QUERY_WORDS_MAX) {
            let (operation, rest) = match part.split_at_checked(1) {
                Some(("+", rest)) => (Operation::And, rest),
                Some(("|", rest)) => (Operation::Or, rest),
                Some(("-", rest)) => (Operation::Without, rest),
                _ => (Operation::And, part),
            };
            let (prefix, word) = match rest.split_once(':') {
                Some((how, word)) => (how.eq_ignore_ascii_case("prefix"), word),
                None => (false, rest),
            };
            let word = normal(word);
            if word.is_empty() || rest.starts_with(':') {
                return Err(bad());
            }
            terms.push(Term { operation, word, prefix });
        }
        match terms.first_mut() {
            Some(first) => first.operation = Operation::Or,
            None => return Err(bad()),
        }
        Ok(Query(terms))
    }

    /// The documents that it finds. `of` gives those with an entry from the first bytes on and below the second.
    pub fn find<E>(
        &self,
        mut of: impl FnMut(&[u8], &[u8]) -> Result<BTreeSet<Revision>, E>,
    ) -> Result<BTreeSet<Revision>, E> {
        let mut found = BTreeSet::new();
        for Term { operation, word, prefix } in &self.0 {
            if *operation != Operation::Or && found.is_empty() {
                continue;
            }
            // No word has a byte above those of UTF-8.
            let end =
                if *prefix { [word.as_bytes(), &[0xff]].concat() } else { [word.as_bytes(), &[END + 1]].concat() };
            let from = if *prefix { word.as_bytes().to_vec() } else { entry(word) };
            let have = of(&from, &end)?;
            match operation {
                Operation::Or => found.extend(have),
                Operation::And => found.retain(|revision| have.contains(revision)),
                Operation::Without => found.retain(|revision| !have.contains(revision)),
            }
        }
        Ok(found)
    }

    #[cfg(test)]
    pub fn fits(&self, words: &BTreeSet<String>) -> bool {
        self.0.iter().fold(false, |fits, Term { operation, word, prefix }| {
            let has = words.iter().any(|other| if *prefix { other.starts_with(word) } else { other == word });
            match operation {
                Operation::Or => fits || has,
                Operation::And => fits && has,
                Operation::Without => fits && !has,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::index::IndexKind;

    pub fn index(least: u64) -> Index {
        Index {
            id: 300,
            name: "i".into(),
            kind: IndexKind::Fulltext,
            fields: vec!["t".into()],
            unique: false,
            sparse: true,
            deduplicate: true,
            building: false,
            properties: serde_json::json!({"minLength": least}),
        }
    }

    #[test]
    fn texts_are_taken_apart() {
        for (least, json, expected) in [
            (2, r#""The quick, brown fox's (a) 2.5-dog!""#, &["2.5", "brown", "dog", "fox's", "quick", "the"][..]),
            (5, r#""The quick brown fox""#, &["brown", "quick"]),
            (1, r#""Ä a\u0308 ЛИСА 狐""#, &["ä", "лиса", "狐"]),
            (2, r#"["Fox", {"en":"deep"}, ["deep"], "hound"]"#, &["fox", "hound"]),
            (2, r#"{"en":"fox","de":{"x":"Fuchs"},"n":5}"#, &["fox"]),
            (2, "5", &[]),
            (2, "null", &[]),
        ] {
            let found = words(&index(least), &Value::parse(json.as_bytes()).unwrap());
            assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{json}");
        }
        let long = words(&index(2), &Value::from("x".repeat(100)));
        assert_eq!(long.first().map(String::len), Some(WORD_CHARS_MAX));
    }

    #[test]
    fn queries_go_from_left_to_right() {
        let fits = |query: &str, text: &str| {
            let words = words(&index(1), &Value::from(text));
            Query::parse(query).map(|query| query.fits(&words)).map_err(|error| error.kind.number)
        };
        for (query, text, expected) in [
            ("banana", "One BANANA a day", Ok(true)),
            ("banana", "bananas", Ok(false)),
            ("prefix:ban", "bananas", Ok(true)),
            ("PREFIX:Ban", "bananas", Ok(true)),
            ("complete:ban", "bananas", Ok(false)),
            ("banana,apple", "banana apple", Ok(true)),
            ("banana,apple", "banana", Ok(false)),
            ("banana, |apple", "apple", Ok(true)),
            ("banana,-apple", "banana apple", Ok(false)),
            ("banana,-apple", "banana", Ok(true)),
            ("+a +b", "b a", Ok(true)),
            ("-a", "a", Ok(true)),
            ("", "a", Err(10)),
            (" , ", "a", Err(10)),
            ("prefix:", "a", Err(10)),
            (":a", "a", Err(10)),
            ("|", "a", Err(10)),
        ] {
            assert_eq!(fits(query, text), expected, "{query} in {text}");
        }
    }
}
