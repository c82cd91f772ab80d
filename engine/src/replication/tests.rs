//! Both sides of replication alone with what they hear: each question, answer and silence by hand.

use super::follower::{Follower, News, Terms};
use super::leader;
use super::*;
use crate::io::*;
use crate::message::*;
use crate::types::*;
use bytes::Bytes;
use std::hash::{DefaultHasher, Hash, Hasher};

const TIMING: Timing = Timing { lease: Duration::from_millis(1000), drift_permille: 200 };
const EPOCH: Epoch = Epoch(3);
/// The leader's process.
const BOOT: Boot = Boot(7);
const STORE: StoreId = StoreId(5);

fn peer(uuid: u128) -> Peer {
    let endpoint = Endpoint::parse(&format!("tcp://server{uuid}:8529")).unwrap();
    Peer { id: NodeId { kind: NodeKind::Server, uuid }, endpoint }
}

fn at(tick: u64) -> Position {
    Position { epoch: EPOCH, tick: Tick(tick) }
}

fn entry(tick: u64) -> Entry {
    Entry::new(EPOCH, Tick(tick), Bytes::from_static(b"0123456789"))
}

fn fingerprint(part: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    part.hash(&mut hasher);
    hasher.finish()
}

/// One side, its clock, what it started, and what it said.
struct Side<T> {
    part: T,
    now_ms: u64,
    ops: u64,
    started: Vec<(OpId, Op)>,
    said: Vec<Event>,
}

impl<T: Hash> Side<T> {
    /// What it sent meanwhile.
    fn act(&mut self, act: impl FnOnce(&mut T, &mut Cx)) -> Vec<Message> {
        let mut out = Vec::new();
        let (me, mut rng) = (peer(1), Rng::new(1));
        let now = Now { time: Time(self.now_ms * 1_000_000), wall_ms: self.now_ms };
        act(&mut self.part, &mut Cx { now, me: &me, rng: &mut rng, ops: &mut self.ops, out: &mut out });
        let mut sent = Vec::new();
        for output in out {
            match output {
                Output::Start { op, what } => self.started.push((op, what)),
                Output::Send { envelope, .. } => sent.push(envelope.message),
                Output::Note(event) => self.said.push(event),
                _ => {}
            }
        }
        sent
    }

    /// As `act`, where nothing at all may come of it.
    fn ignores(&mut self, why: &str, act: impl FnOnce(&mut T, &mut Cx)) {
        let (before, started) = (fingerprint(&self.part), self.started.len());
        let sent = self.act(act);
        assert!(sent.is_empty() && self.started.len() == started, "{why}: {sent:?} {:?}", self.started);
        assert_eq!(fingerprint(&self.part), before, "{why}: it is remembered");
    }
}

// ---- the leader -----------------------------------------------------------------------------------------------------

type Leading = Side<leader::Leader>;

fn follow(from: u128, boot: u64, last: Position) -> Follow {
    let (store, history) = (StoreId(from), Vec::new());
    Follow { epoch: EPOCH, boot: Boot(boot), store, last, last_checksum: 0, history, complete: true, copy: None }
}

fn ack(from: u128, boot: u64, tick: u64) -> Acknowledge {
    Acknowledge {
        epoch: EPOCH,
        boot: Boot(boot),
        store: StoreId(from),
        durable: at(tick),
        in_copy: false,
        seq: 0,
        asks: false,
    }
}

/// Each append as (prev, entries).
fn appends(sent: &[Message]) -> Vec<(u64, usize)> {
    sent.iter()
        .filter_map(|message| match message {
            Message::Append(append) => Some((append.prev.tick.0, append.entries.len())),
            _ => None,
        })
        .collect()
}

impl Leading {
    /// Its epoch began with entry 10.
    fn new(chunk_bytes: usize) -> Leading {
        let part = leader::Leader::new(EPOCH, BOOT, at(10), &TIMING, chunk_bytes);
        Side { part, now_ms: 0, ops: 0, started: Vec::new(), said: Vec::new() }
    }

    fn follow(&mut self, from: u128, follow: Follow) -> Vec<Message> {
        self.act(|leader, cx| leader.follow(cx, &peer(from), follow))
    }

    fn acknowledge(&mut self, from: u128, ack: Acknowledge) -> Vec<Message> {
        self.act(|leader, cx| leader.acknowledge(cx, &peer(from), &ack))
    }

    fn commit(&mut self, ticks: std::ops::RangeInclusive<u64>) -> Vec<Message> {
        self.act(|leader, cx| ticks.for_each(|tick| leader.committed(cx, entry(tick))))
    }

    fn end(&mut self, result: OpResult) -> Vec<Message> {
        let (op, _) = self.started.remove(0);
        self.act(|leader, cx| assert!(leader.done(cx, op, result)))
    }

    fn compared(&mut self, verdict: Comparison) -> Vec<Message> {
        let Op::Compare(follow) = self.started[0].1.clone() else { panic!("{:?}", self.started) };
        self.end(OpResult::Compared { follow, verdict })
    }

    fn timer(&mut self, now_ms: u64) -> Vec<Message> {
        self.now_ms = now_ms;
        self.act(|leader, cx| leader.timer(cx))
    }

    fn due_ms(&self) -> u64 {
        self.part.deadline().expect("somebody follows").at.0 / 1_000_000
    }

    /// Server 2 (boot 1) has all there is.
    fn with_follower(chunk_bytes: usize) -> Leading {
        let mut leading = Leading::new(chunk_bytes);
        leading.follow(2, follow(2, 1, at(10)));
        assert_eq!(appends(&leading.compared(Comparison::Prefix)), [(10, 0)], "the match is established");
        leading
    }

    /// Server 2 (boot 1) is being offered a copy that starts at entry 10.
    fn with_copy() -> (Leading, SnapshotOffer) {
        let mut leading = Leading::new(1000);
        leading.follow(2, follow(2, 1, Position::ZERO));
        leading.compared(Comparison::NeedsSnapshot);
        let Op::SnapshotBegin { id } = leading.started[0].1 else { panic!("{:?}", leading.started) };
        let offer = SnapshotOffer { id, start: at(10), start_checksum: 0, history: Vec::new(), catalog: Bytes::new() };
        let sent = leading.end(OpResult::SnapshotBegun(offer.clone()));
        assert_eq!(sent, [Message::SnapshotOffer(offer.clone())]);
        (leading, offer)
    }
}

#[test]
fn a_window_of_messages_goes_out_and_the_rest_gathers() {
    let mut leading = Leading::with_follower(1000);
    assert_eq!(appends(&leading.commit(11..=16)), [(10, 1), (11, 1), (12, 1), (13, 1)]);
    assert_eq!(appends(&leading.acknowledge(2, ack(2, 1, 10))), [], "nothing new");
    assert_eq!(appends(&leading.acknowledge(2, ack(2, 1, 11))), [(14, 2)]);
    // The follower has durably what it never acknowledged one by one.
    assert_eq!(appends(&leading.acknowledge(2, ack(2, 1, 16))), []);
    assert_eq!(appends(&leading.commit(17..=17)), [(16, 1)]);
    assert_eq!(leading.part.durable(), [(peer(2), at(16))]);
    assert_eq!((leading.part.durable_at(peer(2).id), leading.part.durable_at(peer(3).id)), (Some(at(16)), None));
}

#[test]
fn a_message_is_as_large_as_a_chunk_or_one_entry() {
    for (chunk_bytes, expected) in
        [(1, vec![(10, 1), (11, 1), (12, 1), (13, 1)]), (20, vec![(10, 2), (12, 2), (14, 1)])]
    {
        let mut leading = Leading::new(chunk_bytes);
        leading.commit(11..=15);
        leading.follow(2, follow(2, 1, at(10)));
        assert_eq!(appends(&leading.compared(Comparison::Prefix)), expected, "{chunk_bytes}");
    }
}

/// The newest entries are sent from memory; what is older is read from the log.
#[test]
fn only_what_is_not_in_memory_is_read() {
    let large = |tick| Entry::new(EPOCH, Tick(tick), Bytes::from(vec![0; 5 << 20]));
    let started = |after| {
        let mut leading = Leading::new(1 << 30);
        leading.act(|leader, cx| (11..=15).for_each(|tick| leader.committed(cx, large(tick))));
        leading.follow(2, follow(2, 1, at(after)));
        let sent = leading.compared(Comparison::Prefix);
        (appends(&sent), leading.started.len())
    };
    assert_eq!(started(12), (vec![(12, 3)], 0), "three of 5 MiB are kept");
    assert_eq!(started(11), (vec![], 1));
    // What is too large by itself is kept all the same.
    let mut leading = Leading::with_follower(1 << 30);
    let huge = Entry::new(EPOCH, Tick(11), Bytes::from(vec![0; 17 << 20]));
    assert_eq!(appends(&leading.act(|leader, cx| leader.committed(cx, huge))), [(10, 1)]);
    assert!(leading.started.is_empty());
}

#[test]
fn what_is_read_from_the_log_is_sent_if_it_still_fits() {
    let mut leading = Leading::new(1000);
    leading.follow(2, follow(2, 1, at(4)));
    assert_eq!(leading.compared(Comparison::Prefix), []);
    assert!(matches!(leading.started[..], [(_, Op::ReadLog { after, .. })] if after == at(4)));
    let read = || OpResult::Log { after: at(4), entries: (5..=8).map(entry).collect() };
    assert_eq!(appends(&leading.end(read())), [(4, 4)]);
    assert!(matches!(leading.started[..], [(_, Op::ReadLog { after, .. })] if after == at(8)), "and on");
    // A result for where we no longer are is not sent; the right one is asked for.
    assert_eq!(appends(&leading.end(read())), []);
    assert!(matches!(leading.started[..], [(_, Op::ReadLog { after, .. })] if after == at(8)));
    assert_eq!(appends(&leading.end(OpResult::LogPruned { after: at(8) })), []);
    assert!(matches!(leading.started[..], [(_, Op::SnapshotBegin { .. })]), "what it needs is gone");
}

/// R8: an answer about a pruned log makes a new copy only where that log is what the follower waits for.
#[test]
fn a_pruned_log_that_nobody_waits_for_changes_nothing() {
    let mut leading = Leading::new(1000);
    leading.follow(2, follow(2, 1, at(4)));
    leading.compared(Comparison::Prefix);
    let (read, _) = leading.started.remove(0);
    let pruned = |after| OpResult::LogPruned { after };
    let mut elsewhere = leading.part.clone();
    let mut out = Vec::new();
    let (me, mut rng, mut ops) = (peer(1), Rng::new(1), 50);
    let mut cx = Cx { now: Now::default(), me: &me, rng: &mut rng, ops: &mut ops, out: &mut out };
    elsewhere.done(&mut cx, read, pruned(at(3)));
    assert!(out.is_empty(), "it was sent something else meanwhile: {out:?}");
    let (mut leading, offer) = Leading::with_copy();
    leading.act(|leader, cx| leader.snapshot_request(cx, &peer(2), request(offer.id)));
    leading.end(pruned(at(9)));
    assert!(leading.started.is_empty(), "not where its copy starts");
    let (mut leading, offer) = Leading::with_copy();
    leading.act(|leader, cx| leader.snapshot_request(cx, &peer(2), request(offer.id)));
    leading.end(pruned(at(10)));
    let Op::SnapshotBegin { id } = leading.started[0].1 else { panic!("{:?}", leading.started) };
    assert_ne!(id, offer.id, "each copy has its own number");
}

fn request(id: SnapshotId) -> SnapshotRequest {
    SnapshotRequest { id, cursor: Bytes::new() }
}

#[test]
fn rows_of_a_copy_are_read_once_and_only_for_the_copy_that_was_offered() {
    let (mut leading, offer) = Leading::with_copy();
    let stranger = SnapshotId { number: offer.id.number + 1, ..offer.id };
    let sent = leading.act(|leader, cx| leader.snapshot_request(cx, &peer(2), request(stranger)));
    assert_eq!(sent, [Message::NotServing { epoch: EPOCH }]);
    assert_eq!(leading.follow(2, follow(2, 1, Position::ZERO)), [Message::SnapshotOffer(offer.clone())], "it was lost");
    leading.act(|leader, cx| leader.snapshot_request(cx, &peer(2), request(offer.id)));
    leading.act(|leader, cx| leader.snapshot_request(cx, &peer(2), request(offer.id)));
    assert_eq!(leading.started.len(), 1, "one read at a time");
    let (id, exact_at) = (offer.id, at(10));
    let piece = SnapshotPiece { id, cursor: Bytes::new(), rows: Bytes::new(), next: None, exact_at };
    assert_eq!(leading.end(OpResult::SnapshotRows(piece.clone())), [Message::SnapshotPiece(piece)]);
    // Another process of that server begins anew.
    leading.follow(2, follow(2, 2, Position::ZERO));
    assert!(matches!(leading.started[..], [(_, Op::Compare(_))]));
}

#[test]
fn an_offer_is_made_only_while_a_copy_is_begun() {
    let mut leading = Leading::new(1000);
    leading.follow(2, follow(2, 1, Position::ZERO));
    leading.compared(Comparison::NeedsSnapshot);
    let (begin, op) = leading.started.remove(0);
    let Op::SnapshotBegin { id } = op else { panic!("{op:?}") };
    leading.follow(2, follow(2, 2, Position::ZERO));
    let offer = SnapshotOffer { id, start: at(10), start_checksum: 0, history: Vec::new(), catalog: Bytes::new() };
    let sent = leading.act(|leader, cx| assert!(leader.done(cx, begin, OpResult::SnapshotBegun(offer))));
    assert_eq!(sent, [], "the process that it was for is gone");
}

#[test]
fn a_lost_message_is_sent_again_and_an_idle_leader_says_that_it_is_there() {
    let pace = Pace::of(&TIMING);
    assert_eq!((pace.retry.as_millis(), pace.idle.as_millis(), pace.forget.as_secs()), (100, 125, 10));
    let mut leading = Leading::with_follower(1000);
    assert_eq!(leading.due_ms(), 125);
    assert_eq!(leading.timer(124), []);
    assert_eq!(appends(&leading.timer(125)), [(10, 0)]);
    leading.now_ms = 200;
    leading.commit(11..=12);
    assert_eq!(leading.due_ms(), 300);
    assert_eq!(leading.timer(299), []);
    assert_eq!(appends(&leading.timer(300)), [(10, 2)], "back to what is certain, in one message");
    leading.acknowledge(2, ack(2, 1, 12));
    leading.timer(9_000);
    assert_eq!(leading.part.durable().len(), 1);
    leading.timer(10_299);
    assert_eq!(leading.part.durable().len(), 1);
    leading.timer(10_300);
    assert_eq!((leading.part.durable(), leading.part.deadline()), (vec![], None), "not heard of for ten leases");
}

/// What counts as durable at a follower is said by the process and store that was compared, in this epoch.
#[test]
fn acknowledgements_of_others_do_not_count() {
    let mut leading = Leading::with_follower(1000);
    leading.commit(11..=12);
    for (why, ack) in [
        ("another epoch", Acknowledge { epoch: Epoch(2), ..ack(2, 1, 11) }),
        ("another process", ack(2, 2, 11)),
        ("another store", Acknowledge { store: StoreId(9), ..ack(2, 1, 11) }),
        ("more than there is", ack(2, 1, 13)),
    ] {
        leading.ignores(why, |leader, cx| leader.acknowledge(cx, &peer(2), &ack));
    }
    leading.ignores("not a follower", |leader, cx| leader.acknowledge(cx, &peer(3), &ack(3, 1, 11)));
    leading.follow(2, follow(2, 1, at(10)));
    leading.ignores("its log is being compared", |leader, cx| leader.acknowledge(cx, &peer(2), &ack(2, 1, 11)));
}

#[test]
fn one_log_of_a_process_is_compared_at_a_time() {
    let mut leading = Leading::new(1000);
    leading.follow(2, follow(2, 2, at(10)));
    assert_eq!(leading.started.len(), 1);
    leading.ignores("it asks again", |leader, cx| leader.follow(cx, &peer(2), follow(2, 2, at(10))));
    leading.ignores("a process that is gone", |leader, cx| leader.follow(cx, &peer(2), follow(2, 1, at(10))));
    leading.follow(2, follow(2, 3, at(9)));
    assert_eq!(leading.started.len(), 2, "a later process");
    assert_eq!(leading.compared(Comparison::Prefix), [], "of the process that is gone");
    assert_eq!(leading.compared(Comparison::Prefix).len(), 0);
    assert!(matches!(leading.started[..], [(_, Op::ReadLog { after, .. })] if after == at(9)));
    let other = Follow { epoch: Epoch(2), ..follow(3, 1, at(9)) };
    assert_eq!(leading.follow(3, other), [Message::NotServing { epoch: Epoch(2) }]);
}

/// What is on a disk stays there while its follower starts again; another disk has nothing yet.
#[test]
fn what_a_follower_has_belongs_to_its_store() {
    let mut leading = Leading::with_follower(1 << 20);
    let known = |leading: &Leading, store| {
        leading.part.durable_of(&Replica { server: peer(2).id, store: StoreId(store) }).map(|durable| durable.tick.0)
    };
    leading.acknowledge(2, ack(2, 1, 10));
    assert_eq!(known(&leading, 2), Some(10));
    leading.follow(2, follow(2, 2, at(10)));
    assert_eq!(known(&leading, 2), Some(10));
    leading.compared(Comparison::Prefix);
    leading.follow(2, Follow { store: StoreId(9), ..follow(2, 3, at(10)) });
    assert_eq!((known(&leading, 2), known(&leading, 9)), (None, Some(0)));
}

#[test]
fn so_many_followers_are_served_and_no_more() {
    let mut leading = Leading::new(1000);
    (2..100).for_each(|id| drop(leading.follow(id, follow(id, 1, at(10)))));
    assert_eq!((leading.part.durable().len(), leading.started.len()), (64, 64));
    leading.follow(2, follow(2, 2, at(10)));
    assert_eq!(leading.started.len(), 65, "one that is known may come again");
}

/// The log is kept from where a follower goes on.
#[test]
fn the_log_is_kept_for_whoever_still_needs_it() {
    assert_eq!(Leading::new(1000).part.needed_from(), Tick(u64::MAX), "nobody follows");
    let mut leading = Leading::with_follower(1000);
    leading.commit(11..=15);
    leading.acknowledge(2, ack(2, 1, 13));
    assert_eq!(leading.part.needed_from(), Tick(14));
    leading.follow(3, follow(3, 1, Position::ZERO));
    leading.compared(Comparison::NeedsSnapshot);
    assert_eq!(leading.part.needed_from(), Tick(0), "where its copy starts is not known yet");
    assert_eq!(Leading::with_copy().0.part.needed_from(), Tick(11));
}

// ---- the follower ---------------------------------------------------------------------------------------------------

type Following = Side<Follower>;

fn copy(number: u64) -> SnapshotId {
    SnapshotId { epoch: EPOCH, boot: BOOT, number }
}

fn offer(number: u64) -> SnapshotOffer {
    let (start, history) = (at(20), Vec::new());
    SnapshotOffer { id: copy(number), start, start_checksum: 0, history, catalog: Bytes::new() }
}

fn piece(cursor: &'static str, next: Option<&'static str>) -> SnapshotPiece {
    let (cursor, next) = (Bytes::from(cursor), next.map(Bytes::from));
    SnapshotPiece { id: copy(1), cursor, rows: Bytes::new(), next, exact_at: at(21) }
}

fn append(prev: u64, ticks: std::ops::RangeInclusive<u64>) -> Append {
    let entries: Vec<Entry> = ticks.map(entry).collect();
    Append { epoch: EPOCH, boot: BOOT, prev: at(prev), entries, leader_last: at(30), answers: None }
}

/// Questions have numbers by chance.
fn unnumbered(mut sent: Vec<Message>) -> Vec<Message> {
    for message in &mut sent {
        if let Message::Acknowledge(ack) = message {
            ack.seq = 0;
        }
    }
    sent
}

fn heartbeat(prev: u64) -> Append {
    Append { entries: Vec::new(), ..append(prev, prev..=prev) }
}

impl Following {
    /// Follows server 2; its own log ends at `last`.
    fn asking(last: Position, complete: bool) -> Following {
        let leader = Leader { peer: peer(2), boot: BOOT };
        let terms = Terms { leader, epoch: EPOCH, boot: Boot(4), store: STORE, timing: &TIMING, complete, copy: None };
        let mut out = Vec::new();
        let (me, mut rng, mut ops) = (peer(1), Rng::new(1), 0);
        let mut cx = Cx { now: Now::default(), me: &me, rng: &mut rng, ops: &mut ops, out: &mut out };
        let part = Follower::new(&mut cx, terms);
        let Some(Output::Start { op, what }) = out.pop() else { panic!("it looks where its log ends") };
        let mut following = Side { part, now_ms: 0, ops, started: vec![(op, what)], said: Vec::new() };
        let sent = following.located(last);
        assert!(matches!(&sent[..], [Message::Follow(follow)] if follow.last == last && follow.complete == complete));
        following
    }

    fn tailing() -> Following {
        let mut following = Following::asking(at(10), true);
        following.append(heartbeat(10));
        assert!(following.part.tails());
        following
    }

    /// Asks for the rows of copy 1, the first time.
    fn copying() -> Following {
        let mut following = Following::asking(Position::ZERO, true);
        following.act(|follower, cx| follower.offer(cx, &peer(2), offer(1)));
        let (_, sent) = following.end(OpResult::CopyBegun);
        assert_eq!(sent, [Message::SnapshotRequest(request(copy(1)))]);
        following
    }

    fn append(&mut self, append: Append) -> Vec<Message> {
        unnumbered(self.act(|follower, cx| assert_eq!(follower.append(cx, &peer(2), append), News::None)))
    }

    /// The number of the question that it asks, and what becomes of it.
    fn asks(&mut self, now_ms: u64) -> u64 {
        self.now_ms = now_ms;
        let sent = self.act(|follower, cx| follower.ask(cx));
        let [Message::Acknowledge(Acknowledge { seq, asks: true, .. })] = sent[..] else { panic!("{sent:?}") };
        seq
    }

    fn piece(&mut self, piece: SnapshotPiece) -> Vec<Message> {
        self.act(|follower, cx| follower.piece(cx, &peer(2), piece))
    }

    fn end(&mut self, result: OpResult) -> (News, Vec<Message>) {
        let (op, _) = self.started.remove(0);
        let mut news = News::None;
        let sent = self.act(|follower, cx| news = follower.done(cx, op, result).expect("it started this"));
        (news, unnumbered(sent))
    }

    fn located(&mut self, last: Position) -> Vec<Message> {
        let Op::Locate { target } = self.started[0].1 else { panic!("{:?}", self.started) };
        let (last_checksum, history, log_first) = (0, Vec::new(), Tick(1));
        self.end(OpResult::Located(Located { target, last, last_checksum, history, log_first })).1
    }

    fn timer(&mut self, now_ms: u64) -> Vec<Message> {
        self.now_ms = now_ms;
        self.act(|follower, cx| follower.timer(cx))
    }

    /// R7, R8: what another server, another process or another epoch says does not count.
    fn ignores_others(&mut self, what: &str, act: impl Fn(&mut Follower, &mut Cx, Peer, Epoch, Boot)) {
        for (who, from, epoch, boot) in [
            ("another server's", peer(3), EPOCH, BOOT),
            ("another epoch's", peer(2), Epoch(2), BOOT),
            ("another process's", peer(2), EPOCH, Boot(8)),
        ] {
            self.ignores(&format!("{who} {what}"), |follower, cx| act(follower, cx, from, epoch, boot));
        }
    }
}

#[test]
fn only_the_leader_that_is_followed_counts() {
    let appends = |follower: &mut Follower, cx: &mut Cx, from: Peer, epoch, boot| {
        assert_eq!(follower.append(cx, &from, Append { epoch, boot, ..append(10, 11..=12) }), News::None);
    };
    Following::asking(at(10), true).ignores_others("append", appends);
    Following::tailing().ignores_others("append", appends);
    Following::asking(at(10), true).ignores_others("divergence", |follower, cx, from, epoch, boot| {
        follower.diverged(cx, &from, &Diverged { epoch, boot, last: at(10), common: at(8) });
    });
    Following::asking(at(10), true).ignores_others("offer", |follower, cx, from, epoch, boot| {
        follower.offer(cx, &from, SnapshotOffer { id: SnapshotId { epoch, boot, number: 1 }, ..offer(1) });
    });
    Following::copying().ignores_others("rows", |follower, cx, from, epoch, boot| {
        follower.piece(cx, &from, SnapshotPiece { id: SnapshotId { epoch, boot, number: 1 }, ..piece("", None) });
    });
    for (from, epoch) in [(3, EPOCH), (2, Epoch(2))] {
        Following::copying().ignores("not serving", |follower, cx| {
            assert_eq!(follower.not_serving(cx, &peer(from), epoch), News::None);
        });
    }
}

/// Only the answer to the question just asked is heeded, and nothing while the store is busy.
#[test]
fn answers_to_other_questions_do_not_count() {
    let diverged = |last| Diverged { epoch: EPOCH, boot: BOOT, last: at(last), common: at(8) };
    let mut following = Following::asking(at(10), true);
    following.ignores("an older question's", |follower, cx| follower.diverged(cx, &peer(2), &diverged(9)));
    following.ignores("an append elsewhere", |follower, cx| _ = follower.append(cx, &peer(2), append(9, 10..=12)));
    following.act(|follower, cx| follower.diverged(cx, &peer(2), &diverged(10)));
    assert!(matches!(following.started[..], [(_, Op::Undo { common, .. })] if common == at(8)));
    following.ignores("busy", |follower, cx| follower.diverged(cx, &peer(2), &diverged(10)));
    let mut following = Following::tailing();
    following.ignores("it tails", |follower, cx| follower.offer(cx, &peer(2), offer(1)));
    following.ignores("it tails", |follower, cx| follower.diverged(cx, &peer(2), &diverged(10)));
    let mut following = Following::copying();
    following.ignores("of another place", |follower, cx| follower.piece(cx, &peer(2), piece("b", None)));
    let other = SnapshotPiece { id: copy(2), ..piece("", None) };
    following.ignores("of another copy", |follower, cx| follower.piece(cx, &peer(2), other));
    following.piece(piece("", Some("b")));
    following.ignores("while it writes", |follower, cx| follower.piece(cx, &peer(2), piece("", Some("b"))));
}

#[test]
fn entries_are_taken_where_the_log_ends() {
    let mut following = Following::tailing();
    assert_eq!(following.part.leader_last(), at(30));
    following.ignores("a gap", |follower, cx| _ = follower.append(cx, &peer(2), append(11, 12..=13)));
    following.append(Append { entries: vec![entry(12)], ..append(10, 11..=11) });
    assert!(following.started.is_empty(), "a gap within: not what a leader sends");
    following.append(append(10, 11..=12));
    following.append(append(11, 12..=13));
    let given: Vec<usize> = following
        .started
        .iter()
        .map(|(_, op)| match op {
            Op::Append { entries, .. } => entries.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(given, [2, 1], "what overlaps is known already");
    let acknowledged = |tick| {
        [Message::Acknowledge(Acknowledge {
            epoch: EPOCH,
            boot: Boot(4),
            store: STORE,
            durable: at(tick),
            in_copy: false,
            seq: 0,
            asks: false,
        })]
    };
    assert_eq!(
        following.end(OpResult::Appended { last: at(12), builds: false }),
        (News::Durable(at(12)), acknowledged(12).to_vec())
    );
    assert_eq!(following.append(heartbeat(13)), [], "something is still being written");
    assert_eq!(following.end(OpResult::Appended { last: at(13), builds: false }).1, acknowledged(13));
    assert_eq!(following.append(heartbeat(13)), acknowledged(13));
}

#[test]
fn data_are_as_fresh_as_the_question_whose_answer_they_are() {
    let mut following = Following::tailing();
    let fresh = |following: &Following| following.part.fresh().map(|now| now.time.0 / 1_000_000);
    let heartbeat = |prev, leader_last, answers| Append { leader_last: at(leader_last), answers, ..heartbeat(prev) };
    let first = following.asks(100);
    following.now_ms = 150;
    following.append(heartbeat(10, 10, None));
    assert_eq!(fresh(&following), None, "an answer to nothing, or of a leader without a lease");
    following.append(heartbeat(10, 10, Some(first + 1000)));
    assert_eq!(fresh(&following), None, "an answer to somebody else's question");
    following.append(heartbeat(10, 10, Some(first)));
    assert_eq!(fresh(&following), Some(100), "since it was asked, not since the answer came");
    following.append(heartbeat(10, 10, Some(first)));
    assert_eq!(fresh(&following), Some(100), "once is enough");

    let second = following.asks(200);
    following.now_ms = 220;
    following.append(Append { answers: Some(second), leader_last: at(13), ..append(10, 11..=12) });
    following.end(OpResult::Appended { last: at(12), builds: false });
    assert_eq!(fresh(&following), Some(100), "the leader had more");
    following.append(Append { leader_last: at(13), ..append(12, 13..=13) });
    assert_eq!(fresh(&following), Some(100), "not durable yet");
    following.end(OpResult::Appended { last: at(13), builds: false });
    assert_eq!(fresh(&following), Some(200));
}

#[test]
fn only_a_leader_with_a_lease_answers_how_far_it_is() {
    let mut leading = Leading::with_follower(1 << 20);
    let answers = |sent: &[Message]| match sent {
        [Message::Append(append)] => append.answers,
        other => panic!("{other:?}"),
    };
    let question = |seq| Acknowledge { seq, asks: true, ..ack(2, 1, 10) };
    assert_eq!(answers(&leading.acknowledge(2, question(7))), None, "no lease that it knows of");
    let (sent, slack) = (Now::default(), TIMING.slack());
    leading.act(|leader, _| leader.renewed(leader::Tenure { end: Time(50_000_000), sent, slack }));
    leading.now_ms = 40;
    assert_eq!(answers(&leading.acknowledge(2, question(8))), Some(8));
    assert_eq!(answers(&leading.commit(11..=11)), Some(8), "with whatever it ships");
    leading.now_ms = 50;
    assert_eq!(answers(&leading.acknowledge(2, Acknowledge { durable: at(11), ..question(9) })), None, "it is over");
}

/// One entry of epoch 1 was undone.
fn undone(last: u64) -> OpResult {
    let (common, end) = (at(last), at(last + 1));
    let summary = RollbackSummary { epoch: Epoch(2), common, end, operations: 1, whole: false };
    OpResult::Undone { last: common, undone: 1, summary }
}

#[test]
fn the_tail_is_undone_piece_by_piece() {
    let mut following = Following::asking(at(10), true);
    let diverged = Diverged { epoch: EPOCH, boot: BOOT, last: at(10), common: at(8) };
    following.act(|follower, cx| follower.diverged(cx, &peer(2), &diverged));
    assert_eq!(following.end(undone(9)).0, News::Durable(at(9)));
    assert!(matches!(following.started[..], [(_, Op::Undo { .. })]), "not there yet");
    following.end(undone(8));
    assert!(matches!(&following.located(at(8))[..], [Message::Follow(follow)] if follow.complete));
}

#[test]
fn a_tail_that_can_not_be_undone_is_replaced_by_a_copy() {
    let mut following = Following::asking(at(10), true);
    let diverged = Diverged { epoch: EPOCH, boot: BOOT, last: at(10), common: at(8) };
    following.act(|follower, cx| follower.diverged(cx, &peer(2), &diverged));
    following.end(OpResult::CannotUndo);
    assert!(matches!(&following.located(at(10))[..], [Message::Follow(follow)] if !follow.complete));
}

/// R8: copied beside the data, from one process of the leader; exact once the log has come to where the rows end.
#[test]
fn a_copy_from_its_offer_to_its_end() {
    let mut following = Following::asking(Position::ZERO, true);
    assert!(!following.part.copies() && !following.part.tails());
    following.act(|follower, cx| follower.offer(cx, &peer(2), offer(1)));
    following.ignores("an offer twice", |follower, cx| follower.offer(cx, &peer(2), offer(1)));
    assert!(following.part.copies());
    following.end(OpResult::CopyBegun);
    assert_eq!(following.piece(piece("", Some("b"))), []);
    let next = Message::SnapshotRequest(SnapshotRequest { id: copy(1), cursor: Bytes::from("b") });
    assert_eq!(following.end(OpResult::Copied { next: Some(Bytes::from("b")) }).1, [next]);
    following.piece(piece("b", None));
    following.end(OpResult::Copied { next: None });
    assert!(matches!(following.started[..], [(_, Op::Locate { target: Target::Copy(id) })] if id == copy(1)));
    let sent = following.located(at(20));
    assert!(matches!(&sent[..], [Message::Follow(follow)] if follow.copy == Some(copy(1)) && follow.complete));
    following.ignores("the copy's own offer", |follower, cx| follower.offer(cx, &peer(2), offer(1)));
    following.append(append(20, 21..=21));
    assert!(following.part.copies() && !following.part.tails(), "the data in use are still the old ones");
    following.append(append(21, 22..=22));
    assert_eq!(following.end(OpResult::Appended { last: at(21), builds: false }).0, News::None);
    assert_eq!(following.started.len(), 1, "the next entries are still being written");
    following.end(OpResult::Appended { last: at(22), builds: false });
    assert!(matches!(following.started[..], [(_, Op::CopyFinish { id })] if id == copy(1)));
    let (last, log_first) = (at(22), Tick(21));
    assert_eq!(following.end(OpResult::CopyFinished { last, log_first, rollback: None }).0, News::Durable(at(22)));
    let sent = following.located(at(22));
    assert!(matches!(&sent[..], [Message::Follow(follow)] if follow.copy.is_none() && follow.complete));
    assert!(!following.part.copies());
}

/// Data without an entry of their own wait for the copy that was begun, even if that one is given up.
#[test]
fn a_copy_that_was_begun_leaves_an_empty_store_incomplete() {
    for (last, complete) in [(Position::ZERO, false), (at(10), true)] {
        let mut following = Following::asking(last, true);
        following.act(|follower, cx| follower.offer(cx, &peer(2), offer(1)));
        following.end(OpResult::CopyBegun);
        following.act(|follower, cx| assert_eq!(follower.not_serving(cx, &peer(2), EPOCH), News::AskAgency));
        assert!(matches!(following.started[..], [(_, Op::CopyDrop)]));
        following.end(OpResult::CopyDropped);
        let sent = following.located(last);
        assert!(matches!(&sent[..], [Message::Follow(follow)] if follow.complete == complete), "{sent:?}");
    }
    let mut following = Following::asking(Position::ZERO, false);
    following.act(|follower, cx| follower.offer(cx, &peer(2), offer(1)));
    following.end(OpResult::CopyBegun);
    assert_eq!(following.started.len(), 0);
}

#[test]
fn a_copy_is_given_up_when_its_source_no_longer_knows_it() {
    let finished = || {
        let mut following = Following::copying();
        following.piece(piece("", None));
        following.end(OpResult::Copied { next: None });
        following.located(at(20));
        following
    };
    let mut following = finished();
    following.act(|follower, cx| follower.offer(cx, &peer(2), offer(2)));
    assert!(matches!(following.started[..], [(_, Op::CopyDrop)]), "the log no longer reaches back to this one's end");
    let mut following = finished();
    let diverged = Diverged { epoch: EPOCH, boot: BOOT, last: at(20), common: at(8) };
    following.act(|follower, cx| follower.diverged(cx, &peer(2), &diverged));
    assert!(matches!(following.started[..], [(_, Op::CopyDrop)]), "its source is not what it was");
    let mut following = Following::copying();
    following.piece(piece("", Some("b")));
    following.act(|follower, cx| assert_eq!(follower.not_serving(cx, &peer(2), EPOCH), News::AskAgency));
    assert_eq!(following.started.len(), 1, "not while rows are being written");
    let mut following = Following::tailing();
    following.act(|follower, cx| assert_eq!(follower.not_serving(cx, &peer(2), EPOCH), News::AskAgency));
    assert!(following.started.is_empty(), "there is no copy");
    // Nobody answers.
    let mut following = Following::copying();
    let asked = (1..=31).filter(|n| !following.timer(n * 100).is_empty()).count();
    assert_eq!(asked, 30);
    assert!(matches!(following.started[..], [(_, Op::CopyDrop)]));
}

#[test]
fn a_store_that_fails_is_left_alone_for_a_while() {
    for (result, news) in [
        (OpResult::Failed(crate::db::store::StoreError::Full), News::None),
        (OpResult::Stale { seen: Epoch(4) }, News::AskAgency),
    ] {
        let mut following = Following::tailing();
        following.append(append(10, 11..=12));
        following.now_ms = 1000;
        assert_eq!(following.end(result), (news, vec![]));
        assert!(!following.part.tails());
        assert_eq!(following.part.deadline().map(|wake| wake.at), Some(Time(1_100_000_000)));
        following.timer(1099);
        assert!(following.started.is_empty(), "not before the time for a question is up");
        following.timer(1100);
        assert!(matches!(following.started[..], [(_, Op::Locate { .. })]));
    }
    let mut following = Following::tailing();
    let warnings = |following: &Following| following.said.iter().filter(|e| e.severity() >= Severity::Warn).count();
    following.append(append(10, 11..=12));
    following.append(append(12, 13..=14));
    following.end(OpResult::Failed(crate::db::store::StoreError::Full));
    assert_eq!(warnings(&following), 1);
    following.end(OpResult::Failed(crate::db::store::StoreError::Full));
    assert_eq!(warnings(&following), 1, "said already");
}
