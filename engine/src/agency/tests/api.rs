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
