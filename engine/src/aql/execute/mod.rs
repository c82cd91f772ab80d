//! Runs a query: from its tree to rows.
//!
//! A block is cut into stages. Within a stage rows stream: each is carried through `FOR`, `FILTER`, `LET`, `LIMIT`
//! and `RETURN` before the next one is looked at ([`rows`]). What needs all rows ends a stage: `SORT`, `COLLECT`,
//! `WINDOW` and the operations that write ([`gather`], [`modify`]), so that nothing reads what the same operation
//! writes. How a loop comes by its documents is in the plan ([`super::plan`]); [`scan`] reads them. A row has a place
//! for each variable of the whole query, so subqueries see what is around them ([`expression`]).
//!
//! The engine has no clock. A query is bounded by steps, of which each row and each element that is looked at is one,
//! on each machine the same; whoever runs it is asked now and then whether it is to go on. Memory is counted where rows
//! are held.
//!
//! What a query writes is all kept, or nothing of it: the first error ends it, and whoever runs it throws away what was
//! written.

mod alone;
mod constants;
mod document;
mod edges;
mod explain;
mod expression;
mod gather;
mod modify;
mod paths;
mod profile;
mod rows;
mod scan;
mod traverse;

pub use constants::fold;
pub use explain::{explain, profiled};
pub use profile::Profile;

use super::ast::{Operation, OperationKind, Query};
use super::functions::{Context, Environment, Regexes, Warning};
use super::plan::projection::Projection;
use super::plan::rules::Rules;
use super::plan::{Catalog, Plan};
use super::value::Value;
use crate::cursor::RowsWriter;
use crate::db::index::lookup::{self, Lookup};
use crate::db::json::Merge;
use crate::db::{CollectionRow, Document, Overwrite, Reader, Revision};
use crate::errors::{self, Error};
use crate::types::{Duration, Rng, Time};
use profile::Place;
use std::collections::BTreeMap;
use std::sync::Arc;

/// After so many steps it is asked whether the query is to go on.
const STEPS_A_LOOK: u64 = 1024;
/// So much of what is read, compared, or goes through functions is one step more.
const BYTES_A_STEP: usize = 4096;
/// Of a query for which nobody has time: some milliseconds at most.
pub const STEPS_MAX_HURRIED: u64 = 1000;
/// And what it may hold.
pub const MEMORY_BYTES_MAX_HURRIED: usize = 1 << 20;
/// Of a query that only reads: minutes.
pub const STEPS_MAX_READING: u64 = 500_000_000;
/// Of a query that writes: nothing else is written meanwhile, so it must be over long before that looks like a disk
/// that hangs.
pub const STEPS_MAX_WRITING: u64 = 5_000_000;
/// What a query may hold at once, whatever it asks for.
pub const MEMORY_BYTES_MAX: usize = 1 << 30;
/// Loops and subqueries within one another.
const NESTING_MAX: usize = 100;

type Result<T> = std::result::Result<T, Error>;
type Row = Vec<Value>;

/// What a query needs of the store. Whoever asks for a collection has been looked at.
pub trait Data {
    fn reader(&self) -> Reader<'_>;
    fn database(&self) -> &str;
    fn user(&self) -> Option<&str>;
    /// Of somebody's clock, to measure time with.
    fn now(&self) -> Time;
    /// A collection that may be read, or also written.
    fn collection(&self, name: &str, writes: bool) -> Result<CollectionRow>;
    /// All that this user sees.
    fn collections(&self) -> Result<Vec<CollectionRow>>;
    /// The names of a named graph's edge collections.
    fn edge_collections(&self, graph: &str) -> Result<Vec<String>>;
    fn insert(&mut self, collection: &CollectionRow, text: &str, how: Writing) -> Result<Written>;
    /// Replaces the document with that key, or with `patch` merges into it.
    fn modify(
        &mut self,
        collection: &CollectionRow,
        key: &str,
        text: &str,
        patch: bool,
        how: Writing,
    ) -> Result<Written>;
    fn remove(&mut self, collection: &CollectionRow, key: &str, expected: Option<Option<Revision>>) -> Result<Written>;
    /// Whether the query is to go on; an error if not.
    fn go_on(&self) -> Result<()>;
    /// Waits; false if that was cut short.
    fn sleep(&self, time: Duration) -> Result<bool>;
}

/// How a document is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Writing {
    pub ignore_revisions: bool,
    pub overwrite: Overwrite,
    pub merge: Merge,
    /// Whether it must fit the collection's schema.
    pub validate: bool,
}

/// What became of a document.
#[derive(Default)]
pub struct Written {
    pub old: Option<Document>,
    pub new: Option<Document>,
}

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub memory_bytes: usize,
    pub steps: u64,
    pub full_count: bool,
    pub fail_on_warning: bool,
    /// Of more warnings than this the first are told.
    pub warnings_max: usize,
    /// What each operation does is counted.
    pub profile: bool,
    pub now_ms: i64,
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub writes_executed: u64,
    pub writes_ignored: u64,
    pub scanned_full: u64,
    pub scanned_index: u64,
    /// Lookups in indexes.
    pub cursors_created: u64,
    pub filtered: u64,
    pub peak_memory_bytes: usize,
    pub full_count: Option<u64>,
}

pub struct Outcome {
    pub rows: RowsWriter,
    pub stats: Stats,
    pub warnings: Vec<Warning>,
    pub profile: Option<Profile>,
}

/// What a query comes to that is one `RETURN` and looks at no data.
pub fn evaluate_alone(query: Query, reader: Reader<'_>, settings: Settings) -> Result<Value> {
    // Nothing can be planned where there is no loop.
    let plan = Plan::new(query, Catalog::new(), Rules::NONE)?;
    let outcome = execute(&plan, Vec::new(), &mut alone::Alone { reader }, settings)?;
    let rows = outcome.rows.finish();
    Ok(std::str::from_utf8(rows.text()).map(Value::parse_stored).unwrap_or_default())
}

/// The collections of a query. If it `runs`, it must also be allowed to write to them.
pub fn catalog(query: &Query, data: &dyn Data, runs: bool) -> Result<Catalog> {
    let mut catalog = Catalog::new();
    let named = query.with.iter().map(|name| (name, false));
    for (name, written) in query.collections.iter().map(|used| (&used.name, used.written)).chain(named) {
        if !catalog.contains_key(&name.text) {
            let collection = data.collection(&name.text, written && runs)?;
            let count = data.reader().count(&collection)?;
            catalog.insert(name.text.clone(), (Arc::new(collection), count));
        }
    }
    Ok(catalog)
}

/// Runs a query, of which there may have been something to warn before.
pub fn execute(plan: &Plan, warnings: Vec<Warning>, data: &mut dyn Data, settings: Settings) -> Result<Outcome> {
    let mut executor = Executor { warnings, ..Executor::new(plan, data, settings) };
    let mut row = vec![Value::Null; plan.query.variables.len()];
    let mut output = rows::Output::Result(RowsWriter::default());
    executor.block(&plan.query.body, &mut row, &mut output)?;
    let rows::Output::Result(rows) = output else { unreachable!("it was made as one") };
    executor.hold(rows.bytes())?;
    Ok(Outcome { rows, stats: executor.stats, warnings: executor.warnings, profile: executor.profile })
}

struct Executor<'q, 'd> {
    plan: &'q Plan,
    data: &'d mut dyn Data,
    /// Whether the query writes anything.
    writes: bool,
    /// By the names that the query uses.
    collections: BTreeMap<Arc<str>, Arc<CollectionRow>>,
    settings: Settings,
    /// The `LIMIT` before which rows are counted.
    counted: Option<&'q Operation>,
    stats: Stats,
    warnings: Vec<Warning>,
    regexes: Regexes,
    rng: Rng,
    steps: u64,
    /// At so many it is asked again whether the query is to go on.
    look_at: u64,
    held_bytes: usize,
    nesting: usize,
    /// By where they stand in the query.
    subqueries: BTreeMap<*const super::ast::Block, Subquery>,
    profile: Option<Profile>,
}

/// What is known of a subquery.
enum Subquery {
    /// It reads what is around it.
    Varies,
    /// It comes to the same for all rows, and has been run once.
    Once,
    Same(Value),
}

impl<'q, 'd> Executor<'q, 'd> {
    fn new(plan: &'q Plan, data: &'d mut dyn Data, settings: Settings) -> Executor<'q, 'd> {
        let query = &plan.query;
        let collections =
            plan.catalog.iter().map(|(name, (collection, _))| (name.clone(), Arc::clone(collection))).collect();
        let is_limit = |operation: &&Operation| matches!(operation.kind, OperationKind::Limit { .. });
        let counted = query.body.operations.iter().rfind(is_limit).filter(|_| settings.full_count);
        let profile = settings.profile.then(|| Profile::begin(data.now()));
        Executor {
            plan,
            writes: query.writes(),
            data,
            collections,
            settings,
            counted,
            stats: Stats { full_count: counted.map(|_| 0), ..Stats::default() },
            warnings: Vec::new(),
            regexes: Regexes::default(),
            rng: Rng::new(settings.seed),
            steps: 0,
            look_at: STEPS_A_LOOK,
            held_bytes: 0,
            nesting: 0,
            subqueries: BTreeMap::new(),
            profile,
        }
    }
}

impl<'q> Executor<'q, '_> {
    fn step(&mut self) -> Result<()> {
        self.steps += 1;
        self.look()
    }

    /// Asks whether the query is to go on, if it has not for long.
    fn look(&mut self) -> Result<()> {
        if self.steps > self.settings.steps {
            return Err(errors::QUERY_KILLED.because("it takes longer than it may"));
        }
        if self.steps < self.look_at {
            return Ok(());
        }
        self.look_at = self.steps + STEPS_A_LOOK;
        self.data.go_on()
    }

    /// Counts what is read, compared, or goes through functions, by how long it is.
    fn has_read(&mut self, bytes: usize) {
        self.steps += (bytes / BYTES_A_STEP) as u64;
    }

    /// Counts memory that is held from now on.
    fn hold(&mut self, bytes: usize) -> Result<()> {
        self.can_hold(bytes)?;
        self.held_bytes += bytes;
        self.stats.peak_memory_bytes = self.stats.peak_memory_bytes.max(self.held_bytes);
        Ok(())
    }

    /// Whether so much more is allowed.
    fn can_hold(&self, bytes: usize) -> Result<()> {
        if self.held_bytes.saturating_add(bytes) > self.settings.memory_bytes {
            return Err(errors::RESOURCE_LIMIT.because("query would use more memory than allowed"));
        }
        Ok(())
    }

    fn release(&mut self, bytes: usize) {
        self.held_bytes -= bytes.min(self.held_bytes);
    }

    /// If there is a profile, time goes to that operation from now on; returns to which it went.
    fn turn_to(&mut self, place: Option<Place>) -> Option<Place> {
        let now = self.profile.is_some().then(|| self.data.now())?;
        self.profile.as_mut().and_then(|profile| profile.turn_to(place, now))
    }

    /// A row has come to an operation, from the one before it.
    fn comes_to(&mut self, operation: Option<&Operation>, from: Option<&Operation>) {
        if self.profile.is_none() {
            return;
        }
        self.turn_to(operation.map(Place::of));
        let profile = self.profile.as_mut().expect("there is one");
        if let Some(operation) = operation {
            profile.tally(Place::of(operation)).calls += 1;
        }
        if let Some(from) = from {
            profile.tally(Place::of(from)).items += 1;
        }
    }

    /// One level deeper.
    fn nested<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.nesting >= NESTING_MAX {
            return Err(errors::QUERY_TOO_MUCH_NESTING.into());
        }
        self.nesting += 1;
        let result = work(self);
        self.nesting -= 1;
        result
    }

    fn collection_named(&self, name: &str) -> Result<Arc<CollectionRow>> {
        match self.collections.get(name) {
            Some(found) => Ok(Arc::clone(found)),
            None => self.data.collection(name, false).map(Arc::new),
        }
    }

    /// Calls what needs the context of functions.
    fn with_context<T>(&mut self, call: impl FnOnce(&mut Context<'_>) -> Result<T>) -> Result<T> {
        let environment = Surroundings { data: self.data };
        let mut context = Context::new(&environment, self.settings.now_ms, self.rng.clone());
        context.warnings = std::mem::take(&mut self.warnings);
        context.regexes = std::mem::take(&mut self.regexes);
        context.fail_on_warning = self.settings.fail_on_warning;
        context.warnings_max = self.settings.warnings_max;
        let result = call(&mut context);
        self.rng = context.rng;
        self.warnings = context.warnings;
        self.regexes = context.regexes;
        result
    }
}

/// A document as queries see it.
fn document_value(document: &Document, collection: &CollectionRow) -> Value {
    document::document_value(&document.stored(), &collection.name, &Projection::Whole)
}

fn optional_value(document: Option<&Document>, collection: &CollectionRow) -> Value {
    document.map(|document| document_value(document, collection)).unwrap_or_default()
}

/// The store, as functions see it.
struct Surroundings<'d> {
    data: &'d dyn Data,
}

impl Environment for Surroundings<'_> {
    fn database(&self) -> &str {
        self.data.database()
    }

    fn user(&self) -> Option<&str> {
        self.data.user()
    }

    fn version(&self) -> &str {
        crate::db::api::VERSION
    }

    fn go_on(&self) -> Result<()> {
        self.data.go_on()
    }

    fn sleep(&self, time: Duration) -> Result<bool> {
        self.data.sleep(time)
    }

    fn document(&self, collection: &str, key: &str) -> Result<Option<Value>> {
        let collection = match self.data.collection(collection, false) {
            Err(error) if error.kind == errors::DATA_SOURCE_NOT_FOUND => return Ok(None),
            found => found?,
        };
        let found = self.data.reader().document(&collection, key)?;
        Ok(found.map(|document| document_value(&document, &collection)))
    }

    fn look_up(&self, collection: &str, lookup: &Lookup) -> Result<Vec<(Value, f64)>> {
        let collection = self.data.collection(collection, false)?;
        let found = lookup::find(&self.data.reader(), &collection, lookup, None)?;
        Ok(found.into_iter().map(|(document, meters)| (document_value(&document, &collection), meters)).collect())
    }

    fn schema(&self, collection: &str) -> Result<Value> {
        let collection = self.data.collection(collection, false)?;
        let schema = collection.properties.get("schema");
        Ok(schema.map(|schema| Value::parse_stored(&schema.to_string())).unwrap_or_default())
    }

    fn count(&self, collection: &str) -> Result<u64> {
        let collection = self.data.collection(collection, false)?;
        Ok(self.data.reader().count(&collection)?)
    }

    fn collections(&self) -> Result<Vec<(String, String)>> {
        let rows = self.data.collections()?;
        Ok(rows.into_iter().map(|row| (row.id.to_string(), row.name)).collect())
    }
}

#[cfg(test)]
mod tests;
