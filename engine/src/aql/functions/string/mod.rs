//! Functions of strings. Arguments are cast to strings, as ArangoDB does.

mod encoding;
mod pattern;
mod similarity;

use super::{ANY, Context, Function, check_size, pure};
use crate::aql::value::Value;
use crate::errors::Error;
pub(super) use encoding::fnv64;
use std::collections::BTreeSet;
use std::sync::Arc;

type Called = Result<Value, Error>;

pub(super) fn functions() -> impl Iterator<Item = &'static Function> {
    [FUNCTIONS, encoding::FUNCTIONS, pattern::FUNCTIONS, similarity::FUNCTIONS].into_iter().flatten()
}

const FUNCTIONS: &[Function] = &[
    pure("CHAR_LENGTH", 1, 1, |_, args| Ok(args[0].to_string().chars().count().into())),
    pure("CONCAT", 1, ANY, |_, args| concat("", args)),
    pure("CONCAT_SEPARATOR", 2, ANY, |_, args| concat(&args[0].to_string(), &args[1..])),
    pure("CONTAINS", 2, 3, |_, args| {
        let text = args[0].to_string();
        let found = text.find(&*args[1].to_string());
        Ok(if flag(args, 2) { character_place(&text, found) } else { found.is_some().into() })
    }),
    pure("FIND_FIRST", 2, 4, |_, args| find(args, |text, search| text.find(search))),
    pure("FIND_LAST", 2, 4, |_, args| find(args, |text, search| text.rfind(search))),
    pure("LEFT", 2, 2, |_, args| {
        let count = usize::try_from(args[1].to_int()).unwrap_or(0);
        Ok(args[0].to_string().chars().take(count).collect::<String>().into())
    }),
    pure("LOWER", 1, 1, |_, args| Ok(args[0].to_string().to_lowercase().into())),
    pure("LTRIM", 1, 2, |_, args| Ok(trim(&args[0], args.get(1), true, false))),
    pure("RIGHT", 2, 2, |_, args| {
        let text = args[0].to_string();
        let count = usize::try_from(args[1].to_int()).unwrap_or(0);
        Ok(text.chars().skip(text.chars().count().saturating_sub(count)).collect::<String>().into())
    }),
    pure("RTRIM", 1, 2, |_, args| Ok(trim(&args[0], args.get(1), false, true))),
    pure("SPLIT", 1, 3, split),
    pure("STARTS_WITH", 2, 3, starts_with),
    pure("SUBSTITUTE", 2, 4, substitute),
    pure("SUBSTRING", 2, 3, |_, args| {
        let characters: Vec<char> = args[0].to_string().chars().collect();
        let (from, to) = part(characters.len(), args);
        Ok(characters[from..to].iter().collect::<String>().into())
    }),
    pure("SUBSTRING_BYTES", 2, 3, |context, args| {
        let text = args[0].to_string();
        let (from, to) = part(text.len(), args);
        match text.get(from..to) {
            Some(part) => Ok(part.into()),
            None => context.invalid_type(),
        }
    }),
    pure("TRIM", 1, 2, |_, args| {
        let (chars, side) = match args.get(1) {
            Some(side) if side.is_number() => (None, side.to_int()),
            chars => (chars, 0),
        };
        Ok(trim(&args[0], chars, side != 2, side != 1))
    }),
    pure("UPPER", 1, 1, |_, args| Ok(args[0].to_string().to_uppercase().into())),
];

fn flag(args: &[Value], place: usize) -> bool {
    args.get(place).is_some_and(Value::truthy)
}

/// A limit that was given; none if it was left out or is null.
fn limit(args: &[Value], place: usize) -> Option<i64> {
    args.get(place).filter(|limit| !limit.is_null()).map(Value::to_int)
}

/// The place in bytes as one in characters; -1 if there is none.
fn character_place(text: &str, place: Option<usize>) -> Value {
    place.map_or(Value::Int(-1), |place| text[..place].chars().count().into())
}

/// Of all values, or of the elements of an array that is the only one; without nulls.
fn concat(separator: &str, values: &[Value]) -> Called {
    let values = match values {
        [Value::Array(elements)] => elements.as_slice(),
        several => several,
    };
    let parts: Vec<Arc<str>> = values.iter().filter(|value| !value.is_null()).map(Value::to_string).collect();
    check_size(parts.iter().map(|part| part.len() + separator.len()).sum())?;
    Ok(parts.join(separator).into())
}

/// From `start` to `end`, both included.
fn find(args: &[Value], find: fn(&str, &str) -> Option<usize>) -> Called {
    let (text, search) = (args[0].to_string(), args[1].to_string());
    let starts: Vec<usize> = text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
    let count = starts.len() - 1;
    let start = limit(args, 2).unwrap_or(0);
    let end = limit(args, 3).unwrap_or(i64::MAX);
    if start < 0 || end < start || start > count as i64 {
        return Ok(Value::Int(-1));
    }
    let (from, to) = (start as usize, usize::try_from(end.saturating_add(1)).unwrap_or(count).min(count));
    let part = &text[starts[from]..starts[to.max(from)]];
    Ok(character_place(&text, find(part, &search).map(|place| starts[from] + place)))
}

/// The bounds that offset and length name in something so long.
fn part(count: usize, args: &[Value]) -> (usize, usize) {
    let count = count as i64;
    let offset = args[1].to_int();
    let from = if offset < 0 { offset.saturating_add(count) } else { offset }.clamp(0, count);
    let to = limit(args, 2).map_or(count, |length| from.saturating_add(length.max(0)).min(count));
    (from as usize, to as usize)
}

fn trim(text: &Value, chars: Option<&Value>, start: bool, end: bool) -> Value {
    let text = text.to_string();
    let chars: BTreeSet<char> = chars.map_or_else(|| "\r\n \t".into(), Value::to_string).chars().collect();
    let chars = |c: char| chars.contains(&c);
    let mut trimmed: &str = &text;
    if start {
        trimmed = trimmed.trim_start_matches(chars);
    }
    if end {
        trimmed = trimmed.trim_end_matches(chars);
    }
    trimmed.into()
}

/// The strings of an array, or one.
fn strings(value: &Value) -> Vec<Arc<str>> {
    value.as_array().unwrap_or(std::slice::from_ref(value)).iter().map(Value::to_string).collect()
}

/// Where one of the searches occurs first, and which; of several at the same place the first that is named.
fn first_of(text: &str, searches: &[Arc<str>]) -> Option<(usize, usize)> {
    let found = searches.iter().enumerate().filter(|(_, search)| !search.is_empty());
    found.filter_map(|(which, search)| Some((text.find(&**search)?, which))).min()
}

fn split(context: &mut Context<'_>, args: &[Value]) -> Called {
    let text = args[0].to_string();
    let limit = match limit(args, 2) {
        None => usize::MAX,
        Some(limit) => match usize::try_from(limit) {
            Ok(limit) => limit,
            Err(_) => return context.invalid_type(),
        },
    };
    let Some(separators) = args.get(1).map(strings) else { return Ok(vec![Value::String(text)].into()) };
    if separators.iter().all(|separator| separator.is_empty()) {
        check_size(text.len() * (size_of::<Value>() + 20))?;
        return Ok(text.chars().take(limit).map(|c| c.to_string().into()).collect());
    }
    let (mut rest, mut parts) = (&*text, Vec::<Value>::new());
    while let Some((place, which)) = first_of(rest, &separators) {
        if parts.len() >= limit {
            break;
        }
        parts.push(rest[..place].into());
        rest = &rest[place + separators[which].len()..];
    }
    if parts.len() < limit {
        parts.push(rest.into());
    }
    Ok(parts.into())
}

fn starts_with(context: &mut Context<'_>, args: &[Value]) -> Called {
    let Some(text) = args[0].as_str() else { return context.invalid_type() };
    match &args[1] {
        Value::String(prefix) => Ok(text.starts_with(&**prefix).into()),
        Value::Array(prefixes) => {
            let Some(prefixes) = prefixes.iter().map(Value::as_str).collect::<Option<Vec<_>>>() else {
                return context.invalid_type();
            };
            let found = prefixes.into_iter().filter(|prefix| text.starts_with(prefix)).count();
            Ok((found as i64 >= limit(args, 2).unwrap_or(1)).into())
        }
        _ => context.invalid_type(),
    }
}

/// `value, search, replace, limit` or `value, mapping, limit`
fn substitute(context: &mut Context<'_>, args: &[Value]) -> Called {
    let (searches, replacements, limit): (Vec<Arc<str>>, Vec<Arc<str>>, _) = match &args[1] {
        Value::Object(mapping) => {
            let pairs = mapping.iter().map(|(search, replacement)| (search.clone(), replacement.to_string()));
            let (searches, replacements) = pairs.unzip();
            (searches, replacements, limit(args, 2))
        }
        search @ (Value::String(_) | Value::Array(_)) => {
            let searches = strings(search);
            let replacements = match args.get(2) {
                None | Some(Value::Null) => Vec::new(),
                Some(Value::Array(replacements)) => replacements.iter().map(Value::to_string).collect(),
                Some(replacement) => vec![replacement.to_string(); searches.len()],
            };
            (searches, replacements, limit(args, 3))
        }
        _ => return context.invalid_type(),
    };
    let mut left = limit.unwrap_or(i64::MAX);
    let text = args[0].to_string();
    let (mut rest, mut out) = (&*text, String::new());
    while left > 0 {
        let Some((place, which)) = first_of(rest, &searches) else { break };
        out.push_str(&rest[..place]);
        out.push_str(replacements.get(which).map_or("", |replacement| replacement));
        check_size(out.len())?;
        rest = &rest[place + searches[which].len()..];
        left -= 1;
    }
    out.push_str(rest);
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    crate::aql::testing::table! {
        r#"CHAR_LENGTH("foo")"# => "3",
        r#"CHAR_LENGTH({"foo":"bar"})"# => "13",
        r#"CHAR_LENGTH(true)"# => "4",
        r#"CONCAT("foo", "bar", "baz")"# => r#""foobarbaz""#,
        r#"CONCAT(1, 2, 3)"# => r#""123""#,
        r#"CONCAT(null, false, 0, true, "")"# => r#""false0true""#,
        r#"CONCAT([5,6], {"foo":"bar"})"# => r#""[5,6]{\"foo\":\"bar\"}""#,
        r#"CONCAT(["foo","bar","baz"])"# => r#""foobarbaz""#,
        r#"CONCAT([[5,6],{"foo":"bar"}])"# => r#""[5,6]{\"foo\":\"bar\"}""#,
        r#"CONCAT_SEPARATOR(", ", "foo", "bar", "baz")"# => r#""foo, bar, baz""#,
        r#"CONCAT_SEPARATOR(", ", null, false, 0, true, "")"# => r#""false, 0, true, ""#,
        r#"CONCAT_SEPARATOR(", ", [5,6], {"foo":"bar"})"# => r#""[5,6], {\"foo\":\"bar\"}""#,
        r#"CONCAT_SEPARATOR(", ", [1,2,3])"# => r#""1, 2, 3""#,
        r#"CONTAINS("foobarbaz", "bar")"# => "true",
        r#"CONTAINS("foobarbaz", "horse")"# => "false",
        r#"CONTAINS("föobarbaz", "bar", true)"# => "3",
        r#"CONTAINS("foobarbaz", "horse", true)"# => "-1",
        r#"FIND_FIRST("foobarbaz", "ba")"# => "3",
        r#"FIND_FIRST("foobarbaz", "ba", 4)"# => "6",
        r#"FIND_FIRST("foobarbaz", "ba", 0, 3)"# => "-1",
        r#"FIND_FIRST("foobarbaz", "", 2)"# => "2",
        r#"FIND_LAST("foobarbaz", "ba")"# => "6",
        r#"FIND_LAST("foobarbaz", "ba", 7)"# => "-1",
        r#"FIND_LAST("foobarbaz", "ba", 0, 4)"# => "3",
        r#"FIND_LAST("foobarbaz", "", 0, 4)"# => "5",
        r#"LEFT("foobar", 3)"# => r#""foo""#,
        r#"LEFT("foobar", 10)"# => r#""foobar""#,
        r#"LOWER("AVOcado")"# => r#""avocado""#,
        r#"LTRIM("  foo bar  ")"# => r#""foo bar  ""#,
        r#"LTRIM("--==[foo-bar]==--", "-=[]")"# => r#""foo-bar]==--""#,
        r#"REVERSE("foobar")"# => r#""raboof""#,
        r#"RIGHT("foobar", 3)"# => r#""bar""#,
        r#"RTRIM("--==[foo-bar]==--", "-=[]")"# => r#""--==[foo-bar""#,
        r#"SPLIT("foo-bar-baz", "-")"# => r#"["foo","bar","baz"]"#,
        r#"SPLIT("foo-bar-baz", "-", 1)"# => r#"["foo"]"#,
        r#"SPLIT("foo, bar & baz", [", "," & "])"# => r#"["foo","bar","baz"]"#,
        r#"SPLIT("foo", "")"# => r#"["f","o","o"]"#,
        r#"SPLIT("foo", "o", -1)"# => "null" 1542,
        r#"STARTS_WITH("foobar", "foo")"# => "true",
        r#"STARTS_WITH("foobar", ["bar","foo"])"# => "true",
        r#"STARTS_WITH("foobar", ["bar","baz"])"# => "false",
        r#"SUBSTITUTE("the quick brown foxx", "quick", "lazy")"# => r#""the lazy brown foxx""#,
        r#"SUBSTITUTE("the quick brown foxx", ["quick","foxx"], ["slow","dog"])"# => r#""the slow brown dog""#,
        r#"SUBSTITUTE("the quick brown foxx", ["the","foxx"], ["that","dog"], 1)"# => r#""that quick brown foxx""#,
        r#"SUBSTITUTE("the quick brown foxx", ["the","quick","foxx"], ["A","VOID!"])"# => r#""A VOID! brown ""#,
        r#"SUBSTITUTE("the quick brown foxx", ["quick","foxx"], "xx")"# => r#""the xx brown xx""#,
        r#"SUBSTITUTE("the quick brown foxx", {"quick":"small","brown":"slow","foxx":"ant"})"# => r#""the small slow ant""#,
        r#"SUBSTITUTE("the quick brown foxx", {"quick":"","brown":null,"foxx":"ant"})"# => r#""the   ant""#,
        r#"SUBSTITUTE("the quick brown foxx", {"quick":"small","brown":"slow","foxx":"ant"}, 2)"# => r#""the small slow foxx""#,
        r#"SUBSTRING("Holy Guacamole!", 5)"# => r#""Guacamole!""#,
        r#"SUBSTRING("Holy Guacamole!", 10, 4)"# => r#""mole""#,
        r#"SUBSTRING("Holy Guacamole!", -5, 4)"# => r#""mole""#,
        r#"SUBSTRING_BYTES("We ❤️ avocado!", 10)"# => r#""avocado!""#,
        r#"SUBSTRING_BYTES("We ❤️ avocado!", 3, 3)"# => r#""❤""#,
        r#"SUBSTRING_BYTES("We ❤️ avocado!", -15, 4)"# => "null" 1542,
        r#"TRIM("  foo bar  ")"# => r#""foo bar""#,
        r#"TRIM("--==[foo-bar]==--", "-=[]")"# => r#""foo-bar""#,
        r#"TRIM("  foobar\t \r\n ")"# => r#""foobar""#,
        r#"TRIM(" a ", 2)"# => r#"" a""#,
        r#"TRIM(";foo;bar;baz, ", ",; ")"# => r#""foo;bar;baz""#,
        r#"UPPER("AVOcado")"# => r#""AVOCADO""#,
    }
}
