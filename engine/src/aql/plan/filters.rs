//! Filters move up, to where what they read is first known.
//!
//! `FILTER a && b` becomes two filters. A name that `LET` gives to an attribute or a constant is replaced by what it
//! stands for, in filters and sorts. Then each filter passes whatever gives nothing that it reads: loops, `LET`, sorts.
//! It never passes what must happen as often as it does now (something that writes, for one), and nothing that counts
//! rows, groups them or ends a block's rows otherwise.

use super::super::ast::*;
use super::expressions::{is_steady, reads};
use std::collections::BTreeMap;

/// Whether anything moved.
pub fn move_up(block: &mut Block) -> bool {
    replace_aliases(block);
    let mut moved = false;
    split(block);
    for at in 0..block.operations.len() {
        let best = place_of(&block.operations, at);
        if best < at {
            block.operations[best..=at].rotate_right(1);
            moved = true;
        }
    }
    moved
}

/// Where the filter at a place may stand; the place itself for anything else.
fn place_of(operations: &[Operation], at: usize) -> usize {
    let OperationKind::Filter(condition) = &operations[at].kind else { return at };
    if !is_steady(condition) {
        return at;
    }
    let mut best = at;
    for (place, before) in operations[..at].iter().enumerate().rev() {
        if !passes(condition, before) {
            break;
        }
        // Filters stay in order: one is passed only together with something that is none.
        if !matches!(before.kind, OperationKind::Filter(_)) {
            best = place;
        }
    }
    best
}

fn passes(condition: &Expression, before: &Operation) -> bool {
    let declared: Vec<Slot> = match &before.kind {
        OperationKind::For { variable, source, .. } if matches!(source.kind, ExpressionKind::Collection(_)) => {
            return !reads(condition, *variable);
        }
        OperationKind::For { variable, .. } | OperationKind::Let { variable, .. } => vec![*variable],
        OperationKind::Traversal(traversal) => {
            let pruned = traversal.prune.as_ref().and_then(|prune| prune.variable);
            [Some(traversal.vertex), traversal.edge, traversal.path, pruned].into_iter().flatten().collect()
        }
        OperationKind::Paths(paths) => [Some(paths.variable), paths.edge].into_iter().flatten().collect(),
        OperationKind::Filter(_) | OperationKind::Sort(_) => Vec::new(),
        _ => return false,
    };
    let mut steady = true;
    before.kind.for_each_expression(&mut |expression| {
        // A range that is looped over needs no array.
        let range = matches!(expression.kind, ExpressionKind::Binary(BinaryOperator::Range, ..));
        let loops = matches!(before.kind, OperationKind::For { .. });
        steady &= match range && loops {
            true => {
                let mut all = true;
                expression.kind.for_each_child(&mut |bound| all &= is_steady(bound));
                all
            }
            false => is_steady(expression),
        };
    });
    steady && !declared.iter().any(|&slot| reads(condition, slot))
}

fn split(block: &mut Block) {
    let mut split = Vec::with_capacity(block.operations.len());
    for operation in std::mem::take(&mut block.operations) {
        match operation.kind {
            OperationKind::Filter(condition) => {
                let mut parts = Vec::new();
                conjuncts(condition, &mut parts);
                let position = operation.position;
                split.extend(parts.into_iter().map(|part| Operation { position, kind: OperationKind::Filter(part) }));
            }
            _ => split.push(operation),
        }
    }
    block.operations = split;
}

fn conjuncts(condition: Expression, parts: &mut Vec<Expression>) {
    match condition.kind {
        ExpressionKind::Binary(BinaryOperator::And, left, right) => {
            conjuncts(*left, parts);
            conjuncts(*right, parts);
        }
        kind => parts.push(Expression::new(condition.position, kind)),
    }
}

fn replace_aliases(block: &mut Block) {
    let mut aliases: BTreeMap<Slot, Expression> = BTreeMap::new();
    for operation in &mut block.operations {
        match &mut operation.kind {
            OperationKind::Let { variable, value } => {
                replace(value, &aliases);
                if is_short(value) {
                    aliases.insert(*variable, value.clone());
                }
            }
            OperationKind::Filter(_) | OperationKind::Sort(_) => {
                operation.kind.for_each_expression_mut(&mut |expression| replace(expression, &aliases));
            }
            _ => {}
        }
    }
}

/// Constants, and attributes of a variable that are not deep: or else aliases of aliases could build a tree of any
/// height.
fn is_short(value: &Expression) -> bool {
    const NAMES_MAX: usize = 16;
    fn below<'e>(of: &&'e Expression) -> Option<&'e Expression> {
        match &of.kind {
            ExpressionKind::Attribute(of, _) => Some(of),
            _ => None,
        }
    }
    let path: Vec<&Expression> = std::iter::successors(Some(value), below).take(NAMES_MAX + 1).collect();
    let of_variable = path.last().is_some_and(|last| matches!(last.kind, ExpressionKind::Variable(_)));
    matches!(value.kind, ExpressionKind::Literal(_)) || (path.len() > 1 && of_variable)
}

fn replace(expression: &mut Expression, aliases: &BTreeMap<Slot, Expression>) {
    match &mut expression.kind {
        ExpressionKind::Variable(slot) => {
            if let Some(stands_for) = aliases.get(slot) {
                *expression = stands_for.clone();
            }
        }
        kind => kind.for_each_child_mut(&mut |child| replace(child, aliases)),
    }
}
