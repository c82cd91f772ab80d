//! The model of etcd that the simulator runs with does what the real one does, and the server speaks its language.

use crate::cluster::{Cluster, is_there};
use bytes::Bytes;
use std::collections::BTreeMap;
use tanist_engine::etcd::model::Model;
use tanist_engine::etcd::{Answer, Ask, Change, Compare, Span, Transaction};
use tanist_engine::types::Rng;
use tanist_server::client::Answer as Reply;
use tanist_server::etcd::{question, understand};

const KEYS: u64 = 6;

fn key(rng: &mut Rng) -> String {
    format!("/k/{}", rng.below(KEYS))
}

fn span(rng: &mut Rng) -> Span {
    let from = key(rng);
    Span { end: rng.chance(1, 2).then(|| key(rng)), from }
}

/// A question about few keys, so that comparisons hold now and then. Leases are named by the model's numbers.
fn draw(rng: &mut Rng, leases: u64, revision: u64) -> Ask {
    let lease = rng.below(leases + 2);
    match rng.below(12) {
        0 => Ask::Grant { ttl_s: 600 },
        1 => Ask::KeepAlive { lease },
        2 => Ask::Revoke { lease },
        3 | 4 => Ask::Range { span: span(rng), limit: 1 + rng.below(4) as usize },
        _ => {
            let compare = |rng: &mut Rng| {
                let revision = if rng.chance(1, 2) { 0 } else { revision.saturating_sub(rng.below(4)) };
                let key = key(rng);
                if rng.chance(1, 2) { Compare::Created { key, revision } } else { Compare::Modified { key, revision } }
            };
            let compare = (0..rng.below(3)).map(|_| compare(rng)).collect();
            // etcd refuses a transaction that changes a key twice.
            let (first, second) = (rng.below(KEYS), rng.below(KEYS));
            let put = |rng: &mut Rng, number: u64| Change::Put {
                key: format!("/k/{number}"),
                value: Bytes::from(format!("value {}", rng.below(1000))),
                lease: rng.chance(1, 4).then_some(lease),
            };
            let mut then = vec![put(rng, first)];
            if second != first {
                then.push(if rng.chance(1, 2) {
                    put(rng, second)
                } else {
                    Change::Delete(Span::key(&format!("/k/{second}")))
                });
            }
            let otherwise = (0..rng.below(3)).map(|_| span(rng)).collect();
            Ask::Transaction(Transaction { compare, then, otherwise })
        }
    }
}

/// The same question with the real etcd's lease numbers.
fn real(ask: &Ask, leases: &BTreeMap<u64, u64>) -> Ask {
    let of = |lease: &u64| leases.get(lease).copied().unwrap_or(7);
    let mut ask = ask.clone();
    match &mut ask {
        Ask::KeepAlive { lease } | Ask::Revoke { lease } => *lease = of(lease),
        Ask::Transaction(transaction) => {
            for change in &mut transaction.then {
                if let Change::Put { lease: Some(lease), .. } = change {
                    *lease = of(lease);
                }
            }
        }
        _ => {}
    }
    ask
}

#[test]
fn the_model_answers_as_the_real_etcd_does() {
    if !is_there() {
        return;
    }
    let cluster = Cluster::start(1);
    let (mut model, mut rng) = (Model::default(), Rng::new(7));
    let (mut leases, mut revision) = (BTreeMap::new(), 1);
    let mut kinds = [0; 4];
    for number in 0..2500 {
        let ask = draw(&mut rng, leases.len() as u64, revision);
        let (path, body) = question(&real(&ask, &leases));
        // etcd's errors end with trailers, which the tests' client does not read past: each has its own connection.
        let answer = cluster.client(0).post(path, &body).expect("an answer");
        let reply = Reply { status: answer.status, elsewhere: None, text: answer.body.into() };
        let expected = model.perform(&ask);
        let answer = match (&ask, reply.status) {
            // To revoke what is not there is an error to the real one; here both are "it is not there now".
            (Ask::Revoke { .. }, 404) => Ok(Answer::Revoked),
            _ => understand(&ask, &reply),
        };
        let answer = answer.unwrap_or_else(|e| panic!("{number}: {ask:?}: {e}"));
        let answer = match (answer, &expected) {
            (Answer::Granted { lease }, Answer::Granted { lease: modelled }) => {
                leases.insert(*modelled, lease);
                Answer::Granted { lease: *modelled }
            }
            (Answer::Alive { ttl_s }, _) => Answer::Alive { ttl_s: ttl_s.min(1) },
            (answer, _) => answer,
        };
        assert_eq!(answer, expected, "{number}: {ask:?}");
        match answer {
            Answer::Decided { succeeded, revision: at, .. } => {
                revision = at;
                kinds[usize::from(succeeded)] += 1;
            }
            Answer::NoSuchLease => kinds[2] += 1,
            _ => kinds[3] += 1,
        }
    }
    assert!(kinds.iter().all(|kind| *kind > 50), "refused, done, without a lease, others: {kinds:?}");
}
