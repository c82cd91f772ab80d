//! Expressions that come to the same for every row, replaced by what they come to before the query is planned: they
//! are evaluated once, warn once, and an index can be looked into with their value.
//!
//! As in ArangoDB, what stands where it is never reached is evaluated, too, so a query may warn of it. What would take
//! long, or come to much, is left to the query, which is counted, bounded and can be told to end.

use super::super::ast::*;
use super::super::functions;
use super::super::plan::options;
use super::alone::Alone;
use super::*;

/// Of all expressions of a query; each counts as one, and what it comes to as one for each [`STEP_BYTES`].
const STEPS_MAX: u64 = 100_000;
const STEP_BYTES: usize = 64;
/// What comes to more is not put into the query.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// Replaces what is constant in a query that has all its parameters; returns what there was to warn of. Fails only
/// where a warning is to be an error.
pub fn fold(query: &mut Query, reader: Reader<'_>, settings: Settings) -> Result<Vec<Warning>> {
    let settings = Settings { steps: STEPS_MAX.min(settings.steps), full_count: false, profile: false, ..settings };
    let row = vec![Value::Null; query.variables.len()];
    let nothing = Plan::new(Query::default(), Catalog::new(), Rules::NONE)?;
    let mut folding = Folding { nothing, row, reader, settings, steps: 0, warnings: Vec::new() };
    for message in options::unknown(query) {
        let kind = errors::QUERY_INVALID_OPTIONS_ATTRIBUTE;
        if settings.fail_on_warning {
            return Err(kind.says(message));
        }
        folding.keep([Warning { number: kind.number, message }]);
    }
    folding.block(&mut query.body)?;
    Ok(folding.warnings)
}

struct Folding<'r> {
    nothing: Plan,
    /// Where expansions put their elements.
    row: Row,
    reader: Reader<'r>,
    settings: Settings,
    steps: u64,
    warnings: Vec<Warning>,
}

impl Folding<'_> {
    /// As many as may be told.
    fn keep(&mut self, warnings: impl IntoIterator<Item = Warning>) {
        let room = self.settings.warnings_max.saturating_sub(self.warnings.len());
        self.warnings.extend(warnings.into_iter().take(room));
    }

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
            match self.value(expression)? {
                Some(value) => *expression = Expression::new(expression.position, ExpressionKind::Literal(value)),
                None => constant = false,
            }
        }
        Ok(constant)
    }

    /// What an expression comes to; nothing if it is to be left to the query, to which its warnings are left, too. One
    /// that fails makes the query fail where it is reached, if it ever is.
    fn value(&mut self, expression: &Expression) -> Result<Option<Value>> {
        if self.steps >= self.settings.steps {
            return Ok(None);
        }
        let lenient = Settings { fail_on_warning: false, warnings_max: usize::MAX, ..self.settings };
        let (value, warnings) = self.evaluate(expression, lenient);
        let Ok(value) = value else { return Ok(None) };
        let bytes = value.size_bytes();
        self.steps += 1 + (bytes / STEP_BYTES) as u64;
        if bytes > VALUE_BYTES_MAX {
            return Ok(None);
        }
        if !warnings.is_empty() && self.settings.fail_on_warning {
            // The same once more, as the error that it is to be.
            return self.evaluate(expression, self.settings).0.map(Some);
        }
        self.keep(warnings);
        Ok(Some(value))
    }

    fn evaluate(&mut self, expression: &Expression, settings: Settings) -> (Result<Value>, Vec<Warning>) {
        let Folding { nothing, row, reader, steps, .. } = self;
        let mut data = Alone { reader: *reader };
        let mut executor = Executor { steps: *steps, ..Executor::new(nothing, &mut data, settings) };
        let value = executor.evaluate(expression, row);
        *steps = executor.steps;
        (value, executor.warnings)
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
