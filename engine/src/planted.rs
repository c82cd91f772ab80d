//! Planted bugs: realistic mistakes in the engine, by which the simulator proves that it would notice them.
//!
//! Where a bug would be made stands `planted!(name)`: the constant `false`, but under `--cfg tanist_planted`, which is
//! set by `cargo sim prove` alone, it asks whether this bug is the one switched on in this thread. No release build can
//! contain it: the engine does not compile under the cfg without debug assertions, the server never does.
//!
//! A bug is planted by a line in the table below and by `planted!` at its place, where it must not make the right code
//! harder to read.
//!
//! Where another lock behind it makes a mistake harmless, both are planted as one: a request for a seat is answered
//! once an entry of the leader's term is applied, so what Raft asks of a change itself would never be missed
//! (`change_before_own_entry`).
//!
//! Not planted: logs compared without lineages (R7). Two epochs of one number take two owners, which R3 and R5 rule
//! out while the agency keeps its state (`epoch_survives_restart`, `seen_not_kept`), and no simulated fault takes
//! that away; the table of cases in `db/compare.rs` holds lineages apart. Nor R11, where each lock has another behind
//! it (a thousand seeds in each of three ranges found neither): whoever has no seat is not asked for a vote, and a
//! message names whom it is for; an old copy of a directory that is let in has nothing that others lack, and with
//! synchronous followers it is below the floor of their set (`in_sync_floor_ignored`).

#[cfg(all(tanist_planted, not(debug_assertions)))]
compile_error!("`--cfg tanist_planted` is for `cargo sim prove`, whose profile has debug assertions");

/// A planted bug, as the catalogue tells of it.
#[derive(Debug)]
pub struct Planted {
    pub bug: Bug,
    pub name: &'static str,
    /// The rule or invariant that it attacks.
    pub breaks: &'static str,
    pub what: &'static str,
}

macro_rules! catalogue {
    ($($name:ident, $breaks:literal, $what:literal;)*) => {
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($name,)*
        }

        pub const CATALOGUE: &[Planted] =
            &[$(Planted { bug: Bug::$name, name: stringify!($name), breaks: $breaks, what: $what },)*];
    };
}

#[rustfmt::skip]
catalogue! {
    // The agency's Raft.
    vote_before_durable, "I4", "a vote is sent before the disk has it";
    vote_forgotten, "I4", "the hard state is written without the vote";
    vote_ignores_logs, "I3", "a vote is given to a candidate whose log is behind";
    ack_before_durable, "I4", "an agent acknowledges entries that its disk does not have yet";
    leader_counts_itself_early, "I3", "an agency leader counts its own log before its disk has it";
    older_terms_committed, "I3", "entries of an older term are committed by counting";
    append_truncates, "I3", "an append cuts the log after it, also where the entries agree";
    truncation_forgotten, "I2", "what was cut from the log stays on the disk";
    raft_snapshot_forgotten, "I3", "the log is compacted without its snapshot being written";
    learner_counts, "I3", "an agent that catches up counts for what is committed before it has a seat";
    two_changes_at_once, "I3", "the agency's configuration changes again before the former change is committed";
    change_before_own_entry, "I3", "the agency's configuration changes before an entry of the leader's term is committed";
    configuration_at_commit, "I3", "a configuration of the agency holds only once it is committed";
    client_id_ignored, "I3", "an agency transaction with a client id is applied each time that it is sent";
    ttl_by_own_clock, "I3", "each agent judges what has expired by its own clock";
    read_without_round, "I3", "an agency read is answered without a round of the agency";

    // The agency on an etcd.
    etcd_append_unfenced, "I3", "an entry is written to etcd whoever leads";
    etcd_unknown_is_failure, "I3", "an entry of which nobody knows whether it was written counts as not written";
    etcd_round_before_renewal, "I5", "a question to etcd that is under way already confirms a renewal";
    etcd_snapshot_unfenced, "I3", "which snapshot counts is written to etcd whatever was written there before";

    // Leases.
    lease_from_reply, "I5", "a lease is counted from the reply instead of from when the renewal was sent";
    lease_without_margin, "I5", "a server uses its lease for D instead of D·(1 − ε)";
    agency_waits_too_short, "I5", "the agency takes a lease for over after D·(1 − ε)";
    grant_without_round, "I5", "a renewal is granted without a round of the agency";
    renewal_during_depose, "R1", "a renewal is granted between the append of a depose and its end";
    decides_before_own_entry, "R2", "an agency leader decides before an entry of its own term is applied";
    silent_before_start, "R2", "an agent that was started again votes as if it had never echoed a round before";
    silence_of_candidate, "R2", "a new agency leader asks itself alone how long nobody has been heard";
    elected_in_any_term, "R2", "an election that an earlier agency leader appended counts as this one's own";
    new_agency_leader_waits_not, "R2", "a new agency leader does not wait for leases that another has granted";
    older_lease_forgotten, "R9", "after D was lowered, leases that were granted under the old D are not waited for";
    foreign_write_elects, "R10", "what a client writes to the leader key makes the leader";

    // Processes and epochs.
    epoch_survives_restart, "R3", "a process goes on with an epoch that an earlier process began";
    gate_opens_before_row, "R3", "the gate opens before the epoch's row is durable";
    death_notice_of_any_boot, "R4", "a death notice counts for the present process, whichever it names";
    freeze_skipped, "R5", "a frozen server reports and goes on as before";
    report_before_durable, "R5", "a server reports before the epoch that it has seen is durable";
    seen_not_kept, "R5", "what epoch was seen is not written";
    epoch_unchecked, "R5", "neither does a freeze end the following nor does the store refuse an older sender";
    report_of_older_round, "R5", "a report of an older round is counted";
    report_of_older_process, "R5", "a report of an earlier process is counted";
    incomplete_elected, "R5", "an incomplete store may be elected";
    empty_store_elected, "I12", "a store without an entry may be elected where data has been";
    report_from_memory, "R5", "a report tells what memory knows, not what the disk holds";
    ticks_as_strings, "I12", "ticks are compared as text";
    longest_log_wins, "I12", "the highest tick is elected, whatever its epoch";
    elected_without_in_sync, "R6", "an election does not wait for one that has what was acknowledged";
    deposed_not_in_sync, "R6", "a deposed leader does not count among those that have what was acknowledged";
    in_sync_floor_ignored, "R6", "one of the in-sync set counts though it has lost its data";
    acknowledged_before_recorded, "R6", "a write is acknowledged by an in-sync set that is not on record yet";
    in_sync_replaced_early, "R6", "a write is acknowledged without a member that is still on record";
    joins_before_caught_up, "R6", "a follower joins the in-sync set before it has what was acknowledged";
    copy_counts_as_data, "R6", "what a follower has in an unfinished copy counts as durable there";
    lag_limit_ignored, "R15", "writes are acknowledged beyond the limit to the lag";
    sync_header_ignored, "I12", "a write is acknowledged before as many followers have it as its header asks for";
    unacknowledged_read, "R17", "a leader with synchronous followers shows what they do not have yet";
    in_sync_set_late, "R6", "a change of the in-sync set counts whichever record it names";
    grants_in_vain, "I15", "a leader that never serves under what it is granted is granted more without end";
    elected_in_vain_again, "I15", "a server that was elected and could not serve is elected like any other";
    full_disk_moves_to_full, "room", "a leader without room is sent off to a follower that has none either";
    full_disk_without_hold_off, "room", "a leader without room is sent off however lately leadership has moved";
    room_not_told, "room", "a server that had to refuse writes says that it has room";
    chosen_never_deposed, "I15", "a server that was chosen and never takes a lease is waited for without end";

    // Replication.
    compares_ticks_only, "R7", "a log that is no longer than the leader's counts as a prefix of it";
    common_point_too_high, "R7", "the common point lies one entry too high";
    history_left_behind, "R7", "a snapshot travels without the epoch history";
    overlap_not_filtered, "I8", "an append that overlaps with what is there is applied once more";
    rollback_stops_early, "I10", "a rollback stops one entry early";
    rollback_goes_too_far, "I10", "a rollback takes one entry too many";
    log_apart_from_data, "I8", "a log entry and its data are written by two transactions";
    before_image_lost, "I10", "undoing a change of a document removes it";
    loss_without_newest, "I10", "what a rollback has cost is told without the first entry that it undid";
    loss_told_early, "I10", "a returning leader says what it has lost before its log is matched";
    rollback_not_recorded, "R8", "what a rollback takes away is not kept";
    replaced_store_dropped, "R8", "data that a copy replaces are not kept, whatever they alone hold";
    copy_without_last_piece, "R8", "the last piece of a snapshot is left out";
    copy_not_exact, "R8", "a copy is swapped in before the log has made it exact";
    copy_in_place, "R8", "a copy is built in the place of the data in use";
    pieces_of_another_copy, "R8", "pieces of another snapshot are taken in";
    objects_pruned_early, "R8", "pruning takes the documents that undoing a drop or a truncate needs";
    index_left_unfinished, "I9", "an index is there although not all documents have their entries yet";
    unique_build_unchecked, "I9", "a unique index is built although two documents have the same values";
    followers_expire, "I6", "a follower removes documents that are due by its own clock";

    // Stream transactions.
    transaction_conflict_ignored, "I12", "a transaction is committed over what others have written since it began";
    transaction_in_parts, "I12", "of a transaction only the first document is committed";

    // Queries that write, and unique indexes.
    aql_write_in_parts, "I12", "each document that an AQL query writes has a log entry of its own";
    failed_query_kept, "I12", "an AQL query that fails keeps what it wrote until then";
    unique_not_checked, "unique", "a value counts as free if a document of an earlier epoch has it";
    unique_update_unchecked, "unique", "an update is not held against the unique indexes";
    unique_commit_unchecked, "unique", "a transaction's commit is not held against the unique indexes";
    index_not_undone, "unique", "undoing a change of a document leaves its entries in indexes as they are";

    // The gate.
    token_without_lineage, "R16", "a token of what was rolled back counts once the ticks are there";
    token_ignored, "I14", "a follower answers before it has the tick that is demanded";
    staleness_ignored, "I14", "a follower answers however stale its data are";
    staleness_from_arrival, "I14", "staleness counts from when the leader's answer arrived";
    fresh_before_durable, "I14", "a follower takes its data for fresh before they have what the leader told of";
    freshness_without_lease, "I14", "a leader without a lease tells its followers that they are fresh";
    revision_without_epoch, "R16", "revisions and ids contain nothing of the epoch";
    dirty_write_let_through, "I11", "a write that allows dirty reads passes the gate of a follower";
    release_of_any_epoch, "R12", "a release counts whatever epoch it names";
    release_before_closing, "R12", "a release is sent before the gate is closed";
    release_before_runs_end, "R12", "a lease is released while admitted writes are under way";
    transaction_outlives_epoch, "R13", "a stream transaction lives on when its leadership is over";
    confirm_skipped, "R13", "an answer leaves without a second look at the lease";
    confirm_ignores_epoch, "R13", "an answer of an earlier epoch leaves under the lease of a later one";
    refused_after_start, "R14", "1495 or 1496 is said of a write that was started";
    dirty_read_unmarked, "I11", "a dirty read is not marked as such";
    redirect_names_itself, "I13", "a redirect names the server that it comes from";
}

#[cfg(not(tanist_planted))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

#[cfg(tanist_planted)]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is_on($crate::planted::Bug::$bug)
    };
}

#[cfg(tanist_planted)]
mod switch {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    pub fn is_on(bug: Bug) -> bool {
        ON.get() == Some(bug)
    }

    /// Which bug the engine has from now on, in this thread.
    pub fn turn_on(bug: Option<Bug>) {
        ON.set(bug);
    }
}

#[cfg(tanist_planted)]
pub use switch::{is_on, turn_on};
