//! Where a soak takes place: one starter on this machine, each server's data on a small disk of its own if that can be
//! had.

use crate::Options;
use crate::faults::Kind;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tanist_tests::http::Client;
use tanist_tests::process::{build_release, free_ports};
use tanist_tests::starter::Starter;

/// Room on the disk of a server.
const DISK_BYTES: u64 = 2 << 30;
const PATIENCE: Duration = Duration::from_secs(2);

pub struct Ground {
    starter: Starter,
    addresses: Vec<String>,
    lease: Duration,
    /// Mounted at the servers' directories; empty where that can't be done. Last, to be unmounted when all is over.
    disks: Vec<Disk>,
}

/// A file system of its own, in a file.
struct Disk {
    mounted_at: PathBuf,
}

impl Disk {
    /// None if this process may not mount.
    fn mount(image: &Path, at: &Path) -> Option<Disk> {
        fs::create_dir_all(at).ok()?;
        File::create(image).ok()?.set_len(DISK_BYTES).ok()?;
        let quiet = |program: &str, words: &[&Path]| {
            Command::new(program).args(words).output().is_ok_and(|output| output.status.success())
        };
        if !quiet("mkfs.ext4", &[Path::new("-q"), image])
            || !quiet("mount", &[Path::new("-o"), Path::new("loop"), image, at])
        {
            return None;
        }
        let disk = Disk { mounted_at: at.to_owned() };
        fs::remove_dir(at.join("lost+found")).ok()?;
        Some(disk)
    }

    fn ballast(&self) -> PathBuf {
        self.mounted_at.join("ballast")
    }

    fn fill(&self) {
        let file = File::create(self.ballast()).expect("a file can be made");
        let mut length = 0;
        for size in [1 << 28, 1 << 20, 1 << 12] {
            while fallocate(&file, FallocateFlags::empty(), length, size).is_ok() {
                length += size;
            }
        }
    }

    fn empty(&self) {
        fs::remove_file(self.ballast()).expect("the file is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mounted_at).output();
    }
}

impl Ground {
    pub fn prepare(options: &Options) -> Ground {
        let program = build_release();
        let port = free_ports(30);
        let directory = tempfile::Builder::new().prefix("tanist-soak-").tempdir().expect("a directory can be made");
        let mut disks = Vec::new();
        for server in [port + 1, port + 11, port + 21] {
            let image = directory.path().join(format!("disk{server}"));
            disks.extend(Disk::mount(&image, &directory.path().join("data").join(format!("single{server}"))));
        }
        let mut more = Vec::new();
        if let Some(lease) = options.lease {
            more.push(format!("--args.agents.agency.supervision-grace-period={lease}"));
        }
        if options.sync_followers > 0 {
            more.push(format!("--args.dbservers.replication.sync-followers={}", options.sync_followers));
        }
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let starter = Starter::at(&program, directory, port, &more);
        starter.wait_followers();
        let config = starter.client(port + 3).get("/_api/agency/config").expect("an answer").json();
        let lease = config["configuration"]["supervision grace period"].as_f64().expect("a lease");
        Ground {
            addresses: starter.servers().iter().map(|port| format!("127.0.0.1:{port}")).collect(),
            starter,
            lease: Duration::from_secs_f64(lease),
            disks,
        }
    }

    pub fn describe(&self) -> String {
        let disks =
            if self.disks.is_empty() { "no disks of their own: none is filled" } else { "each on a small disk" };
        format!("3 agents and 3 servers of one starter, {disks}")
    }

    /// Whether such a fault can be made here.
    pub fn can(&self, kind: Kind) -> bool {
        match kind {
            Kind::Cut => false,
            Kind::FullDisk => !self.disks.is_empty(),
            _ => true,
        }
    }

    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// `host:port` of each server.
    pub fn servers(&self) -> &[String] {
        &self.addresses
    }

    pub fn agents(&self) -> usize {
        3
    }

    pub fn client(&self, server: usize) -> Client {
        Client::new(&self.addresses[server])
    }

    pub fn create_collection(&self, name: &str) {
        let leader = self.leader().expect("a leader");
        self.client(leader).post("/_api/collection", &json!({"name": name})).expect("an answer").expect(200);
    }

    // ---- how it is --------------------------------------------------------------------------------------------------

    /// The server that serves now, if one does.
    pub fn leader(&self) -> Option<usize> {
        (0..self.addresses.len()).find(|server| {
            let answer = self.client(*server).with_timeout(PATIENCE).get("/_admin/server/availability");
            answer.is_ok_and(|answer| answer.status == 200)
        })
    }

    /// The epoch that the leader serves in; 0 if nobody leads.
    pub fn epoch(&self) -> u64 {
        let status =
            self.leader().and_then(|leader| self.client(leader).with_timeout(PATIENCE).get("/_api/tanist/status").ok());
        status.and_then(|status| status.json()["epoch"].as_u64()).unwrap_or(0)
    }

    /// A leader serves, and all others follow it closely. (Under load nobody is ever quite as far as the leader.)
    pub fn is_sound(&self) -> bool {
        const LAG_MAX: u64 = 5000;
        let Some(leader) = self.leader() else { return false };
        let Ok(answer) = self.client(leader).with_timeout(PATIENCE).get("/_api/tanist/status") else { return false };
        let followers = answer.json()["followers"].as_array().cloned().unwrap_or_default();
        followers.len() + 1 == self.addresses.len()
            && followers.iter().all(|follower| follower["lag"].as_u64().is_some_and(|lag| lag <= LAG_MAX))
    }

    // ---- what is done to it -----------------------------------------------------------------------------------------

    pub fn server_pid(&self, server: usize) -> u32 {
        self.starter.pid(self.starter.servers()[server])
    }

    pub fn agent_pid(&self, agent: usize) -> u32 {
        self.starter.pid(self.starter.port + 3 + 10 * agent as u16)
    }

    pub fn signal(&self, pid: u32, signal: Signal) {
        // It may have ended by itself.
        let _ = kill_process(Pid::from_raw(pid.cast_signed()).expect("a process number is above 0"), signal);
    }

    pub fn switchover(&self) {
        let (code, text) = self.starter.command(&["switchover"]);
        assert_eq!(code, 0, "{text}");
    }

    pub fn fill_disk(&self, server: usize) {
        self.disks[server].fill();
    }

    pub fn empty_disk(&self, server: usize) {
        self.disks[server].empty();
    }

    pub fn cut(&mut self, _server: usize, _hears: bool, _is_heard: bool) {
        unreachable!("one machine has no network to cut");
    }

    pub fn heal(&mut self, _server: usize) {}
}
