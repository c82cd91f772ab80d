//! `/_api/batch`: several requests in one body, and their answers in one answer (`multipart/form-data`).
//!
//! Here is only the form. The shell carries out the parts, one after the other, as if each had come by itself: each is
//! admitted, and is a transaction, of its own. What a part does not say (the database, who asks) is as the whole says
//! it.

use crate::errors::{self, Error};
use crate::http::{Method, Request, Response, header};
use bytes::Bytes;

const PARTS_MAX: usize = 10_000;
/// Of all answers; parts beyond it are not carried out.
const ANSWER_BYTES_MAX: usize = 256 << 20;
const BOUNDARY_BYTES: std::ops::RangeInclusive<usize> = 2..=200;
const PATH: &str = "/_api/batch";

/// A request, and what the client calls it.
#[derive(Debug)]
pub struct Part {
    id: Option<String>,
    pub request: Request,
}

/// A batch that can be read.
#[derive(Debug)]
pub struct Batch {
    pub parts: Vec<Part>,
    boundary: String,
}

/// Whether the request is a batch, by its path and method.
pub fn is_batch(request: &Request) -> bool {
    request.method == Method::Post && request.split_database().1.trim_end_matches('/') == PATH
}

impl Batch {
    pub fn parse(whole: &Request) -> Result<Batch, Error> {
        let bad = |what: &str| errors::HTTP_BAD_PARAMETER.says(what.to_owned());
        let boundary = boundary(whole).ok_or_else(|| bad("invalid content-type or boundary received"))?;
        let delimiter = format!("--{boundary}");
        let body = &whole.body;
        let mut at = find(body, delimiter.as_bytes(), 0).ok_or_else(|| bad("invalid multipart message received"))?;
        let mut parts = Vec::new();
        loop {
            let begin = at + delimiter.len();
            if body[begin..].starts_with(b"--") {
                break;
            }
            let separator = format!("\n{delimiter}");
            let next = find(body, separator.as_bytes(), begin);
            let next = next.ok_or_else(|| bad("the multipart message has no end"))?;
            if parts.len() >= PARTS_MAX {
                return Err(errors::RESOURCE_LIMIT.because("too many parts"));
            }
            let end = if body[..next].ends_with(b"\r") && next > begin { next - 1 } else { next };
            parts.push(part(whole, body.slice(begin..end.max(begin)))?);
            at = next + 1;
        }
        if parts.is_empty() {
            return Err(bad("the multipart message has no parts"));
        }
        Ok(Batch { parts, boundary })
    }

    /// Begins the answer.
    pub fn answers(&self) -> Answers {
        Answers { boundary: self.boundary.clone(), body: Vec::new(), failed: 0 }
    }
}

/// Of the header, or, where there is none that names a type, of the body's first line.
fn boundary(whole: &Request) -> Option<String> {
    let boundary = match whole.header(header::CONTENT_TYPE).filter(|kind| !kind.starts_with("text/plain")) {
        Some(kind) => {
            let rest = kind.trim().strip_prefix("multipart/form-data")?;
            let value = rest.split(';').find_map(|part| part.trim().strip_prefix("boundary="))?;
            value.trim().trim_matches('"').to_owned()
        }
        None => {
            let line = whole.body.split(|byte| *byte == b'\n').next()?;
            std::str::from_utf8(line).ok()?.trim_end().strip_prefix("--")?.to_owned()
        }
    };
    (BOUNDARY_BYTES.contains(&boundary.len()) && boundary.bytes().all(|byte| byte.is_ascii_graphic()))
        .then_some(boundary)
}

fn find(text: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let first = *what.first()?;
    let mut at = from;
    loop {
        at += text.get(at..)?.iter().position(|byte| *byte == first)?;
        if text[at..].starts_with(what) {
            return Some(at);
        }
        at += 1;
    }
}

/// Header lines, and what follows the empty line behind them.
fn head(text: &Bytes) -> Result<(Vec<String>, Bytes), Error> {
    let mut lines = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let end = find(text, b"\n", at).unwrap_or(text.len());
        let line = std::str::from_utf8(&text[at..end])
            .map_err(|_| errors::HTTP_BAD_PARAMETER.says("the head of a part is no text"))?
            .trim_end_matches('\r');
        at = (end + 1).min(text.len());
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    Ok((lines, text.slice(at..)))
}

fn fields(lines: &[String]) -> impl Iterator<Item = (String, String)> {
    let field = |line: &String| {
        line.split_once(':').map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().into()))
    };
    lines.iter().filter_map(field)
}

fn part(whole: &Request, text: Bytes) -> Result<Part, Error> {
    let bad = |what: &str| errors::HTTP_BAD_PARAMETER.says(what.to_owned());
    // The rest of the boundary's line.
    let begin = find(&text, b"\n", 0).map_or(text.len(), |at| at + 1);
    let (lines, inner) = head(&text.slice(begin..))?;
    let id = fields(&lines).find_map(|(name, value)| (name == "content-id").then_some(value));
    let (lines, body) = head(&inner)?;
    let (first, lines) = lines.split_first().ok_or_else(|| bad("a part without a request"))?;
    let mut words = first.split_ascii_whitespace();
    let method = words.next().and_then(Method::parse).ok_or_else(|| bad("a part without a method"))?;
    let target = words.next().filter(|path| path.starts_with('/')).ok_or_else(|| bad("a part without a path"))?;
    let target = match whole.split_database().0 {
        Some(database) if !target.starts_with("/_db/") => format!("/_db/{database}{target}"),
        _ => target.to_owned(),
    };
    let mut headers: Vec<(String, String)> = fields(lines).filter(|(name, _)| name != header::ASYNC).collect();
    for name in [header::AUTHORIZATION, header::ALLOW_DIRTY_READ] {
        if let Some(value) = whole.header(name).filter(|_| headers.iter().all(|(known, _)| known != name)) {
            headers.push((name.to_owned(), value.to_owned()));
        }
    }
    let request = Request { method, target, headers, body };
    if is_batch(&request) {
        return Err(bad("a batch can't be a part of a batch"));
    }
    Ok(Part { id, request })
}

/// The answer while it is written.
#[derive(Debug)]
pub struct Answers {
    boundary: String,
    body: Vec<u8>,
    failed: usize,
}

impl Answers {
    /// What to answer to the next part without carrying it out; `None` if it is to be carried out.
    pub fn refusal(&self) -> Option<Response> {
        let full = self.body.len() > ANSWER_BYTES_MAX;
        full.then(|| errors::RESOURCE_LIMIT.because("the answers are too big: nothing was done").response())
    }

    pub fn push(&mut self, part: &Part, response: &Response) {
        self.failed += usize::from(response.status >= 400);
        let id = part.id.as_ref().map_or(String::new(), |id| format!("Content-Id: {id}\r\n"));
        let mut head = format!(
            "--{}\r\nContent-Type: application/x-arango-batchpart\r\n{id}\r\nHTTP/1.1 {} {}\r\n",
            self.boundary,
            response.status,
            if response.status < 400 { "OK" } else { "Failed" }
        );
        let plain = |text: &str| text.bytes().all(|byte| !byte.is_ascii_control());
        for (name, value) in response.headers.iter().filter(|(name, value)| plain(name) && plain(value)) {
            head += &format!("{name}: {value}\r\n");
        }
        let body = if part.request.method == Method::Head { &[][..] } else { &response.body };
        let (kind, length) = (response.content_type.as_str(), body.len());
        head += &format!("Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
        self.body.extend_from_slice(head.as_bytes());
        self.body.extend_from_slice(body);
        self.body.extend_from_slice(b"\r\n");
    }

    pub fn finish(mut self) -> Response {
        self.body.extend_from_slice(format!("--{}--", self.boundary).as_bytes());
        let kind = format!("multipart/form-data; boundary={}", self.boundary);
        let response = Response::raw(200, self.body).with_header(header::CONTENT_TYPE, kind);
        match self.failed {
            0 => response,
            failed => response.with_header(header::ERRORS, failed.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(kind: Option<&str>, body: &str) -> Request {
        let request = Request::new(Method::Post, "/_db/d/_api/batch").with_body(body.to_owned());
        let request = request.with_header(header::AUTHORIZATION, "Basic x");
        match kind {
            Some(kind) => request.with_header(header::CONTENT_TYPE, kind),
            None => request,
        }
    }

    const KIND: &str = "multipart/form-data; boundary=\"XX\"";
    const BODY: &str = "--XX\r\nContent-Type: application/x-arango-batchpart\r\nContent-Id: one\r\n\r\n\
        POST /_api/document?collection=c HTTP/1.1\r\nIf-Match: 7\r\nX-Arango-Async: store\r\n\r\n{\"a\":\r\n1}\r\n--XX\r\n\
        Content-Type: application/x-arango-batchpart\r\n\r\nGET /_db/e/_api/version HTTP/1.1\r\n\r\n--XX--";

    #[test]
    fn parts_are_requests_of_their_own() {
        for kind in [Some(KIND), None] {
            let batch = Batch::parse(&whole(kind, BODY)).expect("a batch");
            let [one, other] = &batch.parts[..] else { panic!("{batch:?}") };
            assert_eq!((one.id.as_deref(), other.id.as_deref()), (Some("one"), None));
            let request = &one.request;
            assert_eq!((request.method, request.target.as_str()), (Method::Post, "/_db/d/_api/document?collection=c"));
            assert_eq!(request.body, "{\"a\":\r\n1}");
            assert_eq!((request.header(header::IF_MATCH), request.header(header::ASYNC)), (Some("7"), None));
            assert_eq!(request.header(header::AUTHORIZATION), Some("Basic x"));
            assert_eq!((other.request.target.as_str(), other.request.body.len()), ("/_db/e/_api/version", 0));
        }
    }

    #[test]
    fn what_can_not_be_read_is_refused_whole() {
        let nested = BODY.replace("GET /_db/e/_api/version", "POST /_api/batch/");
        for (kind, body) in [
            (None, "xx"),
            (Some("application/json"), BODY),
            (Some("multipart/form-data"), BODY),
            (Some("multipart/form-data; peng"), BODY),
            (Some("multipart/form-data; boundary="), BODY),
            (Some("multipart/form-data; boundary=a"), BODY),
            (Some("multipart/form-data; boundary=YY"), BODY),
            (Some(KIND), ""),
            (Some(KIND), "--XX"),
            (Some(KIND), "--XX--"),
            (Some(KIND), "--XX\r\n\r\nGET /_api/version HTTP/1.1\r\n\r\n"),
            (Some(KIND), "--XX\r\n\r\nSING /_api/version\r\n\r\n--XX--"),
            (Some(KIND), "--XX\r\n\r\nGET x\r\n\r\n--XX--"),
            (Some(KIND), "--XX\n--XX--"),
            (Some(KIND), &nested),
        ] {
            let error = Batch::parse(&whole(kind, body)).expect_err(body);
            assert_eq!(error.kind, errors::HTTP_BAD_PARAMETER, "{kind:?} {body}");
        }
    }

    #[test]
    fn answers_are_told_in_their_order() {
        let batch = Batch::parse(&whole(Some(KIND), BODY)).expect("a batch");
        let mut answers = batch.answers();
        answers.push(&batch.parts[0], &Response::raw(202, "{}").with_header(header::ETAG, "\"7\""));
        answers.push(&batch.parts[1], &Response::empty(404));
        assert!(answers.refusal().is_none());
        let response = answers.finish();
        assert_eq!((response.status, response.header(header::ERRORS)), (200, Some("1")));
        assert_eq!(response.header(header::CONTENT_TYPE), Some("multipart/form-data; boundary=XX"));
        let expected = "--XX\r\nContent-Type: application/x-arango-batchpart\r\nContent-Id: one\r\n\r\nHTTP/1.1 202 OK\r\n\
            etag: \"7\"\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}\r\n--XX\r\n\
            Content-Type: application/x-arango-batchpart\r\n\r\nHTTP/1.1 404 Failed\r\n\
            Content-Type: application/json; charset=utf-8\r\nContent-Length: 0\r\n\r\n\r\n--XX--";
        assert_eq!(String::from_utf8_lossy(&response.body), expected);
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics(body in "(--XX|--|\r\n|\n|GET /a|POST /_api/batch|Content-Id: 1|\r|x| ){0,24}", typed: bool) {
            let _ = Batch::parse(&whole(typed.then_some(KIND), &body));
        }
    }
}
