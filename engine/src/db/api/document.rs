//! `/_api/document`: documents one by one and in arrays.
//!
//! The operations on one document ([`insert_one`], [`modify_one`], [`remove_one`]) serve imports and simple queries
//! too. Each checks everything before it writes, so that a failed one leaves nothing. In an array each element
//! succeeds or fails by itself, and the answer has an element in the place of each.

use super::*;
use crate::db::Overwrite;
use crate::db::rows::CollectionKind;
use crate::db::rules::{Draft, Event};
use bytes::Bytes;
use std::collections::BTreeMap;

const ERROR_CODES: &str = header::ERROR_CODES;

/// How documents are to be written; from a request's query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub wait_for_sync: bool,
    pub return_new: bool,
    pub return_old: bool,
    pub silent: bool,
    pub ignore_revisions: bool,
    pub overwrite: Overwrite,
    pub merge: json::Merge,
    /// Whether it must fit the collection's schema.
    pub validate: bool,
    pub document_bytes_max: usize,
}

impl Options {
    pub fn of(call: &Call<'_, '_>) -> Options {
        let overwrite = match call.request().query("overwriteMode").as_deref() {
            Some("ignore") => Overwrite::Ignore,
            Some("replace") => Overwrite::Replace,
            Some("update") => Overwrite::Update,
            Some("conflict") => Overwrite::Conflict,
            _ if call.flag("overwrite", false) => Overwrite::Replace,
            _ => Overwrite::Conflict,
        };
        Options {
            wait_for_sync: call.flag("waitForSync", false),
            return_new: call.flag("returnNew", false),
            return_old: call.flag("returnOld", false),
            silent: call.flag("silent", false),
            ignore_revisions: call.flag("ignoreRevs", true),
            overwrite,
            merge: json::Merge {
                keep_null: call.flag("keepNull", true),
                merge_objects: call.flag("mergeObjects", true),
            },
            validate: !call.flag("skipDocumentValidation", false),
            document_bytes_max: call.run.view.limits.document_bytes,
        }
    }
}

/// What became of one document.
pub(super) struct Done {
    pub key: String,
    pub revision: Revision,
    pub old: Option<Document>,
    pub new: Option<Document>,
}

impl Done {
    /// Whether anything was written: not if a document that was there was left as it was.
    pub fn wrote(&self) -> bool {
        match (&self.old, &self.new) {
            (None, None) => false,
            (Some(old), Some(new)) => old.revision != new.revision,
            _ => true,
        }
    }

    /// The answer's object for it.
    fn write_json(&self, collection: &CollectionRow, options: &Options, out: &mut Vec<u8>) {
        self.write_identity(collection, out);
        self.write_images(collection, options, out);
        out.push(b'}');
    }

    /// The beginning of an object that says which document it is.
    pub fn write_identity(&self, collection: &CollectionRow, out: &mut Vec<u8>) {
        let id = json::quote(&format!("{}/{}", collection.name, self.key));
        let head = format!(r#"{{"_id":{id},"_key":"{}","_rev":"{}""#, self.key, self.revision.encode());
        out.extend_from_slice(head.as_bytes());
        // A removed document's answer is about the old one itself.
        if let (Some(old), Some(_)) = (&self.old, &self.new) {
            out.extend_from_slice(format!(r#","_oldRev":"{}""#, old.revision.encode()).as_bytes());
        }
    }

    /// Members with the document as it was and as it is, as far as they are asked for.
    pub fn write_images(&self, collection: &CollectionRow, options: &Options, out: &mut Vec<u8>) {
        let parts = [("old", &self.old, options.return_old), ("new", &self.new, options.return_new)];
        for (name, document, wanted) in parts {
            if let Some(document) = document.as_ref().filter(|_| wanted) {
                out.extend_from_slice(format!(r#","{name}":"#).as_bytes());
                document.write_json(&collection.name, out);
            }
        }
    }
}

// ---- one document ---------------------------------------------------------------------------------------------------

/// The members of a document that its author decides, and what it says of `_key` and `_rev`.
struct Given<'t> {
    members: Vec<json::Member<'t>>,
    key: Option<json::Member<'t>>,
    revision: Option<json::Member<'t>>,
    id: Option<json::Member<'t>>,
}

impl<'t> Given<'t> {
    fn of(text: &'t str) -> Result<Given<'t>, Failure> {
        if !json::is_object(text) {
            return Err(errors::DOCUMENT_TYPE_INVALID.into());
        }
        let mut members = json::members(text);
        let mut take = |name: &str| {
            let at = members.iter().position(|(other, _)| other == name)?;
            Some(members.remove(at))
        };
        let (key, revision, id) = (take("_key"), take("_rev"), take("_id"));
        Ok(Given { members, key, revision, id })
    }

    /// `_key`, which must be a legal one if it is there.
    fn key(&self) -> Result<Option<String>, Failure> {
        match &self.key {
            None => Ok(None),
            Some((_, text)) => match json::string(text) {
                Some(key) if users::is_key(&key) => Ok(Some(key.into_owned())),
                _ => Err(errors::DOCUMENT_KEY_BAD.into()),
            },
        }
    }

    /// The key of the document that this speaks of, by `_key` or `_id`.
    fn target(&self, collection: &CollectionRow) -> Result<String, Failure> {
        match (&self.key, &self.id) {
            (Some((_, text)), _) => {
                json::string(text).map(|key| key.into_owned()).ok_or(errors::DOCUMENT_KEY_BAD.into())
            }
            (None, Some((_, text))) => match json::string(text) {
                Some(id) => key_of_handle(&id, collection),
                None => Err(errors::DOCUMENT_HANDLE_BAD.into()),
            },
            (None, None) => Err(errors::DOCUMENT_HANDLE_BAD.into()),
        }
    }

    /// The revision that the document must have.
    fn expected(&self) -> Option<Expected> {
        let (_, text) = self.revision.as_ref()?;
        Some(Expected(json::string(text).and_then(|text| Revision::decode(&text))))
    }
}

/// A revision that a client insists on; `None` if what it sent is none, which then never fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected(pub Option<Revision>);

impl Expected {
    /// An `If-Match` or `If-None-Match` header.
    pub fn header(request: &Request, name: &str) -> Option<Expected> {
        let tag = request.header(name)?.trim();
        let bare = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
        Some(Expected::text(bare))
    }

    pub fn text(text: &str) -> Expected {
        Expected(Revision::decode(text))
    }

    pub fn fits(self, document: &Document) -> bool {
        self.0 == Some(document.revision)
    }

    pub fn check(self, collection: &CollectionRow, document: &Document) -> Result<(), Failure> {
        if self.fits(document) {
            return Ok(());
        }
        let id = format!("{}/{}", collection.name, document.key);
        let current = Some([id, document.key.clone(), document.revision.encode()]);
        Err(Error { current, ..errors::CONFLICT.into() }.into())
    }
}

/// `key`, or `collection/key`.
fn key_of_handle(handle: &str, collection: &CollectionRow) -> Result<String, Failure> {
    match handle.split_once('/') {
        None => Ok(handle.to_owned()),
        Some((name, key)) if name == collection.name || name == collection.id.to_string() => Ok(key.to_owned()),
        Some(_) => Err(errors::CROSS_COLLECTION_REQUEST.into()),
    }
}

/// What is stored of a document, once it has what its collection demands.
fn body(
    db: &mut Writer<'_>,
    draft: &Draft<'_>,
    members: Vec<json::Member<'_>>,
    options: &Options,
) -> Result<Bytes, Failure> {
    let collection = draft.collection;
    if collection.kind == CollectionKind::Edge {
        for end in ["_from", "_to"] {
            let value = members.iter().find(|(name, _)| name == end).and_then(|(_, text)| json::string(text));
            let legal = value
                .as_deref()
                .and_then(|handle| handle.split_once('/'))
                .is_some_and(|(name, key)| names::may_be_of_collection(name) && users::is_key(key));
            if !legal {
                return Err(errors::INVALID_EDGE_ATTRIBUTE.into());
            }
        }
    }
    let rules = db.rules(collection)?;
    let members = if rules.is_empty() { members } else { rules.apply(draft, members, db)? };
    let text = json::object(&members);
    if text.len() > options.document_bytes_max {
        return Err(errors::DOCUMENT_TOO_LARGE.into());
    }
    Ok(text.into())
}

/// Inserts a document, or does with the one that has its key what the options say.
pub(super) fn insert_one(
    db: &mut Writer<'_>,
    collection: &CollectionRow,
    text: &str,
    options: &Options,
) -> Result<Done, Failure> {
    let given = Given::of(text)?;
    let key = given.key()?;
    let before = match &key {
        Some(key) => db.reader().document(collection, key)?,
        None => None,
    };
    if key.is_some() && before.is_none() && !collection.key.allow_user_keys {
        return Err(errors::DOCUMENT_KEY_UNEXPECTED.into());
    }
    let Some(before) = before else {
        let key = match key {
            Some(key) => key,
            None => db.next_key(collection)?.ok_or(errors::OUT_OF_KEYS)?,
        };
        let draft = Draft { collection, key: &key, event: Event::Insert, before: None, validate: options.validate };
        let body = body(db, &draft, given.members, options)?;
        let revision = db.put(collection, &key, body.clone(), None)?;
        let new = Some(Document { key: key.clone(), revision, body });
        return Ok(Done { key, revision, old: None, new });
    };
    let expected = if options.ignore_revisions { None } else { given.expected() };
    match options.overwrite {
        Overwrite::Conflict => {
            let what = format!("in index primary of type primary over '_key'; conflicting key: {}", before.key);
            Err(errors::UNIQUE_CONSTRAINT_VIOLATED.says(format!("unique constraint violated - {what}")).into())
        }
        Overwrite::Ignore => Ok(Done { key: before.key, revision: before.revision, old: None, new: None }),
        Overwrite::Replace => write_over(db, collection, before, given.members, None, expected, options),
        Overwrite::Update => write_over(db, collection, before, given.members, Some(options.merge), expected, options),
    }
}

/// Replaces a document, or with `patch` merges into it.
pub(super) fn modify_one(
    db: &mut Writer<'_>,
    collection: &CollectionRow,
    key: Option<&str>,
    text: &str,
    patch: bool,
    if_match: Option<Expected>,
    options: &Options,
) -> Result<Done, Failure> {
    let given = Given::of(text)?;
    let key = match key {
        Some(key) => key.to_owned(),
        None => given.target(collection)?,
    };
    let before = find_document(&db.reader(), collection, &key)?.ok_or(errors::DOCUMENT_NOT_FOUND)?;
    let in_body = if options.ignore_revisions { None } else { given.expected() };
    let merge = patch.then_some(options.merge);
    write_over(db, collection, before, given.members, merge, if_match.or(in_body), options)
}

fn write_over(
    db: &mut Writer<'_>,
    collection: &CollectionRow,
    before: Document,
    members: Vec<json::Member<'_>>,
    merge: Option<json::Merge>,
    expected: Option<Expected>,
    options: &Options,
) -> Result<Done, Failure> {
    if let Some(expected) = expected {
        expected.check(collection, &before)?;
    }
    // As in ArangoDB, a patch that says nothing writes nothing, unless something is computed with every write.
    if merge.is_some() && members.is_empty() && !db.rules(collection)?.compute() {
        return Ok(Done {
            key: before.key.clone(),
            revision: before.revision,
            old: Some(before.clone()),
            new: Some(before),
        });
    }
    let event = if merge.is_some() { Event::Update } else { Event::Replace };
    let draft = Draft { collection, key: &before.key, event, before: Some(&before), validate: options.validate };
    let members = match merge {
        Some(how) => json::merge(json::members(stored_text(&before)?), members, how),
        None => members,
    };
    let body = body(db, &draft, members, options)?;
    let revision = db.put(collection, &before.key, body.clone(), Some(&before))?;
    let new = Document { key: before.key.clone(), revision, body };
    Ok(Done { key: before.key.clone(), revision, old: Some(before), new: Some(new) })
}

fn stored_text(document: &Document) -> Result<&str, Failure> {
    let corrupt = |_| StoreError::Corrupt(format!("document {}: not UTF-8", document.key));
    Ok(std::str::from_utf8(&document.body).map_err(corrupt)?)
}

pub(super) fn remove_one(
    db: &mut Writer<'_>,
    collection: &CollectionRow,
    key: &str,
    expected: Option<Expected>,
) -> Result<Done, Failure> {
    let before = find_document(&db.reader(), collection, key)?.ok_or(errors::DOCUMENT_NOT_FOUND)?;
    if let Some(expected) = expected {
        expected.check(collection, &before)?;
    }
    db.remove(collection, &before)?;
    Ok(Done { key: before.key.clone(), revision: before.revision, old: Some(before), new: None })
}

// ---- answers --------------------------------------------------------------------------------------------------------

/// What a request is answered with when everything it asked for is done.
pub(super) struct Success {
    synced: u16,
    accepted: u16,
}

pub(super) const SAVED: Success = Success { synced: 201, accepted: 202 };
pub(super) const REMOVED: Success = Success { synced: 200, accepted: 202 };

impl Success {
    /// Everything acknowledged is on disk; the status says whether the request asked for that, or the collection that
    /// something was written to.
    pub fn status(&self, collection: &CollectionRow, options: &Options, wrote: bool) -> u16 {
        if options.wait_for_sync || (wrote && collection.wait_for_sync) { self.synced } else { self.accepted }
    }
}

fn single(call: &Call<'_, '_>, collection: &CollectionRow, options: &Options, success: Success, done: Done) -> Answer {
    let status = success.status(collection, options, done.wrote());
    if options.silent {
        return Ok(Response::raw(status, "{}").into());
    }
    let mut body = Vec::new();
    done.write_json(collection, options, &mut body);
    let [database, key] = [&call.database.name, &done.key].map(|name| percent_encode(name, UNRESERVED));
    let location = format!("/_db/{database}/_api/document/{}/{key}", collection.name);
    let response = Response::raw(status, body)
        .with_header(header::ETAG, format!("\"{}\"", done.revision.encode()))
        .with_header(header::LOCATION, location);
    Ok(response.into())
}

/// Does the same to each element. Only the store's own failure ends it early.
fn array(
    call: &mut Call<'_, '_>,
    collection: &CollectionRow,
    options: &Options,
    success: Success,
    text: &str,
    mut each: impl FnMut(&mut Writer<'_>, &str) -> Result<Done, Failure>,
) -> Answer {
    let db = call.writer()?;
    let (mut parts, mut wrote) = (Array::default(), false);
    for element in json::elements(text) {
        let done = each(db, element);
        wrote |= done.as_ref().is_ok_and(Done::wrote);
        match done {
            Ok(_) if options.silent => {}
            Ok(done) => parts.push(|out| done.write_json(collection, options, out)),
            Err(Failure::Error(error)) => parts.push_error(&error),
            Err(failure) => return Err(failure),
        }
    }
    let nothing_to_say = options.silent && parts.errors.is_empty();
    let status = success.status(collection, options, wrote);
    Ok(if nothing_to_say { Response::raw(status, "{}") } else { parts.response(status) }.into())
}

/// An array answer while it grows, and how often each error occurred.
#[derive(Default)]
struct Array {
    body: Vec<u8>,
    errors: BTreeMap<u32, u64>,
}

impl Array {
    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.body.push(if self.body.is_empty() { b'[' } else { b',' });
        write(&mut self.body);
    }

    fn push_error(&mut self, error: &Error) {
        *self.errors.entry(error.kind.number).or_default() += 1;
        self.push(|out| out.extend_from_slice(error.element().as_bytes()));
    }

    fn response(mut self, status: u16) -> Response {
        if self.body.is_empty() {
            self.body.push(b'[');
        }
        self.body.push(b']');
        let response = Response::raw(status, self.body);
        if self.errors.is_empty() {
            return response;
        }
        let codes: Map<String, Value> = self.errors.iter().map(|(code, n)| (code.to_string(), (*n).into())).collect();
        response.with_header(ERROR_CODES, Value::Object(codes).to_string())
    }
}

// ---- the endpoints --------------------------------------------------------------------------------------------------

/// The collection in the path, or in the query where older drivers put it.
fn collection_name(call: &Call<'_, '_>) -> Result<String, Failure> {
    let name = call.open.first().cloned().or_else(|| call.request().query("collection")).unwrap_or_default();
    if name.is_empty() {
        return Err(errors::COLLECTION_PARAMETER_MISSING.because("it must be in the path or in the query").into());
    }
    Ok(name)
}

pub(super) fn get(call: &mut Call<'_, '_>) -> Answer {
    let collection = call.collection(&call.open[0], Level::Ro)?;
    let document = find_document(&call.reader(), &collection, &call.open[1])?.ok_or(errors::DOCUMENT_NOT_FOUND)?;
    if let Some(expected) = Expected::header(call.request(), header::IF_MATCH) {
        expected.check(&collection, &document)?;
    }
    let tag = format!("\"{}\"", document.revision.encode());
    if Expected::header(call.request(), header::IF_NONE_MATCH).is_some_and(|expected| expected.fits(&document)) {
        return Ok(Response::empty(304).with_header(header::ETAG, tag).into());
    }
    Ok(Response::raw(200, document.json(&collection.name)).with_header(header::ETAG, tag).into())
}

pub(super) fn get_nothing(_: &mut Call<'_, '_>) -> Answer {
    Err(errors::DATA_SOURCE_NOT_FOUND.says("expecting GET /_api/document/<collection>/<key>").into())
}

/// `PUT …?onlyget`: an array of keys, handles or objects with one of them.
pub(super) fn get_many(call: &mut Call<'_, '_>) -> Answer {
    let collection = call.collection(&call.open[0], Level::Ro)?;
    let text = call.text()?;
    if !json::is_array(&text) {
        return Err(errors::DOCUMENT_TYPE_INVALID.into());
    }
    let ignore_revisions = call.flag("ignoreRevs", true);
    let mut parts = Array::default();
    for element in json::elements(&text) {
        match find_element(&call.reader(), &collection, element, ignore_revisions) {
            Ok(document) => parts.push(|out| document.write_json(&collection.name, out)),
            Err(Failure::Error(error)) => parts.push_error(&error),
            Err(failure) => return Err(failure),
        }
    }
    Ok(parts.response(200).into())
}

fn find_element(
    db: &Reader<'_>,
    collection: &CollectionRow,
    element: &str,
    ignore_revisions: bool,
) -> Result<Document, Failure> {
    let (key, expected) = element_target(collection, element, ignore_revisions)?;
    let document = find_document(db, collection, &key)?.ok_or(errors::DOCUMENT_NOT_FOUND)?;
    if let Some(expected) = expected {
        expected.check(collection, &document)?;
    }
    Ok(document)
}

/// Which document an element of an array means, and at which revision.
fn element_target(
    collection: &CollectionRow,
    element: &str,
    ignore_revisions: bool,
) -> Result<(String, Option<Expected>), Failure> {
    if let Some(handle) = json::string(element) {
        return Ok((key_of_handle(&handle, collection)?, None));
    }
    if !json::is_object(element) {
        return Err(errors::DOCUMENT_HANDLE_BAD.into());
    }
    let given = Given::of(element)?;
    let expected = if ignore_revisions { None } else { given.expected() };
    Ok((given.target(collection)?, expected))
}

pub(super) fn insert(call: &mut Call<'_, '_>) -> Answer {
    let name = collection_name(call)?;
    let text = call.text()?;
    let collection = call.collection(&name, Level::Rw)?;
    let mut options = Options::of(call);
    options.return_old &= matches!(options.overwrite, Overwrite::Replace | Overwrite::Update);
    if json::is_array(&text) {
        return array(call, &collection, &options, SAVED, &text, |db, element| {
            insert_one(db, &collection, element, &options)
        });
    }
    let done = insert_one(call.writer()?, &collection, &text, &options)?;
    single(call, &collection, &options, SAVED, done)
}

pub(super) fn replace(call: &mut Call<'_, '_>) -> Answer {
    modify(call, false)
}

pub(super) fn update(call: &mut Call<'_, '_>) -> Answer {
    modify(call, true)
}

fn modify(call: &mut Call<'_, '_>, patch: bool) -> Answer {
    let text = call.text()?;
    let collection = call.collection(&call.open[0], Level::Rw)?;
    let options = Options::of(call);
    let key = call.open[1].clone();
    let if_match = Expected::header(call.request(), header::IF_MATCH);
    let done = modify_one(call.writer()?, &collection, Some(&key), &text, patch, if_match, &options)?;
    single(call, &collection, &options, SAVED, done)
}

pub(super) fn replace_many(call: &mut Call<'_, '_>) -> Answer {
    modify_many(call, false)
}

pub(super) fn update_many(call: &mut Call<'_, '_>) -> Answer {
    modify_many(call, true)
}

fn modify_many(call: &mut Call<'_, '_>, patch: bool) -> Answer {
    let name = collection_name(call)?;
    let text = call.text()?;
    let collection = call.collection(&name, Level::Rw)?;
    if !json::is_array(&text) {
        return Err(errors::DOCUMENT_TYPE_INVALID.into());
    }
    let options = Options::of(call);
    array(call, &collection, &options, SAVED, &text, |db, element| {
        modify_one(db, &collection, None, element, patch, None, &options)
    })
}

pub(super) fn remove(call: &mut Call<'_, '_>) -> Answer {
    let collection = call.collection(&call.open[0], Level::Rw)?;
    let options = Options::of(call);
    let key = call.open[1].clone();
    let expected = Expected::header(call.request(), header::IF_MATCH);
    let done = remove_one(call.writer()?, &collection, &key, expected)?;
    single(call, &collection, &options, REMOVED, done)
}

pub(super) fn remove_many(call: &mut Call<'_, '_>) -> Answer {
    let text = call.text()?;
    let collection = call.collection(&call.open[0], Level::Rw)?;
    let options = Options::of(call);
    let remove = |db: &mut Writer<'_>, element: &str| {
        let (key, expected) = element_target(&collection, element, options.ignore_revisions)?;
        remove_one(db, &collection, &key, expected)
    };
    if json::is_array(&text) {
        return array(call, &collection, &options, REMOVED, &text, remove);
    }
    if json::is_object(&text) {
        let done = remove(call.writer()?, &text)?;
        return single(call, &collection, &options, REMOVED, done);
    }
    Err(errors::HTTP_BAD_PARAMETER.says("Request body not parseable").into())
}
