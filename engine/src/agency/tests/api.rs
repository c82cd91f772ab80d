//! What clients of the agency's HTTP API are answered.

use super::*;

#[test]
fn the_agency_api_answers_as_arangodbs_does() {
    let mut world = World::new(3, 0, 10);
    world.run(3_000);
    let write = |world: &mut World, body: Value| world.ask(Method::Post, "/_api/agency/write", body);
    let written = write(&mut world, json!([[{"/a": 1}], [{"/a": {"op": "increment"}}, {"/a": 1}, "client-1"]]));
    assert_eq!(written.status, 200);
    let indexes = body(&written)["results"].clone();
    assert_eq!(indexes[1], indexes[0].as_u64().unwrap() + 1);
    let again = write(&mut world, json!([[{"/a": {"op": "increment"}}, {"/a": 1}, "client-1"]]));
    assert_eq!(body(&again)["results"], json!([indexes[1]]), "the same transaction is not applied twice");
    let failed = write(&mut world, json!([[{"/a": 9}, {"/a": 7}], [{"/b/c": 3}, {"/b": {"oldEmpty": true}}]]));
    assert_eq!(failed.status, 412);
    assert_eq!(body(&failed)["results"][0], 0);
    let transact = json!([["/a"], [{"/a": 5}, {"/a": 2}], ["/a", "/b"], [{"/a": 6}, {"/a": 2}]]);
    let transact = world.ask(Method::Post, "/_api/agency/transact", transact);
    assert_eq!(transact.status, 412);
    let results = body(&transact);
    assert_eq!(results[0], json!({"a": 2}));
    assert!(results[1].as_u64().unwrap() > 0);
    assert_eq!(results[2], json!({"a": 5, "b": {"c": 3}}));
    assert_eq!(results[3], json!({"a": 5}), "the present value of the key whose precondition failed");
    let inquire = world.ask(Method::Post, "/_api/agency/inquire", json!(["client-1", "nobody"]));
    assert_eq!((inquire.status, body(&inquire)), (404, json!({"results": [indexes[1], 0], "inquired": true})));
    let transient = world.ask(Method::Post, "/_api/agency/transient", json!([[{"/t": 1}], ["/t"]]));
    assert_eq!((transient.status, body(&transient)), (200, json!([true, {"t": 1}])));
    assert_eq!(write(&mut world, json!([[{"/.agency": 1}]])).status, 403);
    assert_eq!(body(&write(&mut world, json!([]))), json!({"message": "Empty request"}));
    assert_eq!(write(&mut world, json!({"a": 1})).status, 400);
    assert_eq!(world.ask(Method::Post, "/_api/agency/read", json!([[1]])).status, 418);
    assert_eq!(world.ask(Method::Get, "/_api/agency/read", Value::Null).status, 405);
    assert_eq!(world.ask(Method::Get, "/_api/agency/nonsense", Value::Null).error_num(), Some(405));
    assert_eq!(world.ask(Method::Get, "/_api/agency", Value::Null).status, 404);
    let agency = world.value("/.agency");
    assert_eq!(agency["size"], 3);
    let poll = world.ask(Method::Get, "/_api/agency/poll?index=0", Value::Null);
    assert_eq!(body(&poll)["result"]["readDB"][0]["a"], 5);
    let commit = body(&poll)["result"]["commitIndex"].as_u64().unwrap();
    let poll = world.ask(Method::Get, &format!("/_api/agency/poll?index={}&timeout=0.2", commit + 1), Value::Null);
    assert_eq!(body(&poll)["result"]["log"], json!([]));
    let leader = world.agency_leader().unwrap();
    let id = world.request((leader + 1) % 3, Request::new(Method::Post, "/_api/agency/read"));
    let elsewhere = world.replies[&id].clone();
    let url = world.machines[leader].config.endpoint.url();
    assert_eq!(elsewhere.status, 307);
    assert_eq!(elsewhere.header(header::LOCATION), Some(format!("{url}/_api/agency/read").as_str()));
}

#[test]
fn only_a_superuser_gets_in() {
    let mut world = World::new(1, 0, 11);
    world.crash_agent(0);
    world.machines[0].config.auth = Auth { enabled: true, secrets: vec![b"secret".to_vec()], ..Auth::default() };
    world.start_agent(0);
    world.run(1_000);
    let refused = world.ask(Method::Post, "/_api/agency/read", json!([["/"]]));
    assert_eq!((refused.status, refused.error_num()), (401, Some(11)));
    assert_eq!(world.ask(Method::Get, "/_api/version", Value::Null).status, 200);
    let token = crate::auth::superuser_token(&world.machines[0].config.auth).unwrap();
    let request = Request::new(Method::Post, "/_api/agency/read")
        .with_body(&b"[[\"/\"]]"[..])
        .with_header(header::AUTHORIZATION, format!("bearer {token}"));
    let id = world.request(0, request);
    world.run(100);
    assert_eq!(world.replies[&id].status, 200);
}

impl World {
    /// A request to the leading agent, which is not waited for.
    fn begin(&mut self, method: Method, target: &str, body: Value) -> u64 {
        let leader = self.agency_leader().expect("an agent leads");
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.request(leader, Request::new(method, target).with_body(body))
    }

    fn poll(&mut self, index: u64, timeout_s: f64) -> u64 {
        self.begin(Method::Get, &format!("/_api/agency/poll?index={index}&timeout={timeout_s}"), Value::Null)
    }

    fn last_applied(&mut self) -> u64 {
        let leader = self.agency_leader().expect("an agent leads");
        self.machines[leader].agent.as_ref().unwrap().agency.state.applied
    }

    fn set(&mut self, count: u64) {
        let all: Vec<Value> = (0..count).map(|n| json!([{"/n": n}])).collect();
        assert_eq!(self.ask(Method::Post, "/_api/agency/write", all.into()).status, 200);
    }
}

#[test]
fn a_poll_waits_for_the_next_change_and_no_longer_than_it_says() {
    let mut world = World::new(1, 0, 12);
    world.run(2_000);
    world.set(1);
    let next = world.last_applied() + 1;
    let (long, short) = (world.poll(next, 60.0), world.poll(next, 0.5));
    let later = world.poll(next + 1, 60.0);
    world.run(400);
    assert!([long, short, later].iter().all(|id| !world.replies.contains_key(id)), "nothing has changed");
    world.run(200);
    assert_eq!(
        body(&world.replies[&short])["result"],
        json!({"firstIndex": next - 1, "commitIndex": next - 1, "log": []})
    );
    assert!(!world.replies.contains_key(&long));
    world.set(1);
    let told = body(&world.replies[&long])["result"].clone();
    assert_eq!((&told["firstIndex"], &told["commitIndex"]), (&json!(next), &json!(next)));
    assert_eq!(told["log"], json!([{"index": next, "query": {"/n": 0}}]), "{told}");
    assert!(!world.replies.contains_key(&later), "that is the entry after");
    world.set(1);
    assert_eq!(body(&world.replies[&later])["result"]["firstIndex"], next + 1);
    for (query, status) in [("index=x", 400), ("index=-1", 400), ("index=1&timeout=x", 400), ("", 200)] {
        assert_eq!(
            world.ask(Method::Get, &format!("/_api/agency/poll?{query}"), Value::Null).status,
            status,
            "{query}"
        );
    }
}

#[test]
fn who_polls_for_what_is_forgotten_gets_the_tree() {
    let mut world = World::new(1, 0, 13);
    world.run(2_000);
    for _ in 0..6 {
        world.set(400);
    }
    let last = world.last_applied();
    let oldest = last + 1 - HISTORY_MAX as u64;
    let told = |world: &mut World, index: u64| {
        let id = world.poll(index, 1.0);
        body(&world.replies[&id])["result"].clone()
    };
    let all = told(&mut world, oldest);
    assert_eq!((all["log"].as_array().unwrap().len(), &all["firstIndex"]), (HISTORY_MAX, &json!(oldest)));
    assert_eq!(told(&mut world, last)["log"].as_array().unwrap().len(), 1);
    for index in [0, oldest - 1] {
        let tree = told(&mut world, index);
        assert_eq!((&tree["readDB"][0]["n"], &tree["firstIndex"]), (&json!(399), &json!(0)), "{index}");
        assert_eq!(tree["log"], Value::Null);
    }
}

#[test]
fn too_many_who_wait_are_refused() {
    let mut world = World::new(1, 0, 14);
    world.run(2_000);
    let next = world.last_applied() + 1;
    let waiting: Vec<u64> = (0..4096).map(|_| world.poll(next + 5, 60.0)).collect();
    assert!(waiting.iter().all(|id| !world.replies.contains_key(id)));
    let refused = world.poll(next + 5, 60.0);
    assert_eq!((world.replies[&refused].status, world.replies[&refused].error_num()), (503, Some(21003)));
}

#[test]
fn malformed_transactions_are_refused_and_nothing_is_done() {
    let mut world = World::new(1, 0, 15);
    world.run(2_000);
    for wrong in [
        json!([[{"/x": 1}, {}, "client", 1]]),
        json!([[{"/x": 1}, 1]]),
        json!([[{"/x": 1}, {}, 1]]),
        json!([[]]),
        json!([[1]]),
        json!([1]),
        // None of several is done if one can't be.
        json!([[{"/x": 1}], [1]]),
    ] {
        for verb in ["write", "transact", "transient"] {
            let answer = world.ask(Method::Post, &format!("/_api/agency/{verb}"), wrong.clone());
            assert_eq!(answer.status, 400, "{verb} {wrong}");
        }
        assert_eq!(world.value("/x"), Value::Null, "{wrong}");
    }
    assert_eq!(world.ask(Method::Get, "/_api/agency/read/more", Value::Null).error_num(), Some(404));
    assert_eq!(world.ask(Method::Post, "/_api/agency/inquire", json!([1])).status, 400);
    assert_eq!(world.ask(Method::Post, "/_api/agency/config", json!({})).status, 501);
    assert_eq!(world.ask(Method::Put, "/_api/agency/config", json!({})).status, 501);
    assert_eq!(world.ask(Method::Delete, "/_api/agency/config", json!({})).status, 405);
}

#[test]
fn who_does_not_wait_is_told_less() {
    let mut world = World::new(3, 0, 16);
    world.run(3_000);
    let ask = |world: &mut World, verb: &str, mode: &str, what: Value| {
        let leader = world.agency_leader().unwrap();
        let request = Request::new(Method::Post, format!("/_api/agency/{verb}")).with_body(what.to_string());
        world.request(leader, request.with_header(header::AGENCY_MODE, mode))
    };
    let sequenced = ask(&mut world, "write", "waitForSequenced", json!([[{"/a": 1}], [{"/a": 2}, {}, "one"]]));
    let last = body(&world.replies[&sequenced])["results"][1].as_u64().expect("at once, with indexes");
    // It is not decided yet, and whoever asks waits for that, or does not.
    let (patient, hasty) =
        (ask(&mut world, "inquire", "", json!(["one"])), ask(&mut world, "inquire", "noWait", json!(["one"])));
    world.run(500);
    assert_eq!(body(&world.replies[&patient]), json!({"results": [last], "inquired": true}));
    assert_eq!(world.replies[&patient].status, 200);
    let told = body(&world.replies[&hasty]);
    assert!(
        told == json!({"results": [0], "inquired": true, "ongoing": true}) || told["results"] == json!([last]),
        "{told}"
    );
    let nothing = ask(&mut world, "write", "noWait", json!([[{"/a": 3}]]));
    assert_eq!(body(&world.replies[&nothing]), json!({}));
    let transact = ask(&mut world, "transact", "noWait", json!([[{"/a": 4}], ["/a"]]));
    assert!(!world.replies.contains_key(&transact), "a transaction that reads has to wait");
    let sequenced = ask(&mut world, "transact", "waitForSequenced", json!([[{"/b": 4}], ["/b"]]));
    assert!(!world.replies.contains_key(&sequenced));
    world.run(500);
    assert_eq!(body(&world.replies[&transact])[1], json!({"a": 4}));
    assert_eq!(body(&world.replies[&sequenced])[1], json!({"b": 4}));
    assert_eq!(world.value("/a"), 4);
    let transient =
        world.ask(Method::Post, "/_api/agency/transient", json!([[{"/t": 1}], [{"/t": 2}, {"/t": 5}], ["/t"]]));
    assert_eq!((transient.status, body(&transient)), (412, json!([true, false, {"t": 1}])));
}

#[test]
fn every_agent_tells_of_itself_and_of_what_it_has() {
    let mut world = World::new(3, 2, 17);
    world.wait_for_leader(5_000);
    world.set(1);
    world.run(1_000);
    let leader = world.agency_leader().unwrap();
    let ids: Vec<String> = world.machines.iter().map(|machine| machine.id.to_string()).collect();
    let mut seen = Vec::new();
    for agent in 0..3 {
        let tell = |world: &mut World, method: Method, target: &str| {
            let id = world.request(agent, Request::new(method, target));
            world.replies[&id].clone()
        };
        assert_eq!(body(&tell(&mut world, Method::Get, "/_admin/server/role"))["role"], "AGENT");
        assert_eq!(body(&tell(&mut world, Method::Get, "/_admin/server/availability"))["mode"], "default");
        assert!(body(&tell(&mut world, Method::Get, "/_api/tanist/rules")).to_string().contains("depose"));
        for path in ["/_api/version", "/_admin/server/role", "/_admin/status"] {
            assert_eq!(tell(&mut world, Method::Put, path).status, 405, "{path}");
        }
        assert_eq!(tell(&mut world, Method::Get, "/_admin/nothing").status, 404);
        let status = body(&tell(&mut world, Method::Get, "/_admin/status"))["agent"].clone();
        let config = body(&tell(&mut world, Method::Get, "/_api/agency/config"));
        let term = config["term"].as_u64().unwrap();
        assert!(term > 0);
        let expected = json!({"term": term, "id": ids[agent], "endpoint": world.machines[agent].config.endpoint.to_string(),
            "leaderId": ids[leader], "leading": agent == leader});
        assert_eq!(status, expected);
        assert_eq!((&config["leaderId"], &config["configuration"]["id"]), (&json!(ids[leader]), &json!(ids[agent])));
        assert_eq!(
            (&config["configuration"]["pool size"], &config["configuration"]["agency size"]),
            (&json!(3), &json!(3))
        );
        let pool: Vec<&String> = config["configuration"]["pool"].as_object().unwrap().keys().collect();
        assert_eq!(pool.len(), 3);
        let acked = config["lastAcked"].as_object().unwrap();
        assert_eq!(acked.len(), if agent == leader { 3 } else { 0 }, "{acked:?}");
        let commit = config["commitIndex"].as_u64().unwrap();
        assert!(
            acked.values().all(|acked| acked["lastAckedIndex"].as_u64().unwrap() + 5 > commit),
            "{acked:?} {commit}"
        );
        let state = body(&tell(&mut world, Method::Get, "/_api/agency/state"));
        assert_eq!(state["current"], term);
        assert_eq!(state["agency"]["n"], 0);
        let log = state["log"].as_array().unwrap();
        assert!(log.iter().any(|entry| entry["query"] == json!([{"/n": 0}])), "{log:?}");
        let stores = body(&tell(&mut world, Method::Get, "/_api/agency/stores"));
        assert_eq!((&stores["read_db"][0]["n"], &stores["spearhead"][0]["n"]), (&json!(0), &json!(0)));
        seen.push(stores["transient"][0].clone());
    }
    assert!(
        seen.iter().enumerate().all(|(agent, transient)| (transient == &json!({})) == (agent != leader)),
        "{seen:?}"
    );
    let status = body(&world.ask(Method::Get, "/_api/tanist/status", Value::Null));
    for (agent, told) in status["agents"].as_array().unwrap().iter().enumerate() {
        let of = ids.iter().position(|id| told["id"] == **id).unwrap();
        assert_eq!(told["leading"], of == leader, "{agent}");
        match of == leader {
            true => assert_eq!((&told["silentMs"], &told["matched"]), (&Value::Null, &Value::Null)),
            false => {
                assert!(told["silentMs"].as_u64().unwrap() < 1_000, "{told}");
                assert!(told["matched"].as_u64().unwrap() + 5 > status["applied"].as_u64().unwrap(), "{told}");
            }
        }
    }
    assert!(status["leaseLeftMs"].as_u64().is_some_and(|left| left > 0), "{status}");
    assert_eq!(status["servers"].as_array().unwrap().len(), 2);
    assert_eq!(status["witness"], "agents");
    let agents = body(&world.ask(Method::Get, "/_api/tanist/agents", Value::Null));
    let leading: Vec<bool> =
        agents["agents"].as_array().unwrap().iter().map(|agent| agent["leading"] == true).collect();
    assert_eq!(leading.iter().filter(|leading| **leading).count(), 1);
}

#[test]
fn the_tree_is_told_as_it_was_as_far_as_the_log_goes_back() {
    let mut world = World::new(1, 0, 18);
    world.run(2_000);
    let at = |world: &mut World, index: Value| {
        let id = world.begin(Method::Post, "/_api/agency/store", index);
        world.replies[&id].clone()
    };
    for n in 0..50 {
        let written = world.ask(Method::Post, "/_api/agency/write", json!([[{"/n": n}]]));
        let index = body(&written)["results"][0].as_u64().unwrap();
        let now = at(&mut world, json!(index));
        assert_eq!((now.status, &body(&now)["n"]), (200, &json!(n)));
    }
    let last = world.last_applied();
    for back in 1..10 {
        assert_eq!(body(&at(&mut world, json!(last - back)))["n"], 49 - back, "{back} entries ago");
    }
    assert_eq!(at(&mut world, json!(1)).status, 404, "it is compacted");
    assert_eq!(at(&mut world, json!(last + 1)).status, 404, "it is not there yet");
    assert_eq!(at(&mut world, json!("x")).status, 400);
    let snapshot = world.machines[0].agent.as_ref().unwrap().agency.consensus.as_ref().unwrap().log().snapshot.index;
    assert!(snapshot > 1 && snapshot < last);
    assert_eq!(at(&mut world, json!(snapshot)).status, 200);
    assert_eq!(at(&mut world, json!(snapshot - 1)).status, 404);
}

#[test]
fn what_tanist_is_asked_for_is_looked_at() {
    let mut world = World::new(1, 1, 19);
    world.wait_for_leader(5_000);
    for path in ["status", "failovers", "death-notice", "handover", "timing", "agents"] {
        assert_eq!(world.ask(Method::Patch, &format!("/_api/tanist/{path}"), Value::Null).status, 405, "{path}");
    }
    assert_eq!(world.ask(Method::Get, "/_api/tanist/nothing", Value::Null).status, 404);
    let timing = |world: &mut World, lease_ms: u64, drift: u64| {
        let wanted = json!({"leaseMs": lease_ms, "driftPermille": drift});
        world.ask(Method::Put, "/_api/tanist/timing", wanted)
    };
    for (lease_ms, drift) in [(99, 200), (600_001, 200), (1000, 0), (1000, 901)] {
        assert_eq!(timing(&mut world, lease_ms, drift).status, 400, "{lease_ms} {drift}");
    }
    for (lease_ms, drift) in [(100, 1), (600_000, 900), (1000, 200)] {
        let told = timing(&mut world, lease_ms, drift);
        assert_eq!(body(&told)["timing"], json!({"leaseMs": lease_ms, "driftPermille": drift}));
    }
    let server = world.servers[0].peer.id.to_string();
    for wrong in [
        json!({"server": server, "nonce": "0".repeat(31)}),
        json!({"server": server, "nonce": "x".repeat(32)}),
        json!({"server": "x", "nonce": "0".repeat(32)}),
        json!({"server": world.machines[0].id.to_string(), "nonce": "0".repeat(32)}),
        json!({}),
    ] {
        assert_eq!(world.ask(Method::Post, "/_api/tanist/death-notice", wrong.clone()).status, 400, "{wrong}");
    }
    assert_eq!(world.ask(Method::Post, "/_api/tanist/handover", json!({"to": "x"})).status, 400);
    assert_eq!(world.ask(Method::Delete, "/_api/tanist/agents", json!({"id": server})).status, 400);
    for wrong in [json!({}), json!({"id": world.machines[0].id.to_string(), "disk": "x", "endpoint": "tcp://a:1"})] {
        assert_eq!(world.ask(Method::Post, "/_api/tanist/agents", wrong).status, 400);
    }
    // An agency of one can't do without it, whether the id is in the body or in the address.
    let id = world.machines[0].id.to_string();
    for (query, sent) in [(format!("?id={id}"), Value::Null), (String::new(), json!({"id": id}))] {
        let answer = world.ask(Method::Delete, &format!("/_api/tanist/agents{query}"), sent);
        assert_eq!(answer.status, 409);
    }
}

#[test]
fn an_agent_without_a_leader_says_so_and_one_that_is_told_to_stop_stops() {
    let mut world = World::new(3, 0, 20);
    world.run(3_000);
    let failovers = world.ask(Method::Get, "/_api/tanist/failovers", Value::Null);
    assert_eq!((failovers.status, &body(&failovers)["result"]), (200, &json!([])));
    for agent in [1, 2] {
        world.crash_agent(agent);
    }
    world.crash_agent(0);
    world.start_agent(0);
    world.run(500);
    let tell = |world: &mut World, method: Method, target: &str| {
        let id = world.request(0, Request::new(method, target));
        world.replies[&id].clone()
    };
    let poll = tell(&mut world, Method::Get, "/_api/agency/poll");
    assert_eq!((poll.status, &body(&poll)["errorMessage"]), (503, &json!("No leader")));
    let read = tell(&mut world, Method::Post, "/_api/agency/read");
    assert_eq!((read.status, body(&read)["errorMessage"] == json!("No leader")), (503, false), "{}", body(&read));
    let stop = tell(&mut world, Method::Delete, "/_admin/shutdown");
    assert_eq!((stop.status, body(&stop)), (200, json!("OK")));
    world.run(2_000);
    assert!(world.machines[0].agent.is_none(), "it has left");
}

#[test]
fn an_agency_has_seven_agents_at_most() {
    let mut world = World::new(7, 0, 21);
    world.run(5_000);
    let seat = |id: String, port: u16| json!({"id": id, "disk": crate::types::Uuid(77).to_string(), "endpoint": format!("tcp://a:{port}")});
    let stranger = NodeId { kind: NodeKind::Agent, uuid: 99 }.to_string();
    let refused = world.ask(Method::Post, "/_api/tanist/agents", seat(stranger, 9));
    assert_eq!(refused.status, 409);
    assert!(body(&refused)["errorMessage"].as_str().unwrap().contains("at most 7"), "{}", body(&refused));
    // One of the seven with another disk is no eighth.
    let member = world.machines[6].id.to_string();
    let told = world.ask(Method::Post, "/_api/tanist/agents", seat(member, 9));
    assert!(!body(&told).to_string().contains("at most 7"), "{}", body(&told));
}
