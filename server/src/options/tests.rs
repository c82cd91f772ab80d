use super::*;
use std::io::Write;

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn server(text: &str) -> Result<Node, Exit> {
    resolve(Kind::Server, &words(text))
}

fn agent(text: &str) -> Result<Node, Exit> {
    resolve(Kind::Agent, &words(text))
}

fn server_config_of(node: &Node) -> &ServerConfig {
    match &node.config {
        Config::Server(config) => config,
        Config::Agent(_) => panic!("an agent"),
    }
}

fn agent_config_of(node: &Node) -> &AgentConfig {
    match &node.config {
        Config::Agent(config) => config,
        Config::Server(_) => panic!("a server"),
    }
}

#[test]
fn a_plain_server_needs_only_a_directory() {
    let node = server("/tmp/x").unwrap();
    let config = server_config_of(&node);
    assert_eq!(node.directory, Path::new("/tmp/x"));
    assert_eq!(config.endpoint.to_string(), "tcp://127.0.0.1:8529");
    assert!(config.auth.enabled && config.auth.secrets.len() == 1, "a secret is made up");
    assert!(config.agency.is_empty());
    assert!(node.remarks.is_empty(), "{:?}", node.remarks);
    assert_eq!(server("--database.directory /tmp/x").unwrap().directory, Path::new("/tmp/x"));
}

#[test]
fn values_and_booleans_stand_as_arangodb_lets_them() {
    for text in [
        "--server.authentication=false /d",
        "--server.authentication false /d",
        "/d --server.authentication no",
        "--server.authentication=0 -- /d",
    ] {
        let node = server(text).unwrap();
        assert!(!node.config.auth().enabled, "{text}");
        assert_eq!(node.directory, Path::new("/d"), "{text}");
    }
    // A boolean without a value does not swallow the directory.
    let node = server("--server.jwt-secret 0123456789abcdef --server.authentication /d").unwrap();
    assert!(node.config.auth().enabled);
    assert_eq!(node.directory, Path::new("/d"));
    // The last one counts.
    let node = server("/d --server.authentication true --server.authentication false").unwrap();
    assert!(!node.config.auth().enabled);
}

#[test]
fn the_harness_that_starts_arangod_is_understood() {
    let common = "--configuration=none --server.endpoint=tcp://127.0.0.1:4001 --log.file=/tmp/l /tmp/d \
        --javascript.app-path=/a --javascript.startup-directory=/b --server.uid=0 --server.authentication=false \
        --log.use-microtime=true --server.storage-engine=rocksdb";
    let text = format!(
        "{common} --agency.activate=true --agency.size=3 --agency.pool-size=3 --agency.wait-for-sync=true \
        --agency.supervision=true --agency.supervision-frequency=0.5 --agency.supervision-grace-period=2.5 \
        --agency.compaction-step-size=200 --agency.compaction-keep-size=100 --agency.my-address=tcp://127.0.0.1:4001 \
        --agency.endpoint=tcp://127.0.0.1:4001"
    );
    assert!(wants_agent(&words(&text)).unwrap());
    let node = agent(&text).unwrap();
    let config = agent_config_of(&node);
    assert_eq!((config.size, config.compaction_step, config.compaction_keep), (3, 200, 100));
    assert_eq!(config.timing.lease, Duration::from_millis(2500));
    assert_eq!(config.supervision_frequency, Duration::from_millis(500));
    assert!(config.peers.is_empty(), "an agent is no peer of itself");
    assert_eq!(node.remarks.len(), 1);
    assert!(node.remarks[0].contains("javascript.app-path") && node.remarks[0].contains("server.storage-engine"));

    let text = format!(
        "{common} --cluster.agency-endpoint=tcp://127.0.0.1:4001 --cluster.my-role=SINGLE \
        --cluster.my-address=tcp://127.0.0.1:4001 --replication.automatic-failover=true"
    );
    assert!(!wants_agent(&words(&text)).unwrap());
    assert_eq!(server_config_of(&server(&text).unwrap()).agency.len(), 1);
}

#[test]
fn bad_options_are_told_plainly() {
    let cases = [
        ("", "a data directory is needed"),
        ("/d /e", "unexpected"),
        ("/d --database.directory /e", "given twice"),
        ("/d --server.endpont tcp://a:1", "did you mean --server.endpoint?"),
        ("/d --no.such.thing", "unknown option --no.such.thing"),
        ("/d --server.endpoint", "needs a value"),
        ("/d --server.endpoint tcp://a", "a port is missing"),
        ("/d --server.endpoint ssl://a:1", "TLS is not supported"),
        ("/d --ssl.keyfile x", "TLS is not supported"),
        ("/d --server.authentication=maybe", "true or false is expected"),
        ("/d --storage.map-size 1", "at least 1m"),
        ("/d --storage.map-size 1q", "a number of bytes"),
        ("/d --cluster.my-role COORDINATOR", "SINGLE is all there is"),
        ("/d --replication.active-failover true", "needs at least one --cluster.agency-endpoint"),
        ("/d --cluster.agency-endpoint tcp://a:1", "need one secret"),
        (
            "/d --server.authentication=false --server.endpoint tcp://0.0.0.0:1 --cluster.agency-endpoint tcp://a:1",
            "--cluster.my-address is needed",
        ),
        ("/d --server.jwt-secret-keyfile /no/such/file", "/no/such/file"),
        ("/d --log.level loud", "log level 'loud'"),
        ("/d --http.keep-alive-timeout -1", "a number of seconds"),
        ("/d -c /no/such/file", "configuration file /no/such/file"),
        ("/d -c", "needs a value"),
    ];
    for (text, expected) in cases {
        let error = server(text).expect_err(text);
        assert!(error.message.contains(expected), "{text}: {error}");
        assert!(!error.message.contains('\n'), "{text}: one line, not {error}");
    }
    let cases = [
        ("/d --agency.size 2 --server.authentication=false", "1, 3 or 5"),
        ("/d --agency.size x", "agency.size"),
        ("/d --agency.election-timeout-min 3 --agency.election-timeout-max 2", "at most the -max"),
        ("/d --agency.supervision-grace-period 0", "at least 0.1"),
        ("/d --agency.clock-drift-permille 1000", "clock-drift-permille"),
    ];
    for (text, expected) in cases {
        let error = agent(text).expect_err(text);
        assert!(error.message.contains(expected), "{text}: {error}");
    }
    assert_eq!(server("/d --server.jwt-secret-keyfile /no/such/file").unwrap_err().code, Code::Secret);
}

#[test]
fn a_file_gives_what_the_command_line_does_not() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let text = "# comment\nlog.level = debug\n[server]\nendpoint = tcp://127.0.0.1:1\nendpoint = tcp://127.0.0.1:2\n\
        authentication = false\n; more\n[javascript]\nstartup-directory = /x\n[database]\ndirectory = /from/file\n";
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().display().to_string();
    let node = server(&format!("-c {path}")).unwrap();
    assert_eq!(node.listen.len(), 2);
    assert_eq!(node.directory, Path::new("/from/file"));
    assert_eq!(node.level, LevelFilter::DEBUG);
    assert!(!node.config.auth().enabled);
    assert!(node.remarks[0].contains("javascript.startup-directory"));
    let node = server(&format!("--configuration={path} --server.endpoint tcp://127.0.0.1:3")).unwrap();
    assert_eq!(node.listen, [Endpoint::parse("tcp://127.0.0.1:3").unwrap()]);

    file.write_all(b"[server]\nnonsense\n").unwrap();
    let error = server(&format!("-c {path}")).unwrap_err();
    assert!(error.message.contains("line 13"), "{error}");
}

#[test]
fn secrets_come_from_a_file_or_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("b"), "second-secret-second\n").unwrap();
    std::fs::write(folder.path().join("a"), "  first-secret-first\n").unwrap();
    let node = server(&format!("/d --server.jwt-secret-folder {}", folder.path().display())).unwrap();
    assert_eq!(node.config.auth().secrets, [b"first-secret-first".to_vec(), b"second-secret-second".to_vec()]);
    std::fs::write(folder.path().join("c"), " \n").unwrap();
    let error = server(&format!("/d --server.jwt-secret-folder {}", folder.path().display())).unwrap_err();
    assert_eq!(error.code, Code::Secret);
    std::fs::write(folder.path().join("c"), "x".repeat(65)).unwrap();
    let error = server(&format!("/d --server.jwt-secret-keyfile {}", folder.path().join("c").display())).unwrap_err();
    assert!(error.message.contains("at most 64"), "{error}");
}

#[test]
fn sizes_and_seconds_are_read() {
    for (text, bytes) in [("1", 1), ("2k", 2048), ("3MiB", 3 << 20), ("4gb", 4 << 30), ("1T", 1 << 40)] {
        assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
    }
    for text in ["", "k", "-1", "1x", "99999999999t"] {
        assert!(parse_bytes(text).is_err(), "{text}");
    }
    assert_eq!(parse_seconds("0.25"), Ok(Duration::from_millis(250)));
    assert_eq!(parse_seconds("30s"), Ok(Duration::from_secs(30)));
    for text in ["", "x", "-1", "NaN", "inf", "1e9"] {
        assert!(parse_seconds(text).is_err(), "{text}");
    }
}

#[test]
fn names_in_the_environment_follow_the_options() {
    assert_eq!(environment_name("server.jwt-secret-keyfile"), "TANIST_SERVER_JWT_SECRET_KEYFILE");
}

#[test]
fn stream_transactions_are_limited_by_options() {
    let limits = |text: &str| server(text).map(|node| server_config_of(&node).transactions);
    let defaults = limits("/d").unwrap();
    let own = TransactionLimits::default();
    assert_eq!((defaults.idle, defaults.wait, defaults.bytes), (own.idle, own.wait, own.bytes));
    let given = limits(
        "/d --transaction.streaming-idle-timeout 0.5 --transaction.streaming-lock-timeout 2 \
         --transaction.streaming-max-transaction-size 1m",
    );
    let given = given.unwrap();
    assert_eq!((given.idle, given.wait), (Duration::from_millis(500), Duration::from_secs(2)));
    assert_eq!(given.bytes, 1 << 20);
    for wrong in ["idle-timeout 0", "idle-timeout 121", "max-transaction-size 0", "max-transaction-size 129m"] {
        assert!(limits(&format!("/d --transaction.streaming-{wrong}")).is_err(), "{wrong}");
    }
}
