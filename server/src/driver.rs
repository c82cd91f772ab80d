//! The one loop that owns the node: it feeds inputs, carries out outputs, publishes the view. It holds no rules.
//!
//! A thread of its own, so that nothing else can delay a lease or an election. What blocks is done elsewhere: writes
//! on the writer thread ([`crate::writer`]), reads on a few reader threads, sockets on the runtime.
//! Contract with the engine: see `tanist_engine::io`. The view is published before the outputs of a step are carried
//! out, so that whoever learns of a release finds the gate closed already (R12).

use crate::clock::Clock;
use crate::etcd::Etcd;
use crate::log;
use crate::net::{Network, Tcp};
use crate::peer::{Peers, Permit};
use crate::queries::Attending;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tanist_engine::etcd;
use tanist_engine::http::{Request, Response};
use tanist_engine::io::{AskId, Input, Op, OpId, OpResult, Output, RequestId, View};
use tanist_engine::message::Envelope;
use tanist_engine::node::Node;
use tanist_engine::types::Now;
use tokio::sync::oneshot;
use tokio::time::Instant;

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
    /// What etcd said; `None`: nobody knows.
    Answered(AskId, Option<etcd::Answer>),
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
pub struct Driver<N = Tcp> {
    pub node: Node,
    pub inbox: Receiver<Event>,
    pub writer: Sender<(OpId, Op)>,
    pub readers: crossbeam_channel::Sender<(OpId, Op)>,
    pub peers: Peers<N>,
    /// An agent's, if an etcd orders the agency's entries.
    pub etcd: Option<Etcd<N>>,
    pub views: Arc<Views>,
    pub attending: Arc<Attending>,
    /// How long the latest request waited for the loop, in microseconds.
    pub queue_time_us: Arc<AtomicU64>,
    pub clock: Clock,
    pub state: State,
}

/// What the loop keeps from one turn to the next.
#[derive(Default)]
pub struct State {
    waiting: HashMap<u64, oneshot::Sender<Response>>,
    requests: u64,
    published: Option<Arc<View>>,
    out: Vec<Output>,
}

impl<N: Network> Driver<N> {
    /// Until the node has stopped.
    pub fn run(mut self) {
        self.publish();
        loop {
            if self.timer() {
                return;
            }
            // After a timer, one event: neither can starve the other.
            let stopped = match self.inbox.recv_timeout(self.patience()) {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if stopped {
                return;
            }
        }
    }

    /// Steps the node if its deadline has come; true once it has stopped.
    pub fn timer(&mut self) -> bool {
        let now = (self.clock)();
        let due = self.node.deadline().is_some_and(|wake| wake.at <= now.time);
        due && self.step(now, Input::Timer)
    }

    /// How long the next event may be waited for.
    pub fn patience(&self) -> Duration {
        match self.node.deadline() {
            Some(wake) => wake.at.since((self.clock)().time).min(SLEEP_MAX),
            None => SLEEP_MAX,
        }
    }

    /// Steps the node with what has come; true once it has stopped.
    pub fn take(&mut self, event: Event) -> bool {
        let input = match event {
            Event::Peer(envelope, _permit) => Input::Message(envelope),
            Event::Done(op, result) => Input::Done { op, result },
            Event::Answered(id, answer) => Input::Answered { id, answer },
            Event::Stop => Input::Stop,
            Event::Request { request, reply, since } => {
                self.queue_time_us.store(since.elapsed().as_micros() as u64, Ordering::Relaxed);
                self.state.requests += 1;
                self.state.waiting.insert(self.state.requests, reply);
                Input::Request { id: RequestId(self.state.requests), request }
            }
        };
        self.step((self.clock)(), input)
    }

    fn step(&mut self, now: Now, input: Input) -> bool {
        let mut out = std::mem::take(&mut self.state.out);
        self.node.step(now, input, &mut out);
        self.publish();
        let stopped = self.carry_out(&mut out);
        self.state.out = out;
        stopped
    }

    pub fn publish(&mut self) {
        let published = &mut self.state.published;
        if let Some(view) = self.node.view()
            && !published.as_ref().is_some_and(|p| Arc::ptr_eq(p, view))
        {
            self.views.publish(view);
            *published = Some(view.clone());
        }
    }

    /// True once the node has stopped.
    fn carry_out(&mut self, out: &mut Vec<Output>) -> bool {
        let mut stopped = false;
        for output in out.drain(..) {
            match output {
                Output::Send { to, envelope } => self.peers.send(&to, &envelope),
                Output::Reply { id, response } => {
                    // A client that has gone away is no longer interested.
                    let reply = self.state.waiting.remove(&id.0).expect("each request is answered once");
                    let _ = reply.send(response);
                }
                Output::Start { op, what } => {
                    let lost = match what.writes() {
                        true => self.writer.send((op, what)).is_err(),
                        false => {
                            self.attending.hand(&what);
                            self.readers.send((op, what)).is_err()
                        }
                    };
                    assert!(!lost, "the storage threads outlive the loop");
                }
                Output::Ask { id, ask } => self.etcd.as_ref().expect("an agent on an etcd asks it").ask(id, ask),
                Output::Interrupt { query } => self.attending.interrupt(query),
                Output::Note(event) => log::event(&event),
                Output::Stopped => stopped = true,
            }
        }
        stopped
    }
}
