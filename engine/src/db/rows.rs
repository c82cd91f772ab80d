//! What the rows of the document engine look like: keys, values, checksums.
//!
//! Numbers in keys are big-endian, so that byte order is number order. A *generation* (`u32`) begins the key of every
//! row of the tables Catalog, Documents, Keys, Index and Log: a copy is built under the next one and swapped in by one
//! commit (R8). An *object* is the current incarnation of a collection: truncating gives a collection a new object, so
//! that it can be undone by going back to the old one.
//!
//! | table     | key (after the generation)            | value                                             |
//! |-----------|---------------------------------------|---------------------------------------------------|
//! | Catalog   | 1, database id                        | [`DatabaseRow`]                                   |
//! | Catalog   | 2, database name                      | database id                                       |
//! | Catalog   | 3, database id, collection name       | [`CollectionRow`]                                 |
//! | Catalog   | 4, collection id                      | database id, collection name                      |
//! | Catalog   | 5, epoch                              | [`crate::types::EpochRow`]                                   |
//! | Catalog   | 6, object                             | [`ObjectRow`]                                     |
//! | Catalog   | 7                                     | [`Counters`]                                      |
//! | Catalog   | 8, tick, object                       | nothing: that log entry let go of the object      |
//! | Catalog   | 9                                     | [`LogBase`]: where the log begins                 |
//! | Catalog   | 10, object                            | the indexes with entries of its documents         |
//! | Catalog   | 11, tick, object, index id            | nothing: that log entry dropped the index         |
//! | Catalog   | 12, database id, view name            | [`ViewRow`]                                       |
//! | Catalog   | 13, view id                           | database id, view name                            |
//! | Documents | object, revision                      | length of `_key`, `_key`, body, CRC-32            |
//! | Keys      | object, `_key`                        | revision                                          |
//! | Index     | object, index id, values, revision    | see [`super::index::entries`]                     |
//! | Log       | tick                                  | epoch, CRC-32, payload                            |
//!
//! Meta and Rollback rows carry no generation prefix; they are told in `exec.rs` and `log.rs`.

use super::index::Index;
use super::store::{StoreError, StoreResult};
use crate::message::Entry;
use crate::types::{Epoch, Position, Tick};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// ArangoDB's limit on `_key`.
pub const DOCUMENT_KEY_BYTES_MAX: usize = 254;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatabaseRow {
    pub id: u64,
    pub name: String,
    /// What the API keeps with it, opaque here.
    #[serde(with = "json_text")]
    pub properties: serde_json::Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CollectionKind {
    Document = 2,
    Edge = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyKind {
    Traditional,
    Autoincrement,
    Uuid,
    Padded,
}

/// How a collection makes keys for documents that come without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyOptions {
    pub kind: KeyKind,
    pub allow_user_keys: bool,
    /// Of `Autoincrement` only.
    pub increment: u64,
    pub offset: u64,
}

impl Default for KeyOptions {
    fn default() -> KeyOptions {
        KeyOptions { kind: KeyKind::Traditional, allow_user_keys: true, increment: 1, offset: 0 }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CollectionRow {
    pub id: u64,
    pub database: u64,
    pub name: String,
    pub kind: CollectionKind,
    /// Where its documents are; truncating changes it.
    pub object: u64,
    pub system: bool,
    pub globally_unique_id: String,
    pub key: KeyOptions,
    pub wait_for_sync: bool,
    /// Those that were created, in that order; not those that every collection has.
    pub indexes: Vec<Index>,
    /// What the API keeps with it (schema, computed values, …), opaque here.
    #[serde(with = "json_text")]
    pub properties: serde_json::Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ViewKind {
    ArangoSearch,
    SearchAlias,
}

/// A view: its definition only. Views and collections of a database share their names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewRow {
    pub id: u64,
    pub database: u64,
    pub name: String,
    pub kind: ViewKind,
    pub globally_unique_id: String,
    /// What the API keeps with it (links, sorting, …), opaque here.
    #[serde(with = "json_text")]
    pub properties: serde_json::Value,
}

/// A row of the catalog that is found by its name in a database, and by its id.
pub(super) trait Named: Clone + PartialEq + Serialize + DeserializeOwned {
    const WHAT: &'static str;
    /// The kinds of its rows.
    const BY_NAME: u8;
    const BY_ID: u8;

    fn id(&self) -> u64;
    fn database(&self) -> u64;
    fn name(&self) -> &str;
}

impl Named for CollectionRow {
    const WHAT: &'static str = "collection";
    const BY_NAME: u8 = kind::COLLECTION;
    const BY_ID: u8 = kind::COLLECTION_ID;

    fn id(&self) -> u64 {
        self.id
    }

    fn database(&self) -> u64 {
        self.database
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for ViewRow {
    const WHAT: &'static str = "view";
    const BY_NAME: u8 = kind::VIEW;
    const BY_ID: u8 = kind::VIEW_ID;

    fn id(&self) -> u64 {
        self.id
    }

    fn database(&self) -> u64 {
        self.database
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// What is told of an object, kept in step with its documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRow {
    pub keys: KeyKind,
    pub count: u64,
    /// The highest number used as a key, whoever chose it. A hint for making keys: it never goes down.
    pub highest_key: u64,
}

/// What numbers are minted from; they never go down, not even when entries are undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub revision: u64,
    pub id: u64,
}

/// The entry before the first one in the log, which was pruned or is a snapshot's position; zero for a log that is
/// whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogBase {
    pub position: Position,
    pub checksum: u32,
}

/// A document as it lies in the store: what [`Document`] has, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredDocument<'a> {
    pub key: &'a str,
    pub revision: Revision,
    pub body: &'a [u8],
}

impl StoredDocument<'_> {
    pub fn to_document(self) -> Document {
        Document { key: self.key.to_owned(), revision: self.revision, body: Bytes::copy_from_slice(self.body) }
    }

    /// As clients see it, by itself.
    pub fn json(&self, collection: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + 96);
        self.write_json(collection, &mut out);
        out
    }

    /// The document as clients see it: `{"_key":…,"_id":…,"_rev":…,<rest>}`, spliced without parsing.
    pub fn write_json(&self, collection: &str, out: &mut Vec<u8>) {
        // A key holds no character that JSON escapes; the name of a collection may.
        out.extend_from_slice(b"{\"_key\":\"");
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(b"\",\"_id\":");
        serde_json::to_writer(&mut *out, &format!("{collection}/{}", self.key)).expect("a string can be written");
        out.extend_from_slice(b",\"_rev\":\"");
        out.extend_from_slice(self.revision.encode().as_bytes());
        out.push(b'"');
        let rest = self.body[1..].trim_ascii_start();
        if rest != b"}" {
            out.push(b',');
        }
        out.extend_from_slice(rest);
    }
}

/// A document without its system attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub key: String,
    pub revision: Revision,
    /// JSON object text without `_key`, `_id` and `_rev`.
    pub body: Bytes,
}

impl Document {
    pub fn stored(&self) -> StoredDocument<'_> {
        StoredDocument { key: &self.key, revision: self.revision, body: &self.body }
    }

    /// As clients see it, by itself.
    pub fn json(&self, collection: &str) -> Vec<u8> {
        self.stored().json(collection)
    }

    pub fn write_json(&self, collection: &str, out: &mut Vec<u8>) {
        self.stored().write_json(collection, out);
    }
}

/// `_rev`: a hybrid logical clock. Milliseconds in the upper 44 bits, then 12 bits that count, then a bit that is set
/// in what a stream transaction mints, then the low 7 bits of the epoch, so that no two epochs mint the same one (R16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision(pub u64);

/// ArangoDB's alphabet for revisions; its order is not the byte order.
const ALPHABET: &[u8; 64] = b"-_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

impl Revision {
    /// As clients see it: six bits a character, the highest first, without leading zeroes.
    pub fn encode(self) -> String {
        let mut text = [0u8; 11];
        let mut at = text.len();
        let mut rest = self.0;
        while rest > 0 || at == text.len() {
            at -= 1;
            text[at] = ALPHABET[(rest & 63) as usize];
            rest >>= 6;
        }
        str::from_utf8(&text[at..]).expect("letters").to_owned()
    }

    /// The next one after `last`, in an epoch.
    pub fn after(last: Revision, epoch: Epoch, wall_ms: u64) -> Revision {
        let counted = ((last.0 >> 8) + 1).max(wall_ms << 12);
        Revision(with_epoch(counted, epoch).unwrap_or(u64::MAX))
    }

    /// The one that a stream transaction mints as the `count`th of its lane: no other lane, and no single write, ever
    /// mints that. `count` is in quarters of a millisecond.
    pub fn in_lane(lane: u16, count: u64, epoch: Epoch) -> Revision {
        debug_assert!(lane < LANES);
        Revision(with_epoch(count << 10 | u64::from(lane), epoch).map_or(u64::MAX, |number| number | OF_TRANSACTION))
    }

    /// When it was made, about: the clock of whoever made it, or a little after the revision before it.
    pub fn wall_ms(self) -> u64 {
        self.0 >> 20
    }

    /// The inverse of `encode`; `None` for anything else.
    pub fn decode(text: &str) -> Option<Revision> {
        if text.is_empty() || text.len() > 11 {
            return None;
        }
        let mut value = 0u64;
        for byte in text.bytes() {
            let digit = ALPHABET.iter().position(|&b| b == byte)? as u64;
            value = value.checked_mul(64)?.checked_add(digit)?;
        }
        Some(Revision(value))
    }
}

/// So many stream transactions that write may be open at once: each mints in a lane of its own.
pub const LANES: u16 = 1024;
const OF_TRANSACTION: u64 = 0x80;

/// A counted number with the low bits of the epoch: two epochs that follow each other never make the same one (R16).
/// `None` if the numbers have run out.
pub fn with_epoch(counted: u64, epoch: Epoch) -> Option<u64> {
    let of_epoch = if planted!(revision_without_epoch) { 0 } else { epoch.0 & 0x7f };
    Some(counted.checked_mul(256)? | of_epoch)
}

impl KeyKind {
    /// The number that a key is, if a collection of this kind could have made it.
    pub fn number(self, key: &str) -> Option<u64> {
        let digits = !key.is_empty() && key.bytes().all(|b| b.is_ascii_digit());
        match self {
            KeyKind::Traditional | KeyKind::Autoincrement if digits => key.parse().ok(),
            KeyKind::Padded if key.len() == 16 => u64::from_str_radix(key, 16).ok(),
            _ => None,
        }
    }
}

impl KeyOptions {
    /// The number of the key to make when `highest` is the highest in use; `None` if there is none left. An
    /// autoincrement collection counts without gaps, so that two epochs may make the same key.
    pub fn next_number(&self, highest: u64, epoch: Epoch) -> Option<u64> {
        match self.kind {
            KeyKind::Autoincrement if highest < self.offset => Some(self.offset),
            KeyKind::Autoincrement => {
                let increment = self.increment.max(1);
                highest.checked_add(increment - (highest - self.offset) % increment)
            }
            _ => with_epoch((highest >> 8) + 1, epoch),
        }
    }
}

// ---- keys and values ------------------------------------------------------------------------------------------------

/// Kinds of rows in the catalog.
pub mod kind {
    pub const DATABASE: u8 = 1;
    pub const DATABASE_NAME: u8 = 2;
    pub const COLLECTION: u8 = 3;
    pub const COLLECTION_ID: u8 = 4;
    pub const HISTORY: u8 = 5;
    pub const OBJECT: u8 = 6;
    pub const COUNTERS: u8 = 7;
    pub const RELEASED: u8 = 8;
    pub const LOG_BASE: u8 = 9;
    pub const INDEXED: u8 = 10;
    pub const RELEASED_INDEX: u8 = 11;
    pub const VIEW: u8 = 12;
    pub const VIEW_ID: u8 = 13;
    pub const BUILDING: u8 = 14;
}

pub fn catalog_key(generation: u32, kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(5 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.extend_from_slice(&generation.to_be_bytes());
    key.push(kind);
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

pub fn object_key(generation: u32, object: u64) -> Vec<u8> {
    catalog_key(generation, kind::OBJECT, &[&object.to_be_bytes()])
}

/// Of Documents with a revision, of Keys with a `_key`; with nothing, what all keys of the object begin with.
pub fn in_object(generation: u32, object: u64, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(12 + rest.len());
    key.extend_from_slice(&generation.to_be_bytes());
    key.extend_from_slice(&object.to_be_bytes());
    key.extend_from_slice(rest);
    key
}

pub fn log_key(generation: u32, tick: Tick) -> Vec<u8> {
    let mut key = generation.to_be_bytes().to_vec();
    key.extend_from_slice(&tick.0.to_be_bytes());
    key
}

/// Eight bytes of a key or value as a number.
pub fn number_at(bytes: &[u8], at: usize, what: &str) -> StoreResult<u64> {
    let field = bytes.get(at..at + 8).ok_or_else(|| StoreError::Corrupt(format!("{what}: too short")))?;
    Ok(u64::from_be_bytes(field.try_into().expect("eight bytes")))
}

pub fn document_value(key: &str, body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + key.len() + body.len() + 4);
    value.push(u8::try_from(key.len()).expect("keys are bounded"));
    value.extend_from_slice(key.as_bytes());
    value.extend_from_slice(body);
    let sum = crc32fast::hash(&value);
    value.extend_from_slice(&sum.to_le_bytes());
    value
}

/// Key and body of a document's value, verified; `object` and `revision` only name it if it is corrupt.
pub fn split_document(value: &[u8], object: u64, revision: Revision) -> StoreResult<(&str, &[u8])> {
    let split = || {
        let (content, sum) = value.split_last_chunk::<4>()?;
        if crc32fast::hash(content) != u32::from_le_bytes(*sum) {
            return None;
        }
        let (&length, rest) = content.split_first()?;
        let (key, body) = rest.split_at_checked(usize::from(length))?;
        Some((std::str::from_utf8(key).ok()?, body))
    };
    split()
        .ok_or_else(|| StoreError::Corrupt(format!("document with revision {} in object {object}", revision.encode())))
}

pub fn log_value(entry: &Entry) -> Vec<u8> {
    let mut value = Vec::with_capacity(12 + entry.payload.len());
    value.extend_from_slice(&entry.epoch.0.to_be_bytes());
    value.extend_from_slice(&entry.checksum.to_be_bytes());
    value.extend_from_slice(&entry.payload);
    value
}

/// A log row as an entry, verified.
pub fn log_entry(key: &[u8], value: &[u8]) -> StoreResult<Entry> {
    let tick = Tick(number_at(key, 4, "key in the log")?);
    let what = format!("log entry {}", tick.0);
    let epoch = Epoch(number_at(value, 0, &what)?);
    let broken = || StoreError::Corrupt(what.clone());
    let sum = value.get(8..12).ok_or_else(broken)?;
    let checksum = u32::from_be_bytes(sum.try_into().expect("four bytes"));
    let entry = Entry { epoch, tick, payload: Bytes::copy_from_slice(&value[12..]), checksum };
    if entry.intact() { Ok(entry) } else { Err(broken()) }
}

pub(super) mod json_text {
    //! postcard does not describe itself, so free-form JSON is kept as its text.
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &serde_json::Value, serializer: S) -> Result<S::Ok, S::Error> {
        value.to_string().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<serde_json::Value, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, Vec::with_capacity(64)).expect("a row can be encoded")
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> StoreResult<T> {
    postcard::from_bytes(bytes).map_err(|error| StoreError::Corrupt(format!("{what}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_read_like_arangodbs_and_never_meet_between_epochs() {
        assert_eq!(Revision(0).encode(), "-");
        assert_eq!(Revision(64).encode(), "_-");
        let now = Revision::after(Revision(0), Epoch(3), 1_700_000_000_000);
        assert_eq!(now.encode().len(), 11 - usize::from(now.0 >> 60 == 0));
        for revision in [Revision(1), now, Revision(u64::MAX)] {
            assert_eq!(Revision::decode(&revision.encode()), Some(revision));
        }
        for bad in ["", "a b", "999999999999", "99999999999", "é"] {
            assert_eq!(Revision::decode(bad), None, "{bad}");
        }
        let next = Revision::after(now, Epoch(3), 0);
        assert!(next > now, "the clock went back, the revision did not");
        assert_ne!(Revision::after(now, Epoch(4), 0), next);
    }

    #[test]
    fn keys_are_made_after_the_highest_in_use() {
        let traditional = KeyOptions::default();
        assert_eq!(traditional.next_number(0, Epoch(2)), Some(0x102));
        assert_eq!(traditional.next_number(0x102, Epoch(3)), Some(0x203));
        assert_eq!(traditional.next_number(u64::MAX, Epoch(3)), None);
        let counting = KeyOptions { kind: KeyKind::Autoincrement, increment: 10, offset: 7, ..traditional };
        assert_eq!(counting.next_number(0, Epoch(2)), Some(7));
        assert_eq!(counting.next_number(7, Epoch(2)), Some(17));
        assert_eq!(counting.next_number(20, Epoch(2)), Some(27));
        assert_eq!(KeyKind::Padded.number("00000000000003e8"), Some(1000));
        assert_eq!(KeyKind::Traditional.number("1000"), Some(1000));
        assert_eq!(KeyKind::Traditional.number("+1"), None);
    }

    #[test]
    fn a_document_is_spliced_and_a_flipped_bit_is_named() {
        let show = |body: &'static str| {
            let document = Document { key: "k".into(), revision: Revision(64), body: Bytes::from(body) };
            let mut out = Vec::new();
            document.write_json("c", &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(show("{}"), r#"{"_key":"k","_id":"c/k","_rev":"_-"}"#);
        assert_eq!(show(r#"{"a":1}"#), r#"{"_key":"k","_id":"c/k","_rev":"_-","a":1}"#);
        let value = document_value("k", b"{}");
        assert_eq!(split_document(&value, 1, Revision(64)), Ok(("k", &b"{}"[..])));
        for at in 0..value.len() {
            let mut broken = value.clone();
            broken[at] ^= 4;
            assert!(matches!(split_document(&broken, 1, Revision(64)), Err(StoreError::Corrupt(_))));
        }
    }
}
