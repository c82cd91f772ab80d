//! ArangoDB's errors as far as Tanist has them: number, HTTP status and message.
//!
//! Clients compare the numbers and some compare the messages, so both are ArangoDB's (`errors.dat`).

use crate::db::store::StoreError;
use crate::http::{Response, header};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::fmt::Display;

/// A kind of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub number: u32,
    pub status: u16,
    pub message: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $number:literal $status:literal $message:literal;)*) => {
        $(pub const $name: Kind = Kind { number: $number, status: $status, message: $message };)*
    };
}

kinds! {
    IO = 2 500 "system error";
    INTERNAL = 4 500 "internal error";
    NOT_IMPLEMENTED = 9 501 "not implemented";
    BAD_PARAMETER = 10 400 "bad parameter";
    FORBIDDEN = 11 403 "forbidden";
    TYPE_ERROR = 17 400 "type error";
    LOCK_TIMEOUT = 18 500 "lock timeout";
    REQUEST_CANCELED = 21 410 "canceled request";
    LOCKED = 28 500 "locked";
    SHUTTING_DOWN = 30 503 "shutdown in progress";
    ONLY_ENTERPRISE = 31 501 "this functionality is available only in the enterprise edition";
    RESOURCE_LIMIT = 32 500 "resource limit exceeded";
    BODY_TOO_LARGE = 32 413 "resource limit exceeded";
    HTTP_BAD_PARAMETER = 400 400 "bad parameter";
    HTTP_NOT_IMPLEMENTED = 501 501 "not implemented";
    HTTP_UNAUTHORIZED = 401 401 "unauthorized";
    HTTP_FORBIDDEN = 403 403 "forbidden";
    HTTP_NOT_FOUND = 404 404 "not found";
    HTTP_METHOD_NOT_ALLOWED = 405 405 "method not supported";
    // What a client demanded of freshness can't be met; no driver repeats a request on it.
    TOO_OLD = 412 412 "precondition failed";
    HTTP_SERVICE_UNAVAILABLE = 503 503 "service unavailable";
    CORRUPTED_JSON = 600 400 "invalid JSON object";
    READ_ONLY = 1004 403 "read only";
    DUPLICATE_IDENTIFIER = 1005 409 "duplicate identifier";
    CORRUPTED_DATA = 1100 500 "corrupted data";
    STORAGE_FULL = 1104 507 "the storage is full: nothing was written";
    CONFLICT = 1200 412 "conflict, _rev values do not match";
    WRITE_CONFLICT = 1200 409 "write-write conflict";
    DOCUMENT_NOT_FOUND = 1202 404 "document not found";
    DATA_SOURCE_NOT_FOUND = 1203 404 "collection or view not found";
    COLLECTION_PARAMETER_MISSING = 1204 400 "parameter 'collection' not found";
    DOCUMENT_HANDLE_BAD = 1205 400 "illegal document identifier";
    DUPLICATE_NAME = 1207 409 "duplicate name";
    ILLEGAL_NAME = 1208 400 "illegal name";
    UNIQUE_CONSTRAINT_VIOLATED = 1210 409 "unique constraint violated";
    INDEX_NOT_FOUND = 1212 404 "index not found";
    CROSS_COLLECTION_REQUEST = 1213 400 "cross collection request not allowed";
    DOCUMENT_TOO_LARGE = 1216 400 "document too large";
    COLLECTION_TYPE_INVALID = 1218 400 "collection type invalid";
    DOCUMENT_KEY_BAD = 1221 400 "illegal document key";
    DOCUMENT_KEY_UNEXPECTED = 1222 400 "unexpected document key";
    OUT_OF_KEYS = 1225 500 "out of keys";
    DOCUMENT_TYPE_INVALID = 1227 400 "invalid document type";
    DATABASE_NOT_FOUND = 1228 404 "database not found";
    DATABASE_NAME_INVALID = 1229 400 "database name invalid";
    USE_SYSTEM_DATABASE = 1230 403 "operation only allowed in system database";
    INVALID_KEY_GENERATOR = 1232 400 "invalid key generator";
    DOCUMENT_KEY_MISSING = 1226 400 "missing document key";
    INVALID_EDGE_ATTRIBUTE = 1233 400 "edge attribute missing or invalid";
    // Of a tick that is not in the history any more.
    TICK_ROLLED_BACK = 1414 412 "tick not present";
    // ArangoDB's "write concern not fulfilled", and as there: nothing was written.
    WRITE_CONCERN = 1429 503 "too few followers are in sync: nothing was done";
    // ArangoDB's "timeout in cluster operation": no driver repeats a request on it.
    OUTCOME_UNKNOWN = 1457 504 "leadership was lost while the request ran: whether it took effect is unknown";
    NOT_REPLICATED = 1457 504 "the write is on this server only: too few followers have confirmed it in time, and whether it outlives a failover is unknown";
    ONLY_ON_COORDINATOR = 1471 501 "this operation is only valid on a coordinator in a cluster";
    AGENCY_UNREACHABLE = 1490 503 "could not connect to agency";
    LEADERSHIP_CHALLENGE = 1495 503 "Leadership challenge is ongoing";
    NOT_LEADER = 1496 503 "not a leader";
    QUERY_PARSE = 1501 400 "syntax error";
    QUERY_EMPTY = 1502 400 "query is empty";
    QUERY_NUMBER_OUT_OF_RANGE = 1504 400 "number out of range";
    QUERY_VARIABLE_REDECLARED = 1511 400 "variable '%s' is assigned multiple times";
    QUERY_VARIABLE_NAME_UNKNOWN = 1512 400 "unknown variable";
    QUERY_TOO_MANY_COLLECTIONS = 1522 400 "too many collections/shards";
    QUERY_TOO_MUCH_NESTING = 1524 400 "too much nesting or too many objects";
    QUERY_INVALID_OPTIONS_ATTRIBUTE = 1539 400 "invalid options attribute";
    QUERY_FUNCTION_NAME_UNKNOWN = 1540 400 "usage of unknown function";
    QUERY_FUNCTION_ARGUMENT_NUMBER_MISMATCH = 1541 400 "invalid number of arguments for function";
    QUERY_FUNCTION_ARGUMENT_TYPE_MISMATCH = 1542 400 "invalid argument type in call to function";
    QUERY_INVALID_REGEX = 1543 400 "invalid regex";
    QUERY_BIND_PARAMETERS_INVALID = 1550 400 "invalid structure of bind parameters";
    QUERY_BIND_PARAMETER_MISSING = 1551 400 "no value specified for declared bind parameter '%s'";
    QUERY_BIND_PARAMETER_UNDECLARED = 1552 400 "bind parameter '%s' was not declared in the query";
    QUERY_BIND_PARAMETER_TYPE = 1553 400 "bind parameter '%s' has an invalid value or type";
    QUERY_INVALID_LOGICAL_VALUE = 1560 400 "invalid logical value";
    QUERY_INVALID_ARITHMETIC_VALUE = 1561 400 "invalid arithmetic value";
    QUERY_DIVISION_BY_ZERO = 1562 400 "division by zero";
    QUERY_ARRAY_EXPECTED = 1563 400 "array expected";
    QUERY_GEO_INDEX_MISSING = 1570 404 "no suitable geo index found for geo restriction on '%s'";
    QUERY_FULLTEXT_INDEX_MISSING = 1571 404 "no suitable fulltext index found for fulltext query on '%s'";
    QUERY_INVALID_DATE_VALUE = 1572 400 "invalid date value";
    QUERY_FAIL_CALLED = 1569 400 "FAIL() called";
    QUERY_INVALID_AGGREGATE_EXPRESSION = 1574 400 "invalid aggregate expression";
    QUERY_FORCED_INDEX_HINT_UNUSABLE = 1577 400 "could not use forced index hint";
    QUERY_COMPILE_TIME_OPTIONS = 1575 400 "query options must be readable at query compile time";
    QUERY_FUNCTION_INVALID_NAME = 1580 400 "invalid user function name";
    QUERY_FUNCTION_INVALID_CODE = 1581 400 "invalid user function code";
    QUERY_FUNCTION_NOT_FOUND = 1582 404 "user function '%s()' not found";
    QUERY_USER_ASSERT = 1593 400 "query assertion";
    QUERY_USER_WARN = 1594 400 "query warning";
    QUERY_INVALID_GEO_VALUE = 1505 400 "invalid geo coordinate value";
    QUERY_NOT_FOUND = 1591 404 "query ID not found";
    CURSOR_NOT_FOUND = 1600 404 "cursor not found";
    QUERY_KILLED = 1500 410 "query killed";
    QUERY_ACCESS_AFTER_MODIFICATION = 1579 400 "access after data-modification";
    VALIDATION_FAILED = 1620 400 "document validation failed";
    VALIDATION_BAD_PARAMETER = 1621 400 "invalid schema";
    TRANSACTION_UNREGISTERED_COLLECTION = 1652 400 "unregistered collection used in transaction";
    TRANSACTION_DISALLOWED_OPERATION = 1653 400 "disallowed operation inside transaction";
    TRANSACTION_ABORTED = 1654 410 "transaction aborted";
    TRANSACTION_NOT_FOUND = 1655 404 "transaction not found";
    USER_INVALID_NAME = 1700 400 "invalid user name";
    USER_DUPLICATE = 1702 409 "duplicate user";
    USER_NOT_FOUND = 1703 404 "user not found";
    TASK_NOT_FOUND = 1852 404 "task not found";
    GRAPH_TOO_MANY_ITERATIONS = 1909 500 "too many iterations - try increasing the value of 'maxIterations'";
    GRAPH_COLLECTION_MULTI_USE = 1920 400 "multi use of edge collection in edge def";
    GRAPH_COLLECTION_USE_IN_MULTI_GRAPHS = 1921 400 "edge collection already used in edge def";
    GRAPH_CREATE_MISSING_NAME = 1922 400 "missing graph name";
    GRAPH_CREATE_MALFORMED_EDGE_DEFINITION = 1923 400 "malformed edge definition";
    GRAPH_NOT_FOUND = 1924 404 "graph not found";
    GRAPH_DUPLICATE = 1925 409 "graph already exists";
    GRAPH_WRONG_COLLECTION_TYPE_VERTEX = 1927 400 "collection not a vertex collection";
    GRAPH_NOT_IN_ORPHAN_COLLECTION = 1928 400 "collection is not in list of orphan collections";
    GRAPH_COLLECTION_USED_IN_EDGE_DEF = 1929 400 "collection already used in edge def";
    GRAPH_EDGE_COLLECTION_NOT_USED = 1930 404 "edge collection not used in graph";
    GRAPH_NO_GRAPH_COLLECTION = 1932 404 "collection _graphs does not exist";
    GRAPH_COLLECTION_USED_IN_ORPHANS = 1938 400 "collection used in orphans";
    GRAPH_CREATE_MALFORMED_ORPHAN_LIST = 1943 400 "malformed orphan list";
    GRAPH_EDGE_DEFINITION_IS_DOCUMENT = 1944 400 "edge definition collection is a document collection";
    GRAPH_REFERENCED_VERTEX_COLLECTION_NOT_USED = 1947 404 "referenced vertex collection is not part of the graph";
    GRAPH_NEGATIVE_EDGE_WEIGHT = 1953 400 "negative edge weight found";
    QUEUE_FULL = 21003 503 "too many requests are waiting";
    QUEUE_TIME_VIOLATED = 21004 412 "queue time violated";
}

impl Kind {
    pub fn response(self) -> Response {
        Error::from(self).response()
    }

    /// The kind's own message, then what is the matter.
    pub fn because(self, detail: impl Display) -> Error {
        Error { message: format!("{}: {detail}", self.message).into(), ..Error::from(self) }
    }

    /// Another message.
    pub fn says(self, message: impl Into<Cow<'static, str>>) -> Error {
        Error { message: message.into(), ..Error::from(self) }
    }
}

/// An error as a client is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub kind: Kind,
    pub message: Cow<'static, str>,
    /// `_id`, `_key` and `_rev` of the document as it is, where a revision did not match.
    pub current: Option<[String; 3]>,
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Error {
        Error { kind, message: kind.message.into(), current: None }
    }
}

/// The answer to a request that the store could not serve.
pub fn storage_failure(failure: &StoreError) -> Response {
    Error::from(failure.clone()).response()
}

/// For what has nobody to hand the store's own failure to.
impl From<StoreError> for Error {
    fn from(failure: StoreError) -> Error {
        match failure {
            StoreError::Full => STORAGE_FULL.into(),
            StoreError::Corrupt(what) => CORRUPTED_DATA.because(what),
            StoreError::Io(what) => IO.because(what),
        }
    }
}

impl Error {
    /// Under another HTTP status, where ArangoDB gives one.
    pub fn with_status(mut self, status: u16) -> Error {
        self.kind.status = status;
        self
    }

    fn members(&self) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("error".into(), true.into());
        map.insert("errorNum".into(), self.kind.number.into());
        map.insert("errorMessage".into(), self.message.as_ref().into());
        map
    }

    fn add_current(&self, map: &mut Map<String, Value>) {
        if let Some([id, key, revision]) = &self.current {
            map.extend([("_id".into(), json!(id)), ("_key".into(), json!(key)), ("_rev".into(), json!(revision))]);
        }
    }

    /// As the answer to a whole request.
    pub fn response(&self) -> Response {
        let mut map = self.members();
        map.insert("code".into(), self.kind.status.into());
        self.add_current(&mut map);
        let response = Response::json(self.kind.status, &Value::Object(map));
        match &self.current {
            Some([_, _, revision]) => response.with_header(header::ETAG, format!("\"{revision}\"")),
            None => response,
        }
    }

    /// In place of one result among several. Which document is meant, its place says.
    pub fn element(&self) -> String {
        Value::Object(self.members()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_look_as_arangodb_writes_them() {
        let error = DATA_SOURCE_NOT_FOUND.because("c");
        assert_eq!(
            error.response(),
            Response::error(404, 1203, "collection or view not found: c"),
            "the same object as the gate's errors"
        );
        let conflict = Error { current: Some(["c/k".into(), "k".into(), "r".into()]), ..CONFLICT.into() };
        assert_eq!(
            conflict.element(),
            r#"{"error":true,"errorNum":1200,"errorMessage":"conflict, _rev values do not match"}"#
        );
        assert_eq!(conflict.response().header(header::ETAG), Some("\"r\""));
    }
}
