//! `/_api/import`: many documents in one request, as lines, as an array, or as rows below a line of names.
//!
//! A document that can't be imported is counted and told of, and the others are; with `complete` the first failure
//! fails the whole request. The answer has no `code`: drivers rely on that.

use super::document::{Options, insert_one};
use super::*;
use crate::db::Overwrite;
use crate::db::rows::CollectionKind;
use serde_json::json;
use std::borrow::Cow;

/// Characters of an offending document that an error shows.
const SHOWN_MAX: usize = 255;

#[derive(Clone, Copy, PartialEq, Eq)]
enum OnDuplicate {
    Error,
    Ignore,
    Replace,
    Update,
}

#[derive(Default)]
struct Tally {
    created: u64,
    empty: u64,
    updated: u64,
    ignored: u64,
    /// Objects that were tried.
    tried: usize,
    /// One line for each document that was not imported.
    errors: Vec<String>,
}

pub(super) fn import(call: &mut Call<'_, '_>) -> Answer {
    let name = call.request().query("collection").unwrap_or_default();
    if name.is_empty() {
        let message = "'collection' is missing, expecting /_api/import?collection=<identifier>";
        return Err(errors::COLLECTION_PARAMETER_MISSING.says(message).into());
    }
    let mut collection = call.collection(&name, Level::Rw)?;
    let rows = rows(call)?;
    if call.flag("overwrite", false) {
        collection = call.writer()?.truncate_collection(&collection)?;
    }
    let on_duplicate = match call.request().query("onDuplicate").as_deref() {
        Some("update") => OnDuplicate::Update,
        Some("replace") => OnDuplicate::Replace,
        Some("ignore") => OnDuplicate::Ignore,
        _ => OnDuplicate::Error,
    };
    let import = Import {
        overwrite_prefix: call.flag("overwriteCollectionPrefix", false),
        prefixes: [("_from", prefix(call, "fromPrefix")), ("_to", prefix(call, "toPrefix"))],
        options: Options { overwrite: Overwrite::Conflict, ..Options::of(call) },
        complete: call.flag("complete", false),
        on_duplicate,
        collection,
    };
    let mut tally = Tally::default();
    let db = call.writer()?;
    for row in rows {
        match row {
            Row::Empty => tally.empty += 1,
            Row::Document(position, text) => import.one(db, position, &text, &mut tally)?,
            Row::Broken(error) => {
                if import.complete {
                    return Err(errors::CORRUPTED_JSON.says(error).into());
                }
                tally.errors.push(error);
            }
        }
    }
    let mut body = json!({
        "error": false,
        "created": tally.created,
        "errors": tally.errors.len(),
        "empty": tally.empty,
        "updated": tally.updated,
        "ignored": tally.ignored,
    });
    if call.flag("details", false) {
        body["details"] = tally.errors.into();
    }
    Ok(Response::json(201, &body).into())
}

fn prefix(call: &Call<'_, '_>, name: &str) -> String {
    match call.request().query(name) {
        Some(prefix) if !prefix.is_empty() && !prefix.ends_with('/') => prefix + "/",
        prefix => prefix.unwrap_or_default(),
    }
}

struct Import {
    collection: CollectionRow,
    options: Options,
    on_duplicate: OnDuplicate,
    complete: bool,
    prefixes: [(&'static str, String); 2],
    /// A prefix takes the place of a collection that an id names.
    overwrite_prefix: bool,
}

impl Import {
    fn one(&self, db: &mut Writer<'_>, position: usize, text: &str, tally: &mut Tally) -> Result<(), Failure> {
        let offending = || shown(text);
        if !json::is_object(text) {
            let what = "invalid JSON type (expecting object), offending document";
            return self.fail(
                errors::DOCUMENT_TYPE_INVALID.into(),
                format!("at position {position}: {what}: {}", offending()),
                tally,
            );
        }
        // ArangoDB counts what can't be stored from 0, among all objects; what is no object, from 1, as it comes.
        let position = tally.tried;
        tally.tried += 1;
        let text = self.with_prefixes(text);
        match insert_one(db, &self.collection, &text, &self.options) {
            Ok(_) => {
                tally.created += 1;
                return Ok(());
            }
            Err(Failure::Error(error)) if error.kind == errors::UNIQUE_CONSTRAINT_VIOLATED => {
                let overwrite = match self.on_duplicate {
                    OnDuplicate::Ignore => {
                        tally.ignored += 1;
                        return Ok(());
                    }
                    OnDuplicate::Error => return self.refused(error, position, &text, tally),
                    OnDuplicate::Replace => Overwrite::Replace,
                    OnDuplicate::Update => Overwrite::Update,
                };
                let options = Options { overwrite, ..self.options };
                match insert_one(db, &self.collection, &text, &options) {
                    Ok(_) => tally.updated += 1,
                    Err(Failure::Error(error)) => return self.refused(error, position, &text, tally),
                    Err(failure) => return Err(failure),
                }
            }
            Err(Failure::Error(error)) => return self.refused(error, position, &text, tally),
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    fn refused(&self, error: Error, position: usize, text: &str, tally: &mut Tally) -> Result<(), Failure> {
        let what = format!("creating document failed with error '{}', offending document", error.kind.message);
        self.fail(error, format!("at position {position}: {what}: {}", shown(text)), tally)
    }

    fn fail(&self, error: Error, line: String, tally: &mut Tally) -> Result<(), Failure> {
        if self.complete {
            return Err(error.kind.says(line).into());
        }
        tally.errors.push(line);
        Ok(())
    }

    /// Ends of edges that come without a collection get the prefix's.
    fn with_prefixes<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.collection.kind != CollectionKind::Edge || self.prefixes.iter().all(|(_, prefix)| prefix.is_empty()) {
            return Cow::Borrowed(text);
        }
        let mut members = json::members(text);
        for (name, value) in &mut members {
            let Some((_, prefix)) = self.prefixes.iter().find(|(end, prefix)| end == name && !prefix.is_empty()) else {
                continue;
            };
            let key = match json::string(value) {
                Some(key) => key.into_owned(),
                None if value.bytes().all(|b| b.is_ascii_digit()) => value.to_string(),
                None => continue,
            };
            let key = match key.split_once('/') {
                None => &*key,
                Some((_, key)) if self.overwrite_prefix => key,
                Some(_) => continue,
            };
            *value = json::quote(&format!("{prefix}{key}")).into();
        }
        Cow::Owned(json::object(&members))
    }
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

// ---- taking the body apart ------------------------------------------------------------------------------------------

enum Row {
    Empty,
    /// With its number, counted from 1.
    Document(usize, String),
    Broken(String),
}

fn rows(call: &Call<'_, '_>) -> Result<Vec<Row>, Failure> {
    let body = &call.run.request.body;
    match call.request().query("type").as_deref() {
        Some("documents") => Ok(lines(body)),
        Some("array" | "list") => array(body),
        Some("auto") => {
            let first = body.iter().find(|b| !b.is_ascii_whitespace());
            if first == Some(&b'[') { array(body) } else { Ok(lines(body)) }
        }
        None | Some("") => table(call, body),
        Some(_) => Err(errors::BAD_PARAMETER.says("invalid value for 'type'").into()),
    }
}

fn document(position: usize, line: &[u8]) -> Row {
    match json::compact(line) {
        Ok(text) => Row::Document(position, text),
        Err(error) => {
            let what = "invalid JSON type (expecting object, probably parse error)";
            let context = shown(&String::from_utf8_lossy(line));
            Row::Broken(format!("at position {position}: {what}: {error}, offending context: {context}"))
        }
    }
}

/// One document a line.
fn lines(body: &[u8]) -> Vec<Row> {
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    if body.is_empty() {
        return Vec::new();
    }
    let row = |(i, line): (usize, &[u8])| {
        if line.iter().all(u8::is_ascii_whitespace) { Row::Empty } else { document(i + 1, line) }
    };
    body.split(|&b| b == b'\n').enumerate().map(row).collect()
}

fn array(body: &[u8]) -> Result<Vec<Row>, Failure> {
    let wrong = "expecting a JSON array in the request";
    let text = json::compact(body).map_err(|e| errors::HTTP_BAD_PARAMETER.says(format!("{wrong}: {e}")))?;
    if !json::is_array(&text) {
        return Err(errors::HTTP_BAD_PARAMETER.says(wrong).into());
    }
    let elements = json::elements(&text);
    Ok(elements.into_iter().enumerate().map(|(i, element)| Row::Document(i + 1, element.to_owned())).collect())
}

/// A line of attribute names, then a line of values for each document.
fn table(call: &Call<'_, '_>, body: &[u8]) -> Result<Vec<Row>, Failure> {
    let Some(end) = body.iter().position(|&b| b == b'\n') else {
        return Err(errors::HTTP_BAD_PARAMETER.says("no JSON array found in second line").into());
    };
    let wrong = || Failure::from(errors::HTTP_BAD_PARAMETER.says("no JSON string array found in first line"));
    let header = json::compact(&body[..end]).map_err(|_| wrong())?;
    if !json::is_array(&header) {
        return Err(wrong());
    }
    let names: Option<Vec<Cow<'_, str>>> = json::elements(&header).into_iter().map(json::string).collect();
    let names =
        names.filter(|names| !names.is_empty() && names.iter().all(|name| !name.is_empty())).ok_or_else(wrong)?;
    let first: usize = call.request().query("line").and_then(|line| line.parse().ok()).unwrap_or(0);
    let row = |row| match row {
        Row::Document(position, text) => {
            let position = position + first;
            let values = if json::is_array(&text) { json::elements(&text) } else { Vec::new() };
            if values.len() != names.len() {
                let what =
                    format!("expecting an array of {} values, offending document: {}", names.len(), shown(&text));
                return Row::Broken(format!("at position {position}: {what}"));
            }
            let members: Vec<json::Member<'_>> =
                names.iter().cloned().zip(values.into_iter().map(Cow::Borrowed)).collect();
            // Through `members`, so that a name that stands there twice counts once.
            Row::Document(position, json::object(&json::members(&json::object(&members))))
        }
        other => other,
    };
    Ok(lines(&body[end + 1..]).into_iter().map(row).collect())
}
