//! Messages between nodes: frames over a connection that began as HTTP.
//!
//! A node connects to another's only port, sends `GET /_api/tanist/peer` with `Upgrade: tanist-peer` and the
//! deployment's token, and from then on writes frames: four bytes of length (little-endian), then one encoded
//! [`Envelope`], which begins with its version. Frames flow one way; answers take the other node's own connection.
//!
//! Messages may be lost here, never changed: a queue that is full drops its oldest, a peer that can't be reached loses
//! what was queued, and the loop never waits. Whoever needs an answer asks again.

use crate::driver::Event;
use crate::net::{Network, Tcp};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tanist_engine::message::{ENVELOPE_BYTES_MAX, Envelope};
use tanist_engine::types::Endpoint;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub const PATH: &str = "/_api/tanist/peer";
pub const PROTOCOL: &str = "tanist-peer";

/// What waits for one peer at most.
const QUEUE_FRAMES_MAX: usize = 4096;
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// What waits for our own loop at most, from all peers together; their connections then stand still.
const INBOX_KIB_MAX: usize = 256 << 10;

/// For the other side's kernel to answer, and for its process to. When a partition ends, a new attempt is quicker than
/// the next retransmission of an old one.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(2);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(250);
/// A connection that nobody has used for so long is given up.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// Unacknowledged data breaks a connection after so long: after a partition a new one is quicker than a retransmission.
const USER_TIMEOUT: Duration = Duration::from_secs(1);

pub type Permit = OwnedSemaphorePermit;

/// Our side's connections to other nodes.
#[derive(Clone)]
pub struct Peers<N = Tcp>(Arc<Inner<N>>);

struct Inner<N> {
    network: N,
    links: Mutex<HashMap<Endpoint, Arc<Link>>>,
    /// The `Authorization` header that opens the other side.
    token: Option<String>,
    runtime: Handle,
}

#[derive(Default)]
struct Link {
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, frame: Vec<u8>) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
        while self.frames.len() > QUEUE_FRAMES_MAX || (self.bytes > QUEUE_BYTES_MAX && self.frames.len() > 1) {
            let oldest = self.frames.pop_front().expect("the queue is not empty");
            self.bytes -= oldest.len();
        }
    }

    fn take(&mut self) -> VecDeque<Vec<u8>> {
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }
}

impl<N: Network> Peers<N> {
    pub fn new(network: N, token: Option<String>, runtime: Handle) -> Peers<N> {
        Peers(Arc::new(Inner { network, links: Mutex::default(), token, runtime }))
    }

    /// Queues a message; never waits.
    pub fn send(&self, to: &Endpoint, envelope: &Envelope) {
        let frame = match encode_frame(envelope) {
            Ok(frame) => frame,
            Err(e) => return tracing::error!("{e}"),
        };
        let mut links = self.0.links.lock().unwrap_or_else(PoisonError::into_inner);
        let link = links.entry(to.clone()).or_insert_with(|| {
            let link = Arc::new(Link::default());
            self.0.runtime.spawn(keep(self.clone(), to.clone(), link.clone()));
            link
        });
        link.queue.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
        link.wake.notify_one();
    }

    /// Ends a link that has nothing to do; false if something came in between.
    fn forget(&self, to: &Endpoint, link: &Link) -> bool {
        let mut links = self.0.links.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = link.queue.lock().unwrap_or_else(PoisonError::into_inner).frames.is_empty();
        if idle {
            links.remove(to);
        }
        idle
    }
}

impl Link {
    fn take(&self) -> VecDeque<Vec<u8>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Frames to send; empty if none came for a long while.
    async fn next(&self) -> VecDeque<Vec<u8>> {
        loop {
            let frames = self.take();
            if !frames.is_empty() {
                return frames;
            }
            if timeout(IDLE_MAX, self.wake.notified()).await.is_err() {
                return VecDeque::new();
            }
        }
    }
}

/// One peer's connection: made when there is something to say, made again when it breaks.
async fn keep<N: Network>(peers: Peers<N>, to: Endpoint, link: Arc<Link>) {
    let mut backoff = BACKOFF_MIN;
    let mut reachable = true;
    loop {
        let frames = link.next().await;
        if frames.is_empty() {
            if peers.forget(&to, &link) {
                return;
            }
            continue;
        }
        let connected = timeout(UPGRADE_TIMEOUT, connect(&peers.0.network, &to, peers.0.token.as_deref())).await;
        let problem = match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                if !reachable {
                    tracing::info!("{to} can be reached again");
                }
                reachable = true;
                backoff = BACKOFF_MIN;
                match pump(stream, frames, &link).await {
                    Ok(()) => continue,
                    Err(e) => {
                        tracing::debug!("the connection to {to} broke: {e}");
                        continue;
                    }
                }
            }
            Err(e) => e,
        };
        if reachable {
            tracing::info!("{to} can't be reached: {problem}");
            reachable = false;
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
        // Old messages are worth nothing once the peer is back.
        link.take();
    }
}

/// Opens a connection and turns it from HTTP to frames.
async fn connect<N: Network>(network: &N, to: &Endpoint, token: Option<&str>) -> io::Result<N::Stream> {
    let connecting = timeout(CONNECT_TIMEOUT, network.connect(to.authority()));
    let mut stream = connecting.await.map_err(|_| io::ErrorKind::TimedOut)??;
    N::set_user_timeout(&mut stream, USER_TIMEOUT)?;
    let authorization = token.map(|token| format!("Authorization: bearer {token}\r\n")).unwrap_or_default();
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n{authorization}\r\n",
        to.authority()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 8192 {
            return Err(io::Error::other("it answers with an endless header"));
        }
        head.push(stream.read_u8().await?);
    }
    let status = std::str::from_utf8(&head).ok().and_then(|head| head.lines().next()?.split(' ').nth(1));
    match status {
        Some("101") => Ok(stream),
        Some("401" | "403") => Err(io::Error::other("it refuses our token: do both have the same JWT secret?")),
        other => {
            Err(io::Error::other(format!("it does not speak {PROTOCOL} (status {})", other.unwrap_or("unreadable"))))
        }
    }
}

/// Sends frames until the connection breaks or nothing is to be said for a long while.
async fn pump(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    first: VecDeque<Vec<u8>>,
    link: &Link,
) -> io::Result<()> {
    let mut frames = first;
    let mut answer = [0_u8; 1];
    loop {
        let buffer: Vec<u8> = Vec::from(frames).concat();
        timeout(WRITE_TIMEOUT, stream.write_all(&buffer)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        drop(buffer);
        tokio::select! {
            // The end comes first: what is queued then goes out on the next connection.
            biased;
            // Nothing is ever sent back: whatever comes is the end.
            read = stream.read(&mut answer) => {
                read?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            next = link.next() => frames = next,
        }
        if frames.is_empty() {
            return Ok(());
        }
    }
}

fn encode_frame(envelope: &Envelope) -> Result<Vec<u8>, String> {
    let body = envelope.encode();
    if body.len() > ENVELOPE_BYTES_MAX {
        return Err(format!("a message of {} bytes is too long to send", body.len()));
    }
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Reads one frame; `None` at a clean end.
async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0_u8; 4];
    if from.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut length[1..]).await?;
    let length = u32::from_le_bytes(length) as usize;
    if length == 0 || length > ENVELOPE_BYTES_MAX {
        return Err(io::Error::other(format!("a frame of {length} bytes")));
    }
    // The length is a claim: memory is taken as bytes arrive.
    let mut body = Vec::with_capacity(length.min(64 << 10));
    from.take(length as u64).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(body))
}

/// The receiving side: hands every message of an upgraded connection to the loop.
#[derive(Clone)]
pub struct Receiving {
    inbox: Sender<Event>,
    room: Arc<Semaphore>,
}

impl Receiving {
    pub fn new(inbox: Sender<Event>) -> Receiving {
        Receiving { inbox, room: Arc::new(Semaphore::new(INBOX_KIB_MAX)) }
    }

    /// Until the connection ends or says something that is no message.
    pub async fn receive(self, mut from: impl AsyncRead + Unpin) {
        loop {
            let body = match read_frame(&mut from).await {
                Ok(Some(body)) => body,
                Ok(None) => return,
                Err(e) => return tracing::debug!("a peer's connection ended: {e}"),
            };
            let kib = (body.len() / 1024 + 1) as u32;
            let permit = self.room.clone().acquire_many_owned(kib).await.expect("the semaphore is never closed");
            match Envelope::decode(&body) {
                Ok(envelope) => {
                    if self.inbox.send(Event::Peer(envelope, permit)).is_err() {
                        return;
                    }
                }
                Err(e) => return tracing::warn!("a peer's connection is closed: {e}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tanist_engine::message::{Message, Peer};
    use tanist_engine::types::{NodeId, NodeKind};

    fn envelope() -> Envelope {
        let id = NodeId { kind: NodeKind::Server, uuid: 7 };
        let from = Peer { id, endpoint: Endpoint::parse("tcp://127.0.0.1:1").unwrap() };
        Envelope { from, to: None, message: Message::NotLeader { leader: None } }
    }

    #[tokio::test]
    async fn frames_come_out_as_they_went_in() {
        let frame = encode_frame(&envelope()).unwrap();
        let two = [frame.clone(), frame.clone()].concat();
        let mut from = two.as_slice();
        for _ in 0..2 {
            let body = read_frame(&mut from).await.unwrap().unwrap();
            assert_eq!(Envelope::decode(&body).unwrap(), envelope());
        }
        assert!(read_frame(&mut from).await.unwrap().is_none());
        for cut in 1..frame.len() {
            assert!(read_frame(&mut &frame[..cut]).await.is_err(), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn lengths_are_bounded() {
        for length in [0_u32, ENVELOPE_BYTES_MAX as u32 + 1, u32::MAX] {
            assert!(read_frame(&mut length.to_le_bytes().as_slice()).await.is_err(), "{length}");
        }
    }

    #[tokio::test]
    async fn garbage_ends_the_connection_and_reaches_nobody() {
        let (inbox, events) = std::sync::mpsc::channel();
        let receiving = Receiving::new(inbox);
        let garbage: &[&[u8]] = &[
            b"\x05\0\0\0hello",
            b"\x01\0\0\0\x63",
            b"\xff\xff\xff\xffxxxx",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x02\0\0\0\x01",
        ];
        for bytes in garbage {
            receiving.clone().receive(*bytes).await;
        }
        assert!(events.try_recv().is_err());
        receiving.clone().receive(encode_frame(&envelope()).unwrap().as_slice()).await;
        assert!(matches!(events.try_recv(), Ok(Event::Peer(e, _)) if e == envelope()));
    }

    #[test]
    fn a_full_queue_drops_its_oldest() {
        let mut queue = Queue::default();
        for i in 0..QUEUE_FRAMES_MAX + 10 {
            queue.push(vec![(i % 251) as u8; 3]);
        }
        assert_eq!(queue.frames.len(), QUEUE_FRAMES_MAX);
        assert_eq!(queue.frames[0][0], 10);
        assert_eq!(queue.bytes, QUEUE_FRAMES_MAX * 3);
        let mut queue = Queue::default();
        for _ in 0..3 {
            queue.push(vec![0; QUEUE_BYTES_MAX / 2]);
        }
        assert_eq!(queue.frames.len(), 2);
    }
}
