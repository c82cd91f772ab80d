//! A network of several machines on this one: a network namespace for each, joined by a switch in the test.
//!
//! Every namespace has one TUN device, and the switch has its other end: it passes each packet on, late, or not at all,
//! by what the test says of the link from one machine to the other. So a cut in one direction, loss and delay need
//! neither a firewall nor a traffic shaper, only the right to make namespaces. Nothing is left behind: namespaces and
//! devices end with the processes and descriptors that hold them.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tanist_engine::types::Rng;

/// What a link does to the packets that go one way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    pub cut: bool,
    pub loss_permille: u64,
    pub delay: Duration,
}

/// `links[from][to]`; 0 is the test itself, machines count from 1.
type Links = Vec<Vec<Link>>;

pub struct Net {
    before: File,
    namespaces: Vec<File>,
    links: Arc<Mutex<Links>>,
    stop: Arc<AtomicBool>,
    switch: Option<JoinHandle<()>>,
}

/// Packets that may wait on one link; more are lost, as in a real queue.
const WAITING_MAX: usize = 10_000;
const PACKET_BYTES: usize = 2048;

impl Net {
    /// Machines 1 to `count`, and the calling thread as machine 0. `Err` says why that can't be done here.
    pub fn new(count: usize) -> Result<Net, String> {
        let before = namespace().map_err(|e| format!("no network namespaces: {e}"))?;
        let mut devices = Vec::new();
        let mut namespaces = Vec::new();
        let made = (0..=count).try_for_each(|number| {
            // SAFETY: this thread shares no descriptors that depend on its network namespace.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(|e| format!("no network namespace: {e}"))?;
            namespaces.push(namespace().map_err(|e| e.to_string())?);
            devices.push(tun().map_err(|e| format!("no TUN device: {e}"))?);
            let own = format!("{}/24", address(number));
            for words in [
                &["link", "set", "lo", "up"][..],
                &["addr", "add", &own, "dev", "tun0"],
                &["link", "set", "tun0", "up"],
            ] {
                let output = Command::new("ip").args(words).output().map_err(|e| format!("ip: {e}"))?;
                if !output.status.success() {
                    return Err(format!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr)));
                }
            }
            Ok(())
        });
        if let Err(why) = made {
            let _ = move_into_link_name_space(before.as_fd(), Some(LinkNameSpaceType::Network));
            return Err(why);
        }
        let links = Arc::new(Mutex::new(vec![vec![Link::default(); count + 1]; count + 1]));
        let stop = Arc::new(AtomicBool::new(false));
        let switch = {
            let (links, stop) = (links.clone(), stop.clone());
            std::thread::spawn(move || switch(&devices, &links, &stop))
        };
        let net = Net { before, namespaces, links, stop, switch: Some(switch) };
        net.enter(0);
        Ok(net)
    }

    fn enter(&self, number: usize) {
        let namespace = self.namespaces[number].as_fd();
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).expect("a namespace can be entered");
    }

    /// Does something as that machine: what is started there stays there.
    pub fn on<T>(&self, number: usize, work: impl FnOnce() -> T) -> T {
        self.enter(number);
        let result = work();
        self.enter(0);
        result
    }

    pub fn set(&self, from: usize, to: usize, link: Link) {
        self.links.lock().expect("nobody panics with it")[from][to] = link;
    }

    /// Between a machine and all other machines, in both directions; the test still reaches it.
    pub fn set_all(&self, number: usize, link: Link) {
        for other in (1..self.namespaces.len()).filter(|other| *other != number) {
            self.set(number, other, link);
            self.set(other, number, link);
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.switch.take().map(JoinHandle::join);
        let _ = move_into_link_name_space(self.before.as_fd(), Some(LinkNameSpaceType::Network));
    }
}

pub fn address(number: usize) -> String {
    format!("10.77.0.{}", if number == 0 { 100 } else { number })
}

fn number(host: u8) -> usize {
    if host == 100 { 0 } else { host.into() }
}

fn namespace() -> std::io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

/// A TUN device `tun0` in the namespace of this thread.
fn tun() -> std::io::Result<File> {
    const IFF_TUN: u16 = 0x0001;
    const IFF_NO_PI: u16 = 0x1000;
    const TUNSETIFF: rustix::ioctl::Opcode = 0x4004_54ca;
    const O_NONBLOCK: i32 = 0o4000;
    /// `struct ifreq`, as far as this call reads it.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    let device = OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK).open("/dev/net/tun")?;
    let mut name = [0; 16];
    name[..4].copy_from_slice(b"tun0");
    let request = Request { name, flags: IFF_TUN | IFF_NO_PI, rest: [0; 22] };
    // SAFETY: TUNSETIFF reads one ifreq (40 bytes), and that is what it is given.
    unsafe { rustix::ioctl::ioctl(&device, rustix::ioctl::Setter::<TUNSETIFF, Request>::new(request)) }?;
    Ok(device)
}

/// A packet on its way: due, in the order in which it came, to whom.
type Waiting = Reverse<(Instant, u64, usize, Vec<u8>)>;

fn switch(devices: &[File], links: &Mutex<Links>, stop: &AtomicBool) {
    let mut waiting: BinaryHeap<Waiting> = BinaryHeap::new();
    let mut rng = Rng::new(1);
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        let patience =
            waiting.peek().map_or(Duration::from_millis(50), |first| first.0.0.saturating_duration_since(now));
        let timeout = Timespec { tv_sec: 0, tv_nsec: patience.min(Duration::from_millis(50)).subsec_nanos().into() };
        let mut polled: Vec<PollFd<'_>> = devices.iter().map(|device| PollFd::new(device, PollFlags::IN)).collect();
        let _ = poll(&mut polled, Some(&timeout));
        for (from, mut device) in devices.iter().enumerate() {
            let mut packet = [0; PACKET_BYTES];
            while let Ok(length) = device.read(&mut packet) {
                // IPv4 only; whatever else the kernel says of itself is nobody's business here.
                if length < 20 || packet[0] >> 4 != 4 || packet[16..19] != [10, 77, 0] {
                    continue;
                }
                let to = number(packet[19]);
                let link =
                    links.lock().expect("nobody panics with it").get(from).and_then(|links| links.get(to).copied());
                let Some(link) = link.filter(|link| !link.cut) else { continue };
                if rng.next_u64() % 1000 >= link.loss_permille && waiting.len() < WAITING_MAX {
                    count += 1;
                    waiting.push(Reverse((Instant::now() + link.delay, count, to, packet[..length].to_vec())));
                }
            }
        }
        let now = Instant::now();
        while waiting.peek().is_some_and(|first| first.0.0 <= now) {
            let Some(Reverse((_, _, to, packet))) = waiting.pop() else { break };
            let _ = (&devices[to]).write(&packet);
        }
    }
}
