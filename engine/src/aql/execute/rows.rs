//! `FOR`, `FILTER`, `LET`, `LIMIT` and `RETURN`: rows carried through, one by one.

use super::super::ast::{BinaryOperator, Block, Expression, ExpressionKind, Operation, OperationKind, Slot};
use super::gather::Gathering;
use super::*;
use std::collections::BTreeSet;

/// Where the rows of a block go.
pub(super) enum Output {
    Result(RowsWriter),
    Array(Vec<Value>),
    /// Nobody asks for more than how many there are.
    Count(u64),
}

/// Whether a stage wants more rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    More,
    Stop,
}

/// What a stage remembers from row to row.
struct Stage<'q> {
    limits: BTreeMap<usize, Window>,
    distinct: BTreeSet<Value>,
    distinct_bytes: usize,
    /// What `LET` has given names to for the rows that are under way.
    named_bytes: usize,
    /// Takes the rows at the end of the stage.
    gathering: Option<Gathering<'q>>,
    /// The operation that it belongs to.
    end: Option<&'q Operation>,
}

/// How many rows a `LIMIT` still skips and then lets pass.
#[derive(Clone, Copy)]
struct Window {
    skip: u64,
    left: u64,
}

/// Rows that wait for the end of a stage.
#[derive(Default)]
pub(super) struct Held {
    pub rows: Vec<Row>,
    pub bytes: usize,
}

/// What a vector of values takes beside them, with the allocator's part.
pub(super) const VECTOR_BYTES: usize = 64;

impl Held {
    /// What a row adds: what it shares with the row before costs nothing.
    pub fn cost(before: Option<&Row>, row: &Row) -> usize {
        let cost = |(place, value): (usize, &Value)| match before {
            Some(before) if shared(&before[place], value) => size_of::<Value>(),
            _ => value.size_bytes(),
        };
        VECTOR_BYTES + row.iter().enumerate().map(cost).sum::<usize>()
    }
}

fn shared(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Arc::ptr_eq(a, b),
        (Value::Array(a), Value::Array(b)) => Arc::ptr_eq(a, b),
        (Value::Object(a), Value::Object(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

impl<'q> Executor<'q, '_> {
    /// Runs a block for what is in `row`, whose own variables are not touched.
    pub(super) fn block(&mut self, block: &'q Block, row: &mut Row, output: &mut Output) -> Result<()> {
        let around = self.turn_to(None);
        let (mut input, mut rest): (Option<Held>, &'q [Operation]) = (None, &block.operations);
        loop {
            let end = rest.iter().position(gather::gathers).unwrap_or(rest.len());
            let (stage, after) = rest.split_at(end);
            let limits = self.limits(stage, row)?;
            let gathering = match after {
                [] => None,
                [gathering, after @ ..] => Some(self.gathering(gathering, after.first(), row)?),
            };
            let mut state = Stage {
                limits,
                distinct: BTreeSet::new(),
                distinct_bytes: 0,
                named_bytes: 0,
                gathering,
                end: after.first(),
            };
            match input.take() {
                None => {
                    self.push(stage, 0, row, &mut state, output)?;
                }
                Some(held) => {
                    for next in held.rows {
                        *row = next;
                        if self.push(stage, 0, row, &mut state, output)? == Flow::Stop {
                            break;
                        }
                    }
                    self.release(held.bytes);
                }
            }
            let Some(gathering) = state.gathering else {
                self.release(state.distinct_bytes);
                self.turn_to(around);
                return Ok(());
            };
            self.turn_to(after.first().map(Place::of));
            let held = self.gathered(gathering, row)?;
            if let (Some(profile), Some(operation)) = (&mut self.profile, after.first()) {
                profile.tally(Place::of(operation)).items += held.rows.len() as u64;
            }
            rest = &after[1..];
            if rest.is_empty() {
                // It ends with a write, and nobody wants the rows.
                self.release(held.bytes);
                self.turn_to(around);
                return Ok(());
            }
            input = Some(held);
        }
    }

    fn limits(&mut self, stage: &'q [Operation], row: &mut Row) -> Result<BTreeMap<usize, Window>> {
        let mut limits = BTreeMap::new();
        for (at, operation) in stage.iter().enumerate() {
            if let OperationKind::Limit { offset, count } = &operation.kind {
                let skip = offset.as_ref().map_or(Ok(0), |offset| self.number(offset, row))?;
                limits.insert(at, Window { skip, left: self.rows_of_limit(count, row)? });
            }
        }
        Ok(limits)
    }

    /// Whether rows before this `LIMIT` are counted.
    pub(super) fn is_counted(&self, limit: &Operation) -> bool {
        self.counted.is_some_and(|counted| std::ptr::eq(counted, limit))
    }

    pub(super) fn count_rows(&mut self, counted: bool, rows: u64) {
        if let Some(count) = self.stats.full_count.as_mut().filter(|_| counted) {
            *count += rows;
        }
    }

    /// How many rows a `LIMIT` lets pass. Drivers write null for "all of them".
    pub(super) fn rows_of_limit(&mut self, count: &'q Expression, row: &mut Row) -> Result<u64> {
        match self.evaluate(count, row)? {
            Value::Null => Ok(u64::MAX),
            _ => self.number(count, row),
        }
    }

    pub(super) fn number(&mut self, expression: &'q Expression, row: &mut Row) -> Result<u64> {
        match self.evaluate(expression, row)? {
            Value::Int(number) if number >= 0 => Ok(number as u64),
            Value::Null => Ok(0),
            Value::Double(number) if number >= 0.0 => Ok(number as u64),
            _ => Err(errors::QUERY_NUMBER_OUT_OF_RANGE.because("LIMIT value is not a number or out of range")),
        }
    }

    /// Carries a row through the operations of a stage from `at` on.
    fn push(
        &mut self,
        stage: &'q [Operation],
        at: usize,
        row: &mut Row,
        state: &mut Stage<'q>,
        output: &mut Output,
    ) -> Result<Flow> {
        let named_before = state.named_bytes;
        let flow = self.carry(stage, at, row, state, output);
        self.release(state.named_bytes - named_before);
        state.named_bytes = named_before;
        flow
    }

    fn carry(
        &mut self,
        stage: &'q [Operation],
        mut at: usize,
        row: &mut Row,
        state: &mut Stage<'q>,
        output: &mut Output,
    ) -> Result<Flow> {
        let mut flow = Flow::More;
        while let Some(operation) = stage.get(at) {
            self.comes_to(Some(operation), at.checked_sub(1).map(|before| &stage[before]));
            match &operation.kind {
                OperationKind::Let { variable, value } => {
                    // Another name for what is there costs nothing.
                    let shares = matches!(value.kind, ExpressionKind::Variable(_) | ExpressionKind::Attribute(..));
                    let value = self.evaluate(value, row)?;
                    let bytes = if shares { 0 } else { value.size_bytes() };
                    self.hold(bytes)?;
                    state.named_bytes += bytes;
                    row[variable.index()] = value;
                }
                OperationKind::Filter(condition) => {
                    if !self.evaluate(condition, row)?.truthy() {
                        self.stats.filtered += 1;
                        if let Some(profile) = &mut self.profile {
                            profile.tally(Place::of(operation)).filtered += 1;
                        }
                        return Ok(flow);
                    }
                }
                OperationKind::Limit { .. } => {
                    let counted = self.is_counted(operation);
                    self.count_rows(counted, 1);
                    let window = state.limits.get_mut(&at).expect("a stage knows its limits");
                    if window.left == 0 {
                        return Ok(if counted { flow } else { Flow::Stop });
                    }
                    if window.skip > 0 {
                        window.skip -= 1;
                        return Ok(flow);
                    }
                    window.left -= 1;
                    if window.left == 0 && !counted {
                        flow = Flow::Stop;
                    }
                }
                OperationKind::Return { distinct, value } => {
                    let value = self.evaluate(value, row)?;
                    if *distinct {
                        if state.distinct.contains(&value) {
                            return Ok(flow);
                        }
                        let bytes = value.size_bytes();
                        self.hold(bytes)?;
                        state.distinct_bytes += bytes;
                        state.distinct.insert(value.clone());
                    }
                    self.give(value, output)?;
                    self.comes_to(None, Some(operation));
                    return Ok(flow);
                }
                OperationKind::For { variable, source, .. } => {
                    let next = self.nested(|executor| {
                        executor.each(*variable, source, row, &mut |executor, row| {
                            executor.push_on(stage, at, row, state, output)
                        })
                    })?;
                    return Ok(if next == Flow::Stop { next } else { flow });
                }
                OperationKind::Traversal(traversal) => {
                    let next = self.nested(|executor| {
                        executor.traverse(traversal, row, &mut |executor, row| {
                            executor.push_on(stage, at, row, state, output)
                        })
                    })?;
                    return Ok(if next == Flow::Stop { next } else { flow });
                }
                OperationKind::Paths(paths) => {
                    let next = self.nested(|executor| {
                        executor.paths(paths, row, &mut |executor, row| executor.push_on(stage, at, row, state, output))
                    })?;
                    return Ok(if next == Flow::Stop { next } else { flow });
                }
                _ => unreachable!("it ends a stage"),
            }
            at += 1;
        }
        self.comes_to(state.end, stage.last());
        if let Some(gathering) = &mut state.gathering {
            self.take_row(gathering, row)?;
        }
        Ok(flow)
    }

    /// From the operation at `at`, which goes on afterwards, to the one after it.
    fn push_on(
        &mut self,
        stage: &'q [Operation],
        at: usize,
        row: &mut Row,
        state: &mut Stage<'q>,
        output: &mut Output,
    ) -> Result<Flow> {
        let flow = self.push(stage, at + 1, row, state, output);
        self.turn_to(Some(Place::of(&stage[at])));
        flow
    }

    fn give(&mut self, value: Value, output: &mut Output) -> Result<()> {
        match output {
            Output::Result(rows) => {
                rows.push(|out| value.write_row(out));
                // Counted for good at the end; until then it must not grow without bound either.
                if rows.bytes().saturating_add(self.held_bytes) > self.settings.memory_bytes {
                    return self.hold(rows.bytes());
                }
            }
            Output::Array(values) => {
                self.hold(value.size_bytes())?;
                values.push(value);
            }
            Output::Count(count) => *count += 1,
        }
        Ok(())
    }

    /// `FOR variable IN source`
    fn each(
        &mut self,
        variable: Slot,
        source: &'q Expression,
        row: &mut Row,
        then: &mut dyn FnMut(&mut Self, &mut Row) -> Result<Flow>,
    ) -> Result<Flow> {
        let place = variable.index();
        match &source.kind {
            ExpressionKind::Collection(name) => {
                let collection = self.collection_named(&name.text)?;
                self.documents(variable, &collection, row, &mut |executor, row, document| {
                    row[place] = document;
                    then(executor, row)
                })
            }
            ExpressionKind::Binary(BinaryOperator::Range, from, to) => {
                let (from, to) = (self.evaluate(from, row)?.to_int(), self.evaluate(to, row)?.to_int());
                let mut number = from;
                loop {
                    self.step()?;
                    row[place] = Value::Int(number);
                    if then(self, row)? == Flow::Stop {
                        return Ok(Flow::Stop);
                    }
                    if number == to {
                        return Ok(Flow::More);
                    }
                    number += if from <= to { 1 } else { -1 };
                }
            }
            _ => {
                let value = self.evaluate(source, row)?;
                let Value::Array(elements) = &value else {
                    let kind = value.type_name();
                    let text = format!(
                        "collection or array expected as operand to FOR loop; you provided a value of type '{kind}'"
                    );
                    return Err(errors::QUERY_ARRAY_EXPECTED.says(text));
                };
                for element in elements.iter() {
                    self.step()?;
                    row[place] = element.clone();
                    if then(self, row)? == Flow::Stop {
                        return Ok(Flow::Stop);
                    }
                }
                Ok(Flow::More)
            }
        }
    }
}
