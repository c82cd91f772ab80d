//! Whether the rows of indexes are those that the documents have (I9): a full rescan, for the tests and the simulator.

use super::super::reader::Reader;
use super::super::rows::{CollectionRow, catalog_key, in_object, kind, number_at};
use super::super::store::*;
use super::entries::{self, Attributes};
use super::with_entries;
use std::collections::BTreeMap;

/// What is wrong with the indexes of a collection, if anything is.
pub fn wrong(reader: &Reader<'_>, collection: &CollectionRow) -> StoreResult<Option<String>> {
    let object = collection.object;
    let indexes = with_entries(collection);
    if reader.indexed(object)? != indexes {
        return Ok(Some(format!("object {object} of '{}' has other indexes than its row says", collection.name)));
    }
    let attributes = Attributes::of(&indexes);
    let building = reader.building(object)?;
    // Of an index that is being built, what is not there yet may be there.
    let (mut expected, mut possible) = (BTreeMap::new(), BTreeMap::new());
    for document in reader.scan_documents(collection, None) {
        let document = document?;
        let body = attributes.read(&document.body)?;
        for index in &indexes {
            let entries = entries::of_document(index, &document.key, document.revision, &body).unwrap_or_default();
            let filled = building.of(index.id);
            let due = filled.is_none_or(|filled| {
                filled.is_complete() || document.revision <= filled.after || document.revision > filled.until
            });
            let rows = if due { &mut expected } else { &mut possible };
            rows.extend(
                entries
                    .into_iter()
                    .map(|values| entries::row(reader.generation, object, index.id, &values, document.revision)),
            );
        }
    }
    let prefix = in_object(reader.generation, object, &[]);
    let found = scan_prefix(reader.rows, Table::Index, &prefix, Direction::Forward);
    let found = found.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())));
    let mut found: BTreeMap<Vec<u8>, Vec<u8>> = found.collect::<StoreResult<_>>()?;
    let released = scan_prefix(
        reader.rows,
        Table::Catalog,
        &catalog_key(reader.generation, kind::RELEASED_INDEX, &[]),
        Direction::Forward,
    );
    for row in released {
        let (key, _) = row?;
        let number = |at| number_at(key, at, "released index");
        let prefix = entries::in_index(reader.generation, number(13)?, number(21)?);
        found.retain(|key, _| !key.starts_with(&prefix));
    }
    found.retain(|key, value| possible.get(key) != Some(value));
    if found == expected {
        return Ok(None);
    }
    let missing = expected.iter().filter(|(key, value)| found.get(*key) != Some(value)).count();
    let beside = found.keys().filter(|key| !expected.contains_key(*key)).count();
    Ok(Some(format!(
        "the indexes of '{}' lack {missing} of {} entries and have {beside} that no document has",
        collection.name,
        expected.len()
    )))
}
