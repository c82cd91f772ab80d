//! Who is served by whom: refusals, dirty reads, read-only mode, authentication.

use crate::setup;
use serde_json::json;
use tanist_tests::http::Client;
use tanist_tests::wait::wait_until;

const C: &str = "UnitTestActiveFailover";
const DIRTY: [(&str, &str); 1] = [("X-Arango-Allow-Dirty-Read", "true")];

#[test]
fn a_follower_refuses_and_says_where_to_go() {
    let deployment = setup().agents(1).servers(2).start();
    deployment.create_collection(C);
    let leader = deployment.wait_in_sync();
    let follower = deployment.followers()[0];
    deployment.insert(leader, C, 0..1);
    deployment.wait_in_sync();
    let mut client = deployment.client(follower);

    for (method, target) in [
        ("GET", "/_api/collection"),
        ("POST", &format!("/_api/document/{C}")),
        ("GET", "/_admin/echo"),
        ("GET", "/_api/database"),
        ("POST", "/_open/auth"),
        ("GET", "/_db/nowhere/_api/document/x/y"),
        ("GET", "/"),
    ] {
        let answer = client.send(method, target, &[], b"{}").unwrap();
        let body = r#"{"error":true,"errorNum":1496,"errorMessage":"not a leader","code":503}"#;
        assert_eq!((answer.status, answer.text().as_str()), (503, body), "{method} {target}");
        // The Java driver looks for exactly this spelling.
        let header = answer.headers.iter().find(|(name, _)| name == "X-Arango-Endpoint");
        assert_eq!(header.map(|(_, value)| value.as_str()), Some(&*deployment.url(leader)), "{method} {target}");
        assert_eq!(answer.header("x-arango-potential-dirty-read"), Some("true"));
        assert_eq!(answer.header("server"), Some("ArangoDB"));
        assert_eq!(answer.header("location"), None);
    }
    for target in ["/_api/version", "/_admin/status", "/_admin/server/role", "/_api/cluster/endpoints"] {
        let answer = client.get(target).unwrap();
        assert_eq!(answer.status, 200, "{target}: {answer}");
        assert_eq!(answer.header("x-arango-endpoint"), Some(&*deployment.url(leader)), "{target}");
    }
    assert_eq!(client.get("/_admin/server/availability").unwrap().refusal(), (503, 503));

    // A marked dirty read is served and marked; it opens no door for writes.
    let answer = client.send("GET", &format!("/_api/document/{C}/0"), &DIRTY, b"").unwrap();
    assert_eq!((answer.status, answer.header("x-arango-potential-dirty-read")), (200, Some("true")), "{answer}");
    let answer = client.send("POST", &format!("/_api/document/{C}"), &DIRTY, b"{}").unwrap();
    assert_eq!(answer.refusal(), (403, 1004), "{answer}");

    let answer = deployment.client(leader).get(&format!("/_api/document/{C}/0")).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-arango-endpoint"), None);
    assert_eq!(answer.header("x-arango-potential-dirty-read"), None);
}

/// The four cases of ArangoDB's `readonly.js`.
#[test]
fn read_only_mode_holds_on_every_leader_to_come() {
    let mut deployment = setup().start();
    deployment.create_collection(C);
    let first = deployment.wait_leader();
    deployment.insert(first, C, 0..100);
    let mode = json!({"mode": "readonly"});
    deployment.client(first).put("/_admin/server/mode", &mode).unwrap().expect(200);
    assert!(writes_nothing(&deployment.address(first)), "in force with the answer");
    assert_eq!(deployment.numbers(first, C).len(), 100, "reads work");
    let availability = deployment.client(first).get("/_admin/server/availability").unwrap().json();
    assert_eq!(availability["mode"], json!("readonly"));
    deployment.wait_in_sync();

    deployment.servers[first].pause();
    let second = deployment.wait_leader_other_than(first);
    assert!(writes_nothing(&deployment.address(second)), "from its first moment");
    assert_eq!(deployment.numbers(second, C).len(), 100);

    deployment.servers[first].resume();
    deployment.wait_follower(first, second);
    deployment.wait_in_sync();
    for server in (0..3).filter(|server| *server != first) {
        deployment.servers[server].pause();
    }
    wait_until("the first leader leads again", || deployment.leader() == Some(first));
    assert_eq!(insert(&deployment.address(first), 1000), (403, 1004));
    let mode = json!({"mode": "default"});
    deployment.client(first).put("/_admin/server/mode", &mode).unwrap().expect(200);
    wait_until("it writes again", || insert(&deployment.address(first), 1000).0 == 202);
}

fn writes_nothing(address: &str) -> bool {
    let drop = Client::new(address).delete(&format!("/_api/collection/{C}")).unwrap();
    insert(address, 1000) == (403, 1004) && drop.refusal() == (403, 11)
}

/// Status and `errorNum` of an insert; (202, 0) if it worked.
fn insert(address: &str, number: u64) -> (u16, u64) {
    let document = json!({"_key": number.to_string()});
    Client::new(address).post(&format!("/_api/document/{C}"), &document).unwrap().refusal()
}

#[test]
fn with_a_secret_everybody_must_say_who_they_are() {
    let mut deployment = setup().agents(1).servers(2).secret("haxxmann-haxxmann").start();
    deployment.create_collection(C);
    let leader = deployment.wait_leader();
    let follower = deployment.followers()[0];

    let mut nobody = Client::new(&deployment.address(leader));
    let answer = nobody.get("/_api/collection").unwrap();
    assert_eq!(answer.refusal(), (401, 11), "{answer}");
    assert!(answer.header("www-authenticate").is_some());
    assert_eq!(nobody.get("/_admin/server/availability").unwrap().status, 200, "open for load balancers");
    let answer = Client::new(&deployment.address(follower)).get("/_api/collection").unwrap();
    assert_eq!(answer.refusal(), (503, 1496), "the gate comes before authentication");

    let log_in = |client: &mut Client, password: &str| {
        client.post("/_open/auth", &json!({"username": "root", "password": password})).unwrap()
    };
    assert_eq!(log_in(&mut nobody, "wrong").status, 401);
    let jwt = log_in(&mut nobody, "").expect(200).json()["jwt"].as_str().expect("a token").to_owned();
    let mut root = Client::new(&deployment.address(leader)).with_authorization(Some(format!("bearer {jwt}")));
    root.get("/_api/collection").unwrap().expect(200);
    let ann = json!({"user": "ann", "passwd": "secret"});
    root.post("/_api/user", &ann).unwrap().expect(201);
    let grant = json!({"grant": "ro"});
    root.put("/_api/user/ann/database/_system", &grant).unwrap().expect(200);

    // ann:secret; reads, does not write, sees no other users.
    let mut ann = Client::new(&deployment.address(leader)).with_authorization(Some("Basic YW5uOnNlY3JldA==".into()));
    ann.get(&format!("/_api/collection/{C}")).unwrap().expect(200);
    assert_eq!(ann.post("/_api/collection", &json!({"name": "other"})).unwrap().refusal(), (403, 11));
    assert_eq!(ann.post(&format!("/_api/document/{C}"), &json!({})).unwrap().refusal(), (403, 1004));

    // The user and her token are good on the next leader as well.
    deployment.wait_in_sync();
    deployment.servers[leader].kill();
    let new = deployment.wait_leader_other_than(leader);
    let mut root = Client::new(&deployment.address(new)).with_authorization(Some(format!("bearer {jwt}")));
    root.get("/_api/collection").unwrap().expect(200);
    let mut ann = Client::new(&deployment.address(new)).with_authorization(Some("Basic YW5uOnNlY3JldA==".into()));
    ann.get(&format!("/_api/collection/{C}")).unwrap().expect(200);

    // Agents ask as well.
    let answer = Client::new(&format!("127.0.0.1:{}", deployment.agent_ports[0]))
        .post("/_api/agency/read", &json!([["/"]]))
        .unwrap();
    assert_eq!(answer.status, 401, "{answer}");
    deployment.agent_client(0).post("/_api/agency/read", &json!([["/"]])).unwrap().expect(200);
}
