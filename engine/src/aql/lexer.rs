//! A query's text as tokens.
//!
//! What can't be a token becomes [`Kind::Bad`] and ends the list, so that whoever reads it meets an earlier error
//! first.

use super::ast::Position;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub kind: Kind,
    pub position: Position,
    /// Where it begins in the text, in bytes.
    pub start: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// One of [`KEYWORDS`]; the text may have it in any case.
    Keyword(&'static str),
    /// A name, also one in backticks or forward ticks.
    Name(Arc<str>),
    Text(Arc<str>),
    Int(i64),
    Double(f64),
    /// `@name`, without the `@`.
    Parameter(Arc<str>),
    /// `@@name`, with one `@`: so its value is named among the values of the bind parameters.
    CollectionParameter(Arc<str>),
    /// One of [`SIGNS`].
    Sign(&'static str),
    End,
    Bad(Bad),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    Character,
    UnterminatedString,
    UnterminatedName,
    UnterminatedComment,
    NumberOutOfRange,
}

/// With what ArangoDB's errors call them.
const KEYWORDS: &[(&str, &str)] = &[
    ("AGGREGATE", "AGGREGATE keyword"),
    ("ALL", "all modifier"),
    ("ALL_SHORTEST_PATHS", "ALL_SHORTEST_PATHS keyword"),
    ("AND", "and operator"),
    ("ANY", "any modifier"),
    ("ASC", "ASC keyword"),
    ("COLLECT", "COLLECT declaration"),
    ("DESC", "DESC keyword"),
    ("DISTINCT", "DISTINCT modifier"),
    ("FALSE", "false"),
    ("FILTER", "FILTER declaration"),
    ("FOR", "FOR declaration"),
    ("GRAPH", "GRAPH keyword"),
    ("IN", "IN keyword"),
    ("INBOUND", "inbound modifier"),
    ("INSERT", "INSERT command"),
    ("INTO", "INTO keyword"),
    ("K_PATHS", "K_PATHS keyword"),
    ("K_SHORTEST_PATHS", "K_SHORTEST_PATHS keyword"),
    ("LET", "LET declaration"),
    ("LIKE", "like operator"),
    ("LIMIT", "LIMIT declaration"),
    ("NONE", "none modifier"),
    ("NOT", "not operator"),
    ("NULL", "null"),
    ("OR", "or operator"),
    ("OUTBOUND", "outbound modifier"),
    ("REMOVE", "REMOVE command"),
    ("REPLACE", "REPLACE command"),
    ("RETURN", "RETURN declaration"),
    ("SHORTEST_PATH", "SHORTEST_PATH keyword"),
    ("SORT", "SORT declaration"),
    ("TRUE", "true"),
    ("UPDATE", "UPDATE command"),
    ("UPSERT", "UPSERT command"),
    ("WINDOW", "WINDOW declaration"),
    ("WITH", "WITH keyword"),
];

/// Longer ones before those that they begin with.
const SIGNS: &[(&str, &str)] = &[
    ("==", "== operator"),
    ("=~", "~= operator"),
    ("=", "assignment"),
    ("!=", "!= operator"),
    ("!~", "~! operator"),
    ("!", "not operator"),
    ("<=", "<= operator"),
    ("<", "< operator"),
    (">=", ">= operator"),
    (">", "> operator"),
    ("&&", "and operator"),
    ("||", "or operator"),
    ("+", "+ operator"),
    ("-", "- operator"),
    ("*", "* operator"),
    ("/", "/ operator"),
    ("%", "% operator"),
    ("?", "?"),
    ("::", "::"),
    (":", ":"),
    ("..", ".."),
    (".", "."),
    (",", "\",\""),
    ("(", "("),
    (")", ")"),
    ("{", "{"),
    ("}", "}"),
    ("[", "["),
    ("]", "]"),
];

impl Kind {
    /// As ArangoDB's errors call it.
    pub fn describe(&self) -> &'static str {
        let from = |table: &'static [(&str, &str)], word: &str| {
            table.iter().find(|(known, _)| *known == word).map_or("token", |(_, description)| *description)
        };
        match self {
            Kind::Keyword(word) => from(KEYWORDS, word),
            Kind::Sign(sign) => from(SIGNS, sign),
            Kind::Name(_) => "identifier",
            Kind::Text(_) => "quoted string",
            Kind::Int(_) => "integer number",
            Kind::Double(_) => "number",
            Kind::Parameter(_) => "bind parameter",
            Kind::CollectionParameter(_) => "bind data source parameter",
            Kind::End => "end of query string",
            Kind::Bad(_) => "invalid character",
        }
    }
}

pub fn is_keyword(word: &str) -> bool {
    keyword(word).is_some()
}

fn keyword(word: &str) -> Option<&'static str> {
    KEYWORDS.iter().map(|(known, _)| *known).find(|known| known.eq_ignore_ascii_case(word))
}

/// Whether a name can be written without ticks, if it is no keyword.
pub fn is_plain_name(name: &str) -> bool {
    name_length(name.as_bytes()) == name.len() && !name.is_empty()
}

/// A letter, perhaps after underscores or one `$`, and then letters, digits and underscores. 0 if there is none.
fn name_length(bytes: &[u8]) -> usize {
    let lead = match bytes.first() {
        Some(b'$') => 1,
        _ => bytes.iter().take_while(|&&byte| byte == b'_').count(),
    };
    if !bytes.get(lead).is_some_and(u8::is_ascii_alphabetic) {
        return 0;
    }
    lead + word_length(&bytes[lead..])
}

fn word_length(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}

/// Never empty: the last token is [`Kind::End`] or [`Kind::Bad`].
pub fn tokens(text: &str) -> Vec<Token> {
    let mut scan = Scan { text, at: 0, position: Position { line: 1, column: 1 } };
    let mut tokens = Vec::new();
    loop {
        let blank = scan.skip_blank();
        let (position, start) = (scan.position, scan.at);
        let kind = blank.and_then(|()| scan.token()).unwrap_or_else(Kind::Bad);
        let last = matches!(kind, Kind::End | Kind::Bad(_));
        tokens.push(Token { kind, position, start });
        if last {
            return tokens;
        }
    }
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    position: Position,
}

const FORWARD_TICK: &str = "\u{b4}";

impl<'a> Scan<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn advance(&mut self, bytes: usize) {
        for character in self.rest()[..bytes].chars() {
            if character == '\n' {
                self.position = Position { line: self.position.line + 1, column: 1 };
            } else {
                self.position.column += 1;
            }
        }
        self.at += bytes;
    }

    /// White space and comments.
    fn skip_blank(&mut self) -> Result<(), Bad> {
        loop {
            let rest = self.rest();
            let space = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
            if space > 0 {
                self.advance(space);
            } else if rest.starts_with("//") {
                self.advance(rest.find('\n').unwrap_or(rest.len()));
            } else if let Some(comment) = rest.strip_prefix("/*") {
                let length = comment.find("*/").ok_or(Bad::UnterminatedComment)?;
                self.advance(length + 4);
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Kind, Bad> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let Some(&first) = bytes.first() else { return Ok(Kind::End) };
        if let length @ 1.. = name_length(bytes) {
            let word = &rest[..length];
            self.advance(length);
            return Ok(keyword(word).map_or_else(|| Kind::Name(word.into()), Kind::Keyword));
        }
        match first {
            b'"' => return Ok(Kind::Text(self.quoted("\"").ok_or(Bad::UnterminatedString)?)),
            b'\'' => return Ok(Kind::Text(self.quoted("'").ok_or(Bad::UnterminatedString)?)),
            b'`' => return Ok(Kind::Name(self.quoted("`").ok_or(Bad::UnterminatedName)?)),
            b'0'..=b'9' => return self.number(),
            b'.' if bytes.get(1).is_some_and(u8::is_ascii_digit) => return self.number(),
            b'@' => return self.parameter(),
            _ => {}
        }
        if rest.starts_with(FORWARD_TICK) {
            return Ok(Kind::Name(self.quoted(FORWARD_TICK).ok_or(Bad::UnterminatedName)?));
        }
        let (sign, _) = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)).ok_or(Bad::Character)?;
        self.advance(sign.len());
        Ok(Kind::Sign(sign))
    }

    fn parameter(&mut self) -> Result<Kind, Bad> {
        let bytes = self.rest().as_bytes();
        let ats = if bytes.get(1) == Some(&b'@') { 2 } else { 1 };
        let length = word_length(&bytes[ats..]);
        if bytes[ats..ats + length].iter().all(|&byte| byte == b'_') {
            return Err(Bad::Character);
        }
        let name: Arc<str> = self.rest()[1..ats + length].into();
        self.advance(ats + length);
        Ok(if ats == 2 { Kind::CollectionParameter(name) } else { Kind::Parameter(name) })
    }

    fn number(&mut self) -> Result<Kind, Bad> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        for (prefix, radix) in [("0b", 2), ("0B", 2), ("0x", 16), ("0X", 16)] {
            let Some(after) = rest.strip_prefix(prefix) else { continue };
            let length = after.bytes().take_while(|&byte| (byte as char).is_digit(radix)).count();
            if length > 0 {
                // As many bits as ArangoDB takes.
                let number = u32::from_str_radix(&after[..length], radix).map_err(|_| Bad::NumberOutOfRange)?;
                self.advance(prefix.len() + length);
                return Ok(Kind::Int(number.into()));
            }
        }
        let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        // No leading zeros: after one, only a fraction or an exponent can follow.
        let whole = if bytes[0] == b'0' { 1 } else { digits(0) };
        let mut length = whole;
        if bytes.get(length) == Some(&b'.') && digits(length + 1) > 0 {
            length += 1 + digits(length + 1);
        }
        if matches!(bytes.get(length), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
            if digits((length + 1 + sign).min(bytes.len())) > 0 {
                length += 1 + sign + digits(length + 1 + sign);
            }
        }
        let text = &rest[..length];
        let integer = if length == whole { text.parse().ok() } else { None };
        let kind = match integer {
            Some(number) => Kind::Int(number),
            None => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Kind::Double(number),
                _ => return Err(Bad::NumberOutOfRange),
            },
        };
        self.advance(length);
        Ok(kind)
    }

    /// What stands between two quotes, without the escapes. `None` if the second quote is missing.
    fn quoted(&mut self, quote: &str) -> Option<Arc<str>> {
        let inside = &self.rest()[quote.len()..];
        let mut value = String::new();
        let mut at = 0;
        loop {
            let rest = &inside[at..];
            let special = rest.find(|c| c == '\\' || quote.starts_with(c))?;
            value.push_str(&rest[..special]);
            at += special;
            let Some(escape) = inside[at..].strip_prefix('\\') else { break };
            at += 1;
            let escaped = escape.chars().next()?;
            match escaped {
                'b' => value.push('\u{8}'),
                'f' => value.push('\u{c}'),
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                'u' => {
                    if let Some((character, length)) = unicode_escape(escape) {
                        value.push(character);
                        at += length;
                        continue;
                    }
                    value.push('u');
                }
                other => value.push(other),
            }
            at += escaped.len_utf8();
        }
        self.advance(at + 2 * quote.len());
        Some(value.into())
    }
}

/// `uXXXX`, or a surrogate pair `uXXXX\uXXXX`; with its length. Half a pair is U+FFFD.
fn unicode_escape(text: &str) -> Option<(char, usize)> {
    let unit = |from: usize| {
        let hex = text.get(from..from + 4).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        u32::from_str_radix(hex, 16).ok()
    };
    let high = unit(1)?;
    if (0xd800..0xdc00).contains(&high)
        && text[5..].starts_with("\\u")
        && let Some(low @ 0xdc00..0xe000) = unit(7)
    {
        let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        return Some((char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 11));
    }
    Some((char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER), 5))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        tokens(text).into_iter().map(|token| token.kind).collect()
    }

    fn one(text: &str) -> Kind {
        let found = kinds(text);
        assert_eq!(found.len(), if matches!(found[0], Kind::Bad(_)) { 1 } else { 2 }, "{text}: {found:?}");
        found[0].clone()
    }

    #[test]
    fn numbers() {
        for (text, expected) in [
            ("0", Kind::Int(0)),
            ("42", Kind::Int(42)),
            ("9223372036854775807", Kind::Int(i64::MAX)),
            ("9223372036854775808", Kind::Double(9_223_372_036_854_775_808.0)),
            ("1.5", Kind::Double(1.5)),
            (".5", Kind::Double(0.5)),
            ("0.5e-1", Kind::Double(0.05)),
            ("1e3", Kind::Double(1000.0)),
            ("4E+2", Kind::Double(400.0)),
            ("0b101", Kind::Int(5)),
            ("0XfF", Kind::Int(255)),
            ("1e999", Kind::Bad(Bad::NumberOutOfRange)),
            ("0xffffffffffffffffff", Kind::Bad(Bad::NumberOutOfRange)),
        ] {
            assert_eq!(one(text), expected, "{text}");
        }
        assert_eq!(kinds("1..3"), [Kind::Int(1), Kind::Sign(".."), Kind::Int(3), Kind::End]);
        assert_eq!(kinds("1e"), [Kind::Int(1), Kind::Name("e".into()), Kind::End]);
        assert_eq!(kinds("007"), [Kind::Int(0), Kind::Int(0), Kind::Int(7), Kind::End]);
    }

    #[test]
    fn strings_and_names() {
        for (text, expected) in [
            (r#""a\"b""#, Kind::Text("a\"b".into())),
            (r"'it\'s \\ \n'", Kind::Text("it's \\ \n".into())),
            (r"'\u00e4 \ud83d\ude00 \ud83d'", Kind::Text("\u{e4} \u{1f600} \u{fffd}".into())),
            (r"'\q \u12'", Kind::Text("q u12".into())),
            ("'two\nlines'", Kind::Text("two\nlines".into())),
            ("`filter`", Kind::Name("filter".into())),
            ("\u{b4}a b\u{b4}", Kind::Name("a b".into())),
            ("_x1", Kind::Name("_x1".into())),
            ("$CURRENT", Kind::Name("$CURRENT".into())),
            ("fOr", Kind::Keyword("FOR")),
            ("@1a", Kind::Parameter("1a".into())),
            ("@@c", Kind::CollectionParameter("@c".into())),
            ("'open", Kind::Bad(Bad::UnterminatedString)),
            ("'open\\", Kind::Bad(Bad::UnterminatedString)),
            ("`open", Kind::Bad(Bad::UnterminatedName)),
            ("/* open", Kind::Bad(Bad::UnterminatedComment)),
            ("@", Kind::Bad(Bad::Character)),
            ("__", Kind::Bad(Bad::Character)),
            ("\u{e4}", Kind::Bad(Bad::Character)),
        ] {
            assert_eq!(one(text), expected, "{text}");
        }
    }

    #[test]
    fn positions_and_comments() {
        let found = tokens("/* \u{e4}\n */ x // y\n  ==");
        let places: Vec<_> = found.iter().map(|t| (t.position.line, t.position.column, t.start)).collect();
        assert_eq!(places, [(2, 5, 10), (3, 3, 19), (3, 5, 21)]);
    }
}
