//! The agency (stub).
use crate::io::{Input, Output, SavedAgent, Wake};
use crate::types::{AgentConfig, NodeId, Now};

pub struct Agent {
    id: NodeId,
}

impl Agent {
    pub fn boot(_config: AgentConfig, saved: SavedAgent, _seed: u64, _now: Now) -> Agent {
        Agent { id: saved.id }
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
}
