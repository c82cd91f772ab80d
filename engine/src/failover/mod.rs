//! A server's life (stub).
use crate::io::{Input, Output, SavedServer, View, Wake};
use crate::types::{NodeId, Now, ServerConfig};
use std::sync::Arc;

pub struct Server {
    id: NodeId,
}

impl Server {
    pub fn boot(_config: ServerConfig, saved: SavedServer, _seed: u64, _now: Now) -> Server {
        Server { id: saved.id }
    }

    pub fn step(&mut self, _now: Now, _input: Input, _out: &mut Vec<Output>) {
        todo!()
    }

    pub fn deadline(&self) -> Option<Wake> {
        todo!()
    }

    pub fn id(&self) -> NodeId {
        self.id
    }

    pub fn view(&self) -> &Arc<View> {
        todo!()
    }
}
