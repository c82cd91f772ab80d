//! What can be said of a query before it runs: whether it may, and where it need not look at everything.
//!
//! So far that is the primary index: `FOR d IN c FILTER d._key == …`, `d._id == …` and the same with `IN`. The filter
//! stays, so a lookup that finds too much does no harm. Secondary indexes are to be chosen here.

use super::super::ast::*;
use crate::errors::{self, Error};

/// Documents of a collection by their keys.
#[derive(Clone, Copy)]
pub struct Primary<'q> {
    /// The key, or with `many` an array of keys.
    pub value: &'q Expression,
    pub many: bool,
    /// Ids rather than keys.
    pub by_id: bool,
}

/// A lookup that the filters right after `FOR variable IN collection` allow.
pub fn primary(variable: Slot, after: &[Operation]) -> Option<Primary<'_>> {
    after
        .iter()
        .map_while(|operation| match &operation.kind {
            OperationKind::Filter(condition) => Some(condition),
            _ => None,
        })
        .find_map(|condition| of_condition(variable, condition))
}

fn of_condition(variable: Slot, condition: &Expression) -> Option<Primary<'_>> {
    let ExpressionKind::Binary(operator, left, right) = &condition.kind else { return None };
    match operator {
        BinaryOperator::And => of_condition(variable, left).or_else(|| of_condition(variable, right)),
        BinaryOperator::Compare(Comparison::Equal) => {
            of_sides(variable, left, right, false).or_else(|| of_sides(variable, right, left, false))
        }
        BinaryOperator::Compare(Comparison::In) => of_sides(variable, left, right, true),
        _ => None,
    }
}

fn of_sides<'q>(variable: Slot, attribute: &'q Expression, value: &'q Expression, many: bool) -> Option<Primary<'q>> {
    let ExpressionKind::Attribute(of, name) = &attribute.kind else { return None };
    let by_id = match &**name {
        "_key" => false,
        "_id" => true,
        _ => return None,
    };
    let own = matches!(of.kind, ExpressionKind::Variable(slot) if slot == variable);
    (own && !mentions(value, variable)).then_some(Primary { value, many, by_id })
}

/// Whether an expression reads a variable; of subqueries that is not looked at, so they count as if they did.
fn mentions(expression: &Expression, variable: Slot) -> bool {
    match &expression.kind {
        ExpressionKind::Variable(slot) => *slot == variable,
        ExpressionKind::Subquery(_) => true,
        kind => {
            let mut found = false;
            kind.for_each_child(&mut |child| found |= mentions(child, variable));
            found
        }
    }
}

/// A collection must not be read after the query has written it.
pub fn check(query: &Query) -> Result<(), Error> {
    let mut written = Vec::new();
    block(&query.body, &mut written)
}

fn block<'q>(of: &'q Block, written: &mut Vec<&'q str>) -> Result<(), Error> {
    for operation in &of.operations {
        let mut result = Ok(());
        operation.kind.for_each_expression(&mut |expression| {
            if result.is_ok() {
                result = reads(expression, written);
            }
        });
        result?;
        let graph = match &operation.kind {
            OperationKind::Traversal(traversal) => Some(&traversal.graph),
            OperationKind::Paths(paths) => Some(&paths.graph),
            _ => None,
        };
        match graph {
            Some(Graph::Edges(edges)) => edges.iter().try_for_each(|edge| refuse(&edge.name.text, written))?,
            Some(Graph::Named(_)) if !written.is_empty() => return Err(after_modification("traversal")),
            _ => {}
        }
        let writes = match &operation.kind {
            OperationKind::Insert(insert) => &insert.collection,
            OperationKind::Update(update) => &update.collection,
            OperationKind::Remove(remove) => &remove.collection,
            OperationKind::Upsert(upsert) => {
                refuse(&upsert.collection.text, written)?;
                &upsert.collection
            }
            _ => continue,
        };
        refuse(&writes.text, written)?;
        written.push(&writes.text);
    }
    Ok(())
}

fn reads<'q>(expression: &'q Expression, written: &mut Vec<&'q str>) -> Result<(), Error> {
    match &expression.kind {
        ExpressionKind::Collection(name) => refuse(&name.text, written),
        ExpressionKind::Subquery(of) => block(of, written),
        kind => {
            let mut result = Ok(());
            kind.for_each_child(&mut |child| {
                if result.is_ok() {
                    result = reads(child, written);
                }
            });
            result
        }
    }
}

fn refuse(name: &str, written: &[&str]) -> Result<(), Error> {
    if written.contains(&name) { Err(after_modification(name)) } else { Ok(()) }
}

fn after_modification(name: &str) -> Error {
    let kind = errors::QUERY_ACCESS_AFTER_MODIFICATION;
    kind.says(format!("{} by {name}", kind.message))
}
