//! Whether a query may be carried out where nothing may take long: in the thread that its connection is served by.
//!
//! Rows, documents, what is compared and memory are counted while it runs, and it is left when there is too much of
//! them. A single step must not take long either: there are no functions but those below, no patterns, no quantifiers
//! and no ranges as arrays.

use super::super::ast::*;

/// They look at a value as a whole, or at its first or last part.
const FUNCTIONS: [&str; 24] = [
    "ABS",
    "CEIL",
    "COUNT",
    "DATE_NOW",
    "FIRST",
    "FLOOR",
    "HAS",
    "IS_ARRAY",
    "IS_BOOL",
    "IS_NULL",
    "IS_NUMBER",
    "IS_OBJECT",
    "IS_STRING",
    "LAST",
    "LENGTH",
    "LOWER",
    "NOT_NULL",
    "PARSE_IDENTIFIER",
    "ROUND",
    "TO_BOOL",
    "TO_NUMBER",
    "TO_STRING",
    "TYPENAME",
    "UPPER",
];

pub fn is_light(query: &Query) -> bool {
    !query.writes() && block(&query.body)
}

fn block(of: &Block) -> bool {
    let mut light = true;
    for operation in &of.operations {
        light &= !matches!(operation.kind, OperationKind::Paths(_));
        let loops = matches!(operation.kind, OperationKind::For { .. });
        operation.kind.for_each_expression(&mut |one| {
            light &= match &one.kind {
                // Gone through number by number.
                ExpressionKind::Binary(BinaryOperator::Range, from, to) if loops => expression(from) && expression(to),
                _ => expression(one),
            }
        });
    }
    light
}

fn expression(of: &Expression) -> bool {
    let mut light = match &of.kind {
        ExpressionKind::Subquery(within) => block(within),
        ExpressionKind::Quantified { .. } => false,
        ExpressionKind::Call(name, _) => FUNCTIONS.contains(&&**name),
        ExpressionKind::Binary(operator, ..) => {
            use BinaryOperator::{Like, Matches, NotLike, NotMatches, Range};
            !matches!(operator, Like | NotLike | Matches | NotMatches | Range)
        }
        _ => true,
    };
    of.kind.for_each_child(&mut |child| light &= expression(child));
    light
}
