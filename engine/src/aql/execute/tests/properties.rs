//! Random queries over random documents and indexes give the same with all rules, with some of them and with none, and
//! what a plain evaluation of the same gives.

use super::super::super::value::{Value as Aql, compare};
use super::*;
use proptest::prelude::*;
use std::cmp::Ordering;

const FIELDS: [&str; 5] = ["a", "b", "n.m", "t", "_key"];
const INDEXED: [&str; 7] = ["a", "b", "n.m", "t", "t[*]", "o[*].x", "_key"];
const VALUES: [&str; 9] = ["null", "false", "true", "0", "1", "2", "0.5", r#""a""#, r#""B""#];

#[derive(Clone, Debug)]
enum Condition {
    Compare(&'static str, &'static str, &'static str),
    /// The value stands first.
    Mirrored(&'static str, &'static str, &'static str),
    In(&'static str, Vec<&'static str>),
    /// In `t[*]` or `o[*].x`.
    Element(&'static str, &'static str),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
}

fn value(text: &str) -> Aql {
    Aql::parse(text.as_bytes()).expect("a value")
}

fn attribute(document: &Aql, field: &str) -> Aql {
    field.split('.').fold(document.clone(), |value, name| value.attribute(name))
}

fn holds(operator: &str, order: Ordering) -> bool {
    match operator {
        "==" => order.is_eq(),
        "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    }
}

impl Condition {
    fn text(&self, variable: &str) -> String {
        match self {
            Condition::Compare(field, operator, value) => format!("{variable}.{field} {operator} {value}"),
            Condition::Mirrored(value, operator, field) => format!("{value} {operator} {variable}.{field}"),
            Condition::In(field, values) => format!("{variable}.{field} IN [{}]", values.join(", ")),
            Condition::Element(value, elements) => format!("{value} IN {variable}.{elements}"),
            Condition::And(left, right) => format!("({} && {})", left.text(variable), right.text(variable)),
            Condition::Or(left, right) => format!("({} || {})", left.text(variable), right.text(variable)),
            Condition::Not(condition) => format!("!({})", condition.text(variable)),
        }
    }

    fn holds(&self, document: &Aql) -> bool {
        match self {
            Condition::Compare(field, operator, other) => {
                holds(operator, compare(&attribute(document, field), &value(other)))
            }
            Condition::Mirrored(other, operator, field) => {
                holds(operator, compare(&value(other), &attribute(document, field)))
            }
            Condition::In(field, values) => {
                values.iter().any(|other| compare(&attribute(document, field), &value(other)).is_eq())
            }
            Condition::Element(other, elements) => {
                let (array, within) = elements.split_once("[*]").expect("an expansion");
                let array = document.attribute(array);
                let mut found = array.as_array().unwrap_or_default().iter();
                let within = within.trim_start_matches('.');
                let of = |element: &Aql| if within.is_empty() { element.clone() } else { element.attribute(within) };
                found.any(|element| compare(&of(element), &value(other)).is_eq())
            }
            Condition::And(left, right) => left.holds(document) && right.holds(document),
            Condition::Or(left, right) => left.holds(document) || right.holds(document),
            Condition::Not(condition) => !condition.holds(document),
        }
    }
}

#[derive(Clone, Debug)]
struct Asked {
    filters: Vec<Condition>,
    /// By `LET x = d.FIELD`.
    named: Option<(&'static str, &'static str)>,
    /// Another loop: its attribute, how it compares, and with what of the first one.
    join: Option<(&'static str, &'static str, &'static str)>,
    /// Whether the filters stand after the other loop.
    late: bool,
    sort: Vec<&'static str>,
    descending: Vec<bool>,
    limit: Option<(usize, usize)>,
    switches: Vec<String>,
}

impl Asked {
    fn text(&self) -> String {
        let filters: String = self.filters.iter().map(|filter| format!(" FILTER {}", filter.text("d"))).collect();
        let named = self.named.map(|(field, value)| format!(" LET x = d.{field} FILTER x >= {value}"));
        let join = self.join.map(|(own, operator, other)| format!(" FOR e IN c FILTER e.{own} {operator} d.{other}"));
        let (named, join) = (named.unwrap_or_default(), join.unwrap_or_default());
        let mut text = format!("FOR d IN c{named}");
        text += &if self.late { join + &filters } else { filters + &join };
        let key =
            |(field, descending): (&&str, &bool)| format!("d.{field} {}", if *descending { "DESC" } else { "ASC" });
        let keys: Vec<String> = self.sort.iter().zip(&self.descending).map(key).collect();
        if !keys.is_empty() {
            text += &format!(" SORT {}", keys.join(", "));
        }
        if let Some((offset, count)) = self.limit {
            text += &format!(" LIMIT {offset}, {count}");
        }
        let second = if self.join.is_some() { "e._key" } else { "null" };
        let by: Vec<String> = self.sort.iter().map(|field| format!("d.{field}")).collect();
        text + &format!(" RETURN [d._key, {second}, [{}]]", by.join(", "))
    }

    /// All rows, without the limit, in order.
    fn rows(&self, documents: &[Aql]) -> Vec<Value> {
        let mut rows = Vec::new();
        for d in documents {
            let named = self.named.is_none_or(|(field, other)| compare(&attribute(d, field), &value(other)).is_ge());
            if !named || !self.filters.iter().all(|filter| filter.holds(d)) {
                continue;
            }
            let by: Vec<Aql> = self.sort.iter().map(|field| attribute(d, field)).collect();
            match self.join {
                None => rows.push((by, vec![d.attribute("_key"), Aql::Null])),
                Some((own, operator, other)) => {
                    let fits = |e: &&Aql| holds(operator, compare(&attribute(e, own), &attribute(d, other)));
                    let both = documents.iter().filter(fits);
                    rows.extend(both.map(|e| (by.clone(), vec![d.attribute("_key"), e.attribute("_key")])));
                }
            }
        }
        rows.sort_by(|(a, _), (b, _)| {
            let orders = a.iter().zip(b).zip(&self.descending).map(|((a, b), descending)| match descending {
                false => compare(a, b),
                true => compare(b, a),
            });
            orders.fold(Ordering::Equal, Ordering::then)
        });
        let row = |(by, mut keys): (Vec<Aql>, Vec<Aql>)| {
            keys.push(by.into());
            serde_json::from_str(&Aql::from(keys).to_json()).expect("JSON")
        };
        rows.into_iter().map(row).collect()
    }
}

fn any_field() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&FIELDS[..])
}

fn any_value() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&VALUES[..])
}

fn any_operator() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&["==", "==", "==", "!=", "<", "<=", ">", ">="][..])
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let leaf = prop_oneof![
        4 => (any_field(), any_operator(), any_value()).prop_map(|(a, b, c)| Condition::Compare(a, b, c)),
        1 => (any_value(), any_operator(), any_field()).prop_map(|(a, b, c)| Condition::Mirrored(a, b, c)),
        1 => (any_field(), prop::collection::vec(any_value(), 0..4)).prop_map(|(a, b)| Condition::In(a, b)),
        1 => (any_value(), proptest::sample::select(&["t[*]", "o[*].x"][..]))
            .prop_map(|(a, b)| Condition::Element(a, b)),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            3 => (inner.clone(), inner.clone()).prop_map(|(a, b)| Condition::And(a.into(), b.into())),
            3 => (inner.clone(), inner.clone()).prop_map(|(a, b)| Condition::Or(a.into(), b.into())),
            1 => inner.prop_map(|a| Condition::Not(a.into())),
        ]
    })
}

fn any_query() -> impl Strategy<Value = Asked> {
    use super::super::super::plan::rules::Rule;
    let join = (any_field(), any_operator(), any_field());
    let switch = proptest::sample::select(&Rule::ALL[..]).prop_map(|rule| format!("-{}", rule.name()));
    (
        prop::collection::vec(any_condition(), 0..3),
        prop::option::weighted(0.2, (any_field(), any_value())),
        prop::option::weighted(0.3, join),
        any::<bool>(),
        prop::collection::vec(any_field(), 0..3),
        prop_oneof![Just(vec![false; 3]), Just(vec![true; 3]), prop::collection::vec(any::<bool>(), 3)],
        prop::option::weighted(0.4, (0usize..4, 0usize..6)),
        prop::collection::vec(switch, 0..4),
    )
        .prop_map(|(filters, named, join, late, sort, descending, limit, switches)| Asked {
            filters,
            named,
            join,
            late,
            sort,
            descending,
            limit,
            switches,
        })
}

fn any_document() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let plain = || any_value().prop_map(str::to_owned);
    let array = |of: &'static str| {
        prop::collection::vec(any_value(), 0..4).prop_map(move |values| {
            let elements: Vec<String> = values.iter().map(|value| of.replace('$', value)).collect();
            format!("[{}]", elements.join(","))
        })
    };
    let member = prop_oneof![
        plain().prop_map(|value| ("a", value)),
        plain().prop_map(|value| ("b", value)),
        plain().prop_map(|value| ("n", format!(r#"{{"m":{value}}}"#))),
        plain().prop_map(|value| ("n", value)),
        array("$").prop_map(|value| ("t", value)),
        plain().prop_map(|value| ("t", value)),
        array(r#"{"x":$}"#).prop_map(|value| ("o", value)),
    ];
    prop::collection::vec(member, 0..6)
}

fn any_index() -> impl Strategy<Value = Value> {
    let fields = proptest::sample::subsequence(&INDEXED[..], 1..4).prop_shuffle();
    (fields, prop::bool::weighted(0.15), any::<bool>(), any::<bool>()).prop_map(
        |(fields, unique, sparse, deduplicate)| {
            json!({"type": "persistent", "fields": fields, "unique": unique, "sparse": sparse, "deduplicate": deduplicate})
        },
    )
}

fn check(documents: &[Vec<(&'static str, String)>], indexes: &[Value], queries: &[Asked]) -> Result<(), TestCaseError> {
    let mut stage = Stage::new();
    stage.ask(Method::Post, "/_api/collection", &json!({"name": "c"}));
    for index in indexes {
        // One of those that can't be is none.
        stage.ask(Method::Post, "/_api/index?collection=c", index);
    }
    for (at, members) in documents.iter().enumerate() {
        let mut document = Map::from_iter([("_key".to_owned(), Value::from(format!("k{at}")))]);
        document.extend(members.iter().map(|(name, text)| ((*name).to_owned(), serde_json::from_str(text).unwrap())));
        // What a unique index refuses is not there.
        stage.ask(Method::Post, "/_api/document/c", &Value::Object(document));
    }
    let stored = stage.query("FOR d IN c RETURN d", &Map::new());
    let stored: Vec<Aql> = stored["result"].as_array().unwrap().iter().map(|d| value(&d.to_string())).collect();
    for asked in queries {
        let (text, all) = (asked.text(), asked.rows(&stored));
        let (skip, most) = asked.limit.unwrap_or((0, usize::MAX));
        let expected: Vec<&Value> = all.iter().skip(skip).take(most).collect();
        for rules in [vec![], vec!["-all".to_owned()], asked.switches.clone()] {
            let with = json!({"options": {"fullCount": true, "optimizer": {"rules": rules}}});
            let answer = stage.query(&text, with.as_object().unwrap());
            let context = format!("{text}\nwith {rules:?} gives {answer}\ninstead of {expected:?}");
            let Some(rows) = answer["result"].as_array() else { return Err(TestCaseError::fail(context)) };
            // As AQL compares: `[]` and `[null]` are equal, and so in any order.
            let by = |row: &Value| value(&row[2].to_string());
            let sorted: Vec<Aql> = rows.iter().map(by).collect();
            prop_assert_eq!(sorted, expected.iter().map(|row| by(row)).collect::<Vec<_>>(), "{}", context);
            let mut left: Vec<&Value> = all.iter().collect();
            for row in rows {
                let Some(found) = left.iter().position(|other| *other == row) else {
                    return Err(TestCaseError::fail(context));
                };
                left.remove(found);
            }
            if asked.limit.is_some() {
                prop_assert_eq!(&answer["extra"]["stats"]["fullCount"], &json!(all.len()), "{}", context);
            }
            let count = stage.query(&format!("RETURN LENGTH({text})"), with.as_object().unwrap());
            prop_assert_eq!(&count["result"], &json!([expected.len()]), "{}", context);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn rules_change_no_result(
        documents in prop::collection::vec(any_document(), 0..24),
        indexes in prop::collection::vec(any_index(), 0..4),
        queries in prop::collection::vec(any_query(), 1..8),
    ) {
        check(&documents, &indexes, &queries)?;
    }
}
