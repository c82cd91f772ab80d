//! Cuts, one-way cuts, loss and delay between machines: a server without lease refuses, the others go on.

use crate::machine::{Machines, REFUSED};
use serde_json::json;
use std::time::{Duration, Instant};
use tanist_tests::net::Link;
use tanist_tests::wait::{stays, wait_until};

/// The others elect another one within the lease and what an election of the agency takes; the old one refuses before
/// that, and undoes nothing that the new one has.
#[test]
fn a_leader_that_is_cut_off_refuses_and_the_others_go_on() {
    let Some(machines) = Machines::three(&[]) else { return };
    let old = machines.leader(&[1, 2, 3]).expect("a leader");
    machines.client(old).post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);
    assert!(machines.writes(old, "before"));
    machines.wait_followers(&[1, 2, 3]);
    let others: Vec<usize> = (1..=3).filter(|number| *number != old).collect();

    machines.cut(old);
    let cut_at = Instant::now();
    let new = loop {
        let (new, old_serves) = (machines.leader(&others), machines.serves(old));
        // Asked last, so that an old one that still served would be seen beside the new one.
        if let Some(new) = new {
            assert!(!machines.serves(old), "two serve");
            break new;
        }
        assert!(old_serves || cut_at.elapsed() < Duration::from_secs(20), "nobody leads");
        std::thread::sleep(Duration::from_millis(10));
    };
    println!("another one led {:.2} s after the cut", cut_at.elapsed().as_secs_f64());
    assert!(cut_at.elapsed() < Duration::from_secs(12));
    wait_until("the new one writes", || machines.writes(new, "after"));
    let refused = machines.client(old).post("/_api/document/c", &json!({"_key": "lost"})).unwrap();
    assert!(REFUSED.contains(&refused.refusal()), "{refused}");
    stays(Duration::from_secs(2), "the old one refuses, the new one serves", || {
        !machines.serves(old) && machines.serves(new)
    });

    machines.heal(old);
    assert_eq!(machines.wait_followers(&[1, 2, 3]), new);
    assert!(machines.has(new, "before") && machines.has(new, "after") && !machines.has(new, "lost"));
}

/// In one direction only: whoever is not heard is as good as cut off, and so is who hears nothing.
#[test]
fn a_cut_in_one_direction_makes_no_second_leader() {
    let Some(machines) = Machines::three(&[]) else { return };
    let first = machines.leader(&[1, 2, 3]).expect("a leader");
    machines.client(first).post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);
    machines.wait_followers(&[1, 2, 3]);
    for outgoing in [true, false] {
        let old = machines.wait_leader(&[1, 2, 3]);
        let others: Vec<usize> = (1..=3).filter(|number| *number != old).collect();
        for other in &others {
            let (from, to) = if outgoing { (old, *other) } else { (*other, old) };
            machines.net.set(from, to, Link { cut: true, ..Link::default() });
        }
        let new = machines.wait_leader(&others);
        assert!(!machines.serves(old), "two serve");
        wait_until("the new one writes", || machines.writes(new, &format!("outgoing-{outgoing}")));
        stays(Duration::from_secs(1), "only the new one serves", || !machines.serves(old) && machines.serves(new));
        machines.heal(old);
        assert_eq!(machines.wait_followers(&[1, 2, 3]), new);
    }
}

/// Every fifth packet lost and 50 ms each way: slow, and one leader at most at any time.
#[test]
fn with_loss_and_delay_writes_go_on() {
    let Some(machines) = Machines::three(&["--args.agents.agency.supervision-grace-period=4"]) else { return };
    let leader = machines.leader(&[1, 2, 3]).expect("a leader");
    machines.client(leader).post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);
    for number in 1..=3 {
        machines.net.set_all(number, Link { loss_permille: 200, delay: Duration::from_millis(50), cut: false });
    }
    let (began, mut acknowledged) = (Instant::now(), Vec::new());
    while began.elapsed() < Duration::from_secs(6) {
        let serving: Vec<usize> = (1..=3).filter(|number| machines.serves(*number)).collect();
        // Seen one after the other, two may have served in turn; then the first of them no longer does.
        assert!(serving.len() < 2 || !machines.serves(serving[0]) || !machines.serves(serving[1]), "{serving:?} serve");
        for number in serving {
            let key = format!("k{}", acknowledged.len());
            if machines.writes(number, &key) {
                acknowledged.push(key);
            }
        }
    }
    println!("{} writes acknowledged", acknowledged.len());
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
    for number in 1..=3 {
        machines.heal(number);
    }
    let leader = machines.wait_followers(&[1, 2, 3]);
    assert!(acknowledged.iter().any(|key| machines.has(leader, key)));
}
