//! A node: the one thing that a shell drives. Routes inputs to the part that this process is; decides nothing itself.

use crate::agency::Agent;
use crate::failover::Server;
use crate::io::{Input, Output, Saved, View, Wake};
use crate::types::{Config, NodeId, Now};
use std::sync::Arc;

/// An agent or a server. See [`crate::io`] for the contract with the shell. Copied and hashed it is as a whole: two
/// nodes that are equal in every part go on in the same way (the simulator's explorer rests on it).
#[derive(Clone, Hash)]
pub enum Node {
    Agent(Box<Agent>),
    Server(Box<Server>),
}

impl Node {
    /// `saved` comes from [`crate::exec::open`] with the same configuration; `seed` feeds every random choice.
    pub fn boot(config: Config, saved: Saved, seed: u64, now: Now) -> Node {
        match (config, saved) {
            (Config::Agent(config), Saved::Agent(saved)) => {
                Node::Agent(Box::new(Agent::boot(config, saved, seed, now)))
            }
            (Config::Server(config), Saved::Server(saved)) => {
                Node::Server(Box::new(Server::boot(config, saved, seed, now)))
            }
            _ => panic!("an agent boots from an agent's store, a server from a server's"),
        }
    }

    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match self {
            Node::Agent(agent) => agent.step(now, input, out),
            Node::Server(server) => server.step(now, input, out),
        }
    }

    /// When the next [`Input::Timer`] is due, and for what.
    pub fn deadline(&self) -> Option<Wake> {
        match self {
            Node::Agent(agent) => agent.deadline(),
            Node::Server(server) => server.deadline(),
        }
    }

    pub fn id(&self) -> NodeId {
        match self {
            Node::Agent(agent) => agent.id(),
            Node::Server(server) => server.id(),
        }
    }

    /// What the gate of a server goes by at this moment; `None` on an agent.
    pub fn view(&self) -> Option<&Arc<View>> {
        match self {
            Node::Agent(_) => None,
            Node::Server(server) => Some(server.view()),
        }
    }
}
