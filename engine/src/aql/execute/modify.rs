//! `INSERT`, `UPDATE`, `REPLACE`, `REMOVE` and `UPSERT`: what they write, row by row.
//!
//! What is checked, merged and answered is the same as for single documents. With the option `ignoreErrors` a row that
//! can't be written is counted and goes on without a document; otherwise the first one ends the query.

use super::super::ast::*;
use super::rows::{Flow, Held};
use super::*;

impl<'q> Executor<'q, '_> {
    /// Whether an operation is one of these, and if so, does it for all rows.
    pub(super) fn modify(&mut self, operation: &'q Operation, held: &mut Held) -> Result<()> {
        let mut rows = std::mem::take(&mut held.rows);
        for row in &mut rows {
            self.step()?;
            match &operation.kind {
                OperationKind::Insert(insert) => self.insert(insert, row)?,
                OperationKind::Update(update) => self.update(update, row)?,
                OperationKind::Remove(remove) => self.remove(remove, row)?,
                OperationKind::Upsert(upsert) => self.upsert(upsert, row)?,
                _ => unreachable!("it does not write"),
            }
        }
        held.rows = rows;
        Ok(())
    }

    fn insert(&mut self, insert: &'q Insert, row: &mut Row) -> Result<()> {
        let document = self.evaluate(&insert.document, row)?;
        let collection = self.collection_named(&insert.collection.text)?;
        let written = self.data.insert(&collection, &document.to_json(), writing(&insert.options));
        self.keep(written, &insert.options, &collection, Some(insert.old), Some(insert.new), row)
    }

    fn update(&mut self, update: &'q Update, row: &mut Row) -> Result<()> {
        let document = self.evaluate(&update.document, row)?;
        let key = match &update.key {
            Some(key) => self.evaluate(key, row)?,
            None => document.clone(),
        };
        let collection = self.collection_named(&update.collection.text)?;
        let mut how = writing(&update.options);
        // A revision is looked at where the key comes from.
        let written = key_of(&key).and_then(|target| {
            if !how.ignore_revisions && update.key.is_some() {
                let expected = expected(&key);
                how.ignore_revisions = true;
                self.check_revision(&collection, &target, expected)?;
            }
            self.data.modify(&collection, &target, &document.to_json(), !update.replace, how)
        });
        self.keep(written, &update.options, &collection, Some(update.old), Some(update.new), row)
    }

    fn check_revision(&self, collection: &CollectionRow, key: &str, expected: Option<Option<Revision>>) -> Result<()> {
        let Some(expected) = expected else { return Ok(()) };
        match self.data.reader().document(collection, key)? {
            Some(document) if Some(document.revision) != expected => Err(errors::CONFLICT.into()),
            _ => Ok(()),
        }
    }

    fn remove(&mut self, remove: &'q Remove, row: &mut Row) -> Result<()> {
        let key = self.evaluate(&remove.key, row)?;
        let collection = self.collection_named(&remove.collection.text)?;
        let how = writing(&remove.options);
        let written = key_of(&key).and_then(|target| {
            let expected = if how.ignore_revisions { None } else { expected(&key) };
            self.data.remove(&collection, &target, expected)
        });
        self.keep(written, &remove.options, &collection, Some(remove.old), None, row)
    }

    /// Sees what it has written for the rows before.
    fn upsert(&mut self, upsert: &'q Upsert, row: &mut Row) -> Result<()> {
        let collection = self.collection_named(&upsert.collection.text)?;
        let found = match &upsert.search {
            UpsertSearch::Example(example) => {
                let example = self.evaluate(example, row)?;
                self.find_like(&example, upsert.old, &collection, row)?
            }
            UpsertSearch::Filter { current, condition } => {
                let mut found = Value::Null;
                self.documents_now(*current, &collection, row, &mut |executor, row, document| {
                    row[current.index()] = document.clone();
                    let fits = executor.evaluate(condition, row)?.truthy();
                    if fits {
                        found = document;
                    }
                    Ok(if fits { Flow::Stop } else { Flow::More })
                })?;
                found
            }
        };
        row[upsert.old.index()] = found.clone();
        let how = writing(&upsert.options);
        let written = if found.is_null() {
            let document = self.evaluate(&upsert.insert, row)?;
            self.data.insert(&collection, &document.to_json(), how)
        } else {
            let document = self.evaluate(&upsert.update, row)?;
            let document = without_key(&document, how.ignore_revisions);
            key_of(&found)
                .and_then(|key| self.data.modify(&collection, &key, &document.to_json(), !upsert.replace, how))
        };
        self.keep(written, &upsert.options, &collection, None, Some(upsert.new), row)
    }

    /// The first document that has all attributes of an example.
    fn find_like(
        &mut self,
        example: &Value,
        variable: Slot,
        collection: &CollectionRow,
        row: &mut Row,
    ) -> Result<Value> {
        let Value::Object(wanted) = example else {
            return Err(errors::DOCUMENT_TYPE_INVALID.says("expecting an object as UPSERT search document"));
        };
        let fits = |document: &Value| wanted.iter().all(|(name, value)| document.attribute(name) == *value);
        if let Some(key) = wanted.get("_key").and_then(Value::as_str) {
            let found = self.data.reader().document(collection, key)?;
            self.stats.scanned_index += u64::from(found.is_some());
            return Ok(found.map(|found| document_value(&found, collection)).filter(fits).unwrap_or_default());
        }
        let mut found = Value::Null;
        self.documents_now(variable, collection, row, &mut |_, _, document| {
            let fits = fits(&document);
            if fits {
                found = document;
            }
            Ok(if fits { Flow::Stop } else { Flow::More })
        })?;
        Ok(found)
    }

    /// Puts what became of a write into the row.
    fn keep(
        &mut self,
        written: Result<Written>,
        options: &Value,
        collection: &CollectionRow,
        old: Option<Slot>,
        new: Option<Slot>,
        row: &mut Row,
    ) -> Result<()> {
        let written = match written {
            Ok(written) => {
                self.stats.writes_executed += 1;
                written
            }
            Err(error) if options.attribute("ignoreErrors").truthy() && !is_fatal(&error) => {
                self.stats.writes_ignored += 1;
                Written::default()
            }
            Err(error) => return Err(error),
        };
        for (slot, document) in [(old, &written.old), (new, &written.new)] {
            if let Some(slot) = slot {
                row[slot.index()] = optional_value(document.as_ref(), collection);
            }
        }
        Ok(())
    }
}

/// What no option makes bearable: the store itself failed, or the query may not go on.
fn is_fatal(error: &Error) -> bool {
    error.kind.status >= 500
}

fn writing(options: &Value) -> Writing {
    let flag = |name: &str, default| match options.attribute(name) {
        Value::Null => default,
        value => value.truthy(),
    };
    let overwrite = match options.attribute("overwriteMode").as_str() {
        Some("ignore") => Overwrite::Ignore,
        Some("replace") => Overwrite::Replace,
        Some("update") => Overwrite::Update,
        None if flag("overwrite", false) => Overwrite::Replace,
        _ => Overwrite::Conflict,
    };
    let merge = Merge { keep_null: flag("keepNull", true), merge_objects: flag("mergeObjects", true) };
    let validate = !flag("skipDocumentValidation", false);
    Writing { ignore_revisions: flag("ignoreRevs", true), overwrite, merge, validate }
}

/// The key that a string or a document stands for.
fn key_of(value: &Value) -> Result<String> {
    match value {
        Value::String(key) => Ok(key.to_string()),
        Value::Object(object) => match object.get("_key") {
            Some(Value::String(key)) => Ok(key.to_string()),
            Some(_) => Err(errors::DOCUMENT_KEY_BAD.into()),
            None => Err(errors::DOCUMENT_KEY_MISSING.into()),
        },
        _ => Err(errors::DOCUMENT_TYPE_INVALID.into()),
    }
}

/// The revision that a document names, if it names one.
fn expected(value: &Value) -> Option<Option<Revision>> {
    let revision = value.as_object()?.get("_rev")?;
    Some(revision.as_str().and_then(Revision::decode))
}

/// What is to become of a document that was found. A revision in it may have to be that document's.
fn without_key(document: &Value, ignore_revisions: bool) -> Value {
    let is_key = |name: &str| matches!(name, "_key" | "_id") || (name == "_rev" && ignore_revisions);
    match document {
        Value::Object(object) => {
            let others = object.iter().filter(|(name, _)| !is_key(name));
            others.map(|(name, value)| (name.clone(), value.clone())).collect::<super::super::value::Object>().into()
        }
        other => other.clone(),
    }
}
