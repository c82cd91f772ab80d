//! Queries that parse, and queries that do not.

use super::*;
use proptest::prelude::*;

/// The tree with all positions made one, as text.
fn shape(query: &Query) -> String {
    let text = format!("{query:?}");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("Position {") {
        out.push_str(&rest[..at]);
        rest = &rest[at + rest[at..].find('}').expect("a closing brace") + 1..];
    }
    out + rest
}

fn parses(text: &str) -> Query {
    parse(text, None).unwrap_or_else(|error| panic!("{text}: {}", error.message))
}

fn with_values(text: &str, values: &str) -> Parsed<Query> {
    let values = crate::aql::testing::value(values);
    parse(text, Some(values.as_object().expect("an object")))
}

fn number(text: &str) -> u32 {
    parse(text, Some(&Object::default())).map_or_else(|error| error.kind.number, |_| 0)
}

#[test]
fn errors_say_what_and_where() {
    for (text, message) in [
        ("RETURN", "syntax error, unexpected end of query string near '' at position 1:7"),
        ("FOR u IN users", "syntax error, unexpected end of query string near '' at position 1:15"),
        ("RETURN 1 RETURN 2", "syntax error, unexpected RETURN declaration near 'RETURN 2' at position 1:10"),
        ("FOR u users", "syntax error, unexpected identifier, expecting IN keyword near 'users' at position 1:7"),
        ("RETURN\n [1, 2", "syntax error, unexpected end of query string, expecting ] near '' at position 2:7"),
        ("RETURN 'abc", "syntax error, unexpected unterminated string literal near ''abc' at position 1:8"),
        ("RETURN 1e400", "number out of range near '1e400' at position 1:8"),
        (
            "LET a = 1 LET a = 2 RETURN a",
            "variable 'a' is assigned multiple times near 'a = 2 RETURN a' at position 1:15",
        ),
        ("RETURN {a}", "use of unknown variable 'a' in object literal near 'a}' at position 1:9"),
        (
            "FOR i IN 1..2 COLLECT a = i KEEP i RETURN 1",
            "use of 'KEEP' without 'INTO' near 'KEEP i RETURN 1' at position 1:29",
        ),
        ("RETURN x::y()", "user function 'X::Y()' not found near 'x::y()' at position 1:8"),
        ("RETURN nosuch(1)", "usage of unknown function 'NOSUCH()' near 'nosuch(1)' at position 1:8"),
        ("REMOVE 1 IN c FOO {}", "unexpected qualifier 'FOO', expecting 'OPTIONS' near 'FOO {}' at position 1:15"),
        (
            "RETURN DISTINCT 1",
            "cannot use DISTINCT modifier on top-level query element near 'DISTINCT 1' at position 1:8",
        ),
    ] {
        let error = parse(text, Some(&Object::default())).expect_err(text);
        assert_eq!(error.message, message, "{text}");
    }
}

#[test]
fn errors_have_arangodbs_numbers() {
    for (text, expected) in [
        ("", 1502),
        (" // nothing\n", 1502),
        ("RETURN 1 +", 1501),
        ("RETURN 'a'.b", 1501),
        ("RETURN \"a\"[0]", 1501),
        ("RETURN 007", 1501),
        ("FOR a, b IN c RETURN a", 1501),
        ("FOR a, b, c, d IN OUTBOUND 'x/1' e RETURN a", 1501),
        ("FOR p, q IN OUTBOUND K_PATHS 'x/1' TO 'x/2' e RETURN p", 1501),
        ("FOR x IN c SORT x 'up' RETURN x", 1501),
        ("FOR x IN c SEARCH x.a RETURN x", 9),
        ("RETURN 0xfffffffffffffffffff", 1504),
        ("FOR a IN 1..2 FOR a IN 1..2 RETURN a", 1511),
        ("LET a = 1 RETURN (FOR a IN [] RETURN a)", 1511),
        ("FOR i IN 1..2 COLLECT x = i AGGREGATE x = MIN(i) RETURN x", 1511),
        ("FOR i IN 1..2 COLLECT AGGREGATE x = CONCAT(i) RETURN x", 1574),
        ("FOR i IN 1..2 COLLECT AGGREGATE x = MIN(i, 2) RETURN x", 1541),
        ("RETURN TO_NUMBER()", 1541),
        ("FOR i IN 1..2 INSERT {} INTO c OPTIONS {a: i}", 1575),
        ("FOR i IN 1..2 INSERT {} INTO c OPTIONS 1", 1501),
        ("RETURN @a", 1551),
        ("FOR u IN @@c RETURN u", 1551),
        ("RETURN @a +", 1501),
        ("REMOVE 1 IN @c", 1553),
    ] {
        assert_eq!(number(text), expected, "{text}");
    }
}

#[test]
fn parameters_are_replaced() {
    let fails = |text: &str, values: &str| with_values(text, values).map_or_else(|error| error.kind.number, |_| 0);
    for (text, values, expected) in [
        ("RETURN @a", r#"{"a": null}"#, 0),
        ("FOR u IN @@c RETURN u", r#"{"@c": "users"}"#, 0),
        ("FOR u IN @@c RETURN u", r#"{"@c": 1}"#, 1553),
        ("FOR u IN @@c RETURN u", r#"{"c": "users"}"#, 1551),
        ("RETURN 1", r#"{"a": 1}"#, 1552),
        ("RETURN @a", r#"{"a": 1, "b": 2}"#, 1552),
        ("FOR u IN c RETURN u.@a", r#"{"a": ["b", "c"]}"#, 0),
        ("FOR u IN c RETURN u.@a", r#"{"a": 5}"#, 1553),
        ("RETURN {@a: 1}", r#"{"a": 5}"#, 1553),
        ("FOR u IN c SORT u @d RETURN u", r#"{"d": "desc"}"#, 0),
        ("FOR v IN 1..@n OUTBOUND @s GRAPH @g RETURN v", r#"{"n": 2, "s": "a/1", "g": "g"}"#, 0),
        ("FOR v IN OUTBOUND 'a/1' @@e, ANY @f RETURN v", r#"{"@e": "e", "f": "f"}"#, 0),
    ] {
        assert_eq!(fails(text, values), expected, "{text} {values}");
    }
    let bound = with_values("FOR u IN @@c FILTER u.@a == @b RETURN u", r#"{"@c": "k", "a": ["x", "y"], "b": 1}"#);
    let written = parse("FOR u IN k FILTER u.x.y == 1 RETURN u", None).expect("a query");
    let bound = bound.expect("a query");
    assert_eq!(bound.parameters.iter().map(|p| p.as_ref()).collect::<Vec<_>>(), ["@c", "a", "b"]);
    assert_eq!(shape(&Query { parameters: Vec::new(), ..bound }), shape(&written));
}

#[test]
fn operators_bind_as_in_arangodb() {
    for (text, same) in [
        ("1 + 2 * 3", "1 + (2 * 3)"),
        ("1 - 2 - 3", "(1 - 2) - 3"),
        ("1 == 2 && 3 || 4", "((1 == 2) && 3) || 4"),
        ("1 || 2 ? 3 : 4 ? 5 : 6", "(1 || 2) ? 3 : (4 ? 5 : 6)"),
        ("1 ?: 2 ?: 3", "1 ? : (2 ? : 3)"),
        ("NOT 1 LIKE 2", "(NOT 1) LIKE 2"),
        ("!1 == 2", "(!1) == 2"),
        ("1 == 2 IN 3", "1 == (2 IN 3)"),
        ("1 IN 2 < 3", "1 IN (2 < 3)"),
        ("1 NOT IN 2..3", "1 NOT IN (2..3)"),
        ("1 + 1..2 * 3", "(1 + 1)..(2 * 3)"),
        ("- @a * 2", "(- @a) * 2"),
        ("@a ALL == 1 AND 2", "(@a ALL == 1) AND 2"),
        ("@a ANY NOT IN 1..2", "@a ANY NOT IN (1..2)"),
        ("@a AT LEAST (1 + 1) >= 3 || 4", "(@a AT LEAST (2) >= 3) || 4"),
        ("@a NOT LIKE 'b' == true", "(@a NOT LIKE 'b') == true"),
        ("@a !~ 'b'", "@a NOT =~ 'b'"),
        ("@a[*].b.c", "@a[* RETURN CURRENT.b.c]"),
        ("@a[*].b[*].c", "@a[* RETURN CURRENT.b[* RETURN CURRENT.c]]"),
        ("@a[*].b[**].c", "(@a[*].b)[** RETURN CURRENT.c]"),
    ] {
        let text_shape = shape(&parses(&format!("RETURN {text}")));
        let same = same.replace("LEAST (2)", "LEAST (1 + 1)");
        assert_eq!(text_shape, shape(&parses(&format!("RETURN {same}"))), "{text}");
    }
}

#[test]
fn variables_are_seen_where_they_live() {
    let collections = |text: &str| {
        let query = parses(text);
        query.collections.iter().map(|used| used.name.text.to_string()).collect::<Vec<_>>().join(" ")
    };
    for (text, expected) in [
        ("FOR u IN users RETURN u", "users"),
        ("FOR u IN users COLLECT a = u.a RETURN u", "users u"),
        ("LET x = 1 FOR u IN users COLLECT a = u.a RETURN x", "users"),
        ("FOR u IN users COLLECT a = u.a INTO g RETURN g", "users"),
        ("FOR u IN users COLLECT WITH COUNT INTO n FOR u IN 1..n RETURN u", "users"),
        ("RETURN (FOR u IN [] RETURN u) == u", "u"),
        ("RETURN CURRENT", "CURRENT"),
        ("RETURN [][* FILTER CURRENT > 1]", ""),
        ("RETURN OLD", "OLD"),
        ("FOR u IN users UPDATE u WITH {a: 1} IN users RETURN [OLD, NEW]", "users"),
        ("UPSERT {a: 1} INSERT {a: 1} UPDATE {n: OLD.n + 1} IN c RETURN NEW", "c"),
        ("WITH a b, c RETURN 1", "a b c"),
        ("FOR v, e, p IN 1..2 ANY 'a/1' OUTBOUND x, y PRUNE stop = v.z FILTER p RETURN stop", "x y"),
    ] {
        assert_eq!(collections(text), expected, "{text}");
    }
}

#[test]
fn depth_is_limited() {
    for text in [
        format!("RETURN {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("RETURN {}1", "- ".repeat(100_000)),
        format!("RETURN {}1{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("RETURN {}1{}", "(RETURN ".repeat(100_000), ")".repeat(100_000)),
        format!("RETURN 1{}", " + 1".repeat(100_000)),
        format!("RETURN @a{}", ".b".repeat(100_000)),
        format!("RETURN 1 {}", "? 1 : 1".repeat(100_000)),
    ] {
        assert_eq!(number(&text), 1524, "{}", &text[..20]);
    }
    assert_eq!(number(&format!("RETURN {}1{}", "(RETURN ".repeat(200), ")".repeat(200))), 0);
    assert_eq!(number(&format!("RETURN 1{}", " + 1".repeat(490))), 0);
    assert_eq!(number(&format!("RETURN [{}]", "1,".repeat(100_000))), 0);
}

const WORDS: &[&str] = &[
    "FOR",
    "u",
    "IN",
    "users",
    "FILTER",
    "RETURN",
    "LET",
    "=",
    "SORT",
    "DESC",
    "LIMIT",
    "COLLECT",
    "AGGREGATE",
    "INTO",
    "WITH",
    "COUNT",
    "KEEP",
    "OPTIONS",
    "INSERT",
    "UPDATE",
    "REPLACE",
    "REMOVE",
    "UPSERT",
    "OUTBOUND",
    "ANY",
    "ALL",
    "SHORTEST_PATH",
    "TO",
    "GRAPH",
    "PRUNE",
    "WINDOW",
    "1",
    "2.5",
    "'s'",
    "@p",
    "@@c",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "?",
    "*",
    ".",
    "..",
    "+",
    "-",
    "==",
    "!",
    "NOT",
    "LIKE",
    "AND",
    "||",
    "CURRENT",
    "AT",
    "LEAST",
    "NEW",
    "DISTINCT",
    "TO_NUMBER",
    "::",
    "null",
    "`",
    "\u{e4}",
    "\n",
];

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _ = parse(&text, None);
        let _ = parse(&text, Some(&Object::default()));
    }

    #[test]
    fn no_tokens_panic(words in prop::collection::vec(prop::sample::select(WORDS), 0..40)) {
        let _ = parse(&words.join(" "), None);
        let _ = parse(&words.join(" "), Some(&Object::default()));
    }
}
