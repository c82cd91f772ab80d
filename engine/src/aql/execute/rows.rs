//! `FOR`, `FILTER`, `LET`, `LIMIT` and `RETURN`: rows carried through, one by one.

use super::super::ast::{BinaryOperator, Block, Expression, ExpressionKind, Operation, OperationKind, Slot};
use super::plan;
use super::*;
use std::collections::BTreeSet;

/// A page of a scan, at first and at most.
const PAGE_FIRST: usize = 16;
const PAGE_MAX: usize = 1024;

/// Where the rows of a block go.
pub(super) enum Output {
    Result(RowsWriter),
    Array(Vec<Value>),
}

/// Whether a stage wants more rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    More,
    Stop,
}

/// What a stage remembers from row to row.
#[derive(Default)]
struct Stage {
    limits: BTreeMap<usize, Window>,
    distinct: BTreeSet<Value>,
    held: Held,
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

impl Held {
    /// What a row adds: what it shares with the row before costs nothing.
    fn cost(&self, row: &Row) -> usize {
        let before = self.rows.last();
        let cost = |(place, value): (usize, &Value)| match before {
            Some(before) if shared(&before[place], value) => size_of::<Value>(),
            _ => value.size_bytes(),
        };
        row.iter().enumerate().map(cost).sum()
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
        let (mut input, mut rest): (Option<Held>, &'q [Operation]) = (None, &block.operations);
        loop {
            let end = rest.iter().position(gather::gathers).unwrap_or(rest.len());
            let (stage, after) = rest.split_at(end);
            let mut state = Stage { limits: self.limits(stage, row)?, ..Stage::default() };
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
            let Some((gathering, after)) = after.split_first() else {
                self.release(state.held.bytes);
                return Ok(());
            };
            input = Some(self.gather(gathering, state.held, row)?);
            rest = after;
            if rest.is_empty() {
                // It ends with a write, and nobody wants the rows.
                self.release(input.map_or(0, |held| held.bytes));
                return Ok(());
            }
        }
    }

    fn limits(&mut self, stage: &'q [Operation], row: &mut Row) -> Result<BTreeMap<usize, Window>> {
        let mut limits = BTreeMap::new();
        for (at, operation) in stage.iter().enumerate() {
            if let OperationKind::Limit { offset, count } = &operation.kind {
                let skip = offset.as_ref().map_or(Ok(0), |offset| self.number(offset, row))?;
                // Drivers write null for "all of them".
                let all = matches!(self.evaluate(count, row)?, Value::Null);
                limits.insert(at, Window { skip, left: if all { u64::MAX } else { self.number(count, row)? } });
            }
        }
        Ok(limits)
    }

    fn number(&mut self, expression: &'q Expression, row: &mut Row) -> Result<u64> {
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
        mut at: usize,
        row: &mut Row,
        state: &mut Stage,
        output: &mut Output,
    ) -> Result<Flow> {
        let mut flow = Flow::More;
        while let Some(operation) = stage.get(at) {
            match &operation.kind {
                OperationKind::Let { variable, value } => row[variable.index()] = self.evaluate(value, row)?,
                OperationKind::Filter(condition) => {
                    if !self.evaluate(condition, row)?.truthy() {
                        self.stats.filtered += 1;
                        return Ok(flow);
                    }
                }
                OperationKind::Limit { .. } => {
                    let counted = self.counted.is_some_and(|counted| std::ptr::eq(counted, operation));
                    if let Some(count) = self.stats.full_count.as_mut().filter(|_| counted) {
                        *count += 1;
                    }
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
                        state.held.bytes += bytes;
                        state.distinct.insert(value.clone());
                    }
                    self.give(value, output)?;
                    return Ok(flow);
                }
                OperationKind::For { variable, source, .. } => {
                    let next = self.nested(|executor| {
                        executor.each(*variable, source, &stage[at + 1..], row, &mut |executor, row| {
                            executor.push(stage, at + 1, row, state, output)
                        })
                    })?;
                    return Ok(if next == Flow::Stop { next } else { flow });
                }
                OperationKind::Traversal(traversal) => {
                    let next = self.nested(|executor| {
                        executor.traverse(traversal, row, &mut |executor, row| {
                            executor.push(stage, at + 1, row, state, output)
                        })
                    })?;
                    return Ok(if next == Flow::Stop { next } else { flow });
                }
                OperationKind::Paths(paths) => {
                    let next = self.nested(|executor| {
                        executor
                            .paths(paths, row, &mut |executor, row| executor.push(stage, at + 1, row, state, output))
                    })?;
                    return Ok(if next == Flow::Stop { next } else { flow });
                }
                _ => unreachable!("it ends a stage"),
            }
            at += 1;
        }
        let bytes = state.held.cost(row);
        self.hold(bytes)?;
        state.held.bytes += bytes;
        state.held.rows.push(row.clone());
        Ok(flow)
    }

    fn give(&mut self, value: Value, output: &mut Output) -> Result<()> {
        match output {
            Output::Result(rows) => {
                rows.push(|out| value.write_json(out));
                // Counted for good at the end; until then it must not grow without bound either.
                if rows.bytes().saturating_add(self.held_bytes) > self.settings.memory_bytes {
                    return self.hold(rows.bytes());
                }
            }
            Output::Array(values) => {
                self.hold(size_of::<Value>())?;
                values.push(value);
            }
        }
        Ok(())
    }

    /// `FOR variable IN source`, with what comes right after it.
    fn each(
        &mut self,
        variable: Slot,
        source: &'q Expression,
        after: &'q [Operation],
        row: &mut Row,
        then: &mut dyn FnMut(&mut Self, &mut Row) -> Result<Flow>,
    ) -> Result<Flow> {
        let place = variable.index();
        match &source.kind {
            ExpressionKind::Collection(name) => {
                let collection = self.collection_named(&name.text)?;
                match plan::primary(variable, after) {
                    Some(lookup) => {
                        for key in self.keys_of(lookup, &collection, row)? {
                            self.step()?;
                            let Some(document) = self.data.reader().document(&collection, &key)? else { continue };
                            self.stats.scanned_index += 1;
                            row[place] = document_value(&document, &collection);
                            if then(self, row)? == Flow::Stop {
                                return Ok(Flow::Stop);
                            }
                        }
                        Ok(Flow::More)
                    }
                    None => self.scan(&collection, &mut |executor, document| {
                        executor.stats.scanned_full += 1;
                        row[place] = document;
                        then(executor, row)
                    }),
                }
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

    /// The documents of a collection, in the order in which they were last written. A query that writes takes all of
    /// them before the first is looked at, so that what it writes meanwhile, in a subquery, makes no difference.
    pub(super) fn scan(
        &mut self,
        collection: &CollectionRow,
        each: &mut dyn FnMut(&mut Self, Value) -> Result<Flow>,
    ) -> Result<Flow> {
        let page = if self.writes { usize::MAX } else { PAGE_FIRST };
        self.scan_pages(collection, page, each)
    }

    /// The same for those who write nothing while they look.
    pub(super) fn scan_now(
        &mut self,
        collection: &CollectionRow,
        each: &mut dyn FnMut(&mut Self, Value) -> Result<Flow>,
    ) -> Result<Flow> {
        self.scan_pages(collection, PAGE_FIRST, each)
    }

    fn scan_pages(
        &mut self,
        collection: &CollectionRow,
        mut page: usize,
        each: &mut dyn FnMut(&mut Self, Value) -> Result<Flow>,
    ) -> Result<Flow> {
        let mut after = None;
        loop {
            let documents = self.data.reader().documents(collection, after, page)?;
            let Some(last) = documents.last() else { return Ok(Flow::More) };
            after = Some(last.revision);
            let bytes = documents.iter().map(|document| document.body.len() + 64).sum();
            self.hold(bytes)?;
            for document in documents {
                self.step()?;
                if each(self, document_value(&document, collection))? == Flow::Stop {
                    self.release(bytes);
                    return Ok(Flow::Stop);
                }
            }
            self.release(bytes);
            if page == usize::MAX {
                return Ok(Flow::More);
            }
            page = (page * 4).min(PAGE_MAX);
        }
    }

    /// The keys that a lookup comes to, each once, in the order in which they are given.
    fn keys_of(&mut self, lookup: plan::Primary<'q>, collection: &CollectionRow, row: &mut Row) -> Result<Vec<String>> {
        let given = self.evaluate(lookup.value, row)?;
        let given: &[Value] = match (&given, lookup.many) {
            (Value::Array(elements), true) => elements,
            (_, true) => &[],
            (one, false) => std::slice::from_ref(one),
        };
        let mut seen = BTreeSet::new();
        let mut keys = Vec::new();
        for text in given.iter().filter_map(Value::as_str) {
            let key = match lookup.by_id {
                false => Some(text),
                true => text.split_once('/').filter(|(name, _)| *name == collection.name).map(|(_, key)| key),
            };
            if let Some(key) = key.filter(|key| seen.insert(key.to_string())) {
                keys.push(key.to_owned());
            }
        }
        Ok(keys)
    }
}
