//! Which texts are names of databases, collections and views: ArangoDB's traditional rules, and the extended ones,
//! which are in force where `--database.extended-names` says so.

use super::*;
use unicode_normalization::is_nfc;

const DATABASE_BYTES_MAX: usize = 64;
const DATABASE_BYTES_MAX_EXTENDED: usize = 128;

/// Of a collection or a view.
pub(super) fn is_of_collection(name: &str, system: bool, extended: bool) -> bool {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return false;
    }
    match extended {
        true => is_extended(name) && (system || !name.starts_with('_')),
        false => {
            let first = |b: u8| b.is_ascii_alphabetic() || (system && b == b'_');
            name.bytes().next().is_some_and(first) && is_plain(name)
        }
    }
}

/// As an edge's end names it: there may be older names than today's rule allows.
pub(super) fn may_be_of_collection(name: &str) -> bool {
    is_of_collection(name, true, true)
}

pub(super) fn is_of_database(name: &str, extended: bool) -> bool {
    match extended {
        true => {
            (1..=DATABASE_BYTES_MAX_EXTENDED).contains(&name.len())
                && is_extended(name)
                && !name.starts_with(['_', '.'])
                && !name.contains(':')
        }
        false => {
            let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
            name.len() <= DATABASE_BYTES_MAX && begins && is_plain(name)
        }
    }
}

fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Numbers are ids, a slash separates keys; what looks the same is the same.
fn is_extended(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.contains(|c: char| c.is_control() || c == '/')
        && name.trim() == name
        && is_normal(name)
}

/// Texts that look the same are the same only in one form.
pub(super) fn is_normal(name: &str) -> bool {
    is_nfc(name)
}

pub(super) fn illegal(name: &str) -> Failure {
    let rule = "1 to 256 of a-z, A-Z, 0-9, _ and -, beginning with a letter (or _, for a system collection)";
    errors::ILLEGAL_NAME.because(format!("'{name}' is not {rule}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_other_texts() {
        // The name, and whether it is a collection's by either rule, and a database's by either rule.
        for (name, expected) in [
            ("abc123", [true, true, true, true]),
            ("a_-", [true, true, true, true]),
            ("maçã", [false, true, false, true]),
            ("😀", [false, true, false, true]),
            ("かわいい犬", [false, true, false, true]),
            ("a b", [false, true, false, true]),
            ("a:b", [false, true, false, false]),
            (".a", [false, true, false, false]),
            ("_a", [false, false, false, false]),
            ("1a", [false, false, false, false]),
            ("a/b", [false, false, false, false]),
            (" a", [false, false, false, false]),
            ("a\n", [false, false, false, false]),
            ("a\u{303}", [false, false, false, false]),
            ("", [false, false, false, false]),
            (&"x".repeat(65), [true, true, false, true]),
            (&"x".repeat(257), [false, false, false, false]),
        ] {
            let found = [
                is_of_collection(name, false, false),
                is_of_collection(name, false, true),
                is_of_database(name, false),
                is_of_database(name, true),
            ];
            assert_eq!(found, expected, "{name}");
        }
        assert!(is_of_collection("_a", true, false) && may_be_of_collection("_a"));
    }
}
