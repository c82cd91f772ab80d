//! The documents of a loop, page by page: all of a collection, some by their keys, or some by an index.
//!
//! The store is borrowed while a page is read, not while its documents are worked on. A query that writes takes all
//! documents before the first is looked at, so that what it writes meanwhile, in a subquery, makes no difference.

use super::super::ast::{Expression, Slot};
use super::super::plan::access::{By, ByIndex, ByPlace, Keys, Limit, Lookup};
use super::super::plan::places::Within;
use super::super::plan::projection::Projection;
use super::super::value::List;
use super::document::document_value;
use super::rows::Flow;
use super::*;
use crate::aql::functions::geo::RADIUS_METERS;
use crate::aql::functions::geo::shape::{Shape, to_degrees};
use crate::db::index::cursor::IndexCursor;
use crate::db::index::geo::{self, Area};
use crate::db::index::scan::IndexRange;
use crate::db::store::{Direction, StoreError, StoreResult};
use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;

/// Documents of a page, at first and at most, and the text after which none is added.
const PAGE_FIRST: usize = 16;
const PAGE_MAX: usize = 1024;
const PAGE_BYTES: usize = 1 << 20;

/// What it takes to know a document again.
const SEEN_BYTES: usize = 32;

/// How much longer a way is on the sphere than on the ellipsoid, at most.
const ELLIPSOID: f64 = 1.01;

/// Where the documents come from.
enum Source {
    /// In the order in which they were last written, after a revision.
    All(Option<Revision>),
    Keys(VecDeque<String>),
    Index {
        /// The next one first.
        cursors: VecDeque<IndexCursor>,
        /// Found and not yet read.
        waiting: VecDeque<Revision>,
        /// Where a document may be found several times.
        seen: Option<BTreeSet<Revision>>,
    },
}

#[derive(Default)]
struct Page {
    documents: Vec<Value>,
    /// Of their text.
    bytes: usize,
    /// How many were read at most.
    documents_max: usize,
    bytes_max: usize,
}

impl Page {
    fn is_full(&self) -> bool {
        self.documents.len() >= self.documents_max || self.bytes >= self.bytes_max
    }
}

/// What is to be read of the documents of a collection.
struct Wanted<'a> {
    reader: Reader<'a>,
    collection: &'a CollectionRow,
    projection: &'a Projection,
}

impl Wanted<'_> {
    fn add(&self, document: &crate::db::rows::StoredDocument<'_>, page: &mut Page) {
        page.bytes += document.body.len() + 64;
        page.documents.push(document_value(document, &self.collection.name, self.projection));
    }
}

impl Source {
    /// Adds to the page until it is full or nothing is left.
    fn read(&mut self, wanted: &Wanted<'_>, page: &mut Page) -> StoreResult<()> {
        let (reader, collection) = (&wanted.reader, wanted.collection);
        match self {
            Source::All(after) => {
                for document in reader.stored_documents(collection, *after) {
                    let document = document?;
                    *after = Some(document.revision);
                    wanted.add(&document, page);
                    if page.is_full() {
                        break;
                    }
                }
            }
            Source::Keys(keys) => {
                while let Some(key) = keys.pop_front() {
                    if let Some(document) = reader.document(collection, &key)? {
                        wanted.add(&document.stored(), page);
                    }
                    if page.is_full() {
                        break;
                    }
                }
            }
            Source::Index { cursors, waiting, seen } => {
                while !page.is_full() {
                    let Some(revision) = waiting.pop_front() else {
                        let Some(cursor) = cursors.front_mut() else { break };
                        waiting.extend(cursor.next(reader, page.documents_max - page.documents.len())?);
                        if waiting.is_empty() {
                            cursors.pop_front();
                        }
                        continue;
                    };
                    if seen.as_mut().is_some_and(|seen| !seen.insert(revision)) {
                        continue;
                    }
                    let object = collection.object;
                    let nowhere = || StoreError::Corrupt(format!("an index of object {object} leads nowhere"));
                    wanted.add(&reader.stored_document(object, revision)?.ok_or_else(nowhere)?, page);
                }
            }
        }
        Ok(())
    }
}

impl<'q> Executor<'q, '_> {
    /// The documents that a loop with this variable is about, until `each` wants no more.
    pub(super) fn documents(
        &mut self,
        variable: Slot,
        collection: &CollectionRow,
        row: &mut Row,
        each: &mut dyn FnMut(&mut Self, &mut Row, Value) -> Result<Flow>,
    ) -> Result<Flow> {
        let at_once = self.writes;
        self.documents_in_pages(variable, collection, at_once, row, each)
    }

    /// The same for those who write nothing while they look.
    pub(super) fn documents_now(
        &mut self,
        variable: Slot,
        collection: &CollectionRow,
        row: &mut Row,
        each: &mut dyn FnMut(&mut Self, &mut Row, Value) -> Result<Flow>,
    ) -> Result<Flow> {
        self.documents_in_pages(variable, collection, false, row, each)
    }

    fn documents_in_pages(
        &mut self,
        variable: Slot,
        collection: &CollectionRow,
        at_once: bool,
        row: &mut Row,
        each: &mut dyn FnMut(&mut Self, &mut Row, Value) -> Result<Flow>,
    ) -> Result<Flow> {
        let held_before = self.held_bytes;
        let source = match self.plan.access(variable).map(|access| &access.by) {
            None => Source::All(None),
            Some(By::Keys(keys)) => Source::Keys(self.keys_of(keys, collection, row)?),
            Some(By::Index(by)) => self.index_source(std::slice::from_ref(by), collection, row)?,
            Some(By::Several(all)) => self.index_source(all, collection, row)?,
            Some(By::Place(by)) => self.place_source(by, collection, row)?,
        };
        self.stats.cursors_created += u64::from(!matches!(source, Source::All(_)));
        let source_bytes = self.held_bytes - held_before;
        let projection = self.plan.projection(variable);
        let flow = self
            .pages(source, collection, projection, at_once, &mut |executor, document| each(executor, row, document));
        self.release(source_bytes);
        flow
    }

    /// All documents of a collection.
    pub(super) fn all_documents(
        &mut self,
        collection: &CollectionRow,
        each: &mut dyn FnMut(&mut Self, Value) -> Result<Flow>,
    ) -> Result<Flow> {
        let at_once = self.writes;
        self.pages(Source::All(None), collection, &Projection::Whole, at_once, each)
    }

    fn pages(
        &mut self,
        mut source: Source,
        collection: &CollectionRow,
        projection: &Projection,
        at_once: bool,
        each: &mut dyn FnMut(&mut Self, Value) -> Result<Flow>,
    ) -> Result<Flow> {
        let (mut documents_max, bytes_max) = if at_once { (usize::MAX, usize::MAX) } else { (PAGE_FIRST, PAGE_BYTES) };
        let in_index = !matches!(source, Source::All(_));
        let mut seen_bytes = 0;
        let flow = loop {
            let mut page = Page { documents_max, bytes_max, ..Page::default() };
            let wanted = Wanted { reader: self.data.reader(), collection, projection };
            source.read(&wanted, &mut page)?;
            if page.documents.is_empty() {
                break Flow::More;
            }
            if matches!(source, Source::Index { seen: Some(_), .. }) {
                let bytes = page.documents.len() * SEEN_BYTES;
                self.hold(bytes)?;
                seen_bytes += bytes;
            }
            let (full, bytes) = (page.is_full(), page.bytes);
            self.hold(bytes)?;
            self.has_read(bytes);
            let flow = self.each_of(page.documents, in_index, each)?;
            self.release(bytes);
            if flow == Flow::Stop || !full {
                break flow;
            }
            documents_max = documents_max.saturating_mul(4).min(PAGE_MAX);
        };
        self.release(seen_bytes);
        Ok(flow)
    }

    fn each_of(
        &mut self,
        documents: Vec<Value>,
        in_index: bool,
        each: &mut dyn FnMut(&mut Self, Value) -> Result<Flow>,
    ) -> Result<Flow> {
        for document in documents {
            self.step()?;
            match in_index {
                true => self.stats.scanned_index += 1,
                false => self.stats.scanned_full += 1,
            }
            if each(self, document)? == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::More)
    }

    // ---- what is looked for ----

    /// The keys that a lookup comes to, each once, in the order in which they are given.
    fn keys_of(&mut self, all: &'q [Keys], collection: &CollectionRow, row: &mut Row) -> Result<VecDeque<String>> {
        let mut seen = BTreeSet::new();
        let mut keys = VecDeque::new();
        for lookup in all {
            for value in self.values_of(&lookup.value, lookup.many, row)?.iter() {
                let Some(text) = value.as_str() else { continue };
                let key = match lookup.by_id {
                    false => Some(text),
                    true => text.split_once('/').filter(|(name, _)| *name == collection.name).map(|(_, key)| key),
                };
                if let Some(key) = key.filter(|key| seen.insert(key.to_string())) {
                    self.hold(2 * (key.len() + size_of::<String>()))?;
                    keys.push_back(key.to_owned());
                }
            }
        }
        Ok(keys)
    }

    /// A value, or the elements of an array; what should be one and is none has no elements.
    fn values_of(&mut self, value: &'q Expression, many: bool, row: &mut Row) -> Result<Arc<List>> {
        let values = match (self.evaluate(value, row)?, many) {
            (Value::Array(elements), true) => elements,
            (_, true) => Arc::default(),
            (one, false) => Arc::new(vec![one].into()),
        };
        for _ in values.iter() {
            self.step()?;
        }
        Ok(values)
    }

    fn index_source(&mut self, all: &'q [ByIndex], collection: &CollectionRow, row: &mut Row) -> Result<Source> {
        let mut cursors = VecDeque::new();
        for by in all {
            let mut ranges = Vec::new();
            for lookup in &by.lookups {
                self.ranges_of(lookup, row, &mut ranges)?;
            }
            let direction = if by.backward { Direction::Backward } else { Direction::Forward };
            cursors.push_back(IndexCursor::new(collection, by.index.id, ranges, direction));
        }
        let several = all.len() > 1 || all[0].index.fields.iter().any(|field| field.contains("[*]"));
        Ok(Source::Index { cursors, waiting: VecDeque::new(), seen: several.then(BTreeSet::new) })
    }

    /// What can't be understood here leaves nothing out: the filter says what becomes of it.
    fn place_source(&mut self, by: &'q ByPlace, collection: &CollectionRow, row: &mut Row) -> Result<Source> {
        let area = match &by.place.within {
            Within::Meters { from, most } => {
                let (from, most) = (self.evaluate(from, row)?, self.evaluate(most, row)?);
                let centroid = Shape::parse(&from).map(|shape| to_degrees(&shape.centroid()));
                let angle = most.as_double().map(|meters| meters * ELLIPSOID / RADIUS_METERS);
                centroid.zip(angle).map(|(place, angle)| Area::around(place, angle))
            }
            Within::Shape(shape) => Area::of(&self.evaluate(shape, row)?),
        };
        let shapes = geo::has_shapes(&by.index);
        let ranges = area.unwrap_or(Area::WORLD).ranges(shapes);
        let cursors = VecDeque::from([IndexCursor::new(collection, by.index.id, ranges, Direction::Forward)]);
        Ok(Source::Index { cursors, waiting: VecDeque::new(), seen: shapes.then(BTreeSet::new) })
    }

    /// A range for each combination of the values that are looked for.
    fn ranges_of(&mut self, lookup: &'q Lookup, row: &mut Row, ranges: &mut Vec<IndexRange>) -> Result<()> {
        let mut equal: Vec<Vec<Value>> = vec![Vec::new()];
        for wanted in &lookup.equal {
            let values = self.values_of(&wanted.value, wanted.any_of, row)?;
            let mut longer = Vec::new();
            for beginning in &equal {
                for value in values.iter() {
                    self.step()?;
                    self.hold(beginning.iter().chain([value]).map(Value::size_bytes).sum())?;
                    longer.push(beginning.iter().chain([value]).cloned().collect());
                }
            }
            equal = longer;
        }
        let (from, to) = (self.bound(lookup.from.as_ref(), row)?, self.bound(lookup.to.as_ref(), row)?);
        ranges.extend(equal.into_iter().map(|equal| IndexRange { equal, from: from.clone(), to: to.clone() }));
        Ok(())
    }

    fn bound(&mut self, limit: Option<&'q Limit>, row: &mut Row) -> Result<Bound<Value>> {
        Ok(match limit {
            None => Bound::Unbounded,
            Some(Limit { value, inclusive: true }) => Bound::Included(self.evaluate(value, row)?),
            Some(Limit { value, inclusive: false }) => Bound::Excluded(self.evaluate(value, row)?),
        })
    }
}
