//! What can be said of an expression without evaluating it: what it reads, and whether it matters when, and how often,
//! it is evaluated.

use super::super::ast::*;
use super::super::functions;

/// Functions that are not deterministic, but give the same value throughout a query that writes nothing.
const STEADY: &[&str] = &["DATE_NOW", "VERSION", "CURRENT_DATABASE", "CURRENT_USER", "DOCUMENT", "COLLECTION_COUNT"];

/// Calls for each variable that is read, those in subqueries as well.
pub fn for_each_read(expression: &Expression, each: &mut dyn FnMut(Slot)) {
    match &expression.kind {
        ExpressionKind::Variable(slot) => each(*slot),
        ExpressionKind::Subquery(block) => for_each_read_in(block, each),
        kind => kind.for_each_child(&mut |child| for_each_read(child, each)),
    }
}

fn for_each_read_in(block: &Block, each: &mut dyn FnMut(Slot)) {
    for operation in &block.operations {
        operation.kind.for_each_expression(&mut |expression| for_each_read(expression, each));
        kept(operation).iter().for_each(|(_, slot)| each(*slot));
    }
}

/// The variables that an operation reads beside those of its expressions.
pub fn kept(operation: &Operation) -> &[(std::sync::Arc<str>, Slot)] {
    match &operation.kind {
        OperationKind::Collect(collect) => match &collect.into {
            Some(CollectInto { member: GroupMember::All(kept) | GroupMember::Keep(kept), .. }) => kept,
            _ => &[],
        },
        _ => &[],
    }
}

pub fn reads(expression: &Expression, variable: Slot) -> bool {
    let mut found = false;
    for_each_read(expression, &mut |slot| found |= slot == variable);
    found
}

/// Whether it has the same value as long as its variables have, changes nothing and can't end the query: so that it
/// makes no difference whether it is evaluated once, several times or not at all. Warnings are not counted.
pub fn is_steady(expression: &Expression) -> bool {
    match &expression.kind {
        ExpressionKind::Parameter(_) | ExpressionKind::Collection(_) => false,
        ExpressionKind::Subquery(block) => block.operations.iter().all(operation_is_steady),
        // As an array it may be too long.
        ExpressionKind::Binary(BinaryOperator::Range, from, to) => from.constant().is_some() && to.constant().is_some(),
        kind => {
            let mut steady = match kind {
                ExpressionKind::Call(name, _) => {
                    functions::lookup(name).is_some_and(|function| function.deterministic) || STEADY.contains(&&**name)
                }
                _ => true,
            };
            kind.for_each_child(&mut |child| {
                let collection = matches!(child.kind, ExpressionKind::Collection(_));
                let by_name = matches!(kind, ExpressionKind::Call(name, _)
                    if matches!(&**name, "LENGTH" | "COUNT" | "COLLECTION_COUNT" | "DOCUMENT"));
                steady &= (collection && by_name) || is_steady(child);
            });
            steady
        }
    }
}

/// Whether it comes to the same everywhere, whatever the data are.
pub fn is_constant(expression: &Expression) -> bool {
    let mut constant = match &expression.kind {
        ExpressionKind::Variable(_) | ExpressionKind::Collection(_) | ExpressionKind::Subquery(_) => false,
        ExpressionKind::Call(name, _) => functions::lookup(name).is_some_and(|function| function.deterministic),
        _ => true,
    };
    expression.kind.for_each_child(&mut |child| constant &= is_constant(child));
    constant
}

/// Whether the same data come to the same whenever it runs.
pub fn is_repeatable(block: &Block) -> bool {
    let mut repeatable = true;
    for operation in &block.operations {
        operation.kind.for_each_expression(&mut |expression| repeatable &= expression_is_repeatable(expression));
    }
    repeatable
}

/// Whether a subquery comes to the same wherever it stands: it reads no variable from around it. (Variables are
/// numbered as they are declared, those of a subquery after those around it.)
pub fn is_independent(block: &Block) -> bool {
    let mut kinds = block.operations.iter().map(|operation| &operation.kind);
    let first = match kinds.find(|kind| !matches!(kind, OperationKind::Filter(_))) {
        Some(OperationKind::For { variable, .. } | OperationKind::Let { variable, .. }) => *variable,
        Some(OperationKind::Traversal(traversal)) => traversal.vertex,
        Some(OperationKind::Paths(paths)) => paths.variable,
        _ => return false,
    };
    let mut independent = !block.writes() && is_repeatable(block);
    for_each_read_in(block, &mut |slot| independent &= slot >= first);
    independent
}

/// Whether a subquery that comes to the same for all rows is asked for more than once.
pub fn has_repeated(block: &mut Block) -> bool {
    let (mut loops, mut repeated) = (false, false);
    for operation in &block.operations {
        operation.kind.for_each_expression(&mut |expression| repeated |= loops && has_independent(expression));
        loops |= !matches!(operation.kind, OperationKind::Let { .. } | OperationKind::Filter(_));
    }
    repeated && !block.writes()
}

fn has_independent(expression: &Expression) -> bool {
    let mut found = matches!(&expression.kind, ExpressionKind::Subquery(block) if is_independent(block));
    expression.kind.for_each_child(&mut |child| found |= has_independent(child));
    found
}

fn expression_is_repeatable(expression: &Expression) -> bool {
    let mut repeatable = match &expression.kind {
        ExpressionKind::Call(name, _) => functions::lookup(name).is_some_and(|function| function.deterministic),
        ExpressionKind::Subquery(block) => is_repeatable(block),
        _ => true,
    };
    expression.kind.for_each_child(&mut |child| repeatable &= expression_is_repeatable(child));
    repeatable
}

fn operation_is_steady(operation: &Operation) -> bool {
    let steady = |expression: &Expression| is_steady(expression);
    match &operation.kind {
        OperationKind::For { source, .. } => match &source.kind {
            ExpressionKind::Collection(_) => true,
            ExpressionKind::Binary(BinaryOperator::Range, from, to) => steady(from) && steady(to),
            // Anything else may be no array.
            ExpressionKind::Array(_) | ExpressionKind::Literal(super::super::value::Value::Array(_)) => steady(source),
            _ => false,
        },
        OperationKind::Limit { offset, count } => {
            offset.iter().chain([count]).all(|bound| matches!(bound.kind, ExpressionKind::Literal(_)))
        }
        OperationKind::Let { .. }
        | OperationKind::Filter(_)
        | OperationKind::Sort(_)
        | OperationKind::Collect(_)
        | OperationKind::Return { .. } => {
            let mut all = true;
            operation.kind.for_each_expression(&mut |expression| all &= steady(expression));
            all
        }
        _ => false,
    }
}

/// The attributes that an expression goes through from a variable on: `d.a.b` is `a` and `b`.
pub fn path_from(expression: &Expression, variable: Slot) -> Option<Vec<&str>> {
    match &expression.kind {
        ExpressionKind::Variable(slot) if *slot == variable => Some(Vec::new()),
        ExpressionKind::Attribute(of, name) => {
            let mut path = path_from(of, variable)?;
            path.push(name);
            Some(path)
        }
        ExpressionKind::Index(of, place) => {
            let ExpressionKind::Literal(super::super::value::Value::String(name)) = &place.kind else { return None };
            // As a place in an array, it is no name.
            if name.parse::<i64>().is_ok() {
                return None;
            }
            let mut path = path_from(of, variable)?;
            path.push(name);
            Some(path)
        }
        _ => None,
    }
}

/// Calls for a block and all those within it, the inner ones first.
pub fn for_each_block_mut(block: &mut Block, each: &mut dyn FnMut(&mut Block)) {
    for operation in &mut block.operations {
        operation.kind.for_each_expression_mut(&mut |expression| blocks_of(expression, each));
    }
    each(block);
}

fn blocks_of(expression: &mut Expression, each: &mut dyn FnMut(&mut Block)) {
    match &mut expression.kind {
        ExpressionKind::Subquery(block) => for_each_block_mut(block, each),
        kind => kind.for_each_child_mut(&mut |child| blocks_of(child, each)),
    }
}
