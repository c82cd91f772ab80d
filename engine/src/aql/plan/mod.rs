//! How a query is carried out: the tree as the rules have changed it, and how each loop comes by its documents.
//!
//! A plan is made once, before the query runs. It never changes what a query gives, but for the order of rows that no
//! `SORT` determines and for warnings: an expression may be evaluated more or less often than the text says. Tests run
//! random queries with and without it.
//!
//! - [`rules`]: the rules, and which are on.
//! - `filters`: filters as early as possible.
//! - `conditions` and [`access`]: what filters ask for, and the index that answers it best.
//! - `places`: the same for geo indexes.
//! - `counts`: documents that are counted only.
//! - [`projection`]: which attributes are read at all.
//! - `check`: whether the query may run. [`light`]: whether it may run where nothing may take long.
//! - [`options`]: what `OPTIONS` may say.

pub mod access;
mod check;
mod conditions;
mod counts;
pub mod expressions;
mod filters;
pub mod light;
pub mod options;
pub mod places;
pub mod projection;
pub mod rules;

use super::ast::*;
use super::value::Value;
use crate::db::CollectionRow;
use crate::errors::Error;
use crate::types::{Duration, Time};
use access::{Access, By, Loop, Statistics};
use expressions::for_each_block_mut;
use projection::{Projection, Uses};
use rules::{Rule, Rules};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The collections that a query names, each with the number of its documents.
pub type Catalog = BTreeMap<Arc<str>, (Arc<CollectionRow>, u64)>;

pub struct Plan {
    pub query: Query,
    pub catalog: Catalog,
    /// Whether its result may be given again as long as the data are the same.
    pub cacheable: bool,
    /// Which rules are on.
    pub rules: Rules,
    /// Which of them made a difference.
    pub applied: Rules,
    /// How long they took; a rule that is applied together with the one before it is not here.
    pub times: BTreeMap<Rule, Duration>,
    /// By the variables of loops over collections, and of what `UPSERT` looks for.
    accesses: BTreeMap<Slot, Access>,
    projections: BTreeMap<Slot, Projection>,
}

/// The rules that change blocks, in the order in which they are applied. Each says whether it made a difference.
type Apply = fn(&mut Block) -> bool;
const REWRITING: [(Rule, Apply); 3] = [
    // Nothing is moved: the query keeps what such a subquery came to.
    (Rule::MoveCalculationsUp, expressions::has_repeated),
    (Rule::MoveFiltersUp, filters::move_up),
    (Rule::OptimizeCount, counts::count_collections),
];

impl Plan {
    /// Fails if the query may not run, or if it demands an index that is of no use.
    pub fn new(query: Query, catalog: Catalog, rules: Rules) -> Result<Plan, Error> {
        Plan::timed(query, catalog, rules, &(), &|| Time::ZERO)
    }

    /// The same, with what is known of the data, and somebody's clock to measure the rules by.
    pub fn timed(
        query: Query,
        catalog: Catalog,
        rules: Rules,
        statistics: &dyn Statistics,
        now: &dyn Fn() -> Time,
    ) -> Result<Plan, Error> {
        check::check(&query)?;
        let (times, accesses, projections) = Default::default();
        let cacheable = !query.writes() && expressions::is_repeatable(&query.body);
        let applied = Rules::NONE;
        let mut plan = Plan { query, catalog, cacheable, rules, applied, times, accesses, projections };
        let mut began = now();
        let mut done = |plan: &mut Plan, rule: Rule| {
            let ended = now();
            plan.times.insert(rule, ended.since(began));
            began = ended;
        };
        for (rule, apply) in REWRITING.into_iter().filter(|(rule, _)| rules.has(*rule)) {
            let mut applied = false;
            for_each_block_mut(&mut plan.query.body, &mut |block| applied |= apply(block));
            if applied {
                plan.applied.add(rule);
            }
            done(&mut plan, rule);
        }
        plan.choose_accesses(statistics)?;
        done(&mut plan, Rule::UseIndexes);
        plan.see_what_is_read();
        done(&mut plan, Rule::ReduceExtractionToProjection);
        Ok(plan)
    }

    pub fn access(&self, variable: Slot) -> Option<&Access> {
        self.accesses.get(&variable)
    }

    pub fn projection(&self, variable: Slot) -> &Projection {
        self.projections.get(&variable).unwrap_or(&Projection::Whole)
    }

    fn choose_accesses(&mut self, statistics: &dyn Statistics) -> Result<(), Error> {
        let Plan { query, catalog, rules, applied, accesses, .. } = self;
        let mut result = Ok(());
        for_each_block_mut(&mut query.body, &mut |block| {
            if result.is_ok() {
                let mut chosen = Chosen { catalog, rules: *rules, applied, accesses, statistics };
                result = chosen.block(block);
            }
        });
        result
    }

    fn see_what_is_read(&mut self) {
        let mut uses = Uses::default();
        uses.of(&self.query.body);
        self.accesses.values().for_each(|access| access.for_each_expression(&mut |it| uses.expression(it)));
        if !self.rules.has(Rule::ReduceExtractionToProjection) {
            return;
        }
        let (projections, applied) = (&mut self.projections, &mut self.applied);
        for_each_block_mut(&mut self.query.body, &mut |block| {
            for operation in &block.operations {
                for variable in documents_in(operation) {
                    let projection = uses.take(variable);
                    if projection != Projection::Whole {
                        applied.add(Rule::ReduceExtractionToProjection);
                    }
                    projections.insert(variable, projection);
                }
            }
        });
    }
}

/// The variables that an operation puts documents into, or paths of them, that it reads for nobody else.
fn documents_in(operation: &Operation) -> impl Iterator<Item = Slot> {
    let variables = match &operation.kind {
        OperationKind::For { variable, source, .. } if matches!(source.kind, ExpressionKind::Collection(_)) => {
            [Some(*variable), None, None]
        }
        OperationKind::Traversal(traversal) => [Some(traversal.vertex), traversal.edge, traversal.path],
        OperationKind::Paths(paths) if paths.kind == PathsKind::Shortest => [Some(paths.variable), paths.edge, None],
        _ => [None; 3],
    };
    variables.into_iter().flatten()
}

/// Chooses how the loops of a block come by their documents, and takes out what that makes superfluous.
struct Chosen<'p> {
    catalog: &'p Catalog,
    rules: Rules,
    applied: &'p mut Rules,
    accesses: &'p mut BTreeMap<Slot, Access>,
    statistics: &'p dyn Statistics,
}

impl Chosen<'_> {
    fn block(&mut self, block: &mut Block) -> Result<(), Error> {
        let mut at = 0;
        while at < block.operations.len() {
            match &block.operations[at].kind {
                OperationKind::For { variable, source, options } => {
                    if let ExpressionKind::Collection(name) = &source.kind {
                        let (variable, options, name) = (*variable, options.clone(), name.text.clone());
                        self.collection(block, at, variable, &name, &options)?;
                    }
                }
                OperationKind::Upsert(upsert) => self.upsert(upsert)?,
                OperationKind::Sort(_) if self.rules.has(Rule::SortLimit) => {
                    let limited = block.operations.get(at + 1);
                    if limited.is_some_and(|next| matches!(next.kind, OperationKind::Limit { .. })) {
                        self.applied.add(Rule::SortLimit);
                    }
                }
                _ => {}
            }
            at += 1;
        }
        Ok(())
    }

    /// The loop at a place.
    fn collection(
        &mut self,
        block: &mut Block,
        at: usize,
        variable: Slot,
        name: &Arc<str>,
        options: &Value,
    ) -> Result<(), Error> {
        let Some((collection, count)) = self.catalog.get(name) else { return Ok(()) };
        let (before, after) = (&block.operations[..at], &block.operations[at + 1..]);
        let filters = after.iter().map_while(|operation| match &operation.kind {
            OperationKind::Filter(condition) => Some(condition),
            _ => None,
        });
        let sort = sort_after(before, after).filter(|_| self.rules.has(Rule::UseIndexForSort));
        let offered = Loop {
            variable,
            collection,
            count: *count,
            alternatives: conditions::alternatives(variable, filters),
            sort: sort.map(|(_, keys, rows)| (keys, rows)),
            between: sort.map_or(0, |(place, ..)| after[..place].iter().filter(|operation| chooses(operation)).count()),
            options,
            by_filters: self.rules.has(Rule::UseIndexes),
            by_place: self.rules.has(Rule::UseGeoIndexes),
            statistics: self.statistics,
        };
        let Some(access) = access::choose(&offered)? else { return Ok(()) };
        let sorted = sort.filter(|_| access.sorted).map(|(place, ..)| at + 1 + place);
        if let Some(place) = sorted {
            self.applied.add(Rule::UseIndexForSort);
            block.operations.remove(place);
        }
        match &access.by {
            By::Place(by) => {
                self.applied.add(Rule::UseGeoIndexes);
                for operation in &mut block.operations[at + 1..] {
                    let OperationKind::Filter(condition) = &mut operation.kind else { break };
                    by.place.fit(condition, variable, &by.index);
                }
            }
            _ if access.answers() > 0 => self.applied.add(Rule::UseIndexes),
            _ => {}
        }
        if self.rules.has(Rule::RemoveFilterCoveredByIndex) && !access.covers.is_empty() {
            self.applied.add(Rule::RemoveFilterCoveredByIndex);
            for covered in access.covers.iter().rev() {
                block.operations.remove(at + 1 + covered);
            }
        }
        self.accesses.insert(variable, access);
        Ok(())
    }

    fn upsert(&mut self, upsert: &Upsert) -> Result<(), Error> {
        let Some((collection, count)) = self.catalog.get(&upsert.collection.text) else { return Ok(()) };
        let (variable, alternatives) = match &upsert.search {
            UpsertSearch::Example(example) => (upsert.old, vec![conditions::of_example(upsert.old, example)]),
            UpsertSearch::Filter { current, condition } => {
                (*current, conditions::alternatives(*current, std::iter::once(condition)))
            }
        };
        if !self.rules.has(Rule::UseIndexes) {
            return Ok(());
        }
        let count = *count;
        let options = &upsert.options;
        let offered = Loop {
            variable,
            collection,
            count,
            alternatives,
            sort: None,
            between: 0,
            options,
            by_filters: true,
            by_place: false,
            statistics: self.statistics,
        };
        if let Some(access) = access::choose(&offered)? {
            self.applied.add(Rule::UseIndexes);
            self.accesses.insert(variable, access);
        }
        Ok(())
    }
}

/// Whether it may leave rows out, or make several of one.
fn chooses(operation: &Operation) -> bool {
    !matches!(operation.kind, OperationKind::Let { .. })
}

/// The sort whose rows come in the order of a loop if nothing is sorted: its place after the loop, its keys, and how
/// many rows are wanted of it, if that is known.
fn sort_after<'q>(before: &[Operation], after: &'q [Operation]) -> Option<(usize, &'q [SortKey], Option<u64>)> {
    // Otherwise the loop begins again and again.
    let once = |operation: &Operation| matches!(operation.kind, OperationKind::Let { .. } | OperationKind::Filter(_));
    if !before.iter().all(once) {
        return None;
    }
    for (place, operation) in after.iter().enumerate() {
        match &operation.kind {
            OperationKind::Let { .. }
            | OperationKind::Filter(_)
            | OperationKind::For { .. }
            | OperationKind::Traversal(_)
            | OperationKind::Paths(_) => {}
            OperationKind::Sort(keys) => {
                let rows = match after.get(place + 1).map(|next| &next.kind) {
                    Some(OperationKind::Limit { offset, count }) => {
                        let number = |bound: &Expression| bound.constant().map(|value| value.to_int().max(0) as u64);
                        let offset = offset.as_ref().map_or(Some(0), number);
                        // Null is "all of them".
                        let count = Some(count).filter(|count| count.constant() != Some(Value::Null)).and_then(number);
                        offset.zip(count).map(|(offset, count)| offset.saturating_add(count))
                    }
                    _ => None,
                };
                return Some((place, keys, rows));
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests;
