//! Coverage marks: names for the paths that a run seldom takes, counted while seeds are swept.
//!
//! A sweep that never takes a path has not tested it; a mark says which paths those are. Nothing is ever decided by a
//! mark, and without the feature `marks` (which only the simulator asks for) nothing of them is compiled. Counts are of
//! the thread that runs the simulation, so that runs side by side do not mix.

macro_rules! marks {
    ($($name:ident $words:literal)*) => {
        /// A path worth reaching. In the order of the table that a sweep prints.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mark {
            $(#[doc = $words] $name,)*
        }

        impl Mark {
            pub const ALL: &[Mark] = &[$(Mark::$name,)*];

            pub fn name(self) -> &'static str {
                match self {
                    $(Mark::$name => stringify!($name),)*
                }
            }

            /// What happens there.
            pub fn words(self) -> &'static str {
                match self {
                    $(Mark::$name => $words,)*
                }
            }
        }
    };
}

marks! {
    // The agency's consensus.
    PreVoteRefused "an agent would not vote for the one that asks"
    VoteRefused "an agent does not give its vote"
    VoteIgnored "a vote is asked for while the leader is heard"
    SenderOfOldTerm "a Raft message of a term that is over"
    QuorumLost "a leading agent has not heard of a majority and steps down"
    LeadTransferred "an agent that stops hands the lead on"
    LeadTakenOver "an agent is told to stand at once"
    AgencyLeaderDead "an agent is told that the process it follows is dead"
    AppendRefused "an agent's log does not agree with the leader's append"
    TailTruncated "entries of an agent that were never committed are replaced"
    AgencySnapshotSent "an agent is so far behind that it is sent a snapshot"
    AgencySnapshotInstalled "an agent replaces its log by a snapshot"
    AgencySnapshotKeepsLog "a snapshot of what the log holds already"
    AgencyLogCompacted "the agency's log is cut behind a snapshot"
    RoundWanted "a round is asked for while one is under way"
    AgentLearns "an agent begins to catch up to have a seat"
    AgentAdded "an agent that has caught up gets a seat"
    AgentRemoved "an agent's seat is taken away"
    RemovedLeaderSteps "an agency leader without a seat steps down"
    AgencyJoined "an agent that forms no pool hears of one"
    AgentDisbelieved "an agent says what it can't say if it keeps the promises"
    EtcdAskedAgain "a question to etcd is asked again"
    EtcdAnswerLate "an answer of etcd comes that nobody waits for"
    EtcdUnknown "etcd does not say whether it has done what was asked"
    EtcdUnreachable "an agent that leads can't make sure of its seat in etcd, and leaves it"
    EtcdLeaseEnded "an agent's lease in etcd ends under it"
    EtcdSeatFreed "an agent frees the seat in etcd that it had in an earlier life"
    EtcdSeatFoundMine "an agent finds out that it has the seat in etcd by asking again"
    EtcdSeatLost "a round shows that another has the seat in etcd"
    EtcdFenced "a write to etcd is refused because another leads"
    EtcdTailDropped "entries are forgotten that may or may not have been written to etcd"
    EtcdAppendedBefore "an append to etcd is refused because it has happened before"
    EtcdSnapshotWritten "a snapshot in etcd counts from now on"
    EtcdSnapshotWrittenBefore "the switch to a snapshot in etcd is refused because it has happened before"
    EtcdSnapshotRead "an agent reads a snapshot from etcd"
    AgentNotInPool "an agent speaks from a disk that is not in the pool"
    AgencyWriteFailed "an agent's disk fails"
    StampedByWallBehind "an agency leader's wall clock is behind the stamps"
    StampHeldBack "an agency leader's wall clock is more than a day ahead"

    // The agency and the servers.
    SentElsewhere "a server asks an agent that does not lead"
    WaitedInOffice "a server waits for an agent that leaves office"
    RegisteredAgain "a server repeats a registration that was carried out"
    RegistrationUnderWay "a server repeats a registration that is not decided yet"
    AnswerToOlderQuestion "a server answers a question that another registration has replaced, or that is answered"
    RegisterForeign "a server's data belong to another deployment"
    RegisterReplaced "a registration of a process that a later one has replaced"
    RegisterRestored "a server comes with an old copy of its directory"
    Stranger "a server beats that the agency does not know"
    BeatOfDead "a beat of a process that is known to be dead"
    BeatSuperseded "a beat of a process that a later one has replaced"
    BeatOfOldOwner "a replaced process still owns the epoch"
    GrantUnsettled "no grant: nothing of this term is applied yet (R2)"
    GrantWhileDeposing "no grant: a depose is on its way (R1)"
    GrantOtherEpoch "no grant: of another epoch"
    GrantOtherProcess "no grant: another process owns the epoch"
    GrantInVain "no grant: its leader has used none for long"
    GrantToDead "no grant: the process is dead (R4)"
    GrantReleased "no grant: the lease was released (R12)"
    GrantBeforeBegun "a renewal waits until the first epoch's row is on record"
    RegisterTellsDeath "a server that registers knows that the process before it is dead"
    NoticeAccepted "a death notice names the present process (R4)"
    NoticeOfOwner "a death notice names the process that owns the epoch, which has a successor already"
    NoticeOfOther "a death notice names a process that is not the present one"
    NoticeUnknown "a death notice of a server that is not registered"
    FreezeRepeated "a server has not reported and is asked again (R5)"
    FreezeLate "a server shows up during a round"
    ReportOfOtherRound "a report to another freeze"
    ReportOfOtherProcess "a report of another process or store"
    ReleaseAccepted "the leader's release arrives (R12)"
    ReleaseLate "a release of a leadership that is over"
    DeposeTooLate "a depose meets another record than it names"
    ElectTooLate "an elect meets another record than it names"
    InSyncChanged "the leader's in-sync set is changed (R6)"
    InSyncTooLate "a change of the in-sync set meets another record than it names"
    InSyncAbandoned "an operator gives up what only the in-sync set had"
    HandoverWritten "a wish for another leader is written to the tree"
    ServerListedAgain "a server that was taken out of the plan is still there"

    // The rules of the supervision, by their numbers.
    Rule10 "a change of the leadership is being decided"
    Rule20 "the agency never had a leader, but data has (R11)"
    Rule30 "the first epoch begins"
    Rule40 "maintenance suspends failover"
    Rule50 "deposed: released"
    Rule60 "deposed: dead"
    Rule70 "deposed: never took over"
    Rule75 "the leader has served under no lease for long"
    Rule80 "deposed: the lease is over"
    Rule90 "a hand-over is given up"
    Rule95 "the leader has no room"
    Rule100 "there is a leader"
    Rule110 "a store has seen this epoch's future"
    Rule120 "a report is waited for"
    Rule125 "waits for one that has what was acknowledged"
    Rule130 "the furthest is elected"
    Rule140 "no complete store has reported"
    Health210 "FAILED: dead"
    Health220 "health as recorded: not heard of yet"
    Health230 "GOOD"
    Health240 "BAD: silent"
    Health250 "FAILED: silent for long"

    // A server's life, by the rows of its table.
    Role100 "registered"
    Role200 "follows"
    Role210 "deposed: another server leads"
    Role220 "nobody leads"
    Role230 "frozen"
    Role300 "elected"
    Role310 "opens"
    Role320 "the epoch could not be begun"
    Role400 "handed over"
    Role900 "stopping"
    LeaseClocksApart "lease lost: the machine's clocks moved apart"
    LeaseNotRenewed "lease lost: no renewal in time"
    LeaseLaterEpoch "lease lost: a later epoch has begun"
    LeaseDeposed "lease lost: frozen for a later epoch"
    LeaseReleased "lease given back"
    LeaseStopping "lease given up: the process must go"
    LeaseRegained "a lease that was lost is renewed before anybody else is elected"
    GrantTooLate "a grant that does not prolong the lease"
    ClockJumped "a machine's clocks moved apart between two steps"
    RecordOfOldEpoch "a record of leadership older than what the data have seen"
    FreezeReceived "a freeze is taken"
    FreezeOutdated "a freeze of an epoch that is over or decided"
    FreezeStale "the store has seen a later epoch than the freeze names"
    FreezeFailed "a freeze can't be made durable"
    EpochNotBegun "an elected server can't begin its epoch"
    HandoverCloses "the gate is closed for a hand-over"
    HandoverFails "the successor does not catch up: the gate opens again"
    HandoverDone "the lease is released to a successor"
    ReleasedToNobody "the lease is released without a successor"
    LeavesLate "a stop takes too long"
    RenewalWithheld "a leader's disk hangs: it asks for no renewal"
    LeaderDeaf "a leader does not hear the agency: it asks for no renewal"
    CallRepeated "a request to the agency is asked again"
    CallGivenUp "a request to the agency gets no answer"

    // Requests.
    Refused1495 "refused: nobody leads"
    Refused1496 "refused: another server leads"
    RefusedStopping "refused: stopping"
    DirtyRead "a follower's read with the dirty-read header"
    OutcomeUnknown "a write was started, and leadership was lost before the answer (R14)"
    OutcomeUnknownAtStop "a write was started, and the process goes"
    ReadNotConfirmed "a read was run, and leadership was lost before the answer"
    RunStale "a write is refused in the store: the epoch is over (R3)"
    StoreFull "the store is full"
    StoreFails "the store fails"

    AnswerWaits "an answer waits for followers"
    AnswerNotSafe "followers do not have in time what an answer tells of (R6, R17)"
    WriteShort "a write is refused: too few followers"

    // Replication.
    InSyncProposed "a leader asks for another in-sync set (R6)"
    AppendAhead "an append leaves a gap: something was lost"
    AppendOfEarlierQuestion "an append that does not answer the question"
    AppendMismatch "the store's log ends elsewhere"
    FollowedEarly "followers came before the epoch had begun"
    FollowedOutdated "the store has seen a later epoch than the leader's"
    DivergedOfEarlierQuestion "a divergence of another question"
    WaitsForLeader "a request waits while leadership changes hands"
    RedirectedStopping "a server that stops names its successor"
    TooStale "a dirty read waits for fresher data"
    StaleMeanwhile "an answer has become too stale on its way"
    TransactionBegins "a stream transaction is begun"
    TransactionCommits "a stream transaction that has written is committed"
    TransactionFails "a stream transaction can't be committed, because others have written the same"
    CommitMeetsValue "a stream transaction can't be committed, because a value of a unique index is taken"
    TransactionsMeet "two stream transactions have written the same at the same moment"
    TransactionBusy "a request waits for another one in the same stream transaction"
    TransactionWaits "a stream transaction waits for collections that another one has to itself"
    TransactionExpires "a stream transaction that nobody uses is aborted"
    TransactionTooLarge "a stream transaction holds too much and is aborted"
    TransactionTooOld "a stream transaction is aborted, because the log does not reach back to its beginning"
    WriteMeetsLock "a write meets a document that an open stream transaction has written"
    PastUndone "entries since a stream transaction began are undone for it"
    TokenBehind "a request demands a tick that is not there yet"
    TokenRolledBack "a request demands a tick that was rolled back"
    ParkedAnswered "a request waited and was served"
    ParkedTooLong "a request waited in vain"
    RollbackBegun "a rollback begins"
    RollbackGoesOn "a rollback takes more than one piece"
    RollbackDone "a rollback ends"
    RollbackImpossible "the tail to undo is not there any more: a copy is needed"
    CopyBegun "a copy begins"
    CopyOfferRepeated "an offer comes twice"
    CopyGoesOn "a restarted process goes on with its copy"
    CopyOfOtherLeader "an unfinished copy of another leadership is dropped"
    CopyDropped "a copy is given up"
    CopyOutlived "the log no longer reaches back to where a copy ends"
    CopyUnanswered "questions about a copy have had no answer for long"
    CopyDone "a copy takes the place of the data"
    StoreKept "data that a copy replaces have entries of their own and are kept"
    PieceOutOfDate "a piece of a copy that is older than its log"
    FollowerOfOldProcess "a follower's process that is gone asks"
    OfferRepeated "a follower has not heard of its offer"
    SnapshotUnknown "a follower asks for a copy that is not known"
    LogPrunedMeanwhile "entries that a follower needs are pruned while they are read"
    SentAgain "nothing is acknowledged: sent again"
    FollowerForgotten "a follower has been silent for long"
    ComparedDiverged "two logs part"
    ComparedTooOld "a log is so old that it needs a copy"
    WriterOutdated "a write of an epoch that this process does not own (I7)"
    SenderOutdated "a sender of an older epoch is refused in the store (I7)"
    EpochBeginStale "an epoch is begun that is not the latest"
    EpochBeginIncomplete "an epoch is begun on an unfinished copy"
    LogPruned "old log entries are removed"
    DocumentsExpired "documents that are due are removed"
    IndexFilled "entries are added to an index while writes go on"
    IndexBuilt "an index that was built in pieces is there"
    IndexRefused "an index that was built in pieces can't be: two documents have the same values"
    IndexGone "an index is dropped while it is built, and somebody waits for it"
    IndexLeftBehind "whoever asked for an index is not told what becomes of it"
}

/// `mark!(StoreFull)`: this path was taken.
#[macro_export]
macro_rules! mark {
    ($name:ident) => {
        $crate::mark::hit($crate::mark::Mark::$name)
    };
}

#[cfg(feature = "marks")]
mod counting {
    use super::Mark;
    use std::cell::Cell;

    /// By the order of [`Mark::ALL`].
    pub type Counts = [u32; Mark::ALL.len()];

    thread_local! {
        static COUNTS: [Cell<u32>; Mark::ALL.len()] = const { [const { Cell::new(0) }; Mark::ALL.len()] };
    }

    pub fn hit(mark: Mark) {
        COUNTS.with(|counts| counts[mark as usize].set(counts[mark as usize].get().saturating_add(1)));
    }

    /// Takes out what was counted on this thread.
    pub fn take() -> Counts {
        COUNTS.with(|counts| std::array::from_fn(|mark| counts[mark].take()))
    }
}

#[cfg(feature = "marks")]
pub use counting::*;

#[cfg(not(feature = "marks"))]
#[inline(always)]
pub fn hit(_: Mark) {}

/// The mark of a row in a numbered table, as `("Rule", 60)`.
pub fn of_row(table: &str, number: u32) -> Option<Mark> {
    let numbered = |mark: &&Mark| mark.name().strip_prefix(table).is_some_and(|n| n.parse() == Ok(number));
    Mark::ALL.iter().find(numbered).copied()
}

/// A row of a numbered table was taken.
#[inline(always)]
pub fn hit_row(table: &str, number: u32) {
    if cfg!(feature = "marks") {
        hit(of_row(table, number).expect("every row has a mark"));
    }
}
