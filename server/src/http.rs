//! The port: HTTP/1.1 and HTTP/2 between clients and the engine.
//!
//! Translates, bounds and times out; decides nothing. A request that only reads never meets the loop: it is admitted
//! by the published view, read from a snapshot, and confirmed by a view loaded and a clock read *after* that (R13).
//! Everything else goes through the loop.

pub mod cors;
mod progress;

use crate::clock::Clock;
use crate::driver::{Event, Views};
use crate::exit;
use crate::log::Seldom;
use crate::net::Network;
use crate::observed::{Answered, Observed};
use crate::peer::{self, Receiving};
use crate::queries::Attending;
use crate::storage::DiskStore;
use bytes::{Bytes, BytesMut};
use cors::{Foreign, Trusted};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, SERVER, UPGRADE,
};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use progress::{Progress, Watched};
use std::convert::Infallible;
use std::io::Read;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;
use tanist_engine::auth;
use tanist_engine::batch::{self, Batch};
use tanist_engine::db::store::StoreError;
use tanist_engine::errors;
use tanist_engine::exec;
use tanist_engine::gate::{self, Admission};
use tanist_engine::http::{ContentType, Method, Request, Response, header};
use tanist_engine::io::{Op, OpResult, Ran, Run, Then};
use tanist_engine::job;
use tanist_engine::queries::{Attendant, Hurried};
use tanist_engine::types::{Auth, Limits, Position, Rng};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

/// What a compressed body may become: so many bytes, or so many times what was sent.
const DECODED_BYTES_SURE: usize = 64 << 10;
const DECODED_TIMES_MAX: usize = 50;

type WireResponse = hyper::Response<Full<Bytes>>;

/// How long the port waits for its clients.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the next request on an open connection (ArangoDB's `http.keep-alive-timeout`).
    pub idle: Duration,
    /// For a whole header, once it has begun.
    pub head: Duration,
    /// For the first byte of a fresh connection, for each further piece of a body, and for a client that takes nothing
    /// of its answer.
    pub piece: Duration,
    /// For open connections to end when the process stops.
    pub leave: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        let seconds = Duration::from_secs;
        Patience { idle: seconds(300), head: seconds(60), piece: seconds(60), leave: seconds(3) }
    }
}

/// A body must come at least so fast, on the whole.
const BODY_BYTES_PER_S_MIN: usize = 10_000;

/// Longer ones are not tried where nothing may take long.
const SHORT_QUERY_BYTES_MAX: usize = 4 << 10;

/// Connections beyond the limit that are heard out: another node must get through, and a client be told why not.
const CONNECTIONS_CROWDED: usize = 64;
/// How long they are heard.
const CROWDED_PATIENCE: Duration = Duration::from_secs(5);

/// What every connection needs.
pub struct Port {
    pub inbox: Sender<Event>,
    pub receiving: Receiving,
    pub views: Arc<Views>,
    pub attending: Arc<Attending>,
    pub store: DiskStore,
    pub auth: Arc<Auth>,
    pub limits: Limits,
    pub patience: Patience,
    /// Open connections, other nodes' not counted, and how many there may be.
    pub connections: AtomicUsize,
    pub connections_max: usize,
    pub trusted_origins: Trusted,
    pub pending: AtomicUsize,
    pub queue_time_us: Arc<AtomicU64>,
    /// Seeds for the requests: unlike one another, and unlike another process's.
    pub seed: AtomicU64,
    pub clock: Clock,
    pub observed: Observed,
}

/// Accepts until `stop` says so, then lets open connections end.
pub async fn serve<N: Network>(port: Arc<Port>, listeners: Vec<N::Listener>, stop: watch::Receiver<bool>) {
    // Every task holds a sender; when the last is gone, so is the last connection.
    let (open, mut all_closed) = tokio::sync::mpsc::channel::<Infallible>(1);
    for listener in listeners {
        tokio::spawn(accept::<N>(port.clone(), listener, stop.clone(), open.clone()));
    }
    drop(open);
    let mut stopping = stop;
    told(&mut stopping).await;
    if timeout(port.patience.leave, all_closed.recv()).await.is_err() {
        tracing::info!("connections that are still open are cut");
    }
}

async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

type Open = tokio::sync::mpsc::Sender<Infallible>;

async fn accept<N: Network>(port: Arc<Port>, mut listener: N::Listener, mut stop: watch::Receiver<bool>, open: Open) {
    let (crowded, refused) = (Seldom::default(), Seldom::default());
    loop {
        let accepted = tokio::select! {
            biased;
            () = told(&mut stop) => return,
            accepted = N::accept(&mut listener) => accepted,
        };
        match accepted {
            Ok(stream) => {
                let place = Place::take(port.clone());
                if place.before >= port.connections_max && crowded.due() {
                    let max = port.connections_max;
                    tracing::warn!("{max} connections are open, no more are served (--http.max-connections)");
                }
                if place.before >= port.connections_max.saturating_add(CONNECTIONS_CROWDED) {
                    continue;
                }
                let (stop, open) = (stop.clone(), open.clone());
                tokio::spawn(async move {
                    connection::<N>(place, stream, stop).await;
                    drop(open);
                });
            }
            Err(e) => {
                // Out of file descriptors, most likely: what is open goes on, and some of it will end.
                if refused.due() {
                    tracing::warn!("connections can't be accepted: {e}");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One of the port's open connections.
struct Place {
    port: Arc<Port>,
    before: usize,
    since: Instant,
}

impl Place {
    fn take(port: Arc<Port>) -> Place {
        let before = port.connections.fetch_add(1, Ordering::Relaxed);
        Place { port, before, since: Instant::now() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.port.connections.fetch_sub(1, Ordering::Relaxed);
        self.port.observed.count_connection(self.since.elapsed());
    }
}

async fn connection<N: Network>(place: Place, mut stream: N::Stream, mut stop: watch::Receiver<bool>) {
    let port = place.port.clone();
    let mut patience = port.patience;
    let crowded = place.before >= port.connections_max;
    if crowded {
        patience.head = patience.head.min(CROWDED_PATIENCE);
        patience.piece = patience.piece.min(CROWDED_PATIENCE);
    }
    let _ = N::set_user_timeout(&mut stream, patience.piece);
    let begun = tokio::select! {
        biased;
        () = told(&mut stop) => return,
        begun = timeout(patience.piece, speaks_http2::<N>(&mut stream)) => begun,
    };
    let Ok(Some(http2)) = begun else { return };
    let progress = Progress::begun();
    let service = {
        let progress = progress.clone();
        service_fn(move |request| {
            let (port, progress) = (port.clone(), progress.clone());
            async move {
                progress.answering();
                let response = port.answer(request, crowded).await;
                progress.answered();
                Ok::<_, Infallible>(response)
            }
        })
    };
    // What goes wrong on a connection is its client's affair: hyper has answered 400, 408 or 431 where it could.
    let ended = if http2 {
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(patience.idle / 10)
            .keep_alive_timeout(patience.piece)
            .max_concurrent_streams(256)
            .max_header_list_size(64 << 10)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = told(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    } else {
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience.idle)
            .title_case_headers(true)
            .serve_connection(TokioIo::new(Watched::new(stream, progress.clone())), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = progress.too_slow(patience.head) => return tracing::debug!("a header came too slowly"),
            () = told(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    if let Err(e) = ended {
        tracing::debug!("a connection ended: {e}");
    }
}

/// Whether the connection begins with HTTP/2's preface; `None` if it ends before it has begun.
async fn speaks_http2<N: Network>(stream: &mut N::Stream) -> Option<bool> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
    let mut begin = [0_u8; PREFACE.len()];
    loop {
        let seen = N::peek(stream, &mut begin).await.ok()?;
        match &begin[..seen] {
            [] => return None,
            whole if whole == PREFACE => return Some(true),
            part if !PREFACE.starts_with(part) => return Some(false),
            // A preface in pieces is rare; peeking again would only spin.
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

impl Port {
    async fn answer(self: Arc<Port>, mut wire: hyper::Request<Incoming>, crowded: bool) -> WireResponse {
        if wire.uri().path() == peer::PATH {
            return self.upgrade(&mut wire);
        }
        let foreign = Foreign::of(wire.method(), wire.headers());
        let mut answer = self.clone().answer_client(wire, crowded).await;
        if let Some(foreign) = foreign {
            foreign.answer(&self.trusted_origins, answer.headers_mut());
        }
        answer
    }

    async fn answer_client(self: Arc<Port>, wire: hyper::Request<Incoming>, crowded: bool) -> WireResponse {
        if crowded {
            let refusal =
                Response::error(503, 21003, "too many connections are open").with_header("connection", "close");
            return self.to_wire(refusal, false);
        }
        let (begun, head) = (Instant::now(), wire.method() == hyper::Method::HEAD);
        let request = match self.clone().read_request(wire).await {
            Ok(request) => request,
            Err(refusal) => return self.to_wire(refusal, head),
        };
        let mut answered = self.begin_counting(&request, begun);
        let response = self.dispatch(request).await;
        answered.bytes_sent = response.body.len();
        let wire = self.to_wire(response, head);
        answered.bytes_sent +=
            wire.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
        answered.took = begun.elapsed();
        answered.queued = Duration::from_micros(self.queue_time_us.load(Ordering::Relaxed)).min(answered.took);
        self.observed.count(&answered);
        wire
    }

    fn begin_counting(&self, request: &Request, begun: Instant) -> Answered {
        let of_superuser = request.header(header::AUTHORIZATION).is_some_and(|authorization| {
            let bearer = authorization.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "));
            bearer && auth::verify_superuser(&self.auth, Some(authorization), (self.clock)().wall_ms)
        });
        let head = request.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>();
        Answered {
            method: request.method,
            of_superuser,
            waits: job::deferred(request).is_none(),
            took: Duration::ZERO,
            read: begun.elapsed(),
            queued: Duration::ZERO,
            bytes_received: request.target.len() + head + request.body.len(),
            bytes_sent: 0,
        }
    }

    /// Takes the request off the wire, within bounds.
    async fn read_request(self: Arc<Port>, wire: hyper::Request<Incoming>) -> Result<Request, Response> {
        let (head, mut incoming) = wire.into_parts();
        let Some(method) = Method::parse(head.method.as_str()) else {
            return Err(Response::error(405, 405, "method not supported"));
        };
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let headers = head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let too_large = || Response::error(413, 413, "request body too large").with_header("connection", "close");
        let limit = self.limits.body_bytes;
        let claimed = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if claimed.is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut first = Bytes::new();
        let mut more = BytesMut::new();
        let began = Instant::now();
        loop {
            let due =
                self.patience.piece + Duration::from_secs(((first.len() + more.len()) / BODY_BYTES_PER_S_MIN) as u64);
            let patience = due.saturating_sub(began.elapsed()).min(self.patience.piece);
            let frame = match timeout(patience, incoming.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(_))) => return Err(Response::error(400, 400, "the request body ended early")),
                Err(_) => {
                    return Err(Response::error(408, 408, "the request body came too slowly")
                        .with_header("connection", "close"));
                }
            };
            let Ok(piece) = frame.into_data() else { continue };
            if first.len() + more.len() + piece.len() > limit {
                return Err(too_large());
            }
            // Most bodies are one piece, which needs no copy.
            if first.is_empty() && more.is_empty() {
                first = piece;
            } else {
                if more.is_empty() {
                    more.extend_from_slice(&std::mem::take(&mut first));
                }
                more.extend_from_slice(&piece);
            }
        }
        let body = if more.is_empty() { first } else { more.freeze() };
        let body = match head.headers.get(CONTENT_ENCODING) {
            Some(encoding) if !body.is_empty() => aside(|| decoded(encoding.as_bytes(), body, limit))?,
            _ => body,
        };
        Ok(Request { method, target, headers, body })
    }

    async fn dispatch(&self, request: Request) -> Response {
        match batch::is_batch(&request) {
            true => self.dispatch_batch(request).await,
            false => self.dispatch_one(request).await,
        }
    }

    /// The parts one after the other, if this server is the one to ask and knows who does.
    async fn dispatch_batch(&self, whole: Request) -> Response {
        if whole.header(header::ASYNC).is_some() {
            return errors::NOT_IMPLEMENTED.says("a batch can't be a job").response();
        }
        let admitted = self.dispatch_one(Request { body: Bytes::new(), ..whole.clone() }).await;
        if admitted.status != 200 {
            return admitted;
        }
        let batch = match Batch::parse(&whole) {
            Ok(batch) => batch,
            Err(error) => return error.response(),
        };
        let mut answers = batch.answers();
        for part in &batch.parts {
            let response = match answers.refusal() {
                Some(refusal) => refusal,
                None => self.dispatch_one(part.request.clone()).await,
            };
            answers.push(part, &response);
        }
        answers.finish()
    }

    async fn dispatch_one(&self, request: Request) -> Response {
        let pending = Pending::new(&self.pending);
        if pending.before >= self.limits.pending_requests {
            return errors::QUEUE_FULL.response();
        }
        // What would have to wait for longer than its client likes is refused, as far as that can be foreseen.
        let patience_s = request.header(header::QUEUE_TIME).and_then(|seconds| seconds.trim().parse::<f64>().ok());
        let queue_time_s = self.queue_time_us.load(Ordering::Relaxed) as f64 / 1e6;
        if patience_s.is_some_and(|patience_s| patience_s > 0.0 && queue_time_s > patience_s) {
            return errors::QUEUE_TIME_VIOLATED.response();
        }
        let Some(view) = self.views.load() else { return self.through_loop(request).await };
        let seed = Rng::new(self.seed.fetch_add(1, Ordering::Relaxed)).next_u64();
        match gate::admit(&view, request, (self.clock)(), seed) {
            Admission::Refuse(response) => response,
            // The loop knows how to wait.
            Admission::Wait(request) => self.through_loop(request).await,
            Admission::Run(run) if run.writes || run.kept => self.through_loop(run.request).await,
            Admission::Run(run) => self.read(run).await,
        }
    }

    /// R13: admitted before the snapshot is opened; confirmed by the newest view, and then by the clock.
    async fn read(&self, run: Run) -> Response {
        let ticket = run.ticket();
        // Kept for what turns out to need the loop.
        let request = run.request.clone();
        let path = request.raw_path();
        let small = path.contains("/_api/document/") || path.ends_with("/_api/version");
        let perform = |run, attendant: &dyn Attendant| exec::read_attended(Op::Run(run), &self.store, attendant);
        let result = match path.ends_with("/_api/cursor") {
            true if request.body.len() > SHORT_QUERY_BYTES_MAX => return self.through_loop(request).await,
            // One that is not over in a moment is the loop's.
            true => perform(run, &Hurried(&*self.attending)),
            false if small => perform(run, &*self.attending),
            false => aside(|| perform(run, &*self.attending)),
        };
        let mut last = Position::ZERO;
        let response = match result {
            OpResult::Ran(Ran { then: Some(Then::Process(call)), response, .. }) => {
                let connections = self.connections.load(Ordering::Relaxed);
                let pending = self.pending.load(Ordering::Relaxed);
                let answer = self.observed.answer(&call, connections, pending, (self.clock)().wall_ms);
                Response { headers: response.headers, ..answer }
            }
            // What the store alone can't answer, or not yet, is the loop's.
            OpResult::Ran(Ran { then: Some(_), .. }) | OpResult::Behind(_) => return self.through_loop(request).await,
            OpResult::Ran(ran) => {
                last = ran.last;
                ran.response
            }
            OpResult::Failed(e) => {
                if e != StoreError::Full {
                    tracing::error!("{e}");
                }
                errors::storage_failure(&e)
            }
            other => unreachable!("a run ends as a run, not as {other:?}"),
        };
        let view = self.views.load().expect("a view, once published, stays");
        if !gate::is_acknowledged(ticket, last, &view) {
            return self.through_loop(request).await;
        }
        gate::confirm(ticket, response, &view, (self.clock)())
    }

    async fn through_loop(&self, request: Request) -> Response {
        let (reply, answer) = oneshot::channel();
        let event = Event::Request { request, reply, since: Instant::now() };
        match self.inbox.send(event) {
            Ok(()) => answer.await.unwrap_or_else(|_| errors::SHUTTING_DOWN.response()),
            Err(_) => errors::SHUTTING_DOWN.response(),
        }
    }

    /// Turns a connection into one of another node's.
    fn upgrade(&self, wire: &mut hyper::Request<Incoming>) -> WireResponse {
        let text = |name: HeaderName| wire.headers().get(name).and_then(|value| value.to_str().ok());
        let authorization = text(hyper::header::AUTHORIZATION);
        if !auth::verify_superuser(&self.auth, authorization, (self.clock)().wall_ms) {
            return self.to_wire(Response::error(401, 401, "only the deployment's own nodes may speak here"), false);
        }
        if text(UPGRADE) != Some(peer::PROTOCOL) {
            let refusal = Response::error(426, 426, "an upgrade to tanist-peer is needed");
            return self.to_wire(refusal.with_header("upgrade", peer::PROTOCOL), false);
        }
        let receiving = self.receiving.clone();
        let upgraded = hyper::upgrade::on(wire);
        tokio::spawn(async move {
            if let Ok(upgraded) = upgraded.await {
                receiving.receive(TokioIo::new(upgraded)).await;
            }
        });
        let mut response = WireResponse::new(Full::default());
        *response.status_mut() = hyper::StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static(peer::PROTOCOL));
        response
    }

    fn to_wire(&self, response: Response, head: bool) -> WireResponse {
        let queue_time_us = self.queue_time_us.load(Ordering::Relaxed);
        to_wire(response, head, queue_time_us)
    }
}

/// A response on the wire. To HEAD the body is described and not sent.
pub fn to_wire(response: Response, head: bool, queue_time_us: u64) -> WireResponse {
    let length = response.body.len();
    let body = if head { Full::default() } else { Full::new(response.body) };
    let mut wire = WireResponse::new(body);
    let status = hyper::StatusCode::from_u16(response.status).expect("the engine gives valid status codes");
    *wire.status_mut() = status;
    let headers = wire.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("ArangoDB"));
    let queue_time = format!("{}.{:06}", queue_time_us / 1_000_000, queue_time_us % 1_000_000);
    headers.insert(header::QUEUE_TIME, HeaderValue::try_from(queue_time).expect("digits"));
    if length > 0 || response.content_type != ContentType::Json {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(response.content_type.as_str()));
    }
    // ArangoDB gives a length to 304, too, and its PHP driver waits for a body without one.
    if (head && !status.is_informational() && status != 204) || status == 304 {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    for (name, value) in response.headers {
        // A value that HTTP can't carry (a line feed in a key, say) is left out rather than ends the connection.
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) if name == CONTENT_TYPE => {
                headers.insert(name, value);
            }
            (Ok(name), Ok(value)) => {
                headers.append(name, value);
            }
            _ => tracing::warn!("a header that can't be sent is left out"),
        }
    }
    wire
}

/// A body that was sent compressed. Nobody knows yet who sent it, so it may not become as large as it likes.
fn decoded(encoding: &[u8], body: Bytes, limit: usize) -> Result<Bytes, Response> {
    let mut plain = Vec::new();
    let limit = limit.min(DECODED_BYTES_SURE.max(body.len().saturating_mul(DECODED_TIMES_MAX)));
    let bound = limit as u64 + 1;
    let read = match encoding.to_ascii_lowercase().as_slice() {
        b"identity" => return Ok(body),
        b"gzip" | b"x-gzip" => MultiGzDecoder::new(&*body).take(bound).read_to_end(&mut plain),
        b"deflate" => ZlibDecoder::new(&*body).take(bound).read_to_end(&mut plain),
        _ => return Err(errors::BAD_PARAMETER.says("unknown content encoding").response()),
    };
    match read {
        Ok(bytes) if bytes > limit => Err(Response::error(413, 413, "request body too large")),
        Ok(_) => Ok(plain.into()),
        Err(_) => Err(errors::BAD_PARAMETER.says("decoding error").response()),
    }
}

/// Does what takes long without holding up other connections, where the runtime has more than one thread.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => work(),
        _ => tokio::task::block_in_place(work),
    }
}

/// Counts the requests that are not answered yet.
struct Pending<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl Pending<'_> {
    fn new(count: &AtomicUsize) -> Pending<'_> {
        Pending { count, before: count.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes a port; nothing is accepted yet.
pub fn bind(authority: &str) -> Result<std::net::TcpListener, exit::Exit> {
    let listener = std::net::TcpListener::bind(authority).map_err(|e| {
        let why = match e.kind() {
            std::io::ErrorKind::AddrInUse => "the port is in use".to_owned(),
            std::io::ErrorKind::AddrNotAvailable => "that is not an address of this machine".to_owned(),
            _ => e.to_string(),
        };
        exit::Exit::new(exit::Code::Port, format!("can't listen on {authority}: {why}"))
    })?;
    listener.set_nonblocking(true).map_err(|e| exit::Exit::failed(format!("can't listen on {authority}: {e}")))?;
    Ok(listener)
}

#[cfg(test)]
mod tests;
