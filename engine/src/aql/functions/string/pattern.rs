//! Functions of patterns: `LIKE()` and regular expressions (for their syntax see
//! [`matches_regex`](crate::aql::operators::matches_regex)).

use super::super::{Context, Environment, Function, check_size, pure};
use super::{Called, flag, limit};
use crate::aql::operators;
use crate::aql::value::Value;
use crate::errors::{self, Error};
use regex::{Captures, Regex};

/// After so much text it is asked whether the query is to go on.
const LOOK_BYTES: usize = 16 << 20;

pub(super) const FUNCTIONS: &[Function] = &[
    pure("LIKE", 2, 3, |_, args| Ok(operators::like(&args[0].to_string(), &args[1].to_string(), flag(args, 2)).into())),
    pure("REGEX_MATCHES", 2, 3, |context, args| {
        with_regex(context, args, 2, |regex, text| {
            Ok(regex.captures(text).map_or(Value::Null, |captures| {
                captures.iter().map(|group| group.map_or("", |group| group.as_str()).into()).collect()
            }))
        })
    }),
    pure("REGEX_REPLACE", 3, 4, |context, args| {
        let replacement = args[2].to_string();
        let environment = context.environment;
        with_regex(context, args, 3, |regex, text| replace(regex, text, &replacement, environment))
    }),
    pure("REGEX_SPLIT", 2, 4, |context, args| {
        let limit = match limit(args, 3).map(usize::try_from) {
            None => usize::MAX,
            Some(Ok(limit)) => limit,
            Some(Err(_)) => return context.invalid_type(),
        };
        let environment = context.environment;
        with_regex(context, args, 2, |regex, text| split(regex, text, limit, environment))
    }),
    pure("REGEX_TEST", 2, 3, |context, args| {
        with_regex(context, args, 2, |regex, text| Ok(regex.is_match(text).into()))
    }),
];

/// With the expression in the second argument; whether case is ignored stands at `flag_place`.
fn with_regex(
    context: &mut Context<'_>,
    args: &[Value],
    flag_place: usize,
    then: impl FnOnce(&Regex, &str) -> Called,
) -> Called {
    match context.regex(&args[1].to_string(), flag(args, flag_place)) {
        Some(regex) => then(&regex, &args[0].to_string()),
        None => context.warn_of(errors::QUERY_INVALID_REGEX),
    }
}

/// All matches; in the replacement `$1` is a group, and a backslash takes the meaning from what follows.
fn replace(regex: &Regex, text: &str, replacement: &str, environment: &dyn Environment) -> Called {
    let (mut out, mut end) = (String::new(), 0);
    let mut search = Search::default();
    for captures in regex.captures_iter(text) {
        let Some(whole) = captures.get(0) else { continue };
        search.goes_on(text.len() - whole.start(), environment)?;
        out.push_str(&text[end..whole.start()]);
        expand(&captures, replacement, &mut out);
        end = whole.end();
        check_size(out.len())?;
    }
    out.push_str(&text[end..]);
    Ok(out.into())
}

/// A search for many matches: each may look at all of the text that is left, however short it is in the end.
#[derive(Default)]
struct Search {
    looked_at: usize,
}

impl Search {
    fn goes_on(&mut self, left: usize, environment: &dyn Environment) -> Result<(), Error> {
        self.looked_at += left;
        if self.looked_at < LOOK_BYTES {
            return Ok(());
        }
        self.looked_at = 0;
        environment.go_on()
    }
}

fn expand(captures: &Captures<'_>, replacement: &str, out: &mut String) {
    let mut characters = replacement.chars().peekable();
    while let Some(c) = characters.next() {
        match (c, characters.peek().copied()) {
            ('\\', Some(next)) => {
                out.push(next);
                characters.next();
            }
            ('$', Some(digit)) if digit.is_ascii_digit() => {
                let group = digit.to_digit(10).and_then(|group| captures.get(group as usize));
                out.push_str(group.map_or("", |group| group.as_str()));
                characters.next();
            }
            _ => out.push(c),
        }
    }
}

/// What a group captures is kept between the parts.
fn split(regex: &Regex, text: &str, limit: usize, environment: &dyn Environment) -> Called {
    let (mut parts, mut end) = (Vec::<Value>::new(), 0);
    let mut search = Search::default();
    for captures in regex.captures_iter(text) {
        let Some(whole) = captures.get(0) else { continue };
        search.goes_on(text.len() - whole.start(), environment)?;
        if whole.is_empty() && (whole.start() == 0 || whole.end() == text.len()) {
            continue;
        }
        parts.push(text[end..whole.start()].into());
        parts.extend(captures.iter().skip(1).map(|group| group.map_or("", |group| group.as_str()).into()));
        end = whole.end();
        check_size(parts.len() * size_of::<Value>())?;
        if parts.len() >= limit {
            break;
        }
    }
    if parts.len() < limit {
        parts.push(text[end..].into());
    }
    parts.truncate(limit);
    Ok(parts.into())
}

#[cfg(test)]
mod tests {
    crate::aql::testing::table! {
        r#"LIKE("cart", "ca_t")"# => "true",
        r#"LIKE("FoO bAr BaZ", "fOo%bAz")"# => "false",
        r#"LIKE("FoO bAr BaZ", "fOo%bAz", true)"# => "true",
        r#"REGEX_MATCHES("My-us3r_n4m3", "^[a-z0-9_-]{3,16}$", true)"# => r#"["My-us3r_n4m3"]"#,
        r##"REGEX_MATCHES("#4d82h4", "^#?([a-f0-9]{6}|[a-f0-9]{3})$", true)"## => "null",
        r#"REGEX_MATCHES("john@doe.com", "^([a-z0-9_\\.-]+)@([\\da-z-]+)\\.([a-z\\.]{2,6})$", false)"# => r#"["john@doe.com","john","doe","com"]"#,
        r#"REGEX_SPLIT("hypertext language, programming", "[\\s, ]+")"# => r#"["hypertext","language","programming"]"#,
        r#"REGEX_SPLIT("Capture the article", "(the)")"# => r#"["Capture ","the"," article"]"#,
        r#"REGEX_SPLIT("Don't capture the article", "the")"# => r#"["Don't capture "," article"]"#,
        r#"REGEX_SPLIT("cA,Bc,A,BcA,BcA,Bc", "a,b", true, 3)"# => r#"["c","c,","c"]"#,
        r#"REGEX_TEST("the quick brown fox", "the.*fox")"# => "true",
        r#"REGEX_TEST("the quick brown fox", "^(a|the)\\s+(quick|slow).*f.x$")"# => "true",
        r#"REGEX_TEST("the\nquick\nbrown\nfox", "^the(\n[a-w]+)+\nfox$")"# => "true",
        r#"REGEX_TEST("a", "(")"# => "null" 1543,
        r#"REGEX_TEST("a", "(a{1000}){1000}")"# => "null" 1543,
        r#"REGEX_REPLACE("the quick brown fox", "the.*fox", "jumped over")"# => r#""jumped over""#,
        r#"REGEX_REPLACE("An Avocado", "a", "_")"# => r#""An Avoc_do""#,
        r#"REGEX_REPLACE("An Avocado", "a", "_", true)"# => r#""_n _voc_do""#,
        r#"REGEX_REPLACE("john doe", "(\\w+) (\\w+)", "$2, $1\\$")"# => r#""doe, john$""#,
    }
}
