//! Where a soak takes place: three machines of its own, which can be cut off from one another, if this process may make
//! them; one starter on this machine otherwise. Each server's data are on a small disk of its own if that can be had.

use crate::Options;
use crate::faults::Kind;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tanist_tests::http::Client;
use tanist_tests::net::{self, Link, Net};
use tanist_tests::process::{Process, build_release, free_ports, run, show_end};
use tanist_tests::wait::{wait, wait_until};

/// Room on the disk of a server.
const DISK_BYTES: u64 = 4 << 30;
const PATIENCE: Duration = Duration::from_secs(2);
/// Servers; and there is an agent beside each of them.
const COUNT: usize = 3;

/// Where a server and an agent are, and who started them: `host:port` each.
struct Place {
    starter: String,
    server: String,
    agent: String,
    /// The server's directory.
    directory: PathBuf,
}

pub struct Ground {
    starters: Vec<Process>,
    places: Vec<Place>,
    addresses: Vec<String>,
    lease: Duration,
    net: Option<Net>,
    /// Mounted at the servers' directories; empty where that can't be done.
    disks: Vec<Disk>,
    // Last, so that it is removed when all is over.
    _directory: tempfile::TempDir,
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

/// What failed is told by the nodes themselves.
impl Drop for Ground {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for place in &self.places {
            let status = Client::new(&place.agent).with_timeout(PATIENCE).get("/_api/tanist/status");
            eprintln!("---- agent {}: {status:?}", place.agent);
            let folder = place.directory.parent().expect("in the machine's directory");
            for log in fs::read_dir(folder).into_iter().flatten().flatten().map(|node| node.path().join("tanist.log")) {
                show_end(&log.display().to_string(), &log);
            }
        }
    }
}

impl Ground {
    /// Starts a deployment, and waits until it is sound.
    pub fn prepare(options: &Options) -> Ground {
        let program = build_release();
        let directory = tempfile::Builder::new().prefix("tanist-soak-").tempdir().expect("a directory can be made");
        let net = if options.one_machine { Err("as asked".to_owned()) } else { Net::new(COUNT) };
        if let Err(why) = &net {
            println!("on one machine, without cuts: {why}");
        }
        let net = net.ok();
        let data = |machine: usize| directory.path().join(format!("data{machine}"));
        let base = free_ports(30);
        let place = |index: usize| {
            let machine = index + 1;
            let (host, port, data) = match net {
                Some(_) => (net::address(machine), 8528, data(machine)),
                None => ("127.0.0.1".to_owned(), base + 10 * index as u16, data(1)),
            };
            let starter = if net.is_some() { port } else { base };
            Place {
                starter: format!("{host}:{starter}"),
                server: format!("{host}:{}", port + 1),
                agent: format!("{host}:{}", port + 3),
                directory: data.join(format!("single{}", port + 1)),
            }
        };
        let places: Vec<Place> = (0..COUNT).map(place).collect();
        let image = |index: usize| directory.path().join(format!("disk{index}"));
        let disks: Vec<Disk> =
            places.iter().enumerate().map_while(|(index, at)| Disk::mount(&image(index), &at.directory)).collect();

        let mut passed = vec!["start".to_owned()];
        if let Some(lease) = options.lease {
            passed.push(format!("--args.agents.agency.supervision-grace-period={lease}"));
        }
        if options.sync_followers > 0 {
            passed.push(format!("--args.dbservers.replication.sync-followers={}", options.sync_followers));
        }
        let mut starters = Vec::new();
        for machine in 1..=if net.is_some() { COUNT } else { 1 } {
            let mut arguments = passed.clone();
            arguments.push(format!("--starter.data-dir={}", data(machine).display()));
            if net.is_some() {
                let all: Vec<String> = (1..=COUNT).map(net::address).collect();
                arguments.push(format!("--starter.join={}", all.join(",")));
                arguments.push("--insecure".to_owned());
            } else {
                arguments.push(format!("--starter.port={base}"));
            }
            let log = directory.path().join(format!("log{machine}"));
            let mut starter = Process::new(&format!("starter {machine}"), &program, arguments, log);
            match &net {
                Some(net) => net.on(machine, || starter.start()),
                None => starter.start(),
            }
            starters.push(starter);
        }
        let addresses = places.iter().map(|place| place.server.clone()).collect();
        let mut ground =
            Ground { starters, places, addresses, lease: Duration::ZERO, net, disks, _directory: directory };
        wait_until("the deployment is sound", || ground.is_sound(0));
        let config = Client::new(&ground.places[0].agent).get("/_api/agency/config").expect("an answer").json();
        let lease = config["configuration"]["supervision grace period"].as_f64().expect("a lease");
        ground.lease = Duration::from_secs_f64(lease);
        ground
    }

    pub fn describe(&self) -> String {
        let machines = if self.net.is_some() { "three machines" } else { "one machine" };
        let disks =
            if self.can(Kind::FullDisk) { "each server on a small disk" } else { "no disks that can be filled" };
        format!("{COUNT} agents and {COUNT} servers on {machines}, {disks}")
    }

    /// Whether such a fault can be made here.
    pub fn can(&self, kind: Kind) -> bool {
        match kind {
            Kind::Cut => self.net.is_some(),
            Kind::FullDisk => self.disks.len() == COUNT,
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
        COUNT
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
        (0..COUNT).find(|server| {
            let answer = self.client(*server).with_timeout(PATIENCE).get("/_admin/server/availability");
            answer.is_ok_and(|answer| answer.status == 200)
        })
    }

    /// What the leader says of itself and of its followers; `Null` if nobody leads.
    fn status(&self) -> Value {
        let ask = |leader| self.client(leader).with_timeout(PATIENCE).get("/_api/tanist/status").ok();
        self.leader().and_then(ask).map_or(Value::Null, |answer| answer.json())
    }

    /// The epoch that the leader serves in. Waits for one: for a moment its lease may have ended.
    pub fn epoch(&self) -> u64 {
        wait("a leader serves", || self.status()["epoch"].as_u64())
    }

    /// The agency's term, as most of those who can say know it.
    pub fn agency_term(&self) -> u64 {
        let term = |place: &Place| {
            let answer = Client::new(&place.agent).with_timeout(PATIENCE).get("/_api/agency/config").ok()?;
            answer.json()["term"].as_u64()
        };
        self.places.iter().filter_map(term).max().unwrap_or(0)
    }

    /// A leader serves, and each other server lacks at most so many entries. (Under load nobody is quite as far as it.)
    pub fn is_sound(&self, lag_max: u64) -> bool {
        let followers = self.status()["followers"].as_array().cloned().unwrap_or_default();
        followers.len() + 1 == COUNT
            && followers.iter().all(|follower| follower["lag"].as_u64().is_some_and(|lag| lag <= lag_max))
    }

    // ---- what is done to it -----------------------------------------------------------------------------------------

    pub fn server_pid(&self, server: usize) -> u32 {
        self.pid(&self.places[server].starter, &self.places[server].server)
    }

    pub fn agent_pid(&self, agent: usize) -> u32 {
        self.pid(&self.places[agent].starter, &self.places[agent].agent)
    }

    /// The number of the process at an address, as its starter knows it.
    fn pid(&self, starter: &str, address: &str) -> u32 {
        let (_, port) = address.rsplit_once(':').expect("host:port");
        wait("the starter knows the process", || {
            let processes = Client::new(starter).with_timeout(PATIENCE).get("/process").ok()?.json();
            let mut servers = processes["servers"].as_array()?.iter();
            servers.find(|server| server["port"].as_u64() == port.parse().ok())?["pid"].as_u64()
        }) as u32
    }

    pub fn signal(&self, pid: u32, signal: Signal) {
        // It may have ended by itself.
        let _ = kill_process(Pid::from_raw(pid.cast_signed()).expect("a process number is above 0"), signal);
    }

    pub fn switchover(&self) {
        let program = &self.starters[0].program;
        let endpoint = format!("--endpoint=tcp://{}", self.places[0].starter);
        // Right after its leader was killed the agency refuses, until it has another.
        wait_until("a hand-over is taken", || run(Command::new(program).arg("switchover").arg(&endpoint)).0 == 0);
    }

    pub fn fill_disk(&self, server: usize) {
        self.disks[server].fill();
    }

    pub fn empty_disk(&self, server: usize) {
        self.disks[server].empty();
    }

    /// Between a server's machine and the other two; clients go on reaching all.
    pub fn cut(&self, server: usize, incoming: bool, outgoing: bool) {
        let net = self.net.as_ref().expect("only where there are machines");
        let me = server + 1;
        for other in (1..=COUNT).filter(|other| *other != me) {
            net.set(other, me, Link { cut: incoming, ..Link::default() });
            net.set(me, other, Link { cut: outgoing, ..Link::default() });
        }
    }

    pub fn heal(&self, server: usize) {
        self.cut(server, false, false);
    }
}
