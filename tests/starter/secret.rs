//! A deployment with a secret: every port asks who is there, and whoever has the secret gets everywhere.

use crate::start;
use serde_json::{Value, json};
use tanist_engine::auth::superuser_token;
use tanist_engine::types::Auth;
use tanist_tests::wait::wait;

#[test]
fn every_port_asks_for_credentials_and_the_commands_have_them() {
    const SECRET: &str = "a-secret-of-some-length";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SECRET).unwrap();
    let secret = format!("--auth.jwt-secret={}", file.path().display());
    let mut started = start(&[&secret]);
    assert!(!started.process.log_text().contains("No authentication"));
    let auth = Auth { enabled: true, secrets: vec![SECRET.as_bytes().to_vec()], ..Auth::default() };
    let token = superuser_token(&auth).map(|token| format!("bearer {token}"));
    let leader = started.leader().expect("a leader");

    let starter = started.port;
    for (port, method, target) in [
        (starter, "GET", "/process"),
        (starter, "POST", "/shutdown"),
        (starter + 3, "POST", "/_api/agency/read"),
        (starter + 3, "GET", "/_api/tanist/status"),
        (starter + 3, "POST", "/_api/tanist/death-notice"),
        (starter + 3, "POST", "/_api/tanist/handover"),
        (starter + 3, "GET", "/_api/tanist/peer"),
        (leader, "GET", "/_api/collection"),
        (leader, "GET", "/_api/tanist/status"),
        (leader, "GET", "/_api/tanist/peer"),
        (leader, "GET", "/_api/version"),
    ] {
        for wrong in [None, Some("bearer x.y.z".to_owned()), Some("Basic cm9vdDp4".to_owned())] {
            let mut nobody = started.client(port).with_authorization(wrong);
            let answer = nobody.send(method, target, &[], b"[[\"/\"]]").unwrap();
            assert_eq!(answer.status, 401, "{port} {method} {target}: {answer}");
        }
    }
    let mut root = started.client(leader).with_authorization(token);
    root.post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);

    for words in [&["status"][..], &["switchover"], &["stop"]] {
        let (code, text) = started.command(words);
        assert!(code == 1 && (text.contains("--auth.jwt-secret") || text.contains("secret is needed")), "{text}");
    }
    let (code, text) = started.command(&["status", "--json", &secret]);
    assert_eq!(code, 0, "{text}");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let answers = report["servers"].as_array().unwrap().iter().filter(|server| server["status"]["role"].is_string());
    assert_eq!(answers.count(), 3, "{text}");
    let (code, text) = started.command(&["switchover", &secret]);
    assert_eq!(code, 0, "{text}");
    let next = wait("another server leads", || started.leader().filter(|port| *port != leader));
    assert!(text.contains(&next.to_string()), "{text}");
    let (code, text) = started.command(&["stop", &secret]);
    assert_eq!((code, text.trim()), (0, "Stopped."));
    assert!(started.process.ended().success());
}
