//! The one loop that owns the node: it feeds inputs, carries out outputs, publishes the view. It holds no rules.
//!
//! A thread of its own, so that nothing else can delay a lease or an election. What blocks is done elsewhere: writes
//! on the writer thread ([`crate::writer`]), reads on a few reader threads, sockets on the runtime.
//! Contract with the engine: see `tanist_engine::io`. The view is published before the outputs of a step are carried
//! out, so that whoever learns of a release finds the gate closed already (R12).

use crate::peer::{Peers, Permit};
use crate::{clock, log};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tanist_engine::http::{Request, Response};
use tanist_engine::io::{Input, Op, OpId, OpResult, Output, RequestId, View};
use tanist_engine::message::Envelope;
use tanist_engine::node::Node;
use tokio::sync::oneshot;

/// What reaches the loop.
pub enum Event {
    /// From another node; the permit bounds what waits here.
    Peer(Envelope, Permit),
    Request {
        request: Request,
        reply: oneshot::Sender<Response>,
        since: Instant,
    },
    Done(OpId, OpResult),
    Stop,
}

/// The latest view, for whoever serves connections; an agent has none.
#[derive(Default)]
pub struct Views(RwLock<Option<Arc<View>>>);

impl Views {
    pub fn load(&self) -> Option<Arc<View>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn publish(&self, view: &Arc<View>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(view.clone());
    }
}

/// A timer is never slept for longer than this in one go: the sleep counts another clock than the engine's.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// See the module's documentation.
pub struct Driver {
    pub node: Node,
    pub inbox: Receiver<Event>,
    pub writer: Sender<(OpId, Op)>,
    pub readers: Sender<(OpId, Op)>,
    pub peers: Peers,
    pub views: Arc<Views>,
    /// How long the latest request waited for the loop, in microseconds.
    pub queue_time_us: Arc<AtomicU64>,
}

impl Driver {
    /// Until the node has stopped.
    pub fn run(mut self) {
        let mut waiting: HashMap<u64, oneshot::Sender<Response>> = HashMap::new();
        let mut requests = 0_u64;
        let mut out = Vec::new();
        let mut published: Option<Arc<View>> = None;
        self.publish(&mut published);
        loop {
            let now = clock::now();
            if self.node.deadline().is_some_and(|wake| wake.at <= now.time) {
                self.node.step(now, Input::Timer, &mut out);
                self.publish(&mut published);
                if self.carry_out(&mut out, &mut waiting) {
                    return;
                }
            }
            // After a timer, one event: neither can starve the other.
            let wait = match self.node.deadline() {
                Some(wake) => wake.at.since(clock::time()).min(SLEEP_MAX),
                None => SLEEP_MAX,
            };
            let input = match self.inbox.recv_timeout(wait) {
                Ok(Event::Peer(envelope, _permit)) => Input::Message(envelope),
                Ok(Event::Done(op, result)) => Input::Done { op, result },
                Ok(Event::Stop) => Input::Stop,
                Ok(Event::Request { request, reply, since }) => {
                    self.queue_time_us.store(since.elapsed().as_micros() as u64, Ordering::Relaxed);
                    requests += 1;
                    waiting.insert(requests, reply);
                    Input::Request { id: RequestId(requests), request }
                }
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.node.step(clock::now(), input, &mut out);
            self.publish(&mut published);
            if self.carry_out(&mut out, &mut waiting) {
                return;
            }
        }
    }

    fn publish(&self, published: &mut Option<Arc<View>>) {
        if let Some(view) = self.node.view()
            && !published.as_ref().is_some_and(|p| Arc::ptr_eq(p, view))
        {
            self.views.publish(view);
            *published = Some(view.clone());
        }
    }

    /// True once the node has stopped.
    fn carry_out(&self, out: &mut Vec<Output>, waiting: &mut HashMap<u64, oneshot::Sender<Response>>) -> bool {
        let mut stopped = false;
        for output in out.drain(..) {
            match output {
                Output::Send { to, envelope } => self.peers.send(&to, &envelope),
                Output::Reply { id, response } => {
                    // A client that has gone away is no longer interested.
                    let reply = waiting.remove(&id.0).expect("each request is answered once");
                    let _ = reply.send(response);
                }
                Output::Start { op, what } => {
                    let queue = if what.writes() { &self.writer } else { &self.readers };
                    queue.send((op, what)).expect("the storage threads outlive the loop");
                }
                Output::Note(event) => log::event(&event),
                Output::Stopped => stopped = true,
            }
        }
        stopped
    }
}
