//! For tests: the store of a server that leads nobody but itself, and requests as it admits them.

use crate::db::api;
use crate::db::mem::MemStore;
use crate::http::Request;
use crate::io::*;
use crate::message::Peer;
use crate::transaction::Part;
use crate::types::*;
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
