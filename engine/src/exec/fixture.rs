//! For tests: the store of a server that leads nobody but itself, requests as it admits them, and somebody who kills
//! what takes too long.

use crate::db::api;
use crate::db::mem::MemStore;
use crate::http::Request;
use crate::io::*;
use crate::message::Peer;
use crate::queries::{Alone, Attendant, Queries};
use crate::transaction::Part;
use crate::types::*;
use std::cell::Cell;
use std::sync::Arc;

const EPOCH: Epoch = Epoch(1);
pub const NOW: Now = Now { time: Time(0), wall_ms: 1_700_000_000_000 };

fn endpoint() -> Endpoint {
    Endpoint::parse("tcp://server:8529").unwrap()
}

/// Empty, and in its first epoch.
pub fn store() -> MemStore {
    let mut store = MemStore::new();
    let config = Config::Server(ServerConfig::new(endpoint(), Nonce(0)));
    super::open(&mut store, &config, NOW, 1).expect("it opens");
    super::perform(vec![(OpId(1), Op::BeginEpoch { epoch: EPOCH, lineage: Lineage(7) })], &mut store);
    store
}

pub fn admitted(request: Request, seed: u64) -> Run {
    let id = NodeId { kind: NodeKind::Server, uuid: 1 };
    let view = View {
        mode: Mode::Default,
        read_only: false,
        standalone: true,
        epoch: EPOCH,
        lease_end: Time::NEVER,
        ..View::new(Peer { id, endpoint: endpoint() })
    };
    let effect = api::effect(&request);
    Run {
        epoch: EPOCH,
        writes: effect.writes,
        kept: effect.kept,
        dirty: false,
        open: false,
        at_least: None,
        fresh: None,
        sync_followers: 0,
        now: NOW,
        seed,
        view: Arc::new(view),
        transaction: Part { concern: effect.concern, ..Part::default() },
        request,
    }
}

/// Carries out a request as the server does, the `step`th.
pub fn carry_out(store: &mut MemStore, request: Request, step: u64, attendant: &dyn Attendant) -> Ran {
    let op = Op::Run(admitted(request, step << 12));
    let result = match op.writes() {
        true => super::perform_attended(vec![(OpId(step), op)], store, attendant).remove(0).1,
        false => super::read_attended(op, store, attendant),
    };
    match result {
        OpResult::Ran(ran) => ran,
        other => panic!("{other:?}"),
    }
}

/// Each look takes a millisecond; from some look on, all that runs is killed.
pub struct Busy {
    alone: Alone,
    looks: Cell<u64>,
    kills_at: u64,
}

impl Busy {
    pub fn new(kills_at: u64) -> Busy {
        Busy { alone: Alone::default(), looks: Cell::new(0), kills_at }
    }
}

impl Attendant for Busy {
    fn now(&self) -> Now {
        Now { time: Time(self.alone.now().time.0 + self.looks.get() * 1_000_000), ..self.alone.now() }
    }

    fn with(&self, act: &mut dyn FnMut(&mut Queries)) {
        self.looks.set(self.looks.get() + 1);
        self.alone.with(&mut |queries| {
            if self.looks.get() >= self.kills_at {
                for running in queries.current(None, self.now().time) {
                    queries.kill(running.query.id, None);
                }
            }
            act(queries);
        });
    }

    fn sleep(&self, query: u64, time: Duration) {
        self.alone.sleep(query, time);
    }
}
