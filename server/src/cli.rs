//! The command line: which of Tanist's commands, and with what.

use crate::exit::Exit;
use crate::options::{self, Kind};
use crate::{account, log, process, starter, status, upgrade};
use std::process::ExitCode;

const HELP: &str = "\
Tanist: a document database with Active Failover

Usage: tanist COMMAND [OPTIONS]

Commands:
  start       a whole deployment on this machine, or this machine's part of one (--starter.join)
  stop        stops what `start` runs
  status      who leads, and how everybody is
  failovers   who led when, why that ended, and what it has cost
  rollbacks   what returning servers had to give up: list, show, export, reapply, remove
  switchover  hands the lead to another server
  upgrade     restarts all of a deployment with the program on the disk, one after the other, without an outage
  agents      who has a seat in the agency; adds and removes one
  remove      a machine from a deployment of several
  server      one database server: plain, or a member of a deployment (--cluster.agency-endpoint)
  agent       one agent of the agency
  version     the version of this program

`tanist COMMAND --help` lists a command's options. Called by the name arangod, this program is an agent or a server,
whichever its options ask for.
";

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let mut words = std::env::args();
    let name = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    match run(&name, &words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            if !log::is_on_standard_error() {
                eprintln!("tanist: {exit}");
            }
            tracing::error!("{exit}");
            ExitCode::from(exit.code as u8)
        }
    }
}

fn run(name: &str, words: &[String]) -> Result<(), Exit> {
    if std::path::Path::new(name).file_name().is_some_and(|name| name == "arangod") {
        let kind = if options::wants_agent(words)? { Kind::Agent } else { Kind::Server };
        return process::run(kind, words);
    }
    let (command, rest) = match words.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", words),
    };
    match command {
        "start" => starter::start(rest),
        "stop" => starter::stop_running(rest),
        "status" => status::status(rest),
        "failovers" => account::failovers(rest),
        "rollbacks" => account::rollbacks(rest),
        "switchover" => status::switchover(rest),
        "upgrade" => upgrade::upgrade(rest),
        "agents" => starter::agents::agents(rest),
        "remove" => starter::agents::remove(rest),
        "server" => process::run(Kind::Server, rest),
        "agent" => process::run(Kind::Agent, rest),
        "version" | "--version" | "-V" => {
            println!("tanist {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(Exit::options(format!("unknown command '{other}' (tanist help lists all)"))),
    }
}
