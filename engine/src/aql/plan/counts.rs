//! Documents that are only counted: the store knows how many a collection has.

use super::super::ast::*;
use super::expressions::is_steady;

/// `FOR d IN c COLLECT WITH COUNT INTO n` becomes `LET n = LENGTH(c)`, and `LENGTH(FOR d IN c RETURN …)` becomes
/// `LENGTH(c)`. Whether anything was changed.
pub fn count_collections(block: &mut Block) -> bool {
    let mut changed = false;
    if let [first, second, ..] = &block.operations[..]
        && let (OperationKind::For { source, .. }, OperationKind::Collect(collect)) = (&first.kind, &second.kind)
        && let (ExpressionKind::Collection(_), Some(variable)) = (&source.kind, collect.count)
        && collect.groups.is_empty()
    {
        let length = ExpressionKind::Call("LENGTH".into(), vec![source.clone()]);
        let kind = OperationKind::Let { variable, value: Expression::new(first.position, length) };
        let counted = Operation { position: first.position, kind };
        block.operations.splice(..2, [counted]);
        changed = true;
    }
    for operation in &mut block.operations {
        operation.kind.for_each_expression_mut(&mut |expression| changed |= count_subqueries(expression));
    }
    changed
}

/// Within an expression; subqueries in it are blocks of their own.
fn count_subqueries(expression: &mut Expression) -> bool {
    if let ExpressionKind::Call(name, arguments) = &mut expression.kind
        && matches!(&**name, "LENGTH" | "COUNT")
        && let [argument] = &mut arguments[..]
        && let ExpressionKind::Subquery(block) = &argument.kind
        && let [first, last] = &block.operations[..]
        && let (OperationKind::For { source, .. }, OperationKind::Return { distinct: false, value }) =
            (&first.kind, &last.kind)
        && matches!(source.kind, ExpressionKind::Collection(_))
        && is_steady(value)
    {
        *argument = source.clone();
        return true;
    }
    let mut changed = false;
    expression.kind.for_each_child_mut(&mut |child| changed |= count_subqueries(child));
    changed
}
