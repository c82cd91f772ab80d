//! The cases that ArangoDB's own tests of active failover look at, as scenarios with an expectation each.

use tanist_sim::run::{Driver, run};
use tanist_sim::scenario::Scenario;
use tanist_sim::world::Figures;

const CALM: &str = "faults_ms 12000\nclients 3\nthink_ms 30\nmix_agency 0\n";

/// Runs a scenario under several sub-seeds; every invariant must hold, and `expect` of what it came to.
fn case(text: &str, expect: impl Fn(&Figures) -> Result<(), &'static str>) {
    for chance in 1..=8 {
        for driver in [Driver::Loop, Driver::Madsim] {
            let text = format!("{CALM}{text}\nseed_work {chance}\nseed_net {chance}\nseed_nodes {chance}\n");
            let scenario = Scenario::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            let outcome = run(&scenario, driver, None);
            let told = format!("{driver:?} {:?}\n{text}", outcome.figures);
            assert!(outcome.violation.is_none(), "{}\n{told}", outcome.violation.unwrap());
            assert!(outcome.figures.acknowledged > 50, "hardly anything was written\n{told}");
            expect(&outcome.figures).unwrap_or_else(|what| panic!("{what}\n{told}"));
        }
    }
}

fn no_failover(figures: &Figures) -> Result<(), &'static str> {
    if figures.epochs == 1 && figures.lost == 0 { Ok(()) } else { Err("the leader must stay") }
}

fn one_failover(figures: &Figures) -> Result<(), &'static str> {
    if figures.epochs >= 2 { Ok(()) } else { Err("another server must lead") }
}

#[test]
fn followers_get_in_sync() {
    case("", no_failover);
    case("servers 4", no_failover);
    case("agents 1\nservers 2", no_failover);
}

#[test]
fn a_killed_leader_is_replaced_and_comes_back() {
    case("fault 4000 kill leader 5000", one_failover);
    case("fault 4000 kill leader 3000 notice_ms=5 notices=1", one_failover);
    case("servers 4\nfault 4000 kill leader 6000\nfault 7000 kill leader 4000", one_failover);
}

#[test]
fn a_leader_that_stops_loses_nothing() {
    case("fault 4000 stop leader 3000", |figures| {
        one_failover(figures)?;
        if figures.lost == 0 { Ok(()) } else { Err("a planned stop lost an acknowledged write") }
    });
}

#[test]
fn a_hand_over_loses_nothing() {
    case("fault 4000 handover s1 1\nfault 7000 handover s2 1", |figures| {
        one_failover(figures)?;
        if figures.lost == 0 { Ok(()) } else { Err("a hand-over lost an acknowledged write") }
    });
}

#[test]
fn a_leader_paused_for_less_than_its_lease_stays() {
    case("fault 4000 pause leader 400", no_failover);
}

#[test]
fn a_leader_paused_for_longer_is_replaced() {
    case("fault 4000 pause leader 5000", one_failover);
    case("fault 3000 pause leader 3000\nfault 8000 pause leader 3000", one_failover);
}

#[test]
fn a_leader_cut_off_from_the_agency_is_replaced() {
    case("fault 4000 cut leader 5000 way=both from=agents", one_failover);
    case("fault 4000 cut leader 5000 way=out from=agents", one_failover);
}

#[test]
fn a_killed_or_paused_follower_changes_nothing() {
    case("fault 4000 kill follower 3000", no_failover);
    case("fault 4000 pause follower 4000", no_failover);
    case("log_keep 10\nlog_keep_cap 40\nfault 4000 pause follower 6000", no_failover);
}

#[test]
fn a_late_follower_catches_up() {
    case("late_server_ms 6000", no_failover);
    case("servers 4\nlate_server_ms 9000\nlog_keep 10\nlog_keep_cap 20", no_failover);
}

#[test]
fn the_follower_with_the_most_is_chosen() {
    // The others see nothing for three seconds; then the leader dies and they are back. I12 judges the choice.
    case(
        "servers 4\nfault 4000 cut s1 3000 from=servers\nfault 4000 cut s2 3000 from=servers\nfault 6990 kill leader 3000",
        one_failover,
    );
}

#[test]
fn agents_that_die_with_the_leader_do_not_prevent_the_failover() {
    case("fault 4000 kill leaders 4000", one_failover);
    case("fault 4000 kill all 2000", one_failover);
}
