//! Whether a text could be a JavaScript function, as far as its tokens tell.
//!
//! There is no JavaScript here, so nothing more can be known: brackets that fit, strings and comments that end, and no
//! two names or values side by side on a line, which no function has. What is in doubt is let through.

/// Words that may stand beside another one.
const WORDS: [&str; 46] = [
    "as",
    "async",
    "await",
    "break",
    "case",
    "catch",
    "class",
    "const",
    "continue",
    "debugger",
    "default",
    "delete",
    "do",
    "else",
    "export",
    "extends",
    "finally",
    "for",
    "from",
    "function",
    "get",
    "if",
    "import",
    "in",
    "instanceof",
    "let",
    "new",
    "of",
    "return",
    "set",
    "static",
    "super",
    "switch",
    "throw",
    "try",
    "typeof",
    "var",
    "void",
    "while",
    "with",
    "yield",
    "enum",
    "true",
    "false",
    "null",
    "this",
];

/// Those of them that are values, and so may not stand beside another value.
const VALUES: [&str; 4] = ["true", "false", "null", "this"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token<'t> {
    Word(&'t str),
    /// A number, a string, a regular expression.
    Value,
    Open(char),
    Close(char),
    Sign(char),
}

pub(super) fn may_be_a_function(code: &str) -> bool {
    let Some(tokens) = tokens(code) else { return false };
    let mut first = tokens.iter().map(|(token, _)| *token);
    let begins = match first.next() {
        Some(Token::Word("function" | "async") | Token::Open('(')) => true,
        Some(Token::Word(_)) => first.next() == Some(Token::Sign('=')),
        _ => false,
    };
    begins && brackets_fit(&tokens) && !tokens.windows(2).any(|pair| side_by_side(pair[0], pair[1]))
}

fn brackets_fit(tokens: &[(Token<'_>, usize)]) -> bool {
    let mut open = Vec::new();
    for (token, _) in tokens {
        match token {
            Token::Open(bracket) => open.push(*bracket),
            Token::Close(bracket) => {
                let partner = match bracket {
                    ')' => '(',
                    ']' => '[',
                    _ => '{',
                };
                if open.pop() != Some(partner) {
                    return false;
                }
            }
            _ => {}
        }
    }
    open.is_empty()
}

fn is_value(token: Token<'_>) -> bool {
    match token {
        Token::Word(word) => !WORDS.contains(&word) || VALUES.contains(&word),
        Token::Value => true,
        _ => false,
    }
}

/// Two values on the same line with nothing between them.
fn side_by_side((left, line): (Token<'_>, usize), (right, next): (Token<'_>, usize)) -> bool {
    line == next && is_value(left) && is_value(right)
}

/// The tokens with the lines that they are on; `None` if one does not end.
fn tokens(code: &str) -> Option<Vec<(Token<'_>, usize)>> {
    let bytes = code.as_bytes();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 0);
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || b >= 0x80;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\n' => {
                line += 1;
                at += 1;
            }
            _ if byte.is_ascii_whitespace() => at += 1,
            b'/' if bytes.get(at + 1) == Some(&b'/') => at = end_of_line(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let end = at + 2 + code.get(at + 2..)?.find("*/")? + 2;
                line += lines(&bytes[at..end]);
                at = end;
            }
            b'"' | b'\'' | b'`' => {
                let end = end_of_quoted(bytes, at)?;
                found.push((Token::Value, line));
                line += lines(&bytes[at..end]);
                at = end;
            }
            // After a value it divides.
            b'/' if !found.last().is_some_and(|(token, _)| is_value(*token) || matches!(token, Token::Close(_))) => {
                at = end_of_pattern(bytes, at)?;
                found.push((Token::Value, line));
            }
            _ if is_word(byte) => {
                let end = bytes[at..].iter().position(|b| !is_word(*b)).map_or(bytes.len(), |length| at + length);
                let word = code.get(at..end)?;
                let token = if byte.is_ascii_digit() { Token::Value } else { Token::Word(word) };
                found.push((token, line));
                at = end;
            }
            b'(' | b'[' | b'{' => {
                found.push((Token::Open(byte as char), line));
                at += 1;
            }
            b')' | b']' | b'}' => {
                found.push((Token::Close(byte as char), line));
                at += 1;
            }
            _ => {
                found.push((Token::Sign(byte as char), line));
                at += 1;
            }
        }
    }
    Some(found)
}

fn lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| **b == b'\n').count()
}

fn end_of_line(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |length| from + length)
}

/// Behind the closing quote. Only a template goes over lines.
fn end_of_quoted(bytes: &[u8], from: usize) -> Option<usize> {
    let quote = bytes[from];
    let mut at = from + 1;
    loop {
        match *bytes.get(at)? {
            b'\\' => at += 2,
            b'\n' if quote != b'`' => return None,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// Behind a regular expression; its flags are a word of their own, without a space.
fn end_of_pattern(bytes: &[u8], from: usize) -> Option<usize> {
    let (mut at, mut in_class) = (from + 1, false);
    loop {
        match *bytes.get(at)? {
            b'\\' => at += 2,
            b'\n' => return None,
            b'[' => {
                in_class = true;
                at += 1;
            }
            b']' => {
                in_class = false;
                at += 1;
            }
            b'/' if !in_class => break,
            _ => at += 1,
        }
    }
    let flags = bytes[at + 1..].iter().take_while(|b| b.is_ascii_alphabetic()).count();
    Some(at + 1 + flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_told_from_what_is_none() {
        for code in [
            "function (celsius) { return celsius * 1.8 + 32; }",
            "function f(a, b) {\n  let x = a\n  let y = b\n  return x / y / 2;\n}",
            "(a) => a + 1",
            "a => a",
            "async function (x) { await x; }",
            "function () { return /[/\"]x/g.test('it\\'s') ? `a\n b` : \"}\"; // } }\n /* ( */ }",
            "function (x) { for (const y of x) { if (y in x) return true; } return null; }",
            "function (x) { var größe = x; return größe; }",
        ] {
            assert!(may_be_a_function(code), "{code}");
        }
        for code in [
            "",
            "function (celsius) { invalid syntax }",
            "function (x) { return x; ",
            "function (x) { return (x]; }",
            "function (x) { return \"x; }",
            "function (x) { return true 5; }",
            "1 + 1",
            "FOR i IN 1..2 RETURN i",
        ] {
            assert!(!may_be_a_function(code), "{code}");
        }
    }
}
