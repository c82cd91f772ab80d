//! Messages and operations in a line of the trace.

use super::*;

/// What a server is, in a word.
pub(crate) fn role(mode: Mode) -> &'static str {
    match mode {
        Mode::Maintenance => "maintenance",
        Mode::TryAgain => "tryagain",
        Mode::Redirect => "follower",
        Mode::Default => "leader",
        Mode::Stopping => "stopping",
    }
}

const WIDTH: usize = 170;

pub(crate) fn cut(text: &str) -> String {
    let mut short: String = text.chars().take(WIDTH).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A message in a line.
pub(crate) fn summary(message: &Message) -> String {
    match message {
        Message::Append(a) => {
            let end = a.entries.last().map_or(a.prev, |e| e.position());
            format!("Append epoch {} after {} to {end}, leader at {}", a.epoch.0, a.prev, a.leader_last)
        }
        Message::Acknowledge(a) => format!("Acknowledge epoch {} durable {}", a.epoch.0, a.durable),
        Message::Beat(b) => {
            let renew = b.renew.map_or(String::new(), |e| format!(" renew {}", e.0));
            format!("Beat {} boot {} at {} seen {}{renew}", b.seq, b.boot.0, b.last, b.seen.0)
        }
        Message::BeatReply(b) => {
            let leader = b.lead.leader.as_ref().map_or("nobody".into(), |l| l.peer.endpoint.authority().to_owned());
            let grant = if b.grant.is_some() { " with a grant" } else { "" };
            format!("BeatReply {}: epoch {} of {leader}{grant}", b.seq, b.lead.epoch.0)
        }
        Message::Raft(Raft::Consensus(c)) => cut(&format!("term {} {:?}", c.term.0, c.body)),
        Message::Report(r) => format!("Report term {} epoch {} boot {} at {}", r.term.0, r.epoch.0, r.boot.0, r.last),
        Message::Freeze(f) => format!("Freeze term {} epoch {}", f.term.0, f.epoch.0),
        Message::Lead(l) => {
            let leader = l.leader.as_ref().map_or("nobody".into(), |l| l.peer.endpoint.authority().to_owned());
            format!("Lead {}: epoch {} of {leader}", l.index, l.epoch.0)
        }
        Message::Follow(f) => format!("Follow epoch {} boot {} from {}", f.epoch.0, f.boot.0, f.last),
        other => cut(&format!("{other:?}")),
    }
}

/// The kind of a message, from its summary.
pub(super) fn kind<'a>(message: &Message, summary: &'a str) -> &'a str {
    match message {
        Message::Raft(Raft::Consensus(_)) => "Consensus",
        _ => summary.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default(),
    }
}

/// An operation and its result, short.
pub(crate) struct Brief<'a>(pub(crate) &'a Op, pub(crate) &'a OpResult);

impl fmt::Debug for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Op::Run(run), OpResult::Ran(ran)) => {
                let entry = ran.entry.as_ref().map_or("nothing written".into(), |e| e.position().to_string());
                write!(f, "Run {} {}: {} {entry}", run.request.method, run.request.target, ran.response.status)
            }
            (Op::Persist(p), OpResult::Persisted) => {
                let first = p.entries.first().map_or(0, |(i, _)| *i);
                let meta: Vec<&str> = p.meta.iter().map(|(name, _)| *name).collect();
                write!(
                    f,
                    "Persist {} entries from {first}, truncate {:?}, meta {meta:?}",
                    p.entries.len(),
                    p.truncate_from
                )
            }
            (Op::Append { epoch, prev, entries, .. }, result) => {
                write!(f, "Append epoch {} {} entries after {prev}: {result:?}", epoch.0, entries.len())
            }
            (op, result) => write!(f, "{op:?}: {result:?}"),
        }
    }
}
