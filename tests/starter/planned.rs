//! Planned moves under load: no driver that follows the 503 sees a failure, and nothing acknowledged is lost.

use crate::{pids, start};
use rustix::process::Signal;
use serde_json::json;
use std::time::Instant;
use tanist_tests::driver::Drivers;
use tanist_tests::wait::wait_until;

#[test]
fn switchover_stop_and_upgrade_fail_no_request_and_lose_no_write() {
    let started = start(&[]);
    started.wait_followers();
    let leader = started.leader().expect("a leader");
    started.client(leader).post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);
    started.wait_followers();
    let mut drivers = Drivers::start(&started.servers(), "c", 2, 200);
    let goes_on = |drivers: &Drivers, what: &str| {
        let before = drivers.acknowledged();
        wait_until("writes go on", || drivers.acknowledged() > before + 20);
        assert_eq!(drivers.failed(), [""; 0], "{what}");
    };
    goes_on(&drivers, "nothing has happened yet");

    let (code, text) = started.command(&["switchover"]);
    assert_eq!(code, 0, "{text}");
    goes_on(&drivers, "switchover");
    started.wait_followers_lagging(1000);

    let leader = started.leader().expect("a leader");
    started.signal(leader, Signal::TERM);
    started.wait_leader_other_than(leader);
    goes_on(&drivers, "SIGTERM");
    started.wait_followers_lagging(1000);

    let before = pids(&started.ask("/process"));
    let begun = Instant::now();
    let (code, text) = started.command(&["upgrade"]);
    assert_eq!(code, 0, "{text}");
    let after = pids(&started.ask("/process"));
    assert!(after.len() == 6 && after.iter().all(|pid| !before.contains(pid)), "{before:?} {after:?}\n{text}");
    goes_on(&drivers, &format!("upgrade, {:?}:\n{text}", begun.elapsed()));

    let leader = started.leader().expect("a leader");
    assert_eq!(drivers.end(leader), [0; 0], "acknowledged and gone");
    let (code, text) = started.command(&["failovers"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(text.matches("switchover").count(), 2, "{text}");
    assert!(text.contains("stop") && !text.contains("failover "), "{text}");
}

#[test]
fn an_upgrade_that_would_leave_nothing_to_fall_back_on_is_refused() {
    let started = start(&[]);
    started.wait_followers();
    let leader = started.leader().expect("a leader");
    let follower = started.servers().into_iter().find(|port| *port != leader).expect("a follower");
    started.signal(follower, Signal::STOP);
    let before = pids(&started.ask("/process"));
    wait_until("the upgrade is refused", || {
        let (code, text) = started.command(&["upgrade"]);
        code == 1 && text.contains("nothing was touched") && text.contains(&format!(":{follower} "))
    });
    assert_eq!(pids(&started.ask("/process")), before);
    started.signal(follower, Signal::CONT);
}
