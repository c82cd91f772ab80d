//! The links between nodes alone: numbered messages of all sizes from one host's `Peers` to another's port.

use crate::net::{PORT, SimNet, now};
use crate::node::patience;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::mpsc;
use std::time::Duration;
use tanist_engine::http::{Method, Request};
use tanist_engine::message::{Envelope, Message, Peer};
use tanist_engine::types::*;
use tanist_server::driver::{Event, Views};
use tanist_server::http::{Port, serve};
use tanist_server::peer::{Peers, Receiving};
use tanist_server::queries::Attending;
use tanist_server::storage::DiskStore;
use tanist_server::storage::check::Extent;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// A link is made again within so long after the network was repaired: what was lost must first be missed.
const REMADE: Duration = Duration::from_secs(8);

#[derive(Debug)]
pub struct Outcome {
    pub received: u64,
    pub history: (u64, u64),
}

/// `faults`: cuts, held messages and restarts of the receiver; without them everything must come, in order.
pub fn run(seed: u64, faults: bool, directory: &Path) -> Outcome {
    let mut rng = Rng::new(seed);
    let mut sim = turmoil::Builder::new()
        .rng_seed(rng.next_u64())
        .tick_duration(Duration::from_millis(2))
        .simulation_duration(Duration::from_secs(1000))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(2 + rng.below(60)))
        .tcp_capacity(16 + rng.below(60) as usize)
        .build();
    let net = SimNet::new(rng.next_u64());
    let sent: Rc<RefCell<Vec<Time>>> = Rc::default();
    let received: Rc<RefCell<Vec<(u64, Time)>>> = Rc::default();
    let (there, their_net, directory) = (received.clone(), net.clone(), directory.to_owned());
    sim.host("receiver", move || receiver(their_net.clone(), directory.clone(), there.clone()));
    // A host that takes connections and never answers: half-open for ever.
    sim.host("dead", || async {
        let listener = turmoil::net::TcpListener::bind(("0.0.0.0", PORT)).await?;
        let mut streams = Vec::new();
        loop {
            streams.push(listener.accept().await?);
        }
    });
    let (here, our_net, chance) = (sent.clone(), net.clone(), rng.next_u64());
    sim.host("sender", move || sender(our_net.clone(), here.clone(), Rng::new(chance)));

    let step = |sim: &mut turmoil::Sim<'_>, time: Duration| {
        let end = sim.elapsed() + time;
        while sim.elapsed() < end {
            sim.step().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        }
    };
    step(&mut sim, Duration::from_secs(2));
    for _ in 0..if faults { 6 } else { 0 } {
        let time = rng.between(Duration::from_millis(50), Duration::from_secs(5));
        let (a, b) = (sim.lookup("sender"), sim.lookup("receiver"));
        match rng.below(4) {
            0 => {
                sim.partition("sender", "receiver");
                net.cut(a, b, time_of(&sim));
                step(&mut sim, time);
                sim.repair("sender", "receiver");
                net.repair(a, b, time_of(&sim));
            }
            1 => {
                sim.hold("sender", "receiver");
                step(&mut sim, time);
                sim.release("sender", "receiver");
            }
            2 => {
                net.doom(b);
                step(&mut sim, Duration::from_millis(10));
                sim.crash("receiver");
                step(&mut sim, time);
                net.spare(b);
                sim.bounce("receiver");
            }
            _ => sim.set_link_max_message_latency("sender", "receiver", time / 10),
        }
        step(&mut sim, rng.between(Duration::ZERO, Duration::from_secs(2)));
    }
    sim.set_link_max_message_latency("sender", "receiver", Duration::from_millis(20));
    step(&mut sim, REMADE);
    let calm = time_of(&sim);
    step(&mut sim, Duration::from_secs(3));
    drop(sim);

    let (sent, received) = (sent.borrow(), received.borrow());
    let numbers: BTreeSet<u64> = received.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers.len(), received.len(), "seed {seed}: a message came twice");
    // The very last ones are still on their way.
    let due =
        sent.iter().enumerate().filter(|(_, at)| at.plus(Duration::from_secs(2)) < calm.plus(Duration::from_secs(3)));
    for (number, _) in due.filter(|(_, at)| !faults || **at > calm) {
        assert!(numbers.contains(&(number as u64)), "seed {seed}: message {number} did not come in calm times");
    }
    let late = received.iter().filter(|(_, at)| !faults || *at > calm).collect::<Vec<_>>();
    assert!(late.windows(2).all(|two| two[0].0 < two[1].0), "seed {seed}: messages came out of order");
    Outcome { received: received.len() as u64, history: net.history() }
}

fn time_of(sim: &turmoil::Sim<'_>) -> Time {
    Time(sim.elapsed().as_nanos() as u64)
}

/// The message with that number; its length and bytes follow from it.
fn message(number: u64) -> Envelope {
    let mut rng = Rng::new(number);
    let length = if rng.chance(1, 10) { rng.below(60_000) } else { rng.below(300) };
    let body: Vec<u8> = (0..length).map(|i| (number + i) as u8).collect();
    let id = NodeId { kind: NodeKind::Server, uuid: 7 };
    let from = Peer { id, endpoint: Endpoint::parse("tcp://sender:8529").expect("an endpoint") };
    let request = Request::new(Method::Post, "/").with_body(body);
    Envelope { from, to: None, message: Message::Call { call: number, request } }
}

async fn sender(net: SimNet, sent: Rc<RefCell<Vec<Time>>>, mut rng: Rng) -> turmoil::Result {
    let peers = Peers::new(net, None, Handle::current());
    let [receiver, dead] = ["receiver", "dead"].map(|name| Endpoint::parse(&format!("tcp://{name}:{PORT}")));
    let (receiver, dead) = (receiver?, dead?);
    loop {
        for _ in 0..rng.below(4) {
            let number = sent.borrow().len() as u64;
            sent.borrow_mut().push(now().time);
            peers.send(&dead, &message(number));
            peers.send(&receiver, &message(number));
        }
        tokio::time::sleep(rng.between(Duration::from_millis(1), Duration::from_millis(80))).await;
    }
}

async fn receiver(net: SimNet, directory: PathBuf, received: Rc<RefCell<Vec<(u64, Time)>>>) -> turmoil::Result {
    let (inbox, events) = mpsc::channel();
    let port = Port {
        attending: Arc::new(Attending::new(now)),
        receiving: Receiving::new(inbox.clone()),
        inbox,
        views: Arc::new(Views::default()),
        store: DiskStore::open(&directory, 1 << 30, Extent::Nothing).map_err(|e| format!("{e:?}"))?,
        auth: Arc::default(),
        limits: Limits::default(),
        patience: patience(),
        connections: AtomicUsize::new(0),
        connections_max: 10,
        trusted_origins: Default::default(),
        pending: AtomicUsize::new(0),
        queue_time_us: Arc::default(),
        seed: AtomicU64::new(1),
        clock: now,
        observed: Default::default(),
    };
    let listener = (net.clone(), turmoil::net::TcpListener::bind(("0.0.0.0", PORT)).await?);
    let (_stop, stopping) = watch::channel(false);
    tokio::spawn(serve::<SimNet>(Arc::new(port), vec![listener], stopping));
    let host = turmoil::lookup("receiver");
    while !net.dies(host) {
        while let Ok(event) = events.try_recv() {
            let Event::Peer(envelope, _permit) = event else { continue };
            let Message::Call { call, .. } = envelope.message else { panic!("another message: {envelope:?}") };
            assert!(envelope == message(call), "message {call} came mangled");
            received.borrow_mut().push((call, now().time));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    std::future::pending().await
}
