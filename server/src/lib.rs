//! The server: what surrounds the engine on a real machine. Clocks, sockets, threads, the disk; no rules.
//!
//! `cli` → `options` → `process` starts one node: the loop (`driver`) owns it, `http` and `peer` bring it requests and
//! messages over the `net`, `writer` performs its operations on the `storage`. `starter` starts several of them.

#[cfg(tanist_planted)]
compile_error!("`--cfg tanist_planted` is for `cargo sim prove`; no server is built with planted bugs");

pub mod account;
pub mod cli;
pub mod client;
pub mod clock;
pub mod driver;
pub mod etcd;
pub mod exit;
pub mod http;
pub mod known;
pub mod log;
pub mod net;
pub mod observed;
pub mod options;
pub mod peer;
pub mod process;
pub mod queries;
pub mod readers;
pub mod starter;
pub mod status;
pub mod storage;
pub mod upgrade;
pub mod writer;
