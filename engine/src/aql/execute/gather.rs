//! What needs all rows before the first goes on: `SORT`, `COLLECT`, `WINDOW`, and the operations that write.

use super::super::aggregate::{Accumulator, Aggregate as Function};
use super::super::ast::*;
use super::super::functions;
use super::super::plan::rules::Rule;
use super::super::value::{Object, Value};
use super::rows::{Held, VECTOR_BYTES};
use super::*;
use std::cmp::Ordering;

pub(super) fn gathers(operation: &Operation) -> bool {
    use OperationKind::*;
    matches!(operation.kind, Sort(_) | Collect(_) | Window(_) | Insert(_) | Update(_) | Remove(_) | Upsert(_))
}

/// What takes the rows of a stage, one by one.
pub(super) enum Gathering<'q> {
    Sort(Sort<'q>),
    Collect(Groups<'q>),
    /// `WINDOW` and what writes.
    All(&'q Operation, Held),
}

/// Rows with what they are sorted by.
pub(super) struct Sort<'q> {
    keys: &'q [SortKey],
    rows: Vec<Sorting>,
    /// Only so many of the first are wanted.
    rows_max: Option<usize>,
    /// Whether the rows that are not wanted are counted nevertheless.
    counted: bool,
    /// The last of the first `rows_max` rows, once there are so many.
    last: Option<Vec<Value>>,
}

struct Sorting {
    by: Vec<Value>,
    row: Row,
    bytes: usize,
}

pub(super) struct Groups<'q> {
    collect: &'q Collect,
    groups: BTreeMap<Vec<Value>, Gathered>,
    /// Of the row that comes in.
    key: Vec<Value>,
    bytes: usize,
}

/// What a group has so far.
struct Gathered {
    accumulators: Vec<Accumulator>,
    members: Vec<Value>,
    count: i64,
}

impl Gathered {
    fn new(collect: &Collect) -> Result<Gathered> {
        Ok(Gathered { accumulators: accumulators(&collect.aggregates)?, members: Vec::new(), count: 0 })
    }
}

fn accumulators(aggregates: &[Aggregate]) -> Result<Vec<Accumulator>> {
    let make = |aggregate: &Aggregate| {
        let kind = errors::QUERY_FUNCTION_NAME_UNKNOWN;
        let unknown = || kind.says(format!("{} '{}()'", kind.message, aggregate.function));
        Function::named(&aggregate.function).map(Accumulator::new).ok_or_else(unknown)
    };
    aggregates.iter().map(make).collect()
}

fn order(keys: &[SortKey], a: &[Value], b: &[Value]) -> Ordering {
    let orders = a.iter().zip(b).zip(keys).map(|((a, b), key)| match key.descending {
        false => a.cmp(b),
        true => b.cmp(a),
    });
    orders.fold(Ordering::Equal, Ordering::then)
}

impl<'q> Executor<'q, '_> {
    /// What an operation needs to take rows; `next` is the operation after it.
    pub(super) fn gathering(
        &mut self,
        operation: &'q Operation,
        next: Option<&'q Operation>,
        row: &mut Row,
    ) -> Result<Gathering<'q>> {
        Ok(match &operation.kind {
            OperationKind::Sort(keys) => {
                let (mut rows_max, mut counted) = (None, false);
                if let Some(next) = next.filter(|_| self.plan.rules.has(Rule::SortLimit))
                    && let OperationKind::Limit { offset, count } = &next.kind
                {
                    let skipped = offset.as_ref().map_or(Ok(0), |offset| self.number(offset, row))?;
                    rows_max = match self.rows_of_limit(count, row)? {
                        u64::MAX => None,
                        count => usize::try_from(skipped.saturating_add(count)).ok(),
                    };
                    counted = self.is_counted(next);
                }
                Gathering::Sort(Sort { keys, rows: Vec::new(), rows_max, counted, last: None })
            }
            OperationKind::Collect(collect) => {
                let mut groups = BTreeMap::new();
                if collect.groups.is_empty() {
                    groups.insert(Vec::new(), Gathered::new(collect)?);
                }
                Gathering::Collect(Groups { collect, groups, key: Vec::new(), bytes: 0 })
            }
            _ => Gathering::All(operation, Held::default()),
        })
    }

    pub(super) fn take_row(&mut self, gathering: &mut Gathering<'q>, row: &mut Row) -> Result<()> {
        match gathering {
            Gathering::Sort(sort) => self.take_sorted(sort, row),
            Gathering::Collect(groups) => self.take_grouped(groups, row),
            Gathering::All(_, held) => {
                let bytes = Held::cost(held.rows.last(), row);
                self.hold(bytes)?;
                held.bytes += bytes;
                held.rows.push(row.clone());
                Ok(())
            }
        }
    }

    /// The rows for the next stage. `row` has what is around the block.
    pub(super) fn gathered(&mut self, gathering: Gathering<'q>, row: &mut Row) -> Result<Held> {
        match gathering {
            Gathering::Sort(mut sort) => {
                self.cut(&mut sort);
                let bytes = sort.rows.iter().map(|sorting| sorting.bytes).sum();
                Ok(Held { rows: sort.rows.into_iter().map(|sorting| sorting.row).collect(), bytes })
            }
            Gathering::Collect(groups) => self.groups(groups, row),
            Gathering::All(operation, mut held) => {
                match &operation.kind {
                    OperationKind::Window(window) => self.window(window, &mut held)?,
                    _ => self.modify(operation, &mut held)?,
                }
                Ok(held)
            }
        }
    }

    // ---- sorting ----

    fn take_sorted(&mut self, sort: &mut Sort<'q>, row: &mut Row) -> Result<()> {
        self.step()?;
        let mut by = Vec::with_capacity(sort.keys.len());
        for key in sort.keys {
            by.push(self.evaluate(&key.value, row)?);
        }
        if sort.last.as_ref().is_some_and(|last| order(sort.keys, &by, last).is_ge()) || sort.rows_max == Some(0) {
            self.count_rows(sort.counted, 1);
            return Ok(());
        }
        let before = sort.rows.last().map(|sorting| &sorting.row);
        let bytes = Held::cost(before, row) + by.iter().map(Value::size_bytes).sum::<usize>() + VECTOR_BYTES;
        self.hold(bytes)?;
        sort.rows.push(Sorting { by, row: row.clone(), bytes });
        if sort.rows_max.is_some_and(|most| sort.rows.len() >= most.saturating_mul(2).max(64)) {
            self.cut(sort);
        }
        Ok(())
    }

    /// Sorts what there is, rows that are equal in the order in which they came, and drops what is not wanted of it.
    fn cut(&mut self, sort: &mut Sort<'q>) {
        sort.rows.sort_by(|a, b| order(sort.keys, &a.by, &b.by));
        let Some(most) = sort.rows_max.filter(|&most| sort.rows.len() > most) else { return };
        let dropped = sort.rows.drain(most..);
        self.count_rows(sort.counted, dropped.len() as u64);
        self.release(dropped.map(|sorting| sorting.bytes).sum());
        sort.last = sort.rows.last().map(|sorting| sorting.by.clone());
    }

    // ---- grouping ----

    fn take_grouped(&mut self, of: &mut Groups<'q>, row: &mut Row) -> Result<()> {
        let Groups { collect, groups, key, bytes } = of;
        self.step()?;
        key.clear();
        for group in &collect.groups {
            key.push(self.evaluate(&group.value, row)?);
        }
        let member = match &collect.into {
            None => None,
            Some(into) => Some(match &into.member {
                GroupMember::All(variables) | GroupMember::Keep(variables) => {
                    let of = |(name, slot): &(Arc<str>, Slot)| (name.clone(), row[slot.index()].clone());
                    variables.iter().map(of).collect::<Object>().into()
                }
                GroupMember::Projection(value) => self.evaluate(value, row)?,
            }),
        };
        let mut grown = 0;
        let group = match groups.get_mut(&key[..]) {
            Some(group) => group,
            None => {
                // And the row that it becomes.
                let row_bytes = 2 * VECTOR_BYTES + row.len() * size_of::<Value>();
                grown += key.iter().map(Value::size_bytes).sum::<usize>() + size_of::<Gathered>() + row_bytes;
                groups.entry(std::mem::take(key)).or_insert(Gathered::new(collect)?)
            }
        };
        group.count += 1;
        for (accumulator, aggregate) in group.accumulators.iter_mut().zip(&collect.aggregates) {
            let argument = self.evaluate(&aggregate.argument, row)?;
            let before = accumulator.size_bytes();
            accumulator.add(&argument);
            grown += accumulator.size_bytes().saturating_sub(before);
        }
        if let Some(member) = member {
            grown += member.size_bytes();
            group.members.push(member);
        }
        *bytes += grown;
        self.hold(grown)
    }

    fn groups(&mut self, Groups { collect, groups, bytes, .. }: Groups<'q>, outer: &Row) -> Result<Held> {
        let mut rows = Vec::with_capacity(groups.len());
        for (key, group) in groups {
            let mut row = outer.clone();
            for (of, value) in collect.groups.iter().zip(key) {
                row[of.variable.index()] = value;
            }
            self.finish(&collect.aggregates, group.accumulators, &mut row)?;
            if let Some(into) = &collect.into {
                row[into.variable.index()] = group.members.into();
            }
            if let Some(count) = collect.count {
                row[count.index()] = Value::Int(group.count);
            }
            rows.push(row);
        }
        Ok(Held { rows, bytes })
    }

    fn finish(&mut self, aggregates: &[Aggregate], accumulators: Vec<Accumulator>, row: &mut Row) -> Result<()> {
        for (aggregate, accumulator) in aggregates.iter().zip(accumulators) {
            row[aggregate.variable.index()] = self.with_context(|context| accumulator.finish(context))?;
        }
        Ok(())
    }

    // ---- windows ----

    fn window(&mut self, window: &'q Window, held: &mut Held) -> Result<()> {
        let mut places = Vec::new();
        if let Some(range) = &window.range {
            let mut rows = Vec::with_capacity(held.rows.len());
            for mut row in std::mem::take(&mut held.rows) {
                let value = self.evaluate(range, &mut row)?;
                self.can_hold(value.size_bytes())?;
                rows.push((value, row));
            }
            rows.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (value, row) in rows {
                places.push(self.bounds(window, &value)?);
                held.rows.push(row);
            }
        }
        let mut arguments = Vec::with_capacity(held.rows.len());
        let mut argument_bytes = 0;
        for row in &mut held.rows {
            let mut values = Vec::with_capacity(window.aggregates.len());
            for aggregate in &window.aggregates {
                values.push(self.evaluate(&aggregate.argument, row)?);
            }
            let bytes = VECTOR_BYTES + values.iter().map(Value::size_bytes).sum::<usize>();
            self.hold(bytes)?;
            argument_bytes += bytes;
            arguments.push(values);
        }
        let count = held.rows.len();
        let (preceding, following) = match window.range {
            Some(_) => (0, 0),
            None => (rows_of(&window.preceding)?, rows_of(&window.following)?),
        };
        // The windows move on only: what was added up is used again while a window begins where the last one did.
        let mut sofar: Option<(usize, usize, Vec<Accumulator>)> = None;
        for at in 0..count {
            let (from, to) = match places.get(at) {
                None => (at.saturating_sub(preceding), at.saturating_add(following).saturating_add(1).min(count)),
                Some(None) => continue,
                Some(Some((low, high, _))) => {
                    let place = |bound: f64, above: bool| {
                        places.partition_point(|place| match place {
                            None => true,
                            Some((_, _, own)) => {
                                if above {
                                    *own <= bound
                                } else {
                                    *own < bound
                                }
                            }
                        })
                    };
                    (place(*low, false), place(*high, true))
                }
            };
            let (begun, mut accumulators) = match sofar.take() {
                Some((start, end, accumulators)) if start == from && end <= to => (end, accumulators),
                _ => (from, accumulators(&window.aggregates)?),
            };
            for values in arguments.get(begun..to).unwrap_or_default() {
                self.step()?;
                accumulators.iter_mut().zip(values).for_each(|(accumulator, value)| accumulator.add(value));
            }
            // What the row gets, at most.
            let bytes: usize = accumulators.iter().map(Accumulator::size_bytes).sum();
            self.hold(bytes)?;
            held.bytes += bytes;
            self.has_read(bytes);
            self.look()?;
            self.finish(&window.aggregates, accumulators.clone(), &mut held.rows[at])?;
            sofar = Some((from, to, accumulators));
        }
        self.release(argument_bytes);
        Ok(())
    }

    /// The lowest and the highest value in the window of a row, and the row's own; `None` with a warning if it has
    /// none.
    fn bounds(&mut self, window: &Window, value: &Value) -> Result<Option<(f64, f64, f64)>> {
        let dated = [&window.preceding, &window.following]
            .iter()
            .any(|bound| matches!(bound, Value::String(text) if &**text != "unbounded"));
        let own = match dated {
            true => self.call_named("DATE_TIMESTAMP", std::slice::from_ref(value))?,
            false => value.clone(),
        };
        let Some(own) = own.as_double() else {
            if !dated {
                let kind = errors::QUERY_INVALID_ARITHMETIC_VALUE;
                self.with_context(|context| context.warn(kind, kind.message))?;
            }
            return Ok(None);
        };
        let mut bound = |by: &Value, name: &str, sign: f64| match by {
            Value::String(text) if &**text == "unbounded" => Ok(sign * f64::INFINITY),
            Value::String(_) => {
                let moved = self.call_named(name, &[Value::number(own), by.clone()])?;
                let moved = self.call_named("DATE_TIMESTAMP", &[moved])?;
                Ok(moved.as_double().unwrap_or(own))
            }
            number => Ok::<_, Error>(own + sign * number.to_double()),
        };
        let low = bound(&window.preceding, "DATE_SUBTRACT", -1.0)?;
        let high = bound(&window.following, "DATE_ADD", 1.0)?;
        Ok(Some((low, high, own)))
    }

    fn call_named(&mut self, name: &str, arguments: &[Value]) -> Result<Value> {
        let function = functions::lookup(name).ok_or(errors::QUERY_FUNCTION_NAME_UNKNOWN)?;
        self.with_context(|context| function.invoke(context, arguments))
    }
}

fn rows_of(bound: &Value) -> Result<usize> {
    match bound {
        Value::Null => Ok(0),
        Value::String(text) if &**text == "unbounded" => Ok(usize::MAX),
        Value::Int(number) => usize::try_from(*number).map_err(|_| bad_bound()),
        Value::Double(number) if *number >= 0.0 => Ok(*number as usize),
        _ => Err(bad_bound()),
    }
}

fn bad_bound() -> Error {
    errors::BAD_PARAMETER.because("WINDOW bounds must be numbers from 0, or \"unbounded\"")
}
