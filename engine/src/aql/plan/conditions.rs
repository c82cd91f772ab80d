//! What filters ask of the documents of a loop, in the terms of indexes: attributes and the values they are compared
//! with.

use super::super::ast::*;
use super::super::value::Value;
use super::expressions::{is_steady, path_from, reads};
use super::places::Place;

/// A condition with more alternatives than this is left to the filters.
const ALTERNATIVES_MAX: usize = 32;

/// What one comparison asks of an attribute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Test {
    Equal,
    /// One of the elements of an array.
    In,
    Above {
        inclusive: bool,
    },
    Below {
        inclusive: bool,
    },
}

/// A comparison that an index can answer.
#[derive(Clone, Debug)]
pub struct Condition {
    /// As the fields of indexes are written: `a`, `a.b`, `a[*]`, `a[*].b`.
    pub field: String,
    pub test: Test,
    /// Reads nothing of the documents themselves.
    pub value: Expression,
    /// Which part of the alternative it is.
    pub part: usize,
}

/// One way to fulfil all filters.
#[derive(Clone, Debug, Default)]
pub struct Alternative {
    /// All comparisons, those that no index answers included: for each, of which filter it is a part.
    pub parts: Vec<usize>,
    pub conditions: Vec<Condition>,
    pub places: Vec<Place>,
}

/// The alternatives of some filters on the documents in a variable: of filters without `||`, one.
pub fn alternatives<'q>(variable: Slot, filters: impl Iterator<Item = &'q Expression>) -> Vec<Alternative> {
    let mut all: Vec<Vec<(usize, &Expression)>> = vec![Vec::new()];
    for (at, filter) in filters.enumerate() {
        let ways: Vec<Vec<_>> =
            ways(filter).into_iter().map(|way| way.into_iter().map(|part| (at, part)).collect()).collect();
        // What would be too much is left out: then more is looked at, and the filter sees to the rest.
        if let Some(more) = both(&all, &ways) {
            all = more;
        }
    }
    let alternative = |parts: Vec<(usize, &Expression)>| Alternative {
        parts: parts.iter().map(|(filter, _)| *filter).collect(),
        conditions: parts.iter().enumerate().filter_map(|(at, (_, part))| condition(variable, part, at)).collect(),
        places: parts.iter().filter_map(|(_, part)| Place::of(variable, part)).collect(),
    };
    all.into_iter().map(alternative).collect()
}

/// What `UPSERT` asks of a document that is like an example, as far as the text tells its attributes.
pub fn of_example(variable: Slot, example: &Expression) -> Alternative {
    let ExpressionKind::Object(members) = &example.kind else { return Alternative::default() };
    let mut found = Alternative::default();
    for (part, member) in members.iter().enumerate() {
        found.parts.push(0);
        let MemberName::Fixed(name) = &member.name else { continue };
        // Of a name that comes twice the last value counts.
        let again = |other: &Member| matches!(&other.name, MemberName::Fixed(other) if other == name);
        let computed = |other: &Member| matches!(other.name, MemberName::Computed(_));
        if members[part + 1..].iter().any(|other| again(other) || computed(other)) {
            continue;
        }
        if let Some(field) = joined(&[name]).filter(|_| !reads(&member.value, variable) && is_steady(&member.value)) {
            found.conditions.push(Condition { field, test: Test::Equal, value: member.value.clone(), part });
        }
    }
    found
}

/// The disjunctive normal form of a condition; if that would be too long, the condition as it is.
fn ways(condition: &Expression) -> Vec<Vec<&Expression>> {
    let itself = || vec![vec![condition]];
    match &condition.kind {
        ExpressionKind::Binary(BinaryOperator::And, left, right) => {
            both(&ways(left), &ways(right)).unwrap_or_else(itself)
        }
        ExpressionKind::Binary(BinaryOperator::Or, left, right) => {
            let (left, right) = (ways(left), ways(right));
            if left.len() + right.len() > ALTERNATIVES_MAX { itself() } else { [left, right].concat() }
        }
        _ => itself(),
    }
}

/// Every alternative of one together with every one of the other; `None` if those are too many.
fn both<T: Clone>(left: &[Vec<T>], right: &[Vec<T>]) -> Option<Vec<Vec<T>>> {
    let few = left.len() * right.len() <= ALTERNATIVES_MAX;
    few.then(|| left.iter().flat_map(|a| right.iter().map(move |b| [&a[..], &b[..]].concat())).collect())
}

fn condition(variable: Slot, part: &Expression, at: usize) -> Option<Condition> {
    let ExpressionKind::Binary(BinaryOperator::Compare(how), left, right) = &part.kind else { return None };
    let on = |attribute: &Expression, test: Test, value: &Expression| {
        let field = field_of(attribute, variable)?;
        let usable = !reads(value, variable) && is_steady(value);
        usable.then(|| Condition { field, test, value: value.clone(), part: at })
    };
    let either = |test: Test, mirrored: Test| on(left, test, right).or_else(|| on(right, mirrored, left));
    match how {
        Comparison::Equal => either(Test::Equal, Test::Equal),
        Comparison::Less => either(Test::Below { inclusive: false }, Test::Above { inclusive: false }),
        Comparison::LessOrEqual => either(Test::Below { inclusive: true }, Test::Above { inclusive: true }),
        Comparison::Greater => either(Test::Above { inclusive: false }, Test::Below { inclusive: false }),
        Comparison::GreaterOrEqual => either(Test::Above { inclusive: true }, Test::Below { inclusive: true }),
        Comparison::In => on(left, Test::In, right).or_else(|| {
            let field = elements_of(right, variable)?;
            let usable = !reads(left, variable) && is_steady(left);
            usable.then(|| Condition { field, test: Test::Equal, value: (**left).clone(), part: at })
        }),
        // Null is the least of all values.
        Comparison::NotEqual => {
            let is_null = |value: &Expression| value.constant().is_some_and(|value| value.is_null());
            either(Test::Above { inclusive: false }, Test::Above { inclusive: false }).filter(|it| is_null(&it.value))
        }
        Comparison::NotIn => None,
    }
}

/// `d.a.b` as indexes write it.
pub fn field_of(attribute: &Expression, variable: Slot) -> Option<String> {
    joined(&path_from(attribute, variable)?)
}

/// `d.a[*].b` as indexes write it.
fn elements_of(elements: &Expression, variable: Slot) -> Option<String> {
    let ExpressionKind::Expansion(expansion) = &elements.kind else { return None };
    if expansion.flatten > 0 || expansion.filter.is_some() || expansion.limit.is_some() {
        return None;
    }
    let array = field_of(&expansion.source, variable)?;
    let within = path_from(&expansion.projection, expansion.element)?;
    if within.is_empty() { Some(format!("{array}[*]")) } else { Some(format!("{array}[*].{}", joined(&within)?)) }
}

fn joined(names: &[&str]) -> Option<String> {
    let plain = |name: &&str| !name.is_empty() && !name.contains(['.', '[']);
    (!names.is_empty() && names.iter().all(plain)).then(|| names.join("."))
}

impl Condition {
    /// Whether what fulfils it can't be null.
    pub fn excludes_null(&self) -> bool {
        match self.test {
            Test::Above { inclusive: false } => true,
            Test::Equal | Test::Above { inclusive: true } => {
                self.value.constant().is_some_and(|value| !value.is_null())
            }
            Test::In => match self.value.constant() {
                Some(Value::Array(elements)) => !elements.iter().any(Value::is_null),
                _ => false,
            },
            Test::Below { .. } => false,
        }
    }
}
