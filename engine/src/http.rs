//! Requests and responses as plain data: what a client said and what it is told, free of any HTTP library.
//!
//! The shells translate to and from the wire; the simulator's clients build these directly. Bodies are bytes, and only
//! the part that answers a request parses them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write};

/// Header names are compared in lower case; the HTTP/1.1 shell writes each word capitalised, as ArangoDB does.
pub mod header {
    pub const ENDPOINT: &str = "x-arango-endpoint";
    pub const ALLOW_DIRTY_READ: &str = "x-arango-allow-dirty-read";
    pub const POTENTIAL_DIRTY_READ: &str = "x-arango-potential-dirty-read";
    /// What an answer reflects, and what a client demands of it (see `demand`).
    pub const TICK: &str = "x-tanist-tick";
    pub const AT_LEAST: &str = "x-tanist-at-least";
    pub const MAX_STALENESS: &str = "x-tanist-max-staleness";
    pub const WAIT_MS: &str = "x-tanist-wait-ms";
    /// So many followers must have a write when it is answered.
    pub const SYNC_FOLLOWERS: &str = "x-tanist-sync-followers";
    /// The stream transaction that a request belongs to.
    pub const TRANSACTION: &str = "x-arango-trx-id";
    pub const AUTHORIZATION: &str = "authorization";
    pub const IF_MATCH: &str = "if-match";
    pub const IF_NONE_MATCH: &str = "if-none-match";
    pub const ETAG: &str = "etag";
    pub const LOCATION: &str = "location";
    pub const AGENCY_MODE: &str = "x-arangodb-agency-mode";
    pub const WWW_AUTHENTICATE: &str = "www-authenticate";
    pub const OMIT_WWW_AUTHENTICATE: &str = "x-omit-www-authenticate";
    pub const ERROR_CODES: &str = "x-arango-error-codes";
    pub const ALLOW: &str = "allow";
    pub const CONTENT_TYPE: &str = "content-type";
    /// How many parts of a batch have failed.
    pub const ERRORS: &str = "x-arango-errors";
    /// "true": nobody waits for the answer; "store": it is fetched later, by the number that the other one names.
    pub const ASYNC: &str = "x-arango-async";
    pub const ASYNC_ID: &str = "x-arango-async-id";
    /// In an answer, how long requests wait for the loop; in a request, for how long it may have been.
    pub const QUEUE_TIME: &str = "x-arango-queue-time-seconds";
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// All of them, as `Allow` tells them.
    pub const ALLOWED: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";

    pub fn parse(text: &str) -> Option<Method> {
        Some(match text {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "PATCH" => Method::Patch,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            _ => return None,
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
        })
    }
}

/// A client's request. `target` is the raw path and query as sent; header names are in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    pub method: Method,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Request {
    pub fn new(method: Method, target: impl Into<String>) -> Request {
        Request { method, target: target.into(), headers: Vec::new(), body: Bytes::new() }
    }

    pub fn with_body(mut self, body: impl Into<Bytes>) -> Request {
        self.body = body.into();
        self
    }

    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Request {
        debug_assert!(name.bytes().all(|b| !b.is_ascii_uppercase()));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The target without its query, still percent-encoded.
    pub fn raw_path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The database named by a `/_db/<name>` prefix (percent-encoded, `None` without one) and the path after it.
    pub fn split_database(&self) -> (Option<&str>, &str) {
        let path = self.raw_path();
        match path.strip_prefix("/_db/") {
            Some(rest) => match rest.find('/') {
                Some(slash) => (Some(&rest[..slash]), &rest[slash..]),
                None => (Some(rest), "/"),
            },
            None => (None, path),
        }
    }

    /// The first query parameter of that name, percent-decoded; `Some("")` if it stands without a value.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| percent_decode(&text.replace('+', " "));
            (decode(key)? == name).then(|| decode(value)).flatten()
        })
    }

    /// A boolean query parameter as ArangoDB reads it; `default` if absent or unreadable.
    pub fn query_flag(&self, name: &str, default: bool) -> bool {
        self.query(name).and_then(|value| truthy(&value)).unwrap_or(default)
    }
}

/// "true", "1", "yes", "on", "y" and their opposites, in any case.
pub fn truthy(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "y" => Some(true),
        "false" | "0" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}

/// What may stand in a part of a path as it is, beside letters and digits.
pub const UNRESERVED: &[u8] = b"-_.~";

/// All but ASCII letters, digits and what is to be kept as `%XX`.
pub fn percent_encode(text: &str, kept: &[u8]) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a string is always written");
        }
        out
    })
}

/// Decodes `%xx`; `None` if an escape is broken or the bytes are not UTF-8.
pub fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] == b'%' {
            let hex = bytes.get(i + 1..i + 3)?;
            let digit = |b: u8| (b as char).to_digit(16);
            out.push((digit(hex[0])? * 16 + digit(hex[1])?) as u8);
            i += 3;
        } else {
            out.push(bytes[i]);
            i += 1;
        }
    }
    String::from_utf8(out).ok()
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// JSON unless `content_type` says otherwise.
    pub body: Bytes,
    pub content_type: ContentType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ContentType {
    Json,
    Text,
    /// One JSON value a line (`application/x-arango-dump`).
    Dump,
}

impl ContentType {
    pub fn as_str(self) -> &'static str {
        match self {
            ContentType::Json => "application/json; charset=utf-8",
            ContentType::Text => "text/plain; charset=utf-8",
            ContentType::Dump => "application/x-arango-dump",
        }
    }
}

impl Response {
    pub fn empty(status: u16) -> Response {
        Response { status, headers: Vec::new(), body: Bytes::new(), content_type: ContentType::Json }
    }

    pub fn raw(status: u16, body: impl Into<Bytes>) -> Response {
        Response { body: body.into(), ..Response::empty(status) }
    }

    pub fn json(status: u16, body: &serde_json::Value) -> Response {
        Response::raw(status, serde_json::to_vec(body).expect("a JSON value can be written"))
    }

    pub fn text(status: u16, body: impl Into<Bytes>) -> Response {
        Response { content_type: ContentType::Text, ..Response::raw(status, body) }
    }

    /// ArangoDB's error object, its keys in ArangoDB's order.
    pub fn error(status: u16, error_num: u32, message: &str) -> Response {
        let body = serde_json::json!({
            "error": true, "errorNum": error_num, "errorMessage": message, "code": status
        });
        Response::json(status, &body)
    }

    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Response {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The `errorNum` of an error object; `None` for anything else.
    pub fn error_num(&self) -> Option<u64> {
        let value: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        value.get("errorNum")?.as_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_taken_apart() {
        let request = Request::new(Method::Get, "/_db/a%20b/_api/version?details=true&x=%31&flag");
        assert_eq!(request.split_database(), (Some("a%20b"), "/_api/version"));
        assert!(request.query_flag("details", false));
        assert_eq!(request.query("x").as_deref(), Some("1"));
        assert_eq!(request.query("flag").as_deref(), Some(""));
        assert_eq!(request.query("none"), None);
        assert_eq!(Request::new(Method::Get, "/_db/x").split_database(), (Some("x"), "/"));
        assert_eq!(percent_decode("%zz"), None);
        assert_eq!(percent_decode("%ff"), None);
        assert_eq!(percent_encode("a-Z_0.~ü/+", UNRESERVED), "a-Z_0.~%C3%BC%2F%2B");
    }

    #[test]
    fn errors_have_their_keys_in_order() {
        let body = Response::error(503, 1496, "not a leader").body;
        let expected = r#"{"error":true,"errorNum":1496,"errorMessage":"not a leader","code":503}"#;
        assert_eq!(body, expected.as_bytes());
    }
}
