//! How the documents of a loop are come by: all of them, by their keys, by ranges of indexes, or by where they are.
//!
//! # The choice
//!
//! Each index that can be used gets an estimate of the documents that are read by it, from the number of documents in
//! the collection: an attribute that must be equal leaves a tenth of them ([`EQUAL_LEAVES`]; of edges at a vertex a
//! hundredth), one of several values so many tenths, one bound a half, both a quarter; all attributes of a unique index
//! leave one document. Reading by an index costs two for each document (the entry and the document), where a scan
//! costs one; what is near a place is taken to be a tenth of all. Sorting `n` rows afterwards costs `n log n`. The
//! cheapest one is taken, of two that cost the same the one that answers more comparisons. An index that answers a
//! comparison is always preferred to a scan. Where no index answers all of several alternatives, each is answered by an
//! index of its own, if each has one.
//!
//! # What an index must not leave out
//!
//! A sparse index lacks the documents in which one of its attributes is null, so it is used only where the conditions
//! exclude null from all of them. In all others, what is missing counts as null, as it does for comparisons.

use super::super::ast::*;
use super::super::value::Value;
use super::conditions::{Alternative, Condition, Test, field_of};
use super::places::Place;
use crate::db::index::scan::IndexRange;
use crate::db::index::{self, IndexKind};
use crate::db::store::Direction;
use crate::db::{CollectionRow, Index, Reader};
use crate::errors::{self, Error};
use std::ops::Bound;

/// What is left of the documents if an attribute must be equal.
const EQUAL_LEAVES: f64 = 0.1;
/// The same of the edges at a vertex.
const EDGE_LEAVES: f64 = 0.01;
const ONE_BOUND_LEAVES: f64 = 0.5;
const TWO_BOUNDS_LEAVE: f64 = 0.25;
/// The same of a box around a place.
const PLACE_LEAVES: f64 = 0.1;
/// As long an array is taken to be if its length is not known before the query runs.
const ELEMENTS: f64 = 10.0;

/// So many entries are counted where several indexes might do: one that has fewer is a good one.
const COUNTED_MAX: usize = 100;
/// Ranges that are counted for one access.
const COUNTED_RANGES_MAX: usize = 20;

/// What is known of the data as a plan is made.
pub trait Statistics {
    /// How many entries a range of an index has, counted up to `most`; `None` if nobody knows.
    fn entries(&self, collection: &CollectionRow, index: &Index, range: &IndexRange, most: usize) -> Option<usize>;
}

/// Nothing is known.
impl Statistics for () {
    fn entries(&self, _: &CollectionRow, _: &Index, _: &IndexRange, _: usize) -> Option<usize> {
        None
    }
}

impl Statistics for Reader<'_> {
    fn entries(&self, collection: &CollectionRow, index: &Index, range: &IndexRange, most: usize) -> Option<usize> {
        let entries = self.index_entries(collection.object, index.id, range, Direction::Forward);
        entries.take(most).try_fold(0, |count, entry| entry.ok().map(|_| count + 1))
    }
}

#[derive(Clone, Debug)]
pub struct Access {
    pub by: By,
    /// Estimates.
    pub items: f64,
    pub cost: f64,
    /// The filters, counted from the loop on, that it makes superfluous.
    pub covers: Vec<usize>,
    /// Whether the documents come in the order of the sort that follows.
    pub sorted: bool,
}

#[derive(Clone, Debug)]
pub enum By {
    /// Any of these.
    Keys(Vec<Keys>),
    Index(ByIndex),
    /// For each alternative an index of its own; a document that several find comes once.
    Several(Vec<ByIndex>),
    /// By a geo index. What it finds is held against the filter.
    Place(ByPlace),
}

#[derive(Clone, Debug)]
pub struct ByPlace {
    pub index: Index,
    pub place: Place,
}

/// Documents by their keys.
#[derive(Clone, Debug)]
pub struct Keys {
    pub value: Expression,
    /// The value is an array of keys.
    pub many: bool,
    /// Ids rather than keys.
    pub by_id: bool,
}

#[derive(Clone, Debug)]
pub struct ByIndex {
    pub index: Index,
    /// Any of these.
    pub lookups: Vec<Lookup>,
    pub backward: bool,
}

/// What is looked for: values of the first attributes, and bounds on the one after them. Without either, everything.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    pub equal: Vec<Wanted>,
    pub from: Option<Limit>,
    pub to: Option<Limit>,
}

#[derive(Clone, Debug)]
pub struct Wanted {
    pub value: Expression,
    /// The value is an array, and one of its elements is wanted.
    pub any_of: bool,
}

#[derive(Clone, Debug)]
pub struct Limit {
    pub value: Expression,
    pub inclusive: bool,
}

impl Access {
    /// The expressions that are evaluated before the first document is read.
    pub fn for_each_expression(&self, each: &mut dyn FnMut(&Expression)) {
        match &self.by {
            By::Keys(keys) => keys.iter().for_each(|keys| each(&keys.value)),
            By::Index(by) => by.for_each_expression(each),
            By::Several(all) => all.iter().for_each(|by| by.for_each_expression(each)),
            By::Place(by) => each(&by.place.condition),
        }
    }

    /// As `OPTIONS { indexHint }` names it.
    fn name(&self) -> &str {
        match &self.by {
            By::Keys(_) => "primary",
            By::Index(by) => &by.index.name,
            By::Several(all) => &all[0].index.name,
            By::Place(by) => &by.index.name,
        }
    }

    /// How many comparisons it answers.
    pub fn answers(&self) -> usize {
        match &self.by {
            By::Keys(keys) => keys.len(),
            By::Index(by) => by.answers(),
            By::Several(all) => all.iter().map(ByIndex::answers).sum(),
            By::Place(_) => 1,
        }
    }
}

impl ByIndex {
    fn for_each_expression(&self, each: &mut dyn FnMut(&Expression)) {
        for lookup in &self.lookups {
            lookup.equal.iter().for_each(|wanted| each(&wanted.value));
            lookup.from.iter().chain(&lookup.to).for_each(|limit| each(&limit.value));
        }
    }

    fn answers(&self) -> usize {
        self.lookups.iter().map(Lookup::answers).sum()
    }
}

impl Lookup {
    /// What is looked for, if it is known before the query runs and not too much; `None` for everything, too.
    fn ranges(&self) -> Option<Vec<IndexRange>> {
        if self.answers() == 0 {
            return None;
        }
        let mut equal: Vec<Vec<Value>> = vec![Vec::new()];
        for wanted in &self.equal {
            let values = match (wanted.value.constant()?, wanted.any_of) {
                (Value::Array(values), true) => values.iter().cloned().collect(),
                (_, true) => return None,
                (value, false) => vec![value],
            };
            if equal.len() * values.len() > COUNTED_RANGES_MAX {
                return None;
            }
            let longer = |beginning: &Vec<Value>| -> Vec<Vec<Value>> {
                values.iter().map(|value| beginning.iter().chain([value]).cloned().collect()).collect()
            };
            equal = equal.iter().flat_map(longer).collect();
        }
        let bound = |limit: &Option<Limit>| -> Option<Bound<Value>> {
            let Some(limit) = limit else { return Some(Bound::Unbounded) };
            let value = limit.value.constant()?;
            Some(if limit.inclusive { Bound::Included(value) } else { Bound::Excluded(value) })
        };
        let (from, to) = (bound(&self.from)?, bound(&self.to)?);
        let range = |equal| IndexRange { equal, from: from.clone(), to: to.clone() };
        Some(equal.into_iter().map(range).collect())
    }

    fn answers(&self) -> usize {
        self.equal.len() + usize::from(self.from.is_some()) + usize::from(self.to.is_some())
    }
}

/// What a loop over a collection has to offer and what it needs.
pub struct Loop<'q> {
    pub variable: Slot,
    pub collection: &'q CollectionRow,
    /// Documents in the collection.
    pub count: u64,
    pub alternatives: Vec<Alternative>,
    /// The sort after the loop, if an index may stand for it, and how many rows are wanted of it.
    pub sort: Option<(&'q [SortKey], Option<u64>)>,
    /// Operations before that sort that choose among the rows.
    pub between: usize,
    pub options: &'q Value,
    /// Whether comparisons are to be answered, or only the sort.
    pub by_filters: bool,
    /// Whether conditions on places are to be answered.
    pub by_place: bool,
    pub statistics: &'q dyn Statistics,
}

/// The best way to come by the documents; `None`: all of them.
pub fn choose(of: &Loop<'_>) -> Result<Option<Access>, Error> {
    if of.options.attribute("disableIndex").truthy() {
        return Ok(None);
    }
    let mut all: Vec<Access> = of.keys().into_iter().collect();
    for index in index::usable(of.collection) {
        all.extend(of.place(&index));
        all.extend(of.index(index));
    }
    if all.iter().all(|access| access.answers() == 0) {
        all.extend(of.several());
    }
    // One that finds a single document can't be bettered.
    if all.len() > 1 && all.iter().all(|access| access.items > 1.0) {
        all.iter_mut().for_each(|access| of.count(access));
    }
    let hints = match of.options.attribute("indexHint") {
        Value::String(name) => vec![name.to_string()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    if let Some(hinted) = hints.iter().find_map(|hint| best(all.iter().filter(|access| access.name() == hint))) {
        return Ok(Some(hinted));
    }
    if !hints.is_empty() && of.options.attribute("forceIndexHint").truthy() {
        let text = format!("could not use index hint to serve query; {}", of.options.to_json());
        return Err(errors::QUERY_FORCED_INDEX_HINT_UNUSABLE.says(text));
    }
    Ok(best(all.iter()))
}

fn best<'a>(of: impl Iterator<Item = &'a Access>) -> Option<Access> {
    let better = |a: &&Access, b: &&Access| a.cost.total_cmp(&b.cost).then(b.answers().cmp(&a.answers()));
    of.min_by(better).cloned()
}

impl Loop<'_> {
    /// By `_key` or `_id`, if one of them must be equal.
    fn keys(&self) -> Option<Access> {
        let wanted = |condition: &&Condition| {
            matches!(condition.field.as_str(), "_key" | "_id") && matches!(condition.test, Test::Equal | Test::In)
        };
        let (mut all, mut items, mut covers) = (Vec::new(), 0.0, Vec::new());
        for alternative in &self.alternatives {
            let condition = alternative.conditions.iter().find(wanted).filter(|_| self.by_filters)?;
            let many = condition.test == Test::In;
            items += if many { elements(&condition.value) } else { 1.0 };
            all.push(Keys { value: condition.value.clone(), many, by_id: condition.field == "_id" });
            covers = alternative.covered(&[condition.part]);
        }
        if all.len() > 1 {
            covers = Vec::new();
        }
        Some(Access { by: By::Keys(all), items, cost: items + self.sorting(items), covers, sorted: false })
    }

    fn index(&self, index: Index) -> Option<Access> {
        if !index.kind.is_ordered() {
            return None;
        }
        if index.sparse && !self.alternatives.iter().all(|alternative| alternative.excludes_null(&index.fields)) {
            return None;
        }
        let mut lookups = Vec::new();
        let (mut items, mut used) = (0.0, Vec::new());
        for alternative in &self.alternatives {
            let (lookup, parts) = if self.by_filters { alternative.lookup(&index) } else { Default::default() };
            items += self.leaves(&index, &lookup);
            used = parts;
            lookups.push(lookup);
        }
        let answers = lookups.iter().all(|lookup| lookup.answers() > 0);
        if !answers {
            lookups = vec![Lookup::default()];
            items = self.count as f64;
            used = Vec::new();
        }
        let direction = self.sort.and_then(|(keys, _)| self.direction(&index, &lookups, keys));
        if !answers && direction.is_none() {
            return None;
        }
        let covers = match &self.alternatives[..] {
            [alternative] => alternative.covered(&used),
            _ => Vec::new(),
        };
        items = items.min(self.count as f64).max(1.0);
        // Where rows are left out after all, nobody knows how many it takes to have so many.
        if let (Some(_), Some((_, Some(rows)))) = (direction, self.sort)
            && covers.len() == self.between
        {
            items = items.min(rows as f64);
        }
        let (backward, sorted) = (direction == Some(true), direction.is_some());
        let cost = self.cost(items, sorted);
        Some(Access { by: By::Index(ByIndex { index, lookups, backward }), items, cost, covers, sorted })
    }

    /// Where what is looked for is known, an estimate gives way to what there is, if that is little.
    fn count(&self, access: &mut Access) {
        let By::Index(by) = &access.by else { return };
        let mut entries = 0;
        for range in by.lookups.iter().map(Lookup::ranges) {
            let Some(ranges) = range.filter(|ranges| !ranges.is_empty()) else { return };
            for range in ranges {
                let most = COUNTED_MAX - entries;
                let Some(count) = self.statistics.entries(self.collection, &by.index, &range, most) else { return };
                entries += count;
                if entries >= COUNTED_MAX {
                    return;
                }
            }
        }
        access.items = (entries as f64).max(1.0);
        access.cost = self.cost(access.items, access.sorted);
    }

    fn several(&self) -> Option<Access> {
        if self.alternatives.len() < 2 {
            return None;
        }
        let indexes = index::usable(self.collection);
        let (mut all, mut items) = (Vec::new(), 0.0);
        for alternative in &self.alternatives {
            let alone = Loop { alternatives: vec![alternative.clone()], sort: None, ..*self };
            let found: Vec<Access> = indexes.iter().filter_map(|index| alone.index(index.clone())).collect();
            let Access { by: By::Index(by), items: more, .. } = best(found.iter())? else { return None };
            items += more;
            all.push(by);
        }
        Some(self.only_found(By::Several(all), items.min(self.count as f64)))
    }

    fn place(&self, index: &Index) -> Option<Access> {
        let [alternative] = &self.alternatives[..] else { return None };
        let place = alternative.places.iter().filter(|_| self.by_place).find(|place| place.is_answered_by(index))?;
        let by = By::Place(ByPlace { index: index.clone(), place: place.clone() });
        Some(self.only_found(by, self.count as f64 * PLACE_LEAVES))
    }

    /// So many documents by indexes that spare neither a filter nor the sort.
    fn only_found(&self, by: By, items: f64) -> Access {
        let items = items.max(1.0);
        Access { by, items, cost: self.cost(items, false), covers: Vec::new(), sorted: false }
    }

    /// What it costs to find so many documents by an index, and to sort them if they do not come so.
    fn cost(&self, items: f64, sorted: bool) -> f64 {
        2.0 * items + if sorted { 0.0 } else { self.sorting(items) }
    }

    /// What it costs to sort so many rows, if they are to be sorted.
    fn sorting(&self, rows: f64) -> f64 {
        if self.sort.is_some() { rows * rows.max(2.0).log2() } else { 0.0 }
    }

    /// How many documents a lookup finds, about.
    fn leaves(&self, index: &Index, lookup: &Lookup) -> f64 {
        let one = index.unique && lookup.equal.len() == index.fields.len();
        let mut items = if one { 1.0 } else { self.count as f64 };
        for wanted in &lookup.equal {
            if wanted.any_of {
                items *= elements(&wanted.value);
            }
            if !one {
                items *= if index.kind == IndexKind::Edge { EDGE_LEAVES } else { EQUAL_LEAVES };
            }
        }
        items
            * match (&lookup.from, &lookup.to) {
                (Some(_), Some(_)) => TWO_BOUNDS_LEAVE,
                (None, None) => 1.0,
                _ => ONE_BOUND_LEAVES,
            }
    }

    /// Whether the index has the documents in the order of a sort, and if so, whether backwards.
    fn direction(&self, index: &Index, lookups: &[Lookup], keys: &[SortKey]) -> Option<bool> {
        let backward = keys.first()?.descending;
        // A document has several places in an index over elements.
        if index.fields.iter().any(|field| field.contains("[*]")) {
            return None;
        }
        // Attributes with one value only are in any order.
        let fixed = match lookups {
            [lookup] => lookup.equal.iter().take_while(|wanted| !wanted.any_of).count(),
            _ => 0,
        };
        let mut at = 0;
        for key in keys {
            let field = field_of(&key.value, self.variable)?;
            if key.descending != backward {
                return None;
            }
            if index.fields[..fixed].contains(&field) {
                continue;
            }
            at = at.max(fixed);
            if index.fields.get(at) == Some(&field) {
                at += 1;
            } else if !index.fields[..at].contains(&field) {
                return None;
            }
        }
        Some(backward)
    }
}

/// How many elements an array has, about.
fn elements(array: &Expression) -> f64 {
    match (&array.kind, array.constant()) {
        (_, Some(Value::Array(elements))) => elements.len() as f64,
        (ExpressionKind::Array(elements), _) => elements.len() as f64,
        _ => ELEMENTS,
    }
}

impl Alternative {
    /// As many attributes of an index as the conditions determine, and the parts that the lookup answers exactly.
    fn lookup(&self, index: &Index) -> (Lookup, Vec<usize>) {
        let (mut lookup, mut exact) = (Lookup::default(), Vec::new());
        for field in &index.fields {
            // Not an attribute that indexes can have.
            if field == "_id" {
                break;
            }
            let on = |test: fn(Test) -> bool| {
                self.conditions.iter().find(|condition| condition.field == *field && test(condition.test))
            };
            let equal = on(|test| test == Test::Equal).or_else(|| on(|test| test == Test::In));
            if let Some(condition) = equal {
                let any_of = condition.test == Test::In;
                lookup.equal.push(Wanted { value: condition.value.clone(), any_of });
                // An array without elements counts as null in an index, but does not hold null.
                if !field.contains("[*]") || condition.excludes_null() {
                    exact.push(condition.part);
                }
                continue;
            }
            let limit = |condition: &Condition, inclusive| Limit { value: condition.value.clone(), inclusive };
            for condition in self.conditions.iter().filter(|condition| condition.field == *field) {
                let (side, inclusive) = match condition.test {
                    Test::Above { inclusive } => (&mut lookup.from, inclusive),
                    Test::Below { inclusive } => (&mut lookup.to, inclusive),
                    Test::Equal | Test::In => continue,
                };
                if side.is_none() {
                    *side = Some(limit(condition, inclusive));
                    exact.push(condition.part);
                }
            }
            break;
        }
        (lookup, exact)
    }

    /// Whether no document with null in one of these attributes is wanted.
    fn excludes_null(&self, fields: &[String]) -> bool {
        let excluded = |field: &String| {
            self.conditions.iter().any(|condition| condition.field == *field && condition.excludes_null())
        };
        fields.iter().all(excluded)
    }

    /// The filters of which all parts are among these.
    fn covered(&self, parts: &[usize]) -> Vec<usize> {
        let mut filters: Vec<usize> = parts.iter().map(|&part| self.parts[part]).collect();
        filters.sort_unstable();
        filters.dedup();
        let whole = |filter: &usize| {
            let mut own = self.parts.iter().enumerate().filter(|(_, of)| *of == filter);
            own.all(|(part, _)| parts.contains(&part))
        };
        filters.retain(whole);
        filters
    }
}
