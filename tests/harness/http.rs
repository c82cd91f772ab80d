//! A small blocking HTTP/1.1 client. It follows and repeats nothing: what the server said is what the test sees.

use serde_json::Value;
use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);

/// An answer, with header names as they came over the wire.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `Null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The `errorNum` of an error object, 0 for anything else.
    pub fn error_num(&self) -> u64 {
        self.json()["errorNum"].as_u64().unwrap_or(0)
    }

    /// Status and `errorNum`, which say together how a request was refused.
    pub fn refusal(&self) -> (u16, u64) {
        (self.status, self.error_num())
    }

    pub fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "unexpected answer: {self}");
        self
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.text().chars().take(600).collect();
        write!(f, "{} {text}", self.status)
    }
}

/// One connection, kept open between requests and made anew after any failure.
pub struct Client {
    /// `host:port`.
    address: String,
    authorization: Option<String>,
    timeout: Duration,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    pub fn new(address: &str) -> Client {
        Client { address: address.to_owned(), authorization: None, timeout: TIMEOUT, stream: None }
    }

    pub fn with_authorization(mut self, value: Option<String>) -> Client {
        self.authorization = value;
        self
    }

    pub fn with_timeout(mut self, timeout: Duration) -> Client {
        self.timeout = timeout;
        self
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.send("GET", target, &[], b"")
    }

    pub fn delete(&mut self, target: &str) -> io::Result<Answer> {
        self.send("DELETE", target, &[], b"")
    }

    pub fn post(&mut self, target: &str, body: &Value) -> io::Result<Answer> {
        self.send("POST", target, &[], body.to_string().as_bytes())
    }

    pub fn put(&mut self, target: &str, body: &Value) -> io::Result<Answer> {
        self.send("PUT", target, &[], body.to_string().as_bytes())
    }

    /// One request, one answer. An error means that the outcome is unknown, or that nobody listens.
    pub fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let mut stream = match self.stream.take().filter(|stream| is_open(stream.get_ref())) {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let mut head =
            format!("{method} {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n", self.address, body.len());
        if let Some(authorization) = &self.authorization {
            head += &format!("Authorization: {authorization}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let mut message = head.into_bytes();
        message.extend_from_slice(body);
        stream.get_mut().write_all(&message)?;
        let (answer, keep) = read_answer(&mut stream, method == "HEAD")?;
        if keep {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let address = self.address.parse().map_err(|_| io::Error::other(format!("no address: {}", self.address)))?;
        let stream = TcpStream::connect_timeout(&address, self.timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        Ok(BufReader::new(stream))
    }
}

/// Whether the other side has not closed an idle connection meanwhile; every pool of connections looks at that.
fn is_open(stream: &TcpStream) -> bool {
    let looked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let waits = looked.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
    waits && stream.set_nonblocking(false).is_ok()
}

/// Reads one answer; also whether the connection may be used again.
pub fn read_answer(stream: &mut impl BufRead, head_only: bool) -> io::Result<(Answer, bool)> {
    let status_line = read_line(stream)?;
    let status = status_line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no HTTP answer: {status_line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other(format!("no header: {line:?}")))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    let keep = answer.header("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close"));
    if head_only || status == 204 || status == 304 {
        return Ok((answer, keep));
    }
    if let Some(length) = answer.header("content-length").and_then(|value| value.parse().ok()) {
        answer.body = vec![0; length];
        stream.read_exact(&mut answer.body)?;
        return Ok((answer, keep));
    }
    if answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let line = read_line(stream)?;
            let length = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(|_| io::Error::other(format!("no chunk length: {line:?}")))?;
            let start = answer.body.len();
            answer.body.resize(start + length, 0);
            stream.read_exact(&mut answer.body[start..])?;
            read_line(stream)?;
            if length == 0 {
                return Ok((answer, keep));
            }
        }
    }
    stream.read_to_end(&mut answer.body)?;
    Ok((answer, false))
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| io::Error::other("no text"))
}
