//! What the rows of the document engine look like: keys, values, checksums.
//!
//! Numbers in keys are big-endian, so that byte order is number order. A *generation* (`u32`) begins the key of every
//! row of the tables Catalog, Documents, Keys and Log: a copy is built under the next one and swapped in by one commit
//! (R8). An *object* is the current incarnation of a collection: truncating gives a collection a new object, so that
//! it can be undone by going back to the old one.
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
//! | Documents | object, revision                      | length of `_key`, `_key`, body, CRC-32            |
//! | Keys      | object, `_key`                        | revision                                          |
//! | Log       | tick                                  | epoch, CRC-32, payload                            |
//!
//! Meta and Rollback rows carry no generation prefix; they are told in `exec.rs` and `log.rs`.

use super::store::{StoreError, StoreResult};
use crate::types::Position;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// ArangoDB's limit on `_key`.
pub const KEY_BYTES_MAX: usize = 254;

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
    /// What the API keeps with it (schema, computed values, …), opaque here.
    #[serde(with = "json_text")]
    pub properties: serde_json::Value,
}

/// What is told of an object, kept in step with its documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRow {
    pub count: u64,
    /// The highest number used as a key, whoever chose it; never goes down.
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

/// A document without its system attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub key: String,
    pub revision: Revision,
    /// JSON object text without `_key`, `_id` and `_rev`.
    pub body: Bytes,
}

impl Document {
    /// The document as clients see it: `{"_key":…,"_id":…,"_rev":…,<rest>}`, spliced without parsing.
    pub fn write_json(&self, collection: &str, out: &mut Vec<u8>) {
        // Neither keys nor collection names can hold a character that JSON escapes... except in extended names.
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

/// `_rev`: a hybrid logical clock. Milliseconds in the upper 44 bits, then 12 bits that count, then the low 8 bits of
/// the epoch, so that no two epochs mint the same one (R16).
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
        text[at..].iter().map(|&b| b as char).collect()
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

mod json_text {
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
    postcard::to_stdvec(value).expect("a row can be encoded")
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> StoreResult<T> {
    postcard::from_bytes(bytes).map_err(|error| StoreError::Corrupt(format!("{what}: {error}")))
}
