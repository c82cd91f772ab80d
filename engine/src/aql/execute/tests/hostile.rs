//! Queries that are short and ask for much: each ends soon, with an error or within bounds.

use super::*;

fn number_of(stage: &mut Stage, text: &str) -> Value {
    stage.query(text, &Map::new())["errorNum"].clone()
}

fn rows_of(stage: &mut Stage, text: &str) -> Value {
    stage.query(text, &Map::new())["result"].clone()
}

#[test]
fn what_grows_from_level_to_level_is_refused() {
    let mut stage = Stage::new();
    // A name that is the text of an object whose name is the text of an object: each level doubles the backslashes.
    let names = format!("RETURN {}1{}", "{[".repeat(40), "]:1}".repeat(40));
    let texts = format!("RETURN {}'\"'{}", "TO_STRING([".repeat(40), "])".repeat(40));
    let shared = (1..60).map(|n| format!("LET a{n} = [a{0}, a{0}] ", n - 1)).collect::<String>();
    let shared = format!("LET a0 = [NOOPT(1)] {shared}");
    for text in [
        names,
        texts,
        format!("{shared} RETURN a59"),
        format!("{shared} FOR x IN [a59] SORT x RETURN 1"),
        format!("{shared} RETURN HASH(a59)"),
        format!("LET a = 1..1000000 RETURN LENGTH(UNION({}))", ["a"; 100].join(", ")),
        "LET a = 1..1000000 LET b = (FOR i IN 1..100 RETURN a) RETURN LENGTH(FLATTEN(b))".to_owned(),
    ] {
        assert_eq!(number_of(&mut stage, &text), 32, "{text}");
    }
}

#[test]
fn what_expressions_make_is_counted() {
    let mut stage = Stage::new();
    let long = "LET s = CONCAT((FOR i IN 1..10000 RETURN '0123456789'))";
    let names = (0..20).map(|n| format!("LET x{n} = CONCAT(s, {n}) ")).collect::<String>();
    let limit = json!({"memoryLimit": 2_000_000});
    for text in [
        format!("{long} LET z = (FOR i IN 1..100 RETURN CONCAT(s, i)) RETURN z[0]"),
        format!("{long} RETURN LENGTH((1..100)[* RETURN CONCAT(s, CURRENT)])"),
        format!(
            "{long} RETURN LENGTH([{}])",
            (0..40).map(|n| format!("CONCAT(s, {n})")).collect::<Vec<_>>().join(", ")
        ),
        format!("{long} {names} RETURN [x0, x19]"),
        format!("{long} FOR i IN 1..100 SORT CONCAT(s, i) RETURN i"),
        format!("{long} FOR i IN 1..100 WINDOW {{preceding: 1}} AGGREGATE n = MAX(CONCAT(s, i)) RETURN LENGTH(n)"),
        format!("{long} RETURN LENGTH({}1{})", "[CONCAT(s, 1), ".repeat(30), "]".repeat(30)),
        "FOR i IN 1..5000 WINDOW {preceding: 5000} AGGREGATE u = UNIQUE(i) RETURN LENGTH(u)".to_owned(),
    ] {
        let told = stage.query(&text, limit.as_object().unwrap());
        assert_eq!(told["errorNum"], 32, "{text}");
    }
    let fits = format!("{long} FOR i IN 1..100 LET x = CONCAT(s, i) RETURN LENGTH(x)");
    let told = stage.query(&fits, limit.as_object().unwrap());
    assert_eq!(told["result"].as_array().map(Vec::len), Some(100), "one after the other is not much: {told}");
}

/// In a grid there are any number of shortest paths between two corners.
#[test]
fn the_first_of_very_many_paths_is_found_at_once() {
    const SIDE: usize = 14;
    let mut stage = Stage::new();
    stage.ask(Method::Post, "/_api/collection", &json!({"name": "grid", "type": 3}));
    let fill = format!(
        "FOR x IN 0..{0} FOR y IN 0..{0} FOR d IN [[1, 0], [0, 1]] FILTER x + d[0] <= {0} && y + d[1] <= {0}
         INSERT {{_from: CONCAT('v/', x, '_', y), _to: CONCAT('v/', x + d[0], '_', y + d[1])}} INTO grid",
        SIDE - 1
    );
    assert_eq!(rows_of(&mut stage, &fill), json!([]));
    let between = format!("'v/0_0' TO 'v/{0}_{0}' grid", SIDE - 1);
    let length = 2 * (SIDE - 1);
    for (text, rows) in [
        (format!("RETURN LENGTH(FOR v IN OUTBOUND SHORTEST_PATH {between} RETURN 1)"), json!([length + 1])),
        (
            format!("FOR p IN OUTBOUND ALL_SHORTEST_PATHS {between} LIMIT 2 RETURN LENGTH(p.edges)"),
            json!([length, length]),
        ),
        (format!("FOR p IN OUTBOUND K_SHORTEST_PATHS {between} LIMIT 2 RETURN p.weight"), json!([length, length])),
        (format!("FOR p IN 1..30 OUTBOUND K_PATHS {between} LIMIT 2 RETURN LENGTH(p.edges)"), json!([length, length])),
    ] {
        assert_eq!(rows_of(&mut stage, &text), rows, "{text}");
    }
}

#[test]
fn a_long_text_is_parsed_and_planned_soon_or_refused() {
    let mut stage = Stage::new();
    let filters = |count: usize| format!("FOR d IN [1] {} RETURN d", "FILTER d == 1 ".repeat(count));
    assert_eq!(rows_of(&mut stage, &filters(3000)), json!([1]));
    assert_eq!(number_of(&mut stage, &filters(4000)), 1524);
    let names: Vec<String> = (0..20_000).map(|n| format!("@b{n}")).collect();
    let text = format!("RETURN LENGTH([{}])", names.join(", "));
    let values: Map<String, Value> = names.iter().map(|name| (name[1..].to_owned(), 1.into())).collect();
    let told = stage.query(&text, json!({ "bindVars": values }).as_object().unwrap());
    assert_eq!(told["result"], json!([20_000]));
}

/// Each of many is looked for among many.
#[test]
fn quantifiers_over_two_long_arrays_take_no_square() {
    let mut stage = Stage::new();
    let text = "LET a = (FOR i IN 1..50000 RETURN i) LET b = (FOR i IN 1..50000 RETURN -i)
        RETURN [a NONE IN b, a ALL IN a, b ANY IN a, a ALL NOT IN b, [1.0, 'x'] ANY IN a]";
    assert_eq!(rows_of(&mut stage, text), json!([[true, true, false, true, true]]));
}

/// A query that is killed ends also within a function.
#[test]
fn a_search_for_many_matches_can_be_killed() {
    let mut stage = Stage::new();
    let text = "LET s = CONCAT((FOR i IN 1..20000 RETURN 'aaaaaaaaaa')) RETURN LENGTH(REGEX_REPLACE(s, 'a*?b|a', 'b'))";
    let ran = stage.ask_attended(Method::Post, "/_api/cursor", &json!({"query": text}), &Busy::new(60));
    assert_eq!((ran.response.status, ran.response.error_num()), (410, Some(1500)));
}
