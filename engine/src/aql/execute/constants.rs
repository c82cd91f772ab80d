//! Expressions that come to the same for every row, replaced by what they come to before the query is planned: they
//! are evaluated once, warn once, and an index can be looked into with their value.
//!
//! As in ArangoDB, what stands where it is never reached is evaluated, too, so a query may warn of it.

use super::super::ast::*;
use super::super::functions;
use super::alone::Alone;
use super::*;

/// One that takes more is left to the query, which can be told to end.
const STEPS_MAX: u64 = 100_000;

/// Replaces what is constant in a query that has all its parameters; returns what there was to warn of. Fails only
/// where a warning is to be an error.
pub fn fold(query: &mut Query, reader: Reader<'_>, settings: Settings) -> Result<Vec<Warning>> {
    let settings = Settings { steps: STEPS_MAX, full_count: false, profile: false, ..settings };
    let slots = query.variables.len();
    let nothing = Plan::new(Query::default(), Catalog::new(), Rules::NONE)?;
    let mut folding = Folding { nothing, slots, reader, settings, warnings: Vec::new() };
    folding.block(&mut query.body)?;
    Ok(folding.warnings)
}

struct Folding<'r> {
    nothing: Plan,
    slots: usize,
    reader: Reader<'r>,
    settings: Settings,
    warnings: Vec<Warning>,
}

impl Folding<'_> {
    fn block(&mut self, block: &mut Block) -> Result<()> {
        let mut result = Ok(());
        for operation in &mut block.operations {
            operation.kind.for_each_expression_mut(&mut |expression| {
                if result.is_ok() {
                    result = self.expression(expression).map(drop);
                }
            });
        }
        result
    }

    /// Whether it comes to the same everywhere.
    fn expression(&mut self, expression: &mut Expression) -> Result<bool> {
        let mut constant = match &mut expression.kind {
            ExpressionKind::Subquery(block) => {
                self.block(block)?;
                false
            }
            ExpressionKind::Variable(_) | ExpressionKind::Collection(_) | ExpressionKind::Parameter(_) => false,
            ExpressionKind::Call(name, _) => functions::lookup(name).is_some_and(|function| function.deterministic),
            _ => true,
        };
        let mut result = Ok(());
        expression.kind.for_each_child_mut(&mut |child| {
            if result.is_ok() {
                result = self.expression(child).map(|child| constant &= child);
            }
        });
        result?;
        if constant && is_work(&expression.kind) {
            match self.evaluate(expression) {
                Ok(value) => *expression = Expression::new(expression.position, ExpressionKind::Literal(value)),
                Err(error) if self.settings.fail_on_warning => return Err(error),
                // If it is ever reached, the query fails there.
                Err(_) => {}
            }
        }
        Ok(constant)
    }

    fn evaluate(&mut self, expression: &Expression) -> Result<Value> {
        let Folding { nothing, slots, reader, settings, warnings } = self;
        let mut data = Alone { reader: *reader };
        let mut executor = Executor::new(nothing, &mut data, *settings);
        executor.warnings = std::mem::take(warnings);
        let value = executor.evaluate(expression, &mut vec![Value::Null; *slots]);
        *warnings = executor.warnings;
        value
    }
}

/// Whether evaluating it is more than putting its parts together. A range stays one: a loop over it holds no array.
fn is_work(kind: &ExpressionKind) -> bool {
    !matches!(
        kind,
        ExpressionKind::Literal(_)
            | ExpressionKind::Array(_)
            | ExpressionKind::Object(_)
            | ExpressionKind::Binary(BinaryOperator::Range, ..)
    )
}
