//! Three etcds as processes of this test.

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tanist_tests::http::Client;
use tanist_tests::process::{Process, free_ports};
use tanist_tests::wait::{wait, wait_until};

pub struct Cluster {
    pub members: Vec<Process>,
    ports: Vec<u16>,
    // Last, so that it is removed when all processes are gone.
    _directory: tempfile::TempDir,
}

/// Whether there is an etcd on this machine; says so if not.
pub fn is_there() -> bool {
    let there = Command::new("etcd").arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        tanist_tests::skip("etcd is missing (Debian: etcd-server)");
    }
    there
}

impl Cluster {
    #[track_caller]
    pub fn start(size: u16) -> Cluster {
        let directory =
            tempfile::Builder::new().prefix("tanist-test-etcd-").tempdir().expect("a directory can be made");
        let base = free_ports(2 * size);
        let ports: Vec<u16> = (base..base + size).collect();
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let all: Vec<String> = ports.iter().map(|port| format!("m{port}={}", url(port + size))).collect();
        let member = |port: &u16| {
            let (client, peer) = (url(*port), url(port + size));
            let name = format!("m{port}");
            let data = directory.path().join(&name).display().to_string();
            let cluster = all.join(",");
            let arguments: Vec<String> = [
                ("name", name.as_str()),
                ("data-dir", &data),
                ("listen-client-urls", &client),
                ("advertise-client-urls", &client),
                ("listen-peer-urls", &peer),
                ("initial-advertise-peer-urls", &peer),
                ("initial-cluster", &cluster),
                ("initial-cluster-state", "new"),
                ("heartbeat-interval", "50"),
                ("election-timeout", "500"),
            ]
            .iter()
            .map(|(option, value)| format!("--{option}={value}"))
            .collect();
            Process::new(&name, Path::new("etcd"), arguments, directory.path().join(format!("{name}.log")))
        };
        let mut cluster = Cluster { members: ports.iter().map(member).collect(), ports, _directory: directory };
        cluster.members.iter_mut().for_each(Process::start);
        cluster.leader();
        cluster
    }

    /// As `--agency.endpoint` takes it.
    pub fn address(&self) -> String {
        let hosts: Vec<String> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("etcd://{}/test", hosts.join(","))
    }

    pub fn client(&self, member: usize) -> Client {
        Client::new(&format!("127.0.0.1:{}", self.ports[member])).with_timeout(Duration::from_secs(3))
    }

    /// The member that leads, once one does.
    #[track_caller]
    pub fn leader(&self) -> usize {
        wait("an etcd leads", || {
            (0..self.members.len()).filter(|member| self.members[*member].active()).find(|member| {
                let status = self.client(*member).post("/v3/maintenance/status", &serde_json::json!({}));
                status.is_ok_and(|answer| {
                    let body = answer.json();
                    body["leader"].is_string() && body["leader"] == body["header"]["member_id"]
                })
            })
        })
    }

    #[track_caller]
    pub fn wait_healthy(&self) {
        wait_until("etcd answers", || {
            self.client(0).get("/health").is_ok_and(|answer| answer.json()["health"] == "true")
        });
    }
}
