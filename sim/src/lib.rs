//! The simulator: the engine's nodes in a world of simulated network, clocks and disks; one seed, one history.
//!
//! | module            | what it is for                                                             |
//! |-------------------|----------------------------------------------------------------------------|
//! | [`scenario`]      | seed -> everything a run depends on, as text                               |
//! | [`faults`]        | what goes wrong, when, for how long                                        |
//! | [`atlas`]         | what each fault may break, and what is refused                             |
//! | [`world`]         | handles one happening at a time, whoever drives it                         |
//! | [`node`]          | a machine: the engine's node, its store, its disk queue                    |
//! | [`net`] [`clock`] | links; true time and each machine's idea of it                             |
//! | [`workload`] [`action`] [`model`] | the clients; what they ask for; what each document may be   |
//! | [`check`]         | a checker for every invariant I1..I17                                      |
//! | [`trace`]         | one line for each thing that happens, and a running hash                   |
//! | [`driver_loop`]   | a plain event loop: fast, for sweeps                                       |
//! | [`driver_madsim`] | the same world as a madsim cluster, each node with a task of its own       |
//! | [`explore`]       | every history of a small deployment, within bounds                         |
//! | [`run`]           | a run from scenario to outcome                                             |
//! | [`shrink`]        | a failing scenario, made small                                             |
//! | [`html`] [`timeline`] | a history as a page for the browser                                     |
//! | [`bug_base`]      | what has failed, in files                                                  |
//! | [`cli`] [`sweep`] | `cargo sim`                                                                |
//! | [`prove`]         | how soon the simulator finds each planted bug                              |
//!
//! SIMULATION.md explains it to somebody with a failing seed in hand.

#[cfg(not(madsim))]
compile_error!("the simulator needs `--cfg madsim`: build from inside the workspace and leave RUSTFLAGS unset");

pub mod action;
pub mod atlas;
pub mod bug_base;
pub mod check;
pub mod cli;
pub mod clock;
pub mod driver_loop;
pub mod driver_madsim;
pub mod explore;
pub mod faults;
pub mod html;
pub mod model;
pub mod net;
pub mod node;
pub mod prove;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod sweep;
pub mod timeline;
pub mod trace;
pub mod workload;
pub mod world;
