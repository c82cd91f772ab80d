//! The simulated network: turmoil's, behind the server's own trait.
//!
//! What turmoil leaves out is added here. Bytes arrive and leave in pieces of any size, so that frames and headers are
//! cut everywhere. A connection whose data went into a cut breaks after its user timeout, as a kernel would break it;
//! without one it stays half-open. A process that is killed leaves its connections in the order in which they were
//! made: the runtime would drop them in one that depends on what ran before. Everything that happens on a connection
//! goes into the history's digest.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tanist_engine::types::{Now, Rng, Time};
use tanist_server::net::Network;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// The port of every node.
pub const PORT: u16 = 8529;

/// No message travels for longer, unless it is held.
const ON_THE_WAY_MAX: Duration = Duration::from_secs(1);

/// The one clock of all hosts.
pub fn now() -> Now {
    let elapsed = turmoil::sim_elapsed().expect("inside of a simulation");
    Now { time: Time(elapsed.as_nanos() as u64 + 1), wall_ms: 1_700_000_000_000 + elapsed.as_millis() as u64 }
}

#[derive(Clone)]
pub struct SimNet(Arc<Mutex<Shared>>);

struct Shared {
    rng: Rng,
    /// Directions in which everything is or was lost: from when, until when.
    cuts: Vec<(IpAddr, IpAddr, Time, Time)>,
    /// The ends of all connections, by age.
    ends: BTreeMap<u64, (IpAddr, Weak<Socket>)>,
    opened: u64,
    /// Hosts whose process is about to be killed.
    doomed: BTreeSet<IpAddr>,
    digest: u64,
    happenings: u64,
}

/// `None` once its process has been killed.
type Socket = Mutex<Option<turmoil::net::TcpStream>>;

impl SimNet {
    pub fn new(seed: u64) -> SimNet {
        SimNet(Arc::new(Mutex::new(Shared {
            rng: Rng::new(seed),
            cuts: Vec::new(),
            ends: BTreeMap::new(),
            opened: 0,
            doomed: BTreeSet::new(),
            digest: 0,
            happenings: 0,
        })))
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().expect("nobody panics with it")
    }

    pub fn cut(&self, from: IpAddr, to: IpAddr, at: Time) {
        self.shared().cuts.push((from, to, at, Time::NEVER));
    }

    pub fn repair(&self, a: IpAddr, b: IpAddr, at: Time) {
        for (from, to, _, until) in &mut self.shared().cuts {
            if (*from, *to) == (a, b) || (*from, *to) == (b, a) {
                *until = at.min(*until);
            }
        }
    }

    /// Whether what was written then met a cut, on the way included.
    fn lost(&self, (from, to): (IpAddr, IpAddr), written: Time) -> bool {
        let meets = |began: Time, until: Time| written.plus(ON_THE_WAY_MAX) >= began && written <= until;
        self.shared().cuts.iter().any(|(f, t, began, until)| (*f, *t) == (from, to) && meets(*began, *until))
    }

    /// The process on a host is killed once it has noticed, which it does within a step or two.
    pub fn doom(&self, host: IpAddr) {
        self.shared().doomed.insert(host);
    }

    pub fn spare(&self, host: IpAddr) {
        self.shared().doomed.remove(&host);
    }

    /// For the process itself: whether it is to be killed; then its connections are gone.
    pub fn dies(&self, host: IpAddr) -> bool {
        let shared = &mut *self.shared();
        if !shared.doomed.contains(&host) {
            return false;
        }
        let sockets = shared.ends.values().filter(|(of, _)| *of == host).filter_map(|(_, socket)| socket.upgrade());
        sockets.for_each(|socket| drop(socket.lock().expect("nobody panics with it").take()));
        shared.ends.retain(|_, (of, socket)| *of != host && socket.strong_count() > 0);
        true
    }

    /// Adds to the history: what happened, when, between whom.
    pub fn note(&self, what: &str, numbers: &[u64]) {
        let mut shared = self.shared();
        shared.happenings += 1;
        let time = now().time.0;
        for byte in what.bytes().map(u64::from).chain([time]).chain(numbers.iter().copied()) {
            shared.digest = (shared.digest.rotate_left(5) ^ byte).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    /// How many things happened so far, and a digest of all of them.
    pub fn history(&self) -> (u64, u64) {
        let shared = self.shared();
        (shared.happenings, shared.digest)
    }

    fn wire(&self, stream: turmoil::net::TcpStream) -> io::Result<Wire> {
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        let socket = Arc::new(Mutex::new(Some(stream)));
        let rng = {
            let mut shared = self.shared();
            if shared.doomed.contains(&local.ip()) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            shared.opened += 1;
            let number = shared.opened;
            shared.ends.insert(number, (local.ip(), Arc::downgrade(&socket)));
            Rng::new(shared.rng.next_u64())
        };
        let ports = [u64::from(local.port()), u64::from(remote.port())];
        self.note("open", &ports);
        Ok(Wire {
            net: self.clone(),
            ends: (local.ip(), remote.ip()),
            ports,
            socket,
            ahead: Vec::new(),
            ended: false,
            rng,
            user_timeout: None,
            written: Time::ZERO,
            lost: None,
        })
    }
}

/// One end of a connection.
pub struct Wire {
    net: SimNet,
    ends: (IpAddr, IpAddr),
    ports: [u64; 2],
    socket: Arc<Socket>,
    /// Has come and was not read yet.
    ahead: Vec<u8>,
    ended: bool,
    rng: Rng,
    user_timeout: Option<Duration>,
    written: Time,
    /// Data went into a cut: when the connection breaks.
    lost: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(limit) = self.user_timeout
            && self.lost.is_none()
            && self.written > Time::ZERO
            && self.net.lost(self.ends, self.written)
        {
            let left = self.written.plus(limit).since(now().time);
            self.lost = Some(Box::pin(tokio::time::sleep(left)));
        }
        let broken = self.lost.as_mut().is_some_and(|lost| lost.as_mut().poll(cx).is_ready());
        if broken { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// Does something with the stream below.
    fn with<T>(
        &self,
        work: impl FnOnce(Pin<&mut turmoil::net::TcpStream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match self.socket.lock().expect("nobody panics with it").as_mut() {
            Some(stream) => work(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    /// A piece of what is offered: often all of it, sometimes a few bytes.
    fn piece(&mut self, offered: usize) -> usize {
        let most = match self.rng.below(4) {
            0 => 8,
            1 => 700,
            _ => offered as u64,
        };
        offered.min(1 + self.rng.below(most.max(1)) as usize)
    }

    /// Reads more from below; true unless the other side has ended.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        let mut bytes = [0; 16 << 10];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(self.with(|stream| stream.poll_read(cx, &mut buffer)))?;
        self.ahead.extend_from_slice(buffer.filled());
        self.ended = buffer.filled().is_empty();
        self.net.note("read", &[self.ports[0], self.ports[1], buffer.filled().len() as u64]);
        Poll::Ready(Ok(!self.ended))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_broken(cx)?;
        if self.ahead.is_empty() && !ready!(self.poll_fill(cx))? {
            return Poll::Ready(Ok(()));
        }
        let offered = self.ahead.len().min(buffer.remaining());
        let piece = if offered == 0 { 0 } else { self.piece(offered) };
        buffer.put_slice(&self.ahead[..piece]);
        self.ahead.drain(..piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_broken(cx)?;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let piece = self.piece(bytes.len().min(64 << 10));
        let taken = ready!(self.with(|stream| stream.poll_write(cx, &bytes[..piece])))?;
        self.net.note("write", &[self.ports[0], self.ports[1], taken as u64]);
        self.written = now().time;
        self.poll_broken(cx)?;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }
}

impl Network for SimNet {
    type Stream = Wire;
    type Listener = (SimNet, turmoil::net::TcpListener);

    async fn connect(&self, authority: &str) -> io::Result<Wire> {
        let connected = turmoil::net::TcpStream::connect(authority).await;
        if connected.is_err() {
            self.note("refused", &[]);
        }
        self.wire(connected?)
    }

    async fn accept((net, listener): &mut Self::Listener) -> io::Result<Wire> {
        let (stream, _) = listener.accept().await?;
        net.wire(stream)
    }

    async fn peek(wire: &mut Wire, begin: &mut [u8]) -> io::Result<usize> {
        // As with a real socket: more is seen when more has come, and nothing is waited for if something is there.
        std::future::poll_fn(|cx| match (wire.poll_fill(cx), wire.ahead.is_empty()) {
            (Poll::Ready(Err(e)), true) => Poll::Ready(Err(e)),
            (Poll::Pending, true) => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        })
        .await?;
        let seen = begin.len().min(wire.ahead.len());
        begin[..seen].copy_from_slice(&wire.ahead[..seen]);
        Ok(seen)
    }

    fn set_user_timeout(wire: &mut Wire, limit: Duration) -> io::Result<()> {
        wire.user_timeout = Some(limit);
        Ok(())
    }
}

/// Reads until the end, an error, or for so long.
pub async fn read_all(wire: &mut Wire, patience: Duration) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reading = pin!(wire.read_to_end(&mut bytes));
    let _ = tokio::time::timeout(patience, reading).await;
    bytes
}
