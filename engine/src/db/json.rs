//! JSON as text: checked, taken apart and put together without touching what it holds.
//!
//! Documents are kept as text, so that numbers stay exactly what the client sent. Everything from outside passes
//! [`compact`] once; the other functions take its output (or documents that were stored) for well-formed.

use memchr::memchr2;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Arrays and objects within one another. Well below the limit of the parsers that read documents later.
pub const NESTING_MAX: usize = 100;

/// A number written with so many digits, and no exponent, is one that a double can stand for.
const DIGITS_SURE: usize = 300;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub at: usize,
    pub why: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at position {}", self.why, self.at)
    }
}

/// Checks one JSON value and returns it without the white space between its tokens.
pub fn compact(bytes: &[u8]) -> Result<String, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|e| Malformed { at: e.valid_up_to(), why: "invalid UTF-8" })?;
    let mut scan = Scan { bytes: text.as_bytes(), at: 0, out: String::with_capacity(text.len()), text };
    scan.value(0)?;
    scan.space();
    if scan.at < scan.bytes.len() { scan.fail("unexpected characters after the value") } else { Ok(scan.out) }
}

struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    out: String,
}

impl Scan<'_> {
    fn fail<T>(&self, why: &'static str) -> Result<T, Malformed> {
        Err(Malformed { at: self.at, why })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Copies a piece that began at `from` and ends here.
    fn copy(&mut self, from: usize) {
        self.out.push_str(&self.text[from..self.at]);
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
            self.out.push(byte as char);
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<(), Malformed> {
        self.space();
        match self.peek() {
            None => self.fail("unexpected end of the body"),
            Some(b'{') => self.container(depth, b'}', |scan| {
                scan.space();
                if scan.peek() != Some(b'"') {
                    return scan.fail("expecting an attribute name in double quotes");
                }
                scan.string()?;
                scan.space();
                if scan.eat(b':') { scan.value(depth + 1) } else { scan.fail("expecting a colon") }
            }),
            Some(b'[') => self.container(depth, b']', |scan| scan.value(depth + 1)),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => {
                for word in ["true", "false", "null"] {
                    if self.bytes[self.at..].starts_with(word.as_bytes()) {
                        self.at += word.len();
                        self.out.push_str(word);
                        return Ok(());
                    }
                }
                self.fail("unexpected character")
            }
        }
    }

    fn container(
        &mut self,
        depth: usize,
        close: u8,
        element: impl Fn(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if depth >= NESTING_MAX {
            return self.fail("nested too deeply");
        }
        let from = self.at;
        self.at += 1;
        self.copy(from);
        self.space();
        if self.eat(close) {
            return Ok(());
        }
        loop {
            element(self)?;
            self.space();
            if self.eat(close) {
                return Ok(());
            }
            if !self.eat(b',') {
                return self.fail("expecting a comma or the end of the array or object");
            }
        }
    }

    fn string(&mut self) -> Result<(), Malformed> {
        let from = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                None => return self.fail("unexpected end of a string"),
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) => return self.fail("control character in a string"),
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        self.copy(from);
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Malformed> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                let unit = self.unit()?;
                match unit {
                    0xdc00..=0xdfff => self.fail("half of a surrogate pair in a string"),
                    0xd800..=0xdbff => {
                        let low = if self.bytes[self.at..].starts_with(b"\\u") { self.unit()? } else { 0 };
                        if (0xdc00..=0xdfff).contains(&low) {
                            Ok(())
                        } else {
                            self.fail("half of a surrogate pair in a string")
                        }
                    }
                    _ => Ok(()),
                }
            }
            _ => self.fail("unknown escape in a string"),
        }
    }

    /// `\uXXXX`
    fn unit(&mut self) -> Result<u32, Malformed> {
        let hex = self.text.get(self.at + 2..self.at + 6).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match hex {
            Some(hex) => {
                self.at += 6;
                Ok(u32::from_str_radix(hex, 16).expect("four hexadecimal digits"))
            }
            None => self.fail("expecting four hexadecimal digits"),
        }
    }

    fn number(&mut self) -> Result<(), Malformed> {
        let from = self.at;
        let digits = |scan: &mut Self| -> Result<(), Malformed> {
            let first = scan.at;
            while matches!(scan.peek(), Some(b'0'..=b'9')) {
                scan.at += 1;
            }
            if scan.at == first { scan.fail("expecting a digit") } else { Ok(()) }
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            digits(self)?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            digits(self)?;
        }
        let mut may_be_huge = self.at - from > DIGITS_SURE;
        if matches!(self.peek(), Some(b'e' | b'E')) {
            may_be_huge = true;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            digits(self)?;
        }
        // What no reader could represent is refused here, so that it never gets into the store.
        if may_be_huge && !self.text[from..self.at].parse::<f64>().is_ok_and(f64::is_finite) {
            return self.fail("number out of range");
        }
        self.copy(from);
        Ok(())
    }
}

/// A member of an object: its name, decoded, and its value as text.
pub type Member<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The members of an object. Of several with one name the last counts.
pub fn members(object: &str) -> Vec<Member<'_>> {
    let mut found = Ordered::default();
    for part in parts(object) {
        let name_end = string_end(part);
        let name = string(&part[..name_end]).expect("a member begins with its name");
        let value = part[name_end..].trim_start().strip_prefix(':').expect("a colon follows the name").trim();
        found.put(name, Cow::Borrowed(value));
    }
    found.members()
}

/// Members in the order in which their names first came. Few are searched one by one; more are found by name in
/// logarithmic time, because a hostile document may have millions.
#[derive(Default)]
struct Ordered<'a> {
    values: Vec<Option<Member<'a>>>,
    /// Empty while there are few.
    places: BTreeMap<Cow<'a, str>, usize>,
}

/// Up to so many members are searched one by one.
const MEMBERS_SEARCHED: usize = 12;

impl<'a> Ordered<'a> {
    fn are_few(&self) -> bool {
        self.values.len() <= MEMBERS_SEARCHED
    }

    fn place(&self, name: &str) -> Option<usize> {
        match self.are_few() {
            true => self.values.iter().position(|member| member.as_ref().is_some_and(|(other, _)| other == name)),
            false => self.places.get(name).copied(),
        }
    }

    fn get(&self, name: &str) -> Option<&Cow<'a, str>> {
        self.values[self.place(name)?].as_ref().map(|(_, value)| value)
    }

    fn put(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) {
        if let Some(place) = self.place(&name) {
            self.values[place] = Some((name, value));
            return;
        }
        let (new, were_few) = (self.values.len(), self.are_few());
        self.values.push(Some((name, value)));
        if !self.are_few() {
            // With the first one that is too many, those before it.
            let from = if were_few { 0 } else { new };
            let named =
                |(place, member): (usize, &Option<Member<'a>>)| Some((member.as_ref()?.0.clone(), from + place));
            self.places.extend(self.values[from..].iter().enumerate().filter_map(named));
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(place) = self.place(name) {
            self.values[place] = None;
            self.places.remove(name);
        }
    }

    fn members(self) -> Vec<Member<'a>> {
        self.values.into_iter().flatten().collect()
    }
}

/// The elements of an array, as text.
pub fn elements(array: &str) -> Vec<&str> {
    parts(array)
}

/// A string's content; `None` if the text is not a string.
pub fn string(text: &str) -> Option<Cow<'_, str>> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str::<String>(text).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

pub fn is_object(text: &str) -> bool {
    text.starts_with('{')
}

pub fn is_array(text: &str) -> bool {
    text.starts_with('[')
}

/// The text of a string.
pub fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

/// The text of an object.
pub fn object(members: &[Member<'_>]) -> String {
    let mut out = String::from("{");
    for (i, (name, value)) in members.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(&quote(name));
        out.push(':');
        out.push_str(value);
    }
    out.push('}');
    out
}

/// How a patch changes what it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merge {
    /// Otherwise an attribute that the patch sets to null is removed.
    pub keep_null: bool,
    /// Otherwise an object in the patch replaces the one it meets.
    pub merge_objects: bool,
}

/// The members of `base` with those of `patch` merged in.
pub fn merge<'a>(base: Vec<Member<'a>>, patch: Vec<Member<'a>>, how: Merge) -> Vec<Member<'a>> {
    let mut merged = Ordered::default();
    for (name, value) in base {
        merged.put(name, value);
    }
    for (name, value) in patch {
        if value == "null" && !how.keep_null {
            merged.remove(&name);
            continue;
        }
        let value = match merged.get(&name) {
            Some(met) if how.merge_objects && is_object(met) && is_object(&value) => {
                Cow::Owned(object(&merge(members(met), members(&value), how)))
            }
            // What replaces another value is taken as it is.
            Some(_) => value,
            None if !how.keep_null && is_object(&value) => Cow::Owned(object(&merge(Vec::new(), members(&value), how))),
            None => value,
        };
        merged.put(name, value);
    }
    merged.members()
}

/// Whether a value can be kept within a row that is read by a parser with a limit.
pub fn fits(value: &serde_json::Value) -> bool {
    compact(value.to_string().as_bytes()).is_ok()
}

/// Where the string that the text begins with ends.
fn string_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', &bytes[at..]).expect("a string ends");
        match bytes[at] {
            b'"' => return at + 1,
            _ => at += 2,
        }
    }
}

/// What stands between the commas of the outermost array or object.
fn parts(container: &str) -> Vec<&str> {
    let inner = container[1..container.len() - 1].trim();
    if inner.is_empty() {
        return Vec::new();
    }
    let bytes = inner.as_bytes();
    let (mut parts, mut from, mut at, mut depth) = (Vec::new(), 0, 0, 0usize);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += string_end(&inner[at..]);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(inner[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(inner[from..].trim());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn numbers_stay_what_they_were() {
        for text in ["1.50", "-0", "1e3", "123456789012345678901234567890", "0.1", "18446744073709551616"] {
            assert_eq!(compact(text.as_bytes()).as_deref(), Ok(text));
        }
        assert_eq!(
            compact(b" { \"a\" : [ 1.0 , { } ] , \"b\\n\":null } "),
            Ok("{\"a\":[1.0,{}],\"b\\n\":null}".into())
        );
    }

    #[test]
    fn malformed_text_is_refused() {
        let deep = "[".repeat(100_000);
        let too_deep = format!("{}{}", "[".repeat(NESTING_MAX + 1), "]".repeat(NESTING_MAX + 1));
        for bad in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\" 1}",
            "01",
            "1.",
            "1e",
            "-",
            "+1",
            ".5",
            "1e999",
            "tru",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"a\nb\"",
            "\"",
            "1 2",
            "NaN",
            "{\"a\":1}}",
            "'a'",
            &deep,
            &too_deep,
        ] {
            assert!(compact(bad.as_bytes()).is_err(), "{bad:.40}");
        }
        assert!(compact(b"\"\xff\"").is_err());
        let deepest = format!("{}{}", "[".repeat(NESTING_MAX), "]".repeat(NESTING_MAX));
        assert!(compact(deepest.as_bytes()).is_ok());
    }

    #[test]
    fn objects_come_apart_and_together() {
        let text = r#"{"a":"x,}\"","b":[1,{"c":2}],"\u0061":3}"#;
        let parts = members(text);
        assert_eq!(parts, vec![("a".into(), "3".into()), ("b".into(), r#"[1,{"c":2}]"#.into())]);
        assert_eq!(object(&parts), r#"{"a":3,"b":[1,{"c":2}]}"#);
        assert_eq!(elements(r#"[1,[2,3],"a,b",{}]"#), vec!["1", "[2,3]", "\"a,b\"", "{}"]);
        assert_eq!((elements("[]").len(), members("{}").len()), (0, 0));
    }

    #[test]
    fn patches_are_merged() {
        let merged = |base, patch, keep_null, merge_objects| {
            object(&merge(members(base), members(patch), Merge { keep_null, merge_objects }))
        };
        let base = r#"{"a":1,"b":{"x":1,"y":2}}"#;
        let patch = r#"{"a":null,"b":{"x":null,"z":3}}"#;
        assert_eq!(merged(base, patch, true, true), r#"{"a":null,"b":{"x":null,"y":2,"z":3}}"#);
        assert_eq!(merged(base, patch, false, true), r#"{"b":{"y":2,"z":3}}"#);
        assert_eq!(merged(base, patch, true, false), r#"{"a":null,"b":{"x":null,"z":3}}"#);
        assert_eq!(merged(base, patch, false, false), r#"{"b":{"x":null,"z":3}}"#);
        assert_eq!(merged("{}", r#"{"n":{"m":null}}"#, false, true), r#"{"n":{}}"#);
        assert_eq!(merged(r#"{"n":1}"#, r#"{"n":{"m":null}}"#, false, true), r#"{"n":{"m":null}}"#);
    }

    #[test]
    fn many_attributes_are_no_attack() {
        let many = |from: usize| {
            let all: Vec<String> = (from..from + 200_000).map(|i| format!("\"a{i}\":1")).collect();
            format!("{{{}}}", all.join(","))
        };
        let (base, patch) = (many(0), many(100_000));
        let how = Merge { keep_null: true, merge_objects: true };
        assert_eq!(merge(members(&base), members(&patch), how).len(), 300_000);
        let same = format!("{{{}}}", vec!["\"a\":1"; 200_000].join(","));
        assert_eq!(members(&same).len(), 1);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in value()) {
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let compacted = compact(pretty.as_bytes()).unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&compacted).unwrap(), value.clone());
            if let Value::Object(map) = &value {
                let again = object(&members(&compacted));
                prop_assert_eq!(&again, &compacted);
                prop_assert_eq!(members(&compacted).len(), map.len());
            }
            if let Value::Array(array) = &value {
                prop_assert_eq!(elements(&compacted).len(), array.len());
            }
        }

        #[test]
        fn it_accepts_nothing_that_a_parser_refuses(text in "[\\[\\]{},:\"\\\\0-9eE.+\\-tfn a-z]{0,40}") {
            if compact(text.as_bytes()).is_ok() {
                prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
            }
        }
    }
}
