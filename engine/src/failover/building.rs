//! Indexes that are built while writes go on ([`crate::db::index::build`]): a bounded piece of work at a time, one
//! under way at most.
//!
//! Every server adds the entries of its own documents. Only one that leads with an open gate ends it, by an ordinary
//! write of its epoch: the store refuses it once it has seen a later one (I7), and a release of the lease waits for it
//! (R12). Who asked for the index is answered then; if the leadership ends before, whoever leads next goes on, and the
//! outcome is unknown (R14).

use super::{Pending, PendingRun, Server};
use crate::db::index::build::{Built, Left, Verified};
use crate::errors;
use crate::http::Response;
use crate::io::*;
use crate::mark;
use crate::message::Entry;
use crate::types::*;

#[derive(Clone, Hash)]
pub(super) struct Building {
    /// There may be something to build.
    wanted: bool,
    /// Nothing is tried before this.
    after: Time,
    /// A piece is under way, and whether it may write.
    piece: Option<bool>,
    verified: Option<Verified>,
    /// Whoever waits for an index, by its id.
    waiting: Vec<(u64, PendingRun)>,
}

impl Building {
    /// Of a process that begins: another one may have left something.
    pub fn new() -> Building {
        Building { wanted: true, after: Time::ZERO, piece: None, verified: None, waiting: Vec::new() }
    }

    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// A reign begins: what was looked at in an earlier one may have changed since.
    pub fn begin(&mut self) {
        self.wanted = true;
        self.verified = None;
        self.after = Time::ZERO;
    }

    /// Whether a write is on its way through the store.
    pub fn writes(&self) -> bool {
        self.piece == Some(true)
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whoever waits will not be told: what becomes of the indexes is in another server's hands, or a later process'.
    pub fn give_up(&mut self, cx: &mut Cx) {
        for (_, run) in std::mem::take(&mut self.waiting) {
            mark!(IndexLeftBehind);
            cx.reply(run.id, errors::OUTCOME_UNKNOWN.response());
        }
    }
}

impl Server {
    pub(super) fn building_deadline(&self) -> Option<Wake> {
        let waits = self.building.wanted && self.building.piece.is_none() && self.boot != Boot(0);
        waits.then_some(Wake { at: self.building.after, why: "index" })
    }

    /// Whether this server may say that an index is there.
    fn may_end_index(&self) -> bool {
        self.mode() == Mode::Default && !self.is_short_of_followers()
    }

    /// The index that a request is about is defined, and being built; its client waits.
    pub(super) fn wait_for_index(&mut self, cx: &mut Cx, run: PendingRun, index: u64) {
        self.building.waiting.push((index, run));
        self.building.want();
        if self.reign.is_none() {
            self.building.give_up(cx);
        }
    }

    /// Begins a piece, if there is something to do.
    pub(super) fn build(&mut self, cx: &mut Cx) {
        let building = &self.building;
        if !building.wanted || building.piece.is_some() || self.boot == Boot(0) || cx.now.time < building.after {
            return;
        }
        let epoch = self.reign.as_ref().map(|reign| reign.epoch).filter(|_| self.may_end_index());
        let verified = building.verified;
        let lead = epoch.map(|epoch| Lead { epoch, wall_ms: cx.now.wall_ms, verified });
        self.building.piece = Some(lead.is_some());
        let op = cx.start(Op::Build(Build { limit: self.config.build_documents, lead }));
        self.pending.insert(op, Pending::Build);
    }

    /// A piece is done.
    pub(super) fn built(&mut self, cx: &mut Cx, result: OpResult) {
        let led = self.building.piece.take() == Some(true);
        let again = self.timing.lease / 2;
        match result {
            OpResult::Built { left, under_way, verified, over, entry } => {
                // (A piece of an earlier reign tells nothing: it was refused, or it is over.)
                self.building.verified = verified;
                self.building.wanted = left != Left::Nothing;
                if left == Left::Leading && !led {
                    // A follower hears in the log that the index is there.
                    self.building.wanted = self.reign.is_some();
                    if !self.may_end_index() {
                        self.building.after = cx.now.time.plus(again);
                    }
                }
                if let (Some(entry), Some(built)) = (entry, over) {
                    self.committed(cx, entry.clone());
                    self.tell_built(cx, built, entry);
                }
                self.tell_gone(cx, &under_way);
            }
            OpResult::Stale { .. } => self.building.after = cx.now.time.plus(again),
            OpResult::Failed(error) => {
                let text = format!("can't go on with an index, and will try again: {error}");
                cx.note(Event::Says(Severity::Error, text.into()));
                self.building.after = cx.now.time.plus(again);
            }
            other => panic!("building does not end in {other:?}"),
        }
    }

    fn tell_built(&mut self, cx: &mut Cx, built: Built, entry: Entry) {
        let Built { index, collection, response } = built;
        let text = match response.error_num() {
            None => format!("index {index} of '{collection}' is built"),
            Some(number) => format!("index {index} of '{collection}' can't be built: error {number}"),
        };
        cx.note(Event::Says(Severity::Info, text.into()));
        self.tell(cx, |of| of == index, response, Some(entry));
    }

    /// What is built no longer, and was not ended by a piece, is gone: dropped, perhaps with its collection.
    fn tell_gone(&mut self, cx: &mut Cx, under_way: &[u64]) {
        let is_gone = |index: u64| !under_way.contains(&index);
        if self.building.waiting.iter().any(|(index, _)| is_gone(*index)) {
            mark!(IndexGone);
            let error = errors::INDEX_NOT_FOUND.says("the index was dropped while it was built");
            self.tell(cx, is_gone, error.response(), None);
        }
    }

    /// Answers whoever waits for one of these indexes.
    fn tell(&mut self, cx: &mut Cx, of: impl Fn(u64) -> bool, response: Response, entry: Option<Entry>) {
        let waiting = std::mem::take(&mut self.building.waiting).into_iter();
        let (told, waiting) = waiting.partition::<Vec<_>, _>(|(index, _)| of(*index));
        self.building.waiting = waiting;
        for (_, run) in told {
            let (response, entry) = (response.clone(), entry.clone());
            let ran = Ran { response, entry, last: self.last, then: None, progress: None };
            self.answer_when_safe(cx, &run, ran);
        }
    }
}
