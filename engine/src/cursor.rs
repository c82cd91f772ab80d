//! Results of queries that are handed out in batches.
//!
//! A query is run to its end at once; what does not fit into the first answer is kept here, serialised, until the
//! client has fetched it, ends it, or leaves it alone for too long. A cursor belongs to a database, a user and the
//! leadership that it was opened under (R13): whoever else asks for it learns that there is none. It tells of the
//! data as they were when the query ran, and each of its batches says so by the same tick.

use crate::errors::{self, Error};
use crate::http::Response;
use crate::io::Ticket;
use crate::types::{Duration, Epoch, Limits, Tick, Time};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Who may use a cursor: a user of a database; `None` where nobody is told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    pub database: u64,
    pub user: Option<String>,
}

/// The result of a query, and how it is to be handed out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueryResult {
    pub rows: Rows,
    pub batch_rows: usize,
    /// Whether each batch tells how many rows there are.
    pub count: bool,
    /// The JSON of `extra`.
    pub extra: String,
    pub ttl: Duration,
    /// The latest batch may be asked for again.
    pub retry: bool,
    pub owner: Owner,
    /// It was made for somebody else, of the same data.
    pub cached: bool,
}

/// JSON values, with a comma between each two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rows {
    text: Bytes,
    /// Where each row ends.
    ends: Vec<usize>,
}

/// Room that the first row brings.
const FIRST_BYTES: usize = 1 << 10;

/// Rows while they are written.
#[derive(Default)]
pub struct RowsWriter {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl RowsWriter {
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        match self.ends.is_empty() {
            true => self.text.reserve(FIRST_BYTES),
            false => self.text.push(b','),
        }
        write(&mut self.text);
        self.ends.push(self.text.len());
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.text.len() + self.ends.len() * size_of::<usize>()
    }

    pub fn finish(self) -> Rows {
        Rows { text: self.text.into(), ends: self.ends }
    }
}

impl Rows {
    /// All of them, as their JSON.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.text.len() + self.ends.len() * size_of::<usize>()
    }

    /// The text of rows `from..to`.
    fn slice(&self, from: usize, to: usize) -> &[u8] {
        if from >= to {
            return &[];
        }
        let start = if from == 0 { 0 } else { self.ends[from - 1] + 1 };
        &self.text[start..self.ends[to - 1]]
    }
}

impl QueryResult {
    /// Whether one batch holds all of it and nothing is to be kept.
    pub fn fits(&self) -> bool {
        self.rows.len() <= self.batch_rows
    }

    /// All of it at once.
    pub fn whole(&self, status: u16) -> Response {
        self.response(status, 0, self.rows.len(), None)
    }

    /// A batch, counted from one, of a cursor.
    fn batch(&self, status: u16, number: usize, id: u64) -> Response {
        let from = (number - 1).saturating_mul(self.batch_rows).min(self.rows.len());
        let to = from.saturating_add(self.batch_rows).min(self.rows.len());
        self.response(status, from, to, Some((id, number)))
    }

    fn response(&self, status: u16, from: usize, to: usize, cursor: Option<(u64, usize)>) -> Response {
        let rows = self.rows.slice(from, to);
        let mut body = Vec::with_capacity(rows.len() + self.extra.len() + 192);
        body.extend_from_slice(b"{\"result\":[");
        body.extend_from_slice(rows);
        body.push(b']');
        let more = to < self.rows.len();
        let mut rest = format!(",\"hasMore\":{more}");
        if let Some((id, number)) = cursor.filter(|_| more) {
            rest += &format!(",\"id\":\"{id}\",\"nextBatchId\":\"{}\"", number + 1);
        }
        if self.count {
            rest += &format!(",\"count\":{}", self.rows.len());
        }
        rest += &format!(",\"cached\":{},\"extra\":{},\"error\":false,\"code\":{status}}}", self.cached, self.extra);
        body.extend_from_slice(rest.as_bytes());
        Response::raw(status, body)
    }
}

/// What is asked of a cursor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CursorCall {
    /// As the client wrote it.
    pub id: String,
    pub owner: Owner,
    pub what: CursorWish,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CursorWish {
    Next,
    /// The next one by its number, or the latest again.
    Batch(usize),
    End,
}

/// The cursors that a server keeps.
#[derive(Clone, Debug, Default, Hash)]
pub struct Cursors {
    open: BTreeMap<u64, Cursor>,
    bytes: usize,
}

#[derive(Clone, Debug, Hash)]
struct Cursor {
    result: QueryResult,
    epoch: Epoch,
    dirty: bool,
    /// What the query's answer reflects, and the headers that say so.
    last: Tick,
    headers: Vec<(String, String)>,
    /// How many batches have been handed out.
    handed: usize,
    until: Time,
}

impl Cursors {
    /// Keeps a result, and answers with its first batch. `first` is the answer to the query without a body; `id` is
    /// drawn by chance.
    pub fn open(
        &mut self,
        id: u64,
        result: QueryResult,
        first: Response,
        (ticket, last): (Ticket, Tick),
        limits: &Limits,
        now: Time,
    ) -> Response {
        self.expire(now);
        let bytes = result.rows.bytes();
        let full = self.open.len() >= limits.cursors || self.bytes.saturating_add(bytes) > limits.cursor_bytes;
        if full || self.open.contains_key(&id) {
            // What was written is written: its answer must not say otherwise.
            let answer = match ticket.writes {
                true => result.whole(first.status),
                false => errors::RESOURCE_LIMIT.because("too many results of queries wait to be fetched").response(),
            };
            return Response { body: answer.body, status: answer.status, ..first };
        }
        let response = result.batch(first.status, 1, id);
        let until = now.plus(result.ttl);
        let headers = first.headers.clone();
        let cursor = Cursor { result, epoch: ticket.epoch, dirty: ticket.dirty, last, headers, handed: 1, until };
        self.bytes += bytes;
        self.open.insert(id, cursor);
        Response { body: response.body, ..first }
    }

    /// `at_least` is a tick of this epoch's history that the request demands.
    pub fn call(&mut self, call: &CursorCall, ticket: Ticket, at_least: Option<Tick>, now: Time) -> Response {
        self.expire(now);
        self.find(call, ticket, at_least, now).unwrap_or_else(|error| error.response())
    }

    fn find(
        &mut self,
        call: &CursorCall,
        ticket: Ticket,
        at_least: Option<Tick>,
        now: Time,
    ) -> Result<Response, Error> {
        let id = call.id.parse::<u64>().map_err(|_| errors::CURSOR_NOT_FOUND)?;
        let cursor = self.open.get_mut(&id).ok_or(errors::CURSOR_NOT_FOUND)?;
        if cursor.result.owner != call.owner || (cursor.epoch, cursor.dirty) != (ticket.epoch, ticket.dirty) {
            return Err(errors::CURSOR_NOT_FOUND.into());
        }
        if call.what == CursorWish::End {
            self.remove(id);
            let body = format!("{{\"id\":\"{id}\",\"error\":false,\"code\":202}}");
            return Ok(Response::raw(202, body));
        }
        if ticket.fresh.is_some() || at_least.is_some_and(|tick| tick > cursor.last) {
            return Err(errors::TOO_OLD.because("a cursor's data are as they were when its query ran"));
        }
        let batches = cursor.result.rows.len().div_ceil(cursor.result.batch_rows);
        let number = match call.what {
            CursorWish::Batch(number) if number == cursor.handed && cursor.result.retry => number,
            CursorWish::Batch(number) if number == cursor.handed => {
                return Err(errors::HTTP_BAD_PARAMETER.says("the latest batch can't be repeated without allowRetry"));
            }
            CursorWish::Batch(number) if number != cursor.handed + 1 => {
                return Err(errors::CURSOR_NOT_FOUND.says("batch id not found"));
            }
            _ => cursor.handed + 1,
        };
        if number > batches {
            return Err(errors::CURSOR_NOT_FOUND.into());
        }
        cursor.handed = number;
        cursor.until = now.plus(cursor.result.ttl);
        let mut response = cursor.result.batch(200, number, id);
        response.headers = cursor.headers.clone();
        if number == batches && !cursor.result.retry {
            self.remove(id);
        }
        Ok(response)
    }

    fn remove(&mut self, id: u64) {
        if let Some(cursor) = self.open.remove(&id) {
            self.bytes -= cursor.result.rows.bytes();
        }
    }

    /// Forgets what nobody has asked for in time.
    pub fn expire(&mut self, now: Time) {
        if self.deadline().is_some_and(|until| until <= now) {
            self.open.retain(|_, cursor| cursor.until > now);
            self.bytes = self.open.values().map(|cursor| cursor.result.rows.bytes()).sum();
        }
    }

    pub fn deadline(&self) -> Option<Time> {
        self.open.values().map(|cursor| cursor.until).min()
    }

    /// A leadership is over, and all that was opened under it.
    pub fn clear(&mut self) {
        *self = Cursors::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { cursors: 2, cursor_bytes: 200, ..Limits::default() }
    }

    fn owner(user: &str) -> Owner {
        Owner { database: 1, user: Some(user.into()) }
    }

    fn result(rows: usize, retry: bool) -> QueryResult {
        let mut writer = RowsWriter::default();
        for row in 1..=rows {
            writer.push(|out| out.extend_from_slice(row.to_string().as_bytes()));
        }
        let (ttl, extra) = (Duration::from_secs(30), "{}".into());
        QueryResult {
            rows: writer.finish(),
            batch_rows: 2,
            count: true,
            extra,
            ttl,
            retry,
            owner: owner("u"),
            cached: false,
        }
    }

    fn open(cursors: &mut Cursors, id: u64, result: QueryResult, ticket: Ticket) -> Response {
        let first = Response::empty(201).with_header("x-tanist-tick", "t");
        cursors.open(id, result, first, (ticket, Tick(9)), &limits(), Time(0))
    }

    /// The status, the body without `extra`, and whether the tick is told.
    fn text(response: Response) -> String {
        let body = String::from_utf8(response.body.to_vec()).unwrap().replace(",\"cached\":false,\"extra\":{}", "");
        let body = body.replace(&format!(",\"error\":false,\"code\":{}}}", response.status), "");
        format!("{} {body}", response.status)
    }

    fn ask(cursors: &mut Cursors, what: CursorWish) -> String {
        let call = CursorCall { id: "7".into(), owner: owner("u"), what };
        text(cursors.call(&call, Ticket::reading(3), None, Time(1)))
    }

    const GONE: &str = r#"404 {"error":true,"errorNum":1600,"errorMessage":"cursor not found"#;

    #[test]
    fn batches_come_one_after_the_other_and_then_the_cursor_is_gone() {
        let mut cursors = Cursors::default();
        let first = text(open(&mut cursors, 7, result(5, false), Ticket::reading(3)));
        assert_eq!(first, r#"201 {"result":[1,2],"hasMore":true,"id":"7","nextBatchId":"2","count":5"#);
        assert!(ask(&mut cursors, CursorWish::Batch(1)).starts_with("400"), "no batch comes twice");
        assert!(ask(&mut cursors, CursorWish::Batch(3)).starts_with("404"), "nor one before the other");
        let second = ask(&mut cursors, CursorWish::Batch(2));
        assert_eq!(second, r#"200 {"result":[3,4],"hasMore":true,"id":"7","nextBatchId":"3","count":5"#);
        assert_eq!(ask(&mut cursors, CursorWish::Next), r#"200 {"result":[5],"hasMore":false,"count":5"#);
        assert!(ask(&mut cursors, CursorWish::Next).starts_with(GONE));
        assert_eq!((cursors.bytes, cursors.open.len()), (0, 0));
    }

    #[test]
    fn the_latest_batch_may_be_repeated_where_that_was_asked_for() {
        let mut cursors = Cursors::default();
        open(&mut cursors, 7, result(3, true), Ticket::reading(3));
        assert!(ask(&mut cursors, CursorWish::Batch(1)).contains("[1,2]"));
        assert!(ask(&mut cursors, CursorWish::Next).contains("[3]"));
        assert!(ask(&mut cursors, CursorWish::Batch(2)).contains("[3]"), "the last one, too");
        assert!(ask(&mut cursors, CursorWish::Batch(1)).starts_with("404"));
        assert!(ask(&mut cursors, CursorWish::Next).starts_with(GONE));
        assert_eq!(ask(&mut cursors, CursorWish::End), r#"202 {"id":"7""#);
        assert!(ask(&mut cursors, CursorWish::End).starts_with(GONE));
    }

    #[test]
    fn a_cursor_belongs_to_a_user_and_a_leadership() {
        let mut cursors = Cursors::default();
        open(&mut cursors, 7, result(5, false), Ticket::reading(3));
        let mut ask = |id: &str, owner: Owner, ticket, at_least| {
            let call = CursorCall { id: id.into(), owner, what: CursorWish::Next };
            cursors.call(&call, ticket, at_least, Time(1)).status
        };
        assert_eq!(ask("7", owner("v"), Ticket::reading(3), None), 404);
        assert_eq!(ask("7", Owner { database: 2, ..owner("u") }, Ticket::reading(3), None), 404);
        assert_eq!(ask("7", owner("u"), Ticket::reading(4), None), 404);
        assert_eq!(ask("7", owner("u"), Ticket { dirty: true, ..Ticket::reading(3) }, None), 404);
        assert_eq!(ask("x", owner("u"), Ticket::reading(3), None), 404);
        assert_eq!(ask("7", owner("u"), Ticket::reading(3), Some(Tick(10))), 412, "its data are older than that");
        assert_eq!(ask("7", owner("u"), Ticket::reading(3), Some(Tick(9))), 200);
        let call = CursorCall { id: "7".into(), owner: owner("u"), what: CursorWish::Next };
        assert_eq!(cursors.call(&call, Ticket::reading(3), None, Time(u64::MAX / 2)).status, 404, "its time is over");
        assert_eq!(cursors.bytes, 0);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut cursors = Cursors::default();
        assert_eq!(open(&mut cursors, 1, result(30, false), Ticket::reading(3)).error_num(), Some(32));
        assert_eq!(open(&mut cursors, 1, result(3, false), Ticket::reading(3)).status, 201);
        assert_eq!(
            open(&mut cursors, 1, result(3, false), Ticket::reading(3)).error_num(),
            Some(32),
            "an id that is taken"
        );
        assert_eq!(open(&mut cursors, 2, result(3, false), Ticket::reading(3)).status, 201);
        assert_eq!(open(&mut cursors, 3, result(3, false), Ticket::reading(3)).error_num(), Some(32));
        let written = open(&mut cursors, 3, result(3, false), Ticket { writes: true, ..Ticket::reading(3) });
        assert_eq!(text(written), r#"201 {"result":[1,2,3],"hasMore":false,"count":3"#, "it took effect");
    }
}
