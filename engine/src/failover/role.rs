//! A server's life as a table: which state follows which, on what cause.
//!
//! The table is the whole rule: a cause without a row in the present state changes nothing. It never looks at clocks,
//! messages or stores; what a state means for requests is the gate's business, what it does is `failover/mod.rs`'s.
//! Invariants: I5 and I11 rest on `Leading` being entered only from `Promoting`, and never again after `Released`.

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The agency has not registered this process yet.
    Joining,
    /// Registered; nobody leads as far as this server knows.
    Waiting,
    /// Somebody else leads.
    Following,
    /// Elected: the epoch's first entry is being written and a lease is asked for.
    Promoting,
    /// Serving, as long as the lease holds.
    Leading,
    /// Gave its lease back (R12): never serves again in that epoch.
    Released,
    /// About to leave.
    Stopping,
}

impl Role {
    pub const ALL: [Role; 7] =
        [Role::Joining, Role::Waiting, Role::Following, Role::Promoting, Role::Leading, Role::Released, Role::Stopping];

    pub fn name(self) -> &'static str {
        match self {
            Role::Joining => "Joining",
            Role::Waiting => "Waiting",
            Role::Following => "Following",
            Role::Promoting => "Promoting",
            Role::Leading => "Leading",
            Role::Released => "Released",
            Role::Stopping => "Stopping",
        }
    }
}

/// What may move a server from one state to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The agency knows this process, and the data belongs to its deployment.
    Registered,
    /// The record of leadership names nobody, or a process of this server that is gone.
    NobodyLeads,
    /// The record names another server.
    AnotherLeads,
    /// The record names this process.
    Elected,
    /// The epoch's first entry is durable and the lease is there.
    Opened,
    /// A freeze for a later epoch has come: whatever went on in an older one is over (R5).
    Frozen,
    /// The epoch could not be begun.
    CannotLead,
    /// Hand-over: everything is done and the successor has it.
    HandsOver,
    /// The operator wants the process to leave.
    Leaves,
}

impl Cause {
    pub const ALL: [Cause; 9] = [
        Cause::Registered,
        Cause::NobodyLeads,
        Cause::AnotherLeads,
        Cause::Elected,
        Cause::Opened,
        Cause::Frozen,
        Cause::CannotLead,
        Cause::HandsOver,
        Cause::Leaves,
    ];
}

/// One row. Numbers have gaps so that a row can be put in between; the first match wins.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    pub number: u32,
    pub from: &'static [Role],
    pub cause: Cause,
    pub to: Role,
    pub sentence: &'static str,
}

use Role::*;

#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    row(100, &[Joining], Cause::Registered, Waiting, "registered with the agency"),

    row(200, &[Waiting, Released], Cause::AnotherLeads, Following, "another server leads"),
    row(210, &[Promoting, Leading], Cause::AnotherLeads, Following, "deposed: another server leads"),
    row(220, &[Following, Promoting, Leading, Released], Cause::NobodyLeads, Waiting, "nobody leads now"),
    row(230, &[Following, Promoting, Leading, Released], Cause::Frozen, Waiting, "frozen for the election of a later epoch"),

    row(300, &[Waiting, Following, Released], Cause::Elected, Promoting, "elected"),
    row(310, &[Promoting], Cause::Opened, Leading, "the epoch has begun and the lease is held"),
    row(320, &[Promoting], Cause::CannotLead, Waiting, "the epoch could not be begun"),

    row(400, &[Leading], Cause::HandsOver, Released, "leadership handed over"),

    row(900, &[Joining, Waiting, Following, Promoting, Leading, Released], Cause::Leaves, Stopping, "stopping"),
];

const fn row(number: u32, from: &'static [Role], cause: Cause, to: Role, sentence: &'static str) -> Row {
    Row { number, from, cause, to, sentence }
}

/// The row that applies, if any.
pub fn next(role: Role, cause: Cause) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.cause == cause && row.from.contains(&role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        assert!(TABLE.windows(2).all(|pair| pair[0].number < pair[1].number), "numbers grow");
        assert!(TABLE.iter().all(|row| crate::mark::of_row("Role", row.number).is_some()), "a mark for each");
        for role in Role::ALL {
            for cause in Cause::ALL {
                let rows = TABLE.iter().filter(|row| row.cause == cause && row.from.contains(&role)).count();
                assert!(rows <= 1, "{role:?} on {cause:?} has {rows} rows");
            }
        }
        // I5, I11: one way into Leading; and from Released only by a new election.
        let into_leading: Vec<_> = TABLE.iter().filter(|row| row.to == Leading).collect();
        assert!(into_leading.len() == 1 && into_leading[0].from == [Promoting]);
        assert!(TABLE.iter().all(|row| row.to != Released || row.from == [Leading]));
        assert!(TABLE.iter().all(|row| !row.from.contains(&Stopping)), "nothing leads out of Stopping");
    }

    #[test]
    fn every_state_but_stopping_can_be_reached_and_left() {
        for role in Role::ALL {
            assert!(role == Joining || TABLE.iter().any(|row| row.to == role), "{role:?} can't be reached");
            assert!(role == Stopping || TABLE.iter().any(|row| row.from.contains(&role)), "{role:?} can't be left");
        }
    }
}
