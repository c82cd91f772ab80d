//! PostgreSQL as shipped, with a larger buffer and a connection for each client; documents in columns of type jsonb.

use crate::side::{Connection, Document, Link, Side};
use ::postgres::types::ToSql;
use ::postgres::{Client, NoTls, Row, Statement};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tanist_tests::postgresql;
use tanist_tests::process::{Process, free_ports};
use tanist_tests::wait::wait_until;

pub struct Postgres {
    _server: Process,
    port: u16,
}

/// A connection, with what it has prepared.
struct Connected {
    client: Client,
    prepared: BTreeMap<&'static str, Statement>,
}

/// `None` where it can't be run.
pub fn start(directory: &Path) -> Option<Postgres> {
    let programs = postgresql::programs().filter(|_| postgresql::can_run())?;
    let program = |name: &str| programs.join(name).display().to_string();
    let data = postgresql::folder(&directory.join("postgres"));
    let at = format!("--pgdata={}", data.display());
    let arguments = [&at, "--auth=trust", "--username=tanist", "--encoding=UTF8"].map(str::to_owned);
    postgresql::command(&program("initdb"), &arguments, &BTreeMap::new());
    let port = free_ports(1);
    let settings = [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".into(),
        "unix_socket_directories=".into(),
        "shared_buffers=1GB".into(),
        "max_wal_size=4GB".into(),
    ];
    let settings = settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]);
    let arguments: Vec<String> = ["-D".to_owned(), data.display().to_string()].into_iter().chain(settings).collect();
    let mut words = postgresql::as_owner(&program("postgres"), &arguments);
    let first = PathBuf::from(words.remove(0));
    let mut server = Process::new("postgres", &first, words, directory.join("postgres.log"));
    server.start();
    let mut made = None;
    wait_until("PostgreSQL serves", || {
        made = connect(port).ok();
        made.is_some()
    });
    let tables = "CREATE TABLE documents (key text PRIMARY KEY, body jsonb NOT NULL);
        CREATE INDEX ON documents (((body->>'group')::bigint));
        CREATE TABLE links (key bigserial PRIMARY KEY, body jsonb NOT NULL);
        CREATE INDEX ON links ((body->>'_from'));
        CREATE INDEX ON links ((body->>'_to'));";
    made.expect("a connection").batch_execute(tables).expect("tables can be made");
    Some(Postgres { _server: server, port })
}

fn connect(port: u16) -> Result<Client, ::postgres::Error> {
    Client::connect(&format!("host=127.0.0.1 port={port} user=tanist dbname=postgres"), NoTls)
}

impl Side for Postgres {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn connect(&self) -> Box<dyn Connection> {
        Box::new(Connected { client: connect(self.port).expect("a connection"), prepared: BTreeMap::new() })
    }

    fn settle(&self) {
        let mut client = connect(self.port).expect("a connection");
        for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
            client.batch_execute(statement).expect("it can be analysed");
        }
    }
}

impl Connected {
    fn prepared(&mut self, text: &'static str) -> Statement {
        let client = &mut self.client;
        self.prepared.entry(text).or_insert_with(|| client.prepare(text).expect("a statement")).clone()
    }

    fn query(&mut self, text: &'static str, values: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        let statement = self.prepared(text);
        self.client.query(&statement, values).expect("rows")
    }

    fn execute(&mut self, text: &'static str, values: &[&(dyn ToSql + Sync)]) {
        let statement = self.prepared(text);
        self.client.execute(&statement, values).expect("it is written");
    }
}

impl Connection for Connected {
    fn insert(&mut self, documents: &[Document]) {
        let keys: Vec<&str> = documents.iter().map(|document| document.key.as_str()).collect();
        let bodies: Vec<String> = documents.iter().map(|document| document.body.to_string()).collect();
        let text =
            "INSERT INTO documents SELECT key, body::jsonb FROM unnest($1::text[], $2::text[]) AS new (key, body)";
        self.execute(text, &[&keys, &bodies]);
    }

    fn insert_one(&mut self, document: &Document) {
        let body = document.body.to_string();
        self.execute("INSERT INTO documents VALUES ($1, $2::text::jsonb)", &[&document.key, &body]);
    }

    fn link(&mut self, links: &[Link]) {
        let from: Vec<&str> = links.iter().map(|link| link.from.as_str()).collect();
        let to: Vec<&str> = links.iter().map(|link| link.to.as_str()).collect();
        let text = "INSERT INTO links (body) SELECT jsonb_build_object('_from', source, '_to', target) \
            FROM unnest($1::text[], $2::text[]) AS new (source, target)";
        self.execute(text, &[&from, &to]);
    }

    fn read(&mut self, key: &str) -> usize {
        self.query("SELECT body::text FROM documents WHERE key = $1", &[&key]).len()
    }

    fn filter(&mut self, group: u64) -> usize {
        let group = i64::try_from(group).expect("a small number");
        self.query("SELECT key, body::text FROM documents WHERE (body->>'group')::bigint = $1", &[&group]).len()
    }

    fn aggregate(&mut self) -> usize {
        let text = "SELECT body->>'kind', sum((body->>'value')::bigint)::bigint FROM documents GROUP BY 1";
        self.query(text, &[]).len()
    }

    fn traverse(&mut self, key: &str) -> usize {
        let text = "SELECT v.key, v.body::text FROM links a JOIN links b ON b.body->>'_from' = a.body->>'_to' \
            JOIN documents v ON v.key = b.body->>'_to' WHERE a.body->>'_from' = $1";
        self.query(text, &[&key]).len()
    }
}
