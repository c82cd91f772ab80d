//! Expressions: what they come to, for a row.
//!
//! They are as high as the parser lets them be ([`super::super::ast::HEIGHT_MAX`]); subqueries are counted apart.

use super::super::ast::*;
use super::super::functions;
use super::super::operators::{self, array_comparison};
use super::super::plan::expressions::is_independent;
use super::super::plan::rules::Rule;
use super::super::value::{Object, Value};
use super::rows::{Flow, Output};
use super::*;

/// Functions to which a collection is given by its name; any other one is given its documents.
const BY_NAME: &[&str] = &[
    "COLLECTION_COUNT",
    "DOCUMENT",
    "SCHEMA_GET",
    "PARSE_COLLECTION",
    "FULLTEXT",
    "NEAR",
    "WITHIN",
    "WITHIN_RECTANGLE",
];

impl<'q> Executor<'q, '_> {
    pub(super) fn evaluate(&mut self, expression: &'q Expression, row: &mut Row) -> Result<Value> {
        Ok(match &expression.kind {
            ExpressionKind::Literal(value) => value.clone(),
            ExpressionKind::Parameter(name) => {
                let kind = errors::QUERY_BIND_PARAMETER_MISSING;
                return Err(kind.says(kind.message.replace("%s", name)));
            }
            ExpressionKind::Variable(slot) => row[slot.index()].clone(),
            ExpressionKind::Collection(name) => return self.whole_collection(&name.text),
            ExpressionKind::Array(elements) => {
                let mut made = Made::default();
                for element in elements {
                    let element = self.evaluate(element, row)?;
                    made.push(self, element)?;
                }
                made.finish(self).into()
            }
            ExpressionKind::Object(members) => return self.object(members, row),
            ExpressionKind::Attribute(of, name) => match &of.kind {
                ExpressionKind::Variable(slot) => row[slot.index()].attribute(name),
                _ => self.evaluate(of, row)?.attribute(name),
            },
            ExpressionKind::Index(of, place) => {
                let (of, place) = (self.evaluate(of, row)?, self.evaluate(place, row)?);
                indexed(&of, &place)
            }
            ExpressionKind::Expansion(expansion) => return self.expansion(expansion, row),
            ExpressionKind::Question(question) => Value::Bool(self.question(question, row)?),
            ExpressionKind::Unary(operator, operand) => {
                let operand = self.evaluate(operand, row)?;
                match operator {
                    UnaryOperator::Plus => operand.to_number(),
                    UnaryOperator::Minus => operators::negate(&operand),
                    UnaryOperator::Not => Value::Bool(!operand.truthy()),
                }
            }
            ExpressionKind::Binary(operator @ (BinaryOperator::And | BinaryOperator::Or), left, right) => {
                let left = self.evaluate(left, row)?;
                if left.truthy() == (*operator == BinaryOperator::And) {
                    self.evaluate(right, row)?
                } else {
                    self.write_only(right, row)?;
                    left
                }
            }
            ExpressionKind::Binary(operator, left, right) => {
                let (left, right) = (self.evaluate(left, row)?, self.evaluate(right, row)?);
                self.compares(*operator, &left, &right)?;
                return self.binary(*operator, &left, &right);
            }
            ExpressionKind::Quantified { quantifier, operator, left, right } => {
                let (left, right) = (self.evaluate(left, row)?, self.evaluate(right, row)?);
                self.has_read(left.size_bytes().saturating_add(right.size_bytes()));
                self.look()?;
                let wanted = match &**quantifier {
                    Quantifier::All => operators::Quantifier::All,
                    Quantifier::Any => operators::Quantifier::Any,
                    Quantifier::None => operators::Quantifier::None,
                    Quantifier::AtLeast(number) | Quantifier::Exactly(number) => {
                        operators::Quantifier::AtLeast(self.evaluate(number, row)?.to_int())
                    }
                };
                Value::Bool(array_comparison(wanted, *operator, &left, &right))
            }
            ExpressionKind::Ternary { condition, then, otherwise } => {
                let condition = self.evaluate(condition, row)?;
                let (asked, skipped) = match condition.truthy() {
                    true => (then.as_ref(), Some(otherwise)),
                    false => (Some(otherwise), then.as_ref()),
                };
                if let Some(skipped) = skipped {
                    self.write_only(skipped, row)?;
                }
                match asked {
                    Some(asked) => self.evaluate(asked, row)?,
                    None => condition,
                }
            }
            ExpressionKind::Call(name, arguments) => return self.call(name, arguments, row),
            ExpressionKind::Subquery(block) => {
                return self.once(block, row, |it, row| Ok(it.subquery(block, row)?.into()));
            }
        })
    }

    /// Carries out what writes in an operand that is not asked for its value: in ArangoDB subqueries come first, and
    /// are no part of a lazy evaluation. Those that only read need not run for that.
    fn write_only(&mut self, expression: &'q Expression, row: &mut Row) -> Result<()> {
        if !self.writes {
            return Ok(());
        }
        match &expression.kind {
            ExpressionKind::Subquery(block) if block.writes() => self.subquery(block, row).map(drop),
            kind => {
                let mut result = Ok(());
                kind.for_each_child(&mut |child| {
                    if result.is_ok() {
                        result = self.write_only(child, row);
                    }
                });
                result
            }
        }
    }

    /// Counts what an operator looks at before it does.
    fn compares(&mut self, operator: BinaryOperator, left: &Value, right: &Value) -> Result<()> {
        let bytes = match operator {
            BinaryOperator::Compare(Comparison::In | Comparison::NotIn) => right.size_bytes(),
            BinaryOperator::Compare(_) => left.size_bytes().min(right.size_bytes()),
            _ => left.size_bytes().saturating_add(right.size_bytes()),
        };
        self.has_read(bytes);
        self.look()
    }

    fn binary(&mut self, operator: BinaryOperator, left: &Value, right: &Value) -> Result<Value> {
        Ok(match operator {
            BinaryOperator::Compare(how) => Value::Bool(how.holds(left, right)),
            BinaryOperator::Arithmetic(how) => {
                return self.with_context(|context| operators::arithmetic(context, how, left, right));
            }
            BinaryOperator::Range => return operators::range(left, right),
            BinaryOperator::Like | BinaryOperator::NotLike => {
                let like = operators::like(&left.to_string(), &right.to_string(), false);
                Value::Bool(like == (operator == BinaryOperator::Like))
            }
            BinaryOperator::Matches | BinaryOperator::NotMatches => {
                match self.with_context(|context| operators::matches_regex(context, left, right))? {
                    Value::Bool(found) => Value::Bool(found == (operator == BinaryOperator::Matches)),
                    other => other,
                }
            }
            BinaryOperator::And | BinaryOperator::Or => unreachable!("they decide what is evaluated"),
        })
    }

    pub(super) fn subquery(&mut self, block: &'q Block, row: &mut Row) -> Result<Vec<Value>> {
        let mut output = Output::Array(Vec::new());
        self.nested(|executor| executor.block(block, row, &mut output))?;
        let Output::Array(values) = output else { unreachable!("it was made as one") };
        self.release(values.iter().map(Value::size_bytes).sum());
        Ok(values)
    }

    /// What a subquery comes to, which is kept if it is the same for all rows. Only the second time: most are asked
    /// once.
    fn once(
        &mut self,
        block: &'q Block,
        row: &mut Row,
        run: impl FnOnce(&mut Self, &mut Row) -> Result<Value>,
    ) -> Result<Value> {
        if self.writes || !self.plan.rules.has(Rule::MoveCalculationsUp) {
            return run(self, row);
        }
        let at = std::ptr::from_ref(block);
        let next = match self.subqueries.get(&at) {
            Some(Subquery::Same(value)) => return Ok(value.clone()),
            Some(Subquery::Varies) => return run(self, row),
            Some(Subquery::Once) => None,
            None if is_independent(block) => Some(Subquery::Once),
            None => Some(Subquery::Varies),
        };
        let value = run(self, row)?;
        let known = match next {
            Some(known) => known,
            None => {
                self.hold(value.size_bytes())?;
                Subquery::Same(value.clone())
            }
        };
        self.subqueries.insert(at, known);
        Ok(value)
    }

    /// Whether nothing but the number of rows is asked of a subquery that this function is called with.
    fn counts(&self, function: &str) -> bool {
        matches!(function, "LENGTH" | "COUNT") && self.plan.rules.has(Rule::OptimizeSubqueries)
    }

    fn count(&mut self, block: &'q Block, row: &mut Row) -> Result<Value> {
        let mut output = Output::Count(0);
        self.nested(|executor| executor.block(block, row, &mut output))?;
        let Output::Count(count) = output else { unreachable!("it was made as one") };
        Ok(Value::Int(i64::try_from(count).unwrap_or(i64::MAX)))
    }

    fn object(&mut self, members: &'q [Member], row: &mut Row) -> Result<Value> {
        let mut names = Vec::with_capacity(members.len());
        let mut made = Made::default();
        for member in members {
            names.push(match &member.name {
                MemberName::Fixed(name) => name.clone(),
                MemberName::Computed(name) => {
                    let name = self.evaluate(name, row)?.to_string();
                    functions::check_size(name.len())?;
                    name
                }
            });
            let value = self.evaluate(&member.value, row)?;
            made.push(self, value)?;
        }
        Ok(names.into_iter().zip(made.finish(self)).collect::<Object>().into())
    }

    fn whole_collection(&mut self, name: &str) -> Result<Value> {
        let collection = self.collection_named(name)?;
        let mut documents = Vec::new();
        self.all_documents(&collection, &mut |executor, document| {
            executor.hold(document.size_bytes())?;
            documents.push(document);
            Ok(Flow::More)
        })?;
        self.release(documents.iter().map(Value::size_bytes).sum());
        Ok(documents.into())
    }

    fn call(&mut self, name: &Arc<str>, arguments: &'q [Expression], row: &mut Row) -> Result<Value> {
        let function = functions::lookup(name).ok_or_else(|| {
            let kind = errors::QUERY_FUNCTION_NAME_UNKNOWN;
            kind.says(format!("{} '{name}()'", kind.message))
        })?;
        let mut made = Made::default();
        for argument in arguments {
            let value = match &argument.kind {
                ExpressionKind::Collection(collection) if matches!(&**name, "LENGTH" | "COUNT") => {
                    let collection = self.collection_named(&collection.text)?;
                    let count = self.data.reader().count(&collection)?;
                    return Ok(Value::Int(i64::try_from(count).unwrap_or(i64::MAX)));
                }
                ExpressionKind::Collection(collection) if BY_NAME.contains(&&**name) => {
                    Value::String(collection.text.clone())
                }
                ExpressionKind::Subquery(block) if self.counts(name) => {
                    return self.once(block, row, |it, row| it.count(block, row));
                }
                _ => self.evaluate(argument, row)?,
            };
            made.push(self, value)?;
        }
        let result = self.with_context(|context| function.invoke(context, &made.values))?;
        if let Value::String(text) = &result {
            functions::check_size(text.len())?;
        }
        // What functions do takes time by the length of what they are given and give.
        self.has_read(made.bytes.saturating_add(result.size_bytes()));
        made.finish(self);
        self.look()?;
        Ok(result)
    }

    // ---- array operators ----

    fn expansion(&mut self, expansion: &'q Expansion, row: &mut Row) -> Result<Value> {
        let source = self.evaluate(&expansion.source, row)?;
        let Value::Array(elements) = source else { return Ok(Vec::new().into()) };
        let flat = flatten(&elements, expansion.flatten);
        let (mut skip, mut left) = (0, u64::MAX);
        if let Some((offset, count)) = &expansion.limit {
            if let Some(offset) = offset {
                skip = u64::try_from(self.evaluate(offset, row)?.to_int()).unwrap_or(0);
            }
            left = u64::try_from(self.evaluate(count, row)?.to_int()).unwrap_or(0);
        }
        let place = expansion.element.index();
        let outer = std::mem::take(&mut row[place]);
        let mut made = Made::default();
        for element in flat.as_deref().unwrap_or(&elements) {
            self.step()?;
            row[place] = element.clone();
            if let Some(filter) = &expansion.filter
                && !self.evaluate(filter, row)?.truthy()
            {
                continue;
            }
            if left == 0 {
                break;
            }
            if skip > 0 {
                skip -= 1;
                continue;
            }
            left -= 1;
            let value = self.evaluate(&expansion.projection, row)?;
            made.push(self, value)?;
        }
        row[place] = outer;
        Ok(made.finish(self).into())
    }

    fn question(&mut self, question: &'q Question, row: &mut Row) -> Result<bool> {
        let Value::Array(elements) = self.evaluate(&question.source, row)? else { return Ok(false) };
        let place = question.element.index();
        let outer = std::mem::take(&mut row[place]);
        let mut hits = 0;
        for element in elements.iter() {
            self.step()?;
            row[place] = element.clone();
            hits += match &question.filter {
                Some(filter) => usize::from(self.evaluate(filter, row)?.truthy()),
                None => 1,
            };
        }
        row[place] = outer;
        Ok(match &question.quantifier {
            None | Some(Quantifier::Any) => hits > 0,
            Some(Quantifier::All) => hits == elements.len(),
            Some(Quantifier::None) => hits == 0,
            Some(Quantifier::AtLeast(number)) => hits as i64 >= self.evaluate(number, row)?.to_int(),
            Some(Quantifier::Exactly(number)) => {
                let (from, to) = match &number.kind {
                    ExpressionKind::Binary(BinaryOperator::Range, from, to) => {
                        (self.evaluate(from, row)?.to_int(), self.evaluate(to, row)?.to_int())
                    }
                    _ => {
                        let number = self.evaluate(number, row)?.to_int();
                        (number, number)
                    }
                };
                (from..=to).contains(&(hits as i64))
            }
        })
    }
}

/// Values that are put together: held until they are one.
#[derive(Default)]
struct Made {
    values: Vec<Value>,
    bytes: usize,
}

impl Made {
    fn push(&mut self, executor: &mut Executor<'_, '_>, value: Value) -> Result<()> {
        let bytes = value.size_bytes();
        executor.hold(bytes)?;
        self.bytes += bytes;
        self.values.push(value);
        Ok(())
    }

    fn finish(self, executor: &mut Executor<'_, '_>) -> Vec<Value> {
        executor.release(self.bytes);
        self.values
    }
}

/// `of[place]`
fn indexed(of: &Value, place: &Value) -> Value {
    match (of, place) {
        (Value::Object(_), Value::String(name)) => of.attribute(name),
        (Value::Object(_), Value::Int(_) | Value::Double(_)) => of.attribute(&place.to_string()),
        (Value::Array(_), Value::Int(place)) => of.element(*place),
        (Value::Array(_), Value::Double(place)) => of.element(*place as i64),
        (Value::Array(_), Value::String(text)) => text.parse().map_or(Value::Null, |place| of.element(place)),
        _ => Value::Null,
    }
}

/// Arrays within arrays as one, so many levels deep; `None` if there is nothing to do.
fn flatten(elements: &[Value], levels: u32) -> Option<Vec<Value>> {
    if levels == 0 {
        return None;
    }
    let mut flat: Vec<Value> = elements.to_vec();
    for _ in 0..levels {
        if !flat.iter().any(|value| matches!(value, Value::Array(_))) {
            break;
        }
        flat = flat
            .into_iter()
            .flat_map(|value| match value {
                Value::Array(inner) => inner.to_vec(),
                other => vec![other],
            })
            .collect();
    }
    Some(flat)
}
