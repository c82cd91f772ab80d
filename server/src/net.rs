//! The network as the rest of the server sees it: who listens, who connects, and what a connection can do.
//!
//! In production it is the system's TCP. The tests put a simulated one in its place and run the very same port, links
//! and clients on it, so nothing outside of this file may open a socket that serves or follows the protocol.

use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

pub trait Network: Clone + Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    type Listener: Send + 'static;

    /// `authority`: host and port.
    fn connect(&self, authority: &str) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    fn accept(listener: &mut Self::Listener) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Looks at the first bytes that have come without taking them; 0 at the end.
    fn peek(stream: &mut Self::Stream, begin: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;

    /// Breaks the connection once data has stayed unacknowledged for so long.
    fn set_user_timeout(stream: &mut Self::Stream, limit: Duration) -> io::Result<()>;
}

/// The system's TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

/// When an open connection that says nothing is asked whether it is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

impl Network for Tcp {
    type Stream = TcpStream;
    type Listener = TcpListener;

    async fn connect(&self, authority: &str) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn accept(listener: &mut TcpListener) -> io::Result<TcpStream> {
        let (stream, _) = listener.accept().await?;
        // A connection that has broken already says so when it is read.
        let _ = stream.set_nodelay(true);
        let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
        let _ = rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE);
        Ok(stream)
    }

    async fn peek(stream: &mut TcpStream, begin: &mut [u8]) -> io::Result<usize> {
        stream.peek(begin).await
    }

    fn set_user_timeout(stream: &mut TcpStream, limit: Duration) -> io::Result<()> {
        let limit_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        Ok(rustix::net::sockopt::set_tcp_user_timeout(stream, limit_ms)?)
    }
}
