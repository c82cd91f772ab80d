//! One agent's Raft alone with what two others tell it: each promise (I1 to I4) by hand. What whole agencies do
//! together `agency/tests.rs` and the simulator show.

use super::*;

const ME: NodeId = voter(1);
const LEADER: NodeId = voter(2);
const OTHER: NodeId = voter(3);
const TIMEOUT_MS: u64 = 100;

const fn voter(uuid: u128) -> NodeId {
    NodeId { kind: NodeKind::Agent, uuid }
}

fn disk(agent: NodeId) -> StoreId {
    StoreId(agent.uuid + 100)
}

fn seats(agents: &[NodeId]) -> Vec<Seat> {
    let seat = |id: &NodeId| {
        let endpoint = Endpoint::parse(&format!("tcp://a{}:1", id.uuid)).unwrap();
        Seat { peer: crate::message::Peer { id: *id, endpoint }, disk: disk(*id) }
    };
    agents.iter().map(seat).collect()
}

fn ms(t: u64) -> Time {
    Time(t * 1_000_000)
}

fn entry(term: u64) -> LogEntry {
    LogEntry { term: Term(term), data: Bytes::from_static(b"x") }
}

fn settings() -> Settings {
    Settings {
        me: ME,
        disk: disk(ME),
        founders: seats(&[ME, LEADER, OTHER]),
        election_timeout_min: Duration::from_millis(TIMEOUT_MS),
        election_timeout_max: Duration::from_millis(2 * TIMEOUT_MS),
        compaction_step: 10,
        compaction_keep: 2,
    }
}

/// An agent with this hard term, and a log of entries of these terms after the snapshot at `snapshot`.
fn follower_after(snapshot: (u64, u64), term: u64, terms: &[u64]) -> Raft {
    let (index, snapshot_term) = snapshot;
    let snapshot =
        Snapshot { index, term: Term(snapshot_term), seats: settings().founders, state: Bytes::from_static(b"old") };
    let hard = HardState { term: Term(term), vote: None };
    let entries = (index + 1..).zip(terms).map(|(index, term)| (index, entry(*term))).collect();
    let saved = SavedRaft { hard, snapshot, entries, ..SavedRaft::default() };
    Raft::boot(settings(), saved, Rng::new(1), ms(0))
}

fn follower(term: u64, terms: &[u64]) -> Raft {
    follower_after((0, 0), term, terms)
}

fn sent(raft: &mut Raft) -> Vec<Body> {
    raft.take_outbox().into_iter().map(|(_, _, body)| body).collect()
}

fn hears(raft: &mut Raft, now: u64, term: u64, body: Body) -> Vec<Body> {
    raft.step(ms(now), LEADER, disk(LEADER), Term(term), body);
    sent(raft)
}

fn persist(raft: &mut Raft, now: u64) -> (Persist, Vec<Body>) {
    let persist = raft.flush().expect("something is to be made durable");
    raft.persisted(ms(now));
    (persist, sent(raft))
}

fn append(prev_index: u64, prev_term: u64, terms: &[u64], commit: u64) -> Body {
    let entries = terms.iter().map(|term| entry(*term)).collect();
    Body::Append { prev_index, prev_term: Term(prev_term), entries, commit, round: 1 }
}

fn acknowledged(matched: u64, conflict: Option<u64>) -> Vec<Body> {
    vec![Body::AppendReply { matched, conflict, round: 1 }]
}

fn ask(pre: bool, last_index: u64, last_term: u64) -> Body {
    Body::RequestVote { pre, transfer: false, last_index, last_term: Term(last_term) }
}

const fn voted(pre: bool, granted: bool) -> Body {
    Body::VoteReply { pre, granted, silence: Duration::ZERO }
}

fn vote(pre: bool, granted: bool) -> Vec<Body> {
    vec![voted(pre, granted)]
}

fn vote_after(silence_ms: u64) -> Vec<Body> {
    vec![Body::VoteReply { pre: false, granted: true, silence: Duration::from_millis(silence_ms) }]
}

/// Leads in term 6 with what was in its log and the entry that begins the term; nothing is acknowledged yet.
fn leader(terms: &[u64]) -> Raft {
    let mut raft = follower(5, terms);
    raft.tick(ms(500));
    hears(&mut raft, 500, 6, voted(true, true));
    persist(&mut raft, 500);
    hears(&mut raft, 500, 6, voted(false, true));
    assert!(raft.is_leader());
    persist(&mut raft, 500);
    raft
}

// ---- votes ----------------------------------------------------------------------------------------------------------

#[test]
fn a_vote_goes_to_whoever_has_all_that_this_log_has() {
    for (last_index, last_term, granted) in [(3, 5, true), (4, 5, true), (1, 6, true), (2, 5, false), (9, 4, false)] {
        let (said, log) = (format!("{last_index}/{last_term}"), &[1, 5, 5]);
        assert_eq!(hears(&mut follower(6, log), 0, 7, ask(true, last_index, last_term)), vote(true, granted), "{said}");
        let mut raft = follower(6, log);
        let refused = if granted { vec![] } else { vote(false, false) };
        assert_eq!(hears(&mut raft, 0, 7, ask(false, last_index, last_term)), refused, "{said}");
        let (persist, after) = persist(&mut raft, 0);
        assert!(persist.meta.len() == 1 && persist.entries.is_empty());
        assert_eq!(after, if granted { vote(false, true) } else { vec![] }, "{said}: told when it is durable (I4)");
    }
}

#[test]
fn one_vote_a_term() {
    let mut raft = follower(6, &[]);
    assert_eq!(hears(&mut raft, 0, 6, ask(true, 0, 0)), vote(true, false), "not for a term that has begun");
    assert_eq!(hears(&mut raft, 0, 5, ask(false, 0, 0)), vote(false, false), "a term that is over");
    assert!(hears(&mut raft, 0, 6, ask(false, 0, 0)).is_empty());
    raft.step(ms(0), OTHER, disk(OTHER), Term(6), ask(false, 9, 6));
    assert_eq!(sent(&mut raft), vote(false, false), "the vote is given");
    assert_eq!(persist(&mut raft, 0).1, vote(false, true));
    assert_eq!(hears(&mut raft, 0, 6, ask(false, 0, 0)), vote(false, true), "durable already");
    // A candidate keeps its vote to itself.
    let mut raft = follower(5, &[]);
    raft.tick(ms(500));
    hears(&mut raft, 500, 6, voted(true, true));
    assert_eq!(hears(&mut raft, 500, 6, ask(false, 9, 5)), vote(false, false));
}

/// Somebody who was cut off does not depose a leader that is well; the leader itself may ask for it.
#[test]
fn no_vote_while_the_leader_is_heard() {
    let content = || {
        let mut raft = follower(5, &[]);
        hears(&mut raft, 0, 5, append(0, 0, &[], 0));
        raft
    };
    let just_before = TIMEOUT_MS - 1;
    let mut raft = content();
    raft.step(ms(just_before), OTHER, disk(OTHER), Term(6), ask(true, 9, 9));
    assert_eq!(sent(&mut raft), vote(true, false));
    raft.step(ms(just_before), OTHER, disk(OTHER), Term(6), ask(false, 9, 9));
    assert!(sent(&mut raft).is_empty() && raft.term() == Term(5), "not even its term counts");
    raft.step(ms(TIMEOUT_MS), OTHER, disk(OTHER), Term(6), ask(true, 9, 9));
    assert_eq!(sent(&mut raft), vote(true, true));
    raft.step(ms(TIMEOUT_MS), OTHER, disk(OTHER), Term(6), ask(false, 9, 9));
    assert_eq!(persist(&mut raft, TIMEOUT_MS).1, vote_after(TIMEOUT_MS));
    let mut raft = content();
    let transfer = Body::RequestVote { pre: false, transfer: true, last_index: 9, last_term: Term(9) };
    raft.step(ms(1), OTHER, disk(OTHER), Term(6), transfer);
    assert_eq!(persist(&mut raft, 1).1, vote_after(1));
    let mut raft = leader(&[]);
    raft.step(ms(500), OTHER, disk(OTHER), Term(7), ask(true, 9, 9));
    assert_eq!(sent(&mut raft), vote(true, false), "a leader is content with itself");
    raft.step(ms(500), OTHER, disk(OTHER), Term(7), ask(false, 9, 9));
    assert!(raft.is_leader());
}

/// Who has reaped the leader's process need not wait for its silence; a leader that is heard after all stays.
#[test]
fn a_leader_that_is_said_to_be_dead_is_not_waited_for() {
    let following = || {
        let mut raft = follower(5, &[]);
        hears(&mut raft, 0, 5, append(0, 0, &[], 0));
        raft
    };
    let mut raft = following();
    assert!(!raft.suspect(ms(1), OTHER), "it does not lead");
    raft.step(ms(1), OTHER, disk(OTHER), Term(6), ask(true, 9, 9));
    assert_eq!(sent(&mut raft), vote(true, false));
    assert!(raft.suspect(ms(1), LEADER));
    let soon = ms(1).plus(Duration::from_millis(TIMEOUT_MS / 4));
    assert!(raft.deadline() <= soon);
    raft.step(ms(1), OTHER, disk(OTHER), Term(6), ask(true, 9, 9));
    assert_eq!(sent(&mut raft), vote(true, true), "nor do others have to wait");
    raft.tick(soon);
    assert_eq!(sent(&mut raft), [ask(true, 0, 0), ask(true, 0, 0)]);

    let mut raft = following();
    assert!(raft.suspect(ms(1), LEADER));
    hears(&mut raft, 2, 5, append(0, 0, &[], 0));
    assert!(raft.deadline() >= ms(2 + TIMEOUT_MS), "it lives");
    let mut raft = leader(&[]);
    assert!(!raft.suspect(ms(501), ME), "nobody says so to the leader itself");
}

/// What a new agency leader knows of grants that it did not give: as much as those who elected it.
#[test]
fn a_leader_knows_when_the_last_round_of_an_earlier_term_can_have_begun() {
    let elected = |raft: &mut Raft, silence_ms| {
        raft.tick(ms(500));
        hears(raft, 500, 6, voted(true, true));
        persist(raft, 500);
        let silence = Duration::from_millis(silence_ms);
        hears(raft, 510, 6, Body::VoteReply { pre: false, granted: true, silence });
        raft.earlier_rounds_until().expect("elected")
    };
    let following = |heard_ms| {
        let mut raft = follower(5, &[]);
        hears(&mut raft, heard_ms, 5, append(0, 0, &[], 0));
        raft
    };
    assert_eq!(elected(&mut following(200), 400), ms(200), "what it has heard itself");
    assert_eq!(elected(&mut following(200), 250), ms(260), "what its elector has heard");
    assert_eq!(
        elected(&mut follower(5, &[]), 400),
        ms(110),
        "an elector that heard it earlier than this agent was started"
    );
    assert_eq!(elected(&mut follower(5, &[]), u64::MAX), ms(0), "an elector that is beside itself");
    // A leader counts itself until it stops.
    let mut raft = leader(&[]);
    raft.step(ms(540), OTHER, disk(OTHER), Term(7), append(0, 0, &[], 0));
    persist(&mut raft, 540);
    raft.step(ms(900), OTHER, disk(OTHER), Term(8), ask(false, 9, 9));
    assert_eq!(persist(&mut raft, 900).1, vote_after(360));
    let mut raft = leader(&[]);
    raft.step(
        ms(540),
        OTHER,
        disk(OTHER),
        Term(7),
        Body::RequestVote { pre: false, transfer: true, last_index: 9, last_term: Term(9) },
    );
    assert_eq!(persist(&mut raft, 550).1, vote_after(10));
}

/// Votes rest on the log that the request names: it is durable before anybody is asked (I4).
#[test]
fn votes_are_asked_for_when_term_and_log_are_durable() {
    let mut raft = follower(5, &[]);
    hears(&mut raft, 0, 5, append(0, 0, &[5], 0));
    raft.flush().expect("the entry");
    raft.tick(ms(500));
    hears(&mut raft, 500, 6, voted(true, true));
    raft.persisted(ms(500));
    assert!(sent(&mut raft).is_empty(), "the term is not durable yet");
    assert_eq!(persist(&mut raft, 500).1, [ask(false, 1, 5), ask(false, 1, 5)]);
    hears(&mut raft, 500, 6, voted(false, false));
    assert!(!raft.is_leader());
    assert!(!raft.events.iter().any(|event| matches!(event, Event::Campaigns { term, .. } if *term != Term(6))));
}

#[test]
fn only_the_leader_may_ask_for_an_election_at_once() {
    let mut raft = follower(5, &[]);
    hears(&mut raft, 0, 5, append(0, 0, &[], 0));
    raft.step(ms(1), OTHER, disk(OTHER), Term(5), Body::TimeoutNow);
    assert_eq!(raft.term(), Term(5));
    hears(&mut raft, 1, 5, Body::TimeoutNow);
    assert_eq!(raft.term(), Term(6));
    let mut raft = leader(&[]);
    hears(&mut raft, 500, 6, Body::TimeoutNow);
    assert!(raft.is_leader());
}

// ---- following ------------------------------------------------------------------------------------------------------

/// I4: an acknowledgement claims what is durable and the same as the leader's, no more.
#[test]
fn entries_are_acknowledged_when_they_are_durable() {
    let mut raft = follower(5, &[]);
    assert_eq!(hears(&mut raft, 0, 5, append(0, 0, &[5, 5], 1)), acknowledged(0, None));
    assert_eq!(raft.commit(), 1);
    let (first, after) = persist(&mut raft, 0);
    assert_eq!((first.entries.len(), after), (2, acknowledged(2, None)));
    assert_eq!(hears(&mut raft, 0, 5, append(1, 5, &[5, 5], 9)), acknowledged(2, None), "one of them is known");
    assert_eq!(raft.commit(), 3, "no further than the log is known to agree");
    raft.flush();
    assert_eq!(hears(&mut raft, 0, 5, append(3, 5, &[], 3)), acknowledged(2, None));
    raft.persisted(ms(0));
    assert_eq!(sent(&mut raft), acknowledged(3, None));
    // A new term: nothing is acknowledged in it before it is durable, and once only.
    assert!(hears(&mut raft, 0, 6, append(3, 5, &[], 3)).is_empty());
    assert_eq!(persist(&mut raft, 0).1, acknowledged(3, None));
    assert_eq!(raft.flush(), None);
}

#[test]
fn a_log_that_parts_from_the_leaders_says_where_to_look() {
    let log = || follower(6, &[1, 4, 4, 4]);
    assert_eq!(hears(&mut log(), 0, 6, append(9, 5, &[], 0)), acknowledged(0, Some(5)), "too short");
    assert_eq!(hears(&mut log(), 0, 6, append(4, 5, &[], 0)), acknowledged(0, Some(2)), "where the wrong term began");
    let mut raft = follower_after((2, 4), 6, &[4, 4]);
    assert_eq!(hears(&mut raft, 0, 6, append(4, 5, &[], 2)), acknowledged(0, Some(3)), "not before what is committed");
    // Not before the term is durable.
    assert!(hears(&mut log(), 0, 7, append(9, 5, &[], 0)).is_empty());
}

#[test]
fn a_tail_of_an_earlier_term_is_replaced() {
    let mut raft = follower(6, &[1, 4]);
    hears(&mut raft, 0, 6, append(2, 4, &[4, 4], 1));
    raft.flush().expect("entries 3 and 4");
    assert_eq!(hears(&mut raft, 0, 7, append(2, 4, &[7], 1)), [], "the term is not durable");
    raft.persisted(ms(0));
    assert_eq!(raft.log().last_index(), 3);
    let (rest, after) = persist(&mut raft, 0);
    assert_eq!((rest.truncate_from, rest.entries.len(), after), (Some(3), 1, acknowledged(3, None)));
    // I4: what the disk has there is another entry, and is not acknowledged in its place.
    let mut raft = follower(6, &[1, 4, 4]);
    assert_eq!(hears(&mut raft, 0, 6, append(1, 1, &[6], 1)), acknowledged(1, None));
    assert_eq!(persist(&mut raft, 0).1, acknowledged(2, None));
    // What is on its way to the disk and was replaced does not count as durable.
    let mut raft = follower(6, &[1]);
    hears(&mut raft, 0, 6, append(1, 1, &[6, 6], 1));
    raft.flush().expect("entries 2 and 3");
    raft.step(ms(0), LEADER, disk(LEADER), Term(6), append(1, 1, &[], 1));
    raft.truncate_from(2);
    raft.persisted(ms(0));
    assert_eq!(raft.durable, 1);
}

/// What an agent that keeps the promises can't have said is not acted upon.
#[test]
fn what_breaks_a_promise_is_not_believed() {
    let snapshot = |index_term| Body::Snapshot {
        index: 9,
        index_term: Term(index_term),
        seats: Vec::new(),
        total: 1,
        offset: 0,
        piece: Bytes::from_static(b"s"),
        round: 1,
    };
    let mut raft = follower_after((5, 4), 6, &[4, 4]);
    assert_eq!(hears(&mut raft, 0, 6, append(5, 3, &[], 5)), [], "another entry than the one committed here");
    assert_eq!(hears(&mut raft, 0, 6, append(6, 4, &[5, 4], 5)), [], "terms that go back");
    assert_eq!(hears(&mut raft, 0, 6, append(6, 4, &[7], 5)), [], "an entry of the future");
    assert_eq!(hears(&mut raft, 0, 6, snapshot(7)), [], "a snapshot of the future");
    assert_eq!((raft.commit(), raft.log().last_index()), (5, 7));
    assert!(raft.flush().is_none());
    assert_eq!(hears(&mut raft, 0, 6, append(4, 4, &[4], 5)), acknowledged(5, None), "forgotten, for it was committed");
    assert_eq!(hears(&mut raft, 0, 6, snapshot(6)), [Body::AppendReply { matched: 0, conflict: None, round: 1 }]);
    assert_eq!(raft.commit(), 9);
    let mut raft = leader(&[1]);
    for body in [
        Body::AppendReply { matched: 3, conflict: None, round: 0 },
        Body::AppendReply { matched: 1, conflict: None, round: 1 },
        Body::SnapshotReply { index: 0, offset: 0, round: 1 },
        append(0, 0, &[], 0),
    ] {
        raft.events.clear();
        assert!(hears(&mut raft, 500, 6, body.clone()).is_empty());
        assert!(matches!(raft.events[..], [Event::Says(Severity::Error, _)]), "{body:?}: {:?}", raft.events);
    }
    assert_eq!((raft.commit(), raft.confirmed(), raft.is_leader()), (0, 0, true));
}

#[test]
fn a_sender_of_the_past_hears_which_term_it_is() {
    for (body, answer) in [
        (append(0, 0, &[], 0), Some(Body::AppendReply { matched: 0, conflict: None, round: 0 })),
        (ask(false, 9, 9), Some(voted(false, false))),
        (Body::TimeoutNow, None),
    ] {
        let mut raft = follower(5, &[]);
        assert_eq!(hears(&mut raft, 0, 4, body), Vec::from_iter(answer));
    }
}

// ---- snapshots ------------------------------------------------------------------------------------------------------

fn piece(index: u64, offset: u64, bytes: &'static str) -> Body {
    let piece = Bytes::from_static(bytes.as_bytes());
    Body::Snapshot { index, index_term: Term(4), seats: Vec::new(), total: 4, offset, piece, round: 1 }
}

fn wanted(index: u64, offset: u64) -> Vec<Body> {
    vec![Body::SnapshotReply { index, offset, round: 1 }]
}

#[test]
fn a_snapshot_is_put_together_from_its_pieces() {
    let mut raft = follower(5, &[1, 1]);
    assert_eq!(hears(&mut raft, 0, 5, piece(9, 0, "ab")), wanted(9, 2));
    assert_eq!(hears(&mut raft, 0, 5, piece(9, 0, "ab")), wanted(9, 2), "once more");
    assert_eq!(hears(&mut raft, 0, 5, piece(9, 3, "d")), wanted(9, 2), "something is missing before it");
    assert_eq!(hears(&mut raft, 0, 5, piece(9, 2, "cde")), wanted(9, 2), "more than there is");
    assert_eq!(hears(&mut raft, 0, 5, piece(9, 2, "cd")), acknowledged(0, None));
    assert_eq!((raft.commit(), &raft.log().snapshot.state[..]), (9, &b"abcd"[..]));
    let (persist, after) = persist(&mut raft, 0);
    assert_eq!((persist.truncate_from, persist.meta.len(), after), (Some(0), 1, acknowledged(9, None)));
    assert_eq!(hears(&mut raft, 0, 5, piece(9, 2, "cd")), acknowledged(9, None), "it is here already");
    let mut raft = follower(5, &[]);
    hears(&mut raft, 0, 5, piece(9, 0, "a"));
    assert_eq!(hears(&mut raft, 0, 5, piece(9, 1, "bcde")), wanted(9, 1), "more than there is");
    // Pieces of two snapshots do not mix.
    let mut raft = follower(5, &[]);
    hears(&mut raft, 0, 5, piece(9, 0, "ab"));
    assert_eq!(hears(&mut raft, 0, 5, piece(8, 2, "cd")), wanted(8, 0));
    for (index_term, total) in [(3, 4), (4, 5)] {
        let mut raft = follower(5, &[]);
        hears(&mut raft, 0, 5, piece(9, 0, "ab"));
        let piece = Bytes::from_static(b"cd");
        let other = Body::Snapshot {
            index: 9,
            index_term: Term(index_term),
            seats: Vec::new(),
            total,
            offset: 2,
            piece,
            round: 1,
        };
        assert_eq!(hears(&mut raft, 0, 5, other), wanted(9, 0));
    }
    // Nothing is said before the term is durable, and nobody is asked for more memory than an agent may need.
    assert!(hears(&mut follower(5, &[]), 0, 6, piece(9, 0, "ab")).is_empty());
    for (total, wanted) in [(SNAPSHOT_BYTES_MAX, wanted(9, 0)), (SNAPSHOT_BYTES_MAX + 1, vec![])] {
        let piece = Bytes::new();
        let huge =
            Body::Snapshot { index: 9, index_term: Term(4), seats: Vec::new(), total, offset: 0, piece, round: 1 };
        assert_eq!(hears(&mut follower(5, &[]), 0, 5, huge), wanted);
    }
}

#[test]
fn what_the_log_has_beyond_a_snapshot_stays() {
    for (log, last_index) in [([1, 4, 4, 5], 4), ([1, 1, 1, 1], 3)] {
        let mut raft = follower(5, &log);
        hears(&mut raft, 0, 5, piece(3, 0, "abcd"));
        assert_eq!((raft.commit(), raft.log().last_index()), (3, last_index));
    }
    // An agent that died between the snapshot and the removal of what it replaces: the rows on the disk go.
    let stale = |last: u64| {
        let mut raft = follower_after((3, 4), 5, &[]);
        let snapshot = raft.log.snapshot.clone();
        let entries = (1..=last).map(|index| (index, entry(4))).collect();
        raft = Raft::boot(settings(), SavedRaft { snapshot, entries, ..SavedRaft::default() }, Rng::new(1), ms(0));
        raft.flush().and_then(|persist| persist.truncate_from)
    };
    assert_eq!((stale(2), stale(3), stale(4)), (Some(0), None, None));
}

#[test]
fn a_follower_that_is_too_far_behind_gets_the_snapshot_in_pieces() {
    let mut raft = leader(&[4, 4, 4]);
    hears(&mut raft, 500, 6, Body::AppendReply { matched: 4, conflict: None, round: 0 });
    raft.step(ms(500), OTHER, disk(OTHER), Term(6), Body::AppendReply { matched: 0, conflict: Some(4), round: 0 });
    let state = Bytes::from(vec![7; PIECE_BYTES + PIECE_BYTES / 2]);
    raft.compact(4, state.clone());
    raft.take_outbox();
    let ask = |raft: &mut Raft, body| {
        raft.step(ms(500), OTHER, disk(OTHER), Term(6), body);
        raft.take_outbox().into_iter().filter(|(to, ..)| *to == OTHER).map(|(_, _, body)| body).collect::<Vec<_>>()
    };
    let offset = |sent: &[Body]| match sent {
        [] => None,
        [Body::Snapshot { index: 4, total, offset, piece, .. }] => {
            assert_eq!(*total, state.len() as u64);
            Some((*offset, piece.len()))
        }
        other => panic!("{other:?}"),
    };
    let reply = |offset| Body::SnapshotReply { index: 4, offset, round: 0 };
    let first = ask(&mut raft, Body::AppendReply { matched: 0, conflict: Some(1), round: 0 });
    assert_eq!(offset(&first), Some((0, PIECE_BYTES)));
    assert_eq!(offset(&ask(&mut raft, reply(0))), None, "it is on its way");
    let other = Body::SnapshotReply { index: 3, offset: 9, round: 0 };
    assert_eq!(offset(&ask(&mut raft, other)), None, "of another snapshot");
    assert_eq!(offset(&ask(&mut raft, reply(state.len() as u64 + 1))), None, "beyond its end");
    let half = PIECE_BYTES as u64;
    assert_eq!(offset(&ask(&mut raft, reply(half))), Some((half, PIECE_BYTES / 2)));
    assert_eq!(offset(&ask(&mut raft, reply(state.len() as u64))), None, "it has all");
    raft.propose(Bytes::from_static(b"y"));
    raft.replicate(ms(500));
    assert!(raft.take_outbox().iter().all(|(to, ..)| *to != OTHER), "entries wait for the end of the snapshot");
    let sent = ask(&mut raft, Body::AppendReply { matched: 4, conflict: None, round: 0 });
    assert!(matches!(&sent[..], [Body::Append { prev_index: 4, entries, .. }] if entries.len() == 1), "{sent:?}");
}

#[test]
fn a_snapshot_is_due_after_a_step_or_when_the_log_is_heavy() {
    let raft = follower(5, &[]);
    assert!(!raft.wants_snapshot(9) && raft.wants_snapshot(10));
    let raft = follower_after((7, 4), 5, &[]);
    assert!(!raft.wants_snapshot(16) && raft.wants_snapshot(17));
    let heavy = |entries: usize, size: usize| {
        let (mut raft, data) = (leader(&[]), Bytes::from(vec![0; size]));
        (0..entries).for_each(|_| _ = raft.propose(data.clone()));
        raft
    };
    assert!(!heavy(4, KEEP_BYTES_MAX / 2).wants_snapshot(1) && heavy(5, KEEP_BYTES_MAX / 2).wants_snapshot(1));
    assert!(!heavy(5, KEEP_BYTES_MAX / 2).wants_snapshot(0), "nothing was applied");
    // What is kept behind the snapshot is two entries, or less if they are large.
    let mut raft = heavy(4, KEEP_BYTES_MAX / 3 * 2);
    raft.commit = 5;
    raft.compact(5, Bytes::new());
    assert_eq!(raft.log().first_index(), 5);
    assert_eq!(raft.flush().and_then(|persist| persist.compact_to), Some(4));
    let mut raft = leader(&[4; 8]);
    raft.commit = 8;
    raft.compact(8, Bytes::new());
    assert_eq!(raft.log().first_index(), 7);
}

// ---- leading --------------------------------------------------------------------------------------------------------

#[test]
fn a_majority_commits_entries_of_the_leaders_own_term() {
    let mut raft = leader(&[4, 4]);
    assert_eq!((raft.first_of_term(), follower(5, &[]).first_of_term()), (Some(3), None));
    hears(&mut raft, 500, 6, Body::AppendReply { matched: 2, conflict: None, round: 0 });
    assert_eq!(raft.commit(), 0, "counting says nothing about another leader's entries");
    hears(&mut raft, 500, 6, Body::AppendReply { matched: 3, conflict: None, round: 0 });
    assert_eq!(raft.commit(), 3);
    let progress: Vec<_> = raft.peers().into_iter().map(|(id, progress)| (id, progress.matched)).collect();
    assert_eq!(progress, [(LEADER, 3), (OTHER, 0)]);
    // A late reply takes nothing back.
    hears(&mut raft, 500, 6, Body::AppendReply { matched: 1, conflict: None, round: 0 });
    assert_eq!((raft.commit(), raft.peers()[0].1.matched), (3, 3));
}

/// A round that was asked for counts only when a majority has echoed a message that was sent after that.
#[test]
fn rounds_are_confirmed_by_a_majority() {
    let mut raft = leader(&[]);
    let echo = |raft: &mut Raft, round| hears(raft, 500, 6, Body::AppendReply { matched: 1, conflict: None, round });
    echo(&mut raft, 0);
    let first = raft.request_round(ms(500));
    assert_eq!((first, raft.take_outbox().len()), (1, 2));
    let second = raft.request_round(ms(500));
    assert_eq!((second, raft.take_outbox().len()), (2, 0), "one at a time");
    assert_eq!(raft.request_round(ms(500)), 2, "who asks meanwhile shares it");
    assert_eq!(raft.confirmed(), 0);
    assert_eq!(echo(&mut raft, 1).len(), 2, "the next begins at once");
    assert_eq!(raft.confirmed(), 1);
    echo(&mut raft, 1);
    assert_eq!(raft.confirmed(), 1);
    // Nobody echoes: the next heartbeat begins the round that was asked for meanwhile.
    assert_eq!(raft.request_round(ms(501)), 3);
    raft.tick(ms(500 + TIMEOUT_MS / 4));
    assert_eq!(raft.take_outbox().len(), 2);
    echo(&mut raft, 3);
    assert_eq!(raft.confirmed(), 3);
}

#[test]
fn three_of_five_are_a_majority() {
    let founders = seats(&[1, 2, 3, 4, 5].map(voter));
    let mut raft = Raft::boot(Settings { founders, ..settings() }, SavedRaft::default(), Rng::new(1), ms(0));
    raft.tick(ms(500));
    let says =
        |raft: &mut Raft, from, body: &Body| raft.step(ms(500), voter(from), disk(voter(from)), Term(1), body.clone());
    let granted = |pre| voted(pre, true);
    says(&mut raft, 2, &granted(true));
    assert_eq!(raft.term(), Term(0));
    says(&mut raft, 3, &granted(true));
    persist(&mut raft, 500);
    says(&mut raft, 2, &granted(false));
    assert!(!raft.is_leader());
    says(&mut raft, 3, &granted(false));
    persist(&mut raft, 500);
    let round = raft.request_round(ms(500));
    let echo = Body::AppendReply { matched: 1, conflict: None, round };
    says(&mut raft, 4, &echo);
    assert_eq!((raft.is_leader(), raft.commit(), raft.confirmed()), (true, 0, 0));
    says(&mut raft, 5, &echo);
    assert_eq!((raft.commit(), raft.confirmed()), (1, round));
}

#[test]
fn a_leader_beats_and_steps_down_without_a_majority() {
    let mut raft = leader(&[]);
    assert_eq!(raft.deadline(), ms(500 + TIMEOUT_MS / 4));
    raft.tick(ms(500 + TIMEOUT_MS / 4 - 1));
    assert!(raft.take_outbox().is_empty());
    raft.tick(ms(500 + TIMEOUT_MS / 4));
    assert_eq!(raft.take_outbox().len(), 2);
    assert_eq!(raft.deadline(), ms(500 + TIMEOUT_MS / 2));
    raft.tick(ms(500 + 2 * TIMEOUT_MS));
    assert!(raft.is_leader());
    raft.tick(ms(501 + 2 * TIMEOUT_MS));
    assert!(!raft.is_leader());
    // An agent alone has nobody to beat for.
    let alone = Settings { founders: seats(&[ME]), ..settings() };
    let mut raft = Raft::boot(alone, SavedRaft::default(), Rng::new(1), ms(0));
    raft.tick(ms(0));
    persist(&mut raft, 0);
    assert_eq!((raft.is_leader(), raft.deadline()), (true, Time::NEVER));
}

#[test]
fn who_has_no_seat_does_not_campaign_and_names_no_leader_that_is_silent() {
    let outside = Settings { founders: Vec::new(), ..settings() };
    let mut raft = Raft::boot(outside, SavedRaft::default(), Rng::new(1), ms(0));
    assert_eq!(raft.deadline(), Time::NEVER);
    hears(&mut raft, 0, 6, append(0, 0, &[], 0));
    assert_eq!((raft.leader(), raft.deadline() <= ms(2 * TIMEOUT_MS)), (Some(LEADER), true));
    raft.tick(ms(2 * TIMEOUT_MS));
    assert_eq!((raft.leader(), raft.term(), raft.deadline()), (None, Term(6), Time::NEVER));
    assert!(sent(&mut raft).is_empty());
}

/// A leader appends its own removal, and dies before anybody else has it: the others can't win without its vote, which
/// only a log as long as its own gets. So it stands, does not count itself, commits the entry and steps down.
#[test]
fn a_leader_that_took_its_own_seat_stands_until_that_is_committed() {
    let removal = LogEntry { term: Term(5), data: encode_configuration(&seats(&[LEADER])) };
    let joined = LogEntry { term: Term(5), data: encode_configuration(&seats(&[ME, LEADER])) };
    let snapshot = |commit| match commit {
        true => Snapshot { index: 2, term: Term(5), seats: seats(&[LEADER]), state: Bytes::new() },
        false => Snapshot { index: 1, term: Term(5), seats: seats(&[ME, LEADER]), state: Bytes::new() },
    };
    let booted = |snapshot: Snapshot, entries: Vec<(u64, LogEntry)>| {
        let hard = HardState { term: Term(5), vote: None };
        Raft::boot(settings(), SavedRaft { hard, snapshot, entries, ..SavedRaft::default() }, Rng::new(1), ms(0))
    };
    let mut raft = booted(snapshot(false), vec![(2, removal.clone())]);
    assert!(!raft.is_seated() && raft.deadline() < Time::NEVER);
    raft.tick(ms(500));
    assert_eq!(sent(&mut raft), vec![ask(true, 2, 5)]);
    assert!(raft.flush().is_none(), "its own voice does not count");
    hears(&mut raft, 500, 6, voted(true, true));
    assert_eq!(persist(&mut raft, 500).1, vec![ask(false, 2, 5)]);
    assert!(!raft.is_leader());
    hears(&mut raft, 500, 6, voted(false, true));
    assert!(raft.is_leader());
    persist(&mut raft, 500);
    assert_eq!(raft.commit(), 1);
    let said = hears(&mut raft, 500, 6, Body::AppendReply { matched: 3, conflict: None, round: 0 });
    assert!(said.contains(&Body::TimeoutNow) && !raft.is_leader());
    assert_eq!((raft.commit(), raft.deadline()), (3, Time::NEVER), "now it is decided");
    // Where the removal is known to be committed nobody stands; where its seat is younger than what is known, it does.
    assert_eq!(booted(snapshot(true), Vec::new()).deadline(), Time::NEVER);
    let outside = Snapshot { seats: seats(&[LEADER]), ..snapshot(false) };
    let raft = booted(outside, vec![(2, joined), (3, removal)]);
    assert!(!raft.is_seated() && raft.deadline() < Time::NEVER);
}

/// So far ahead of what is acknowledged, and no further.
#[test]
fn a_follower_that_does_not_answer_is_not_flooded() {
    let mut raft = leader(&[]);
    hears(&mut raft, 500, 6, Body::AppendReply { matched: 1, conflict: None, round: 0 });
    let mut sent_to_leader = 0;
    for _ in 0..3 * AHEAD_MAX {
        raft.propose(Bytes::from_static(b"y"));
        raft.replicate(ms(500));
        let appended = |(to, _, body): (NodeId, Term, Body)| match body {
            Body::Append { entries, .. } if to == LEADER => entries.len() as u64,
            _ => 0,
        };
        sent_to_leader += raft.take_outbox().into_iter().map(appended).sum::<u64>();
    }
    assert_eq!(sent_to_leader, AHEAD_MAX);
    raft.tick(ms(500 + TIMEOUT_MS / 4));
    let heartbeats = sent(&mut raft);
    assert!(heartbeats.iter().all(|body| matches!(body, Body::Append { entries, .. } if entries.is_empty())));
}
