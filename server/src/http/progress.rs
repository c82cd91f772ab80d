//! How long a client may take to send a header.
//!
//! An open connection may be idle for minutes; a request that has begun may not be: a byte a second would hold its
//! connection for ever. hyper has one clock for both, so the bytes are watched here, on their way to it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

#[derive(Clone, Copy, Debug)]
enum Stage {
    Idle,
    /// The header has begun to come.
    Head(Instant),
    /// The request is being read or answered; other bounds hold.
    Answering,
}

/// Where a connection is; shared by its stream, its service and its guard.
#[derive(Clone)]
pub struct Progress(Arc<Mutex<Stage>>);

impl Progress {
    /// Of a connection whose first bytes are there.
    pub fn begun() -> Progress {
        Progress(Arc::new(Mutex::new(Stage::Head(Instant::now()))))
    }

    fn change(&self, change: impl FnOnce(&mut Stage)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn answering(&self) {
        self.change(|stage| *stage = Stage::Answering);
    }

    pub fn answered(&self) {
        self.change(|stage| *stage = Stage::Idle);
    }

    /// Returns when a header has been coming for longer than `limit`.
    pub async fn too_slow(&self, limit: Duration) {
        loop {
            let stage = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let wait = match stage {
                Stage::Head(since) => limit.saturating_sub(since.elapsed()),
                Stage::Idle | Stage::Answering => limit,
            };
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }
}

/// A stream that tells its progress.
pub struct Watched<S> {
    stream: S,
    progress: Progress,
}

impl<S> Watched<S> {
    pub fn new(stream: S, progress: Progress) -> Watched<S> {
        Watched { stream, progress }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.progress.change(|stage| {
                if matches!(stage, Stage::Idle) {
                    *stage = Stage::Head(Instant::now());
                }
            });
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.progress.change(sending);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.progress.change(sending);
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The next header may come early, while the last answer is still being sent: that time is not the client's.
fn sending(stage: &mut Stage) {
    if let Stage::Head(since) = stage {
        *since = Instant::now();
    }
}
