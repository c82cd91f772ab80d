//! How the starters of several machines find one another, before anything runs.
//!
//! One of them begins: the one that was told to join nobody, or the first of the list that all were given. It waits
//! until there are enough machines for the agency, says who belongs to the deployment, and everybody remembers that.
//! Whoever comes later is let in by any of them (`members`). Nothing here is needed again after the first start.

use super::api;
use super::machines::{Forming, Welcome};
use super::setup::{Meeting, Setup};
use crate::client::{Answer, Client, endpoint_of_url};
use crate::exit::{Code, Exit};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tanist_engine::http::Response;
use tanist_engine::types::{Auth, Endpoint};
use tokio::net::TcpListener;
use tokio::sync::Notify;

const INTERVAL: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the operator is told what is waited for.
const REMIND: Duration = Duration::from_secs(10);

/// What the port answers from while the machines come together.
struct Meet {
    auth: Auth,
    id: String,
    /// Only where this machine begins.
    forming: Option<Mutex<Forming>>,
    /// Whom others had better ask.
    ask_instead: Option<Endpoint>,
    shutdown: Notify,
}

/// Comes together with the others; `None` if somebody asked for the end meanwhile.
pub async fn meet(
    meeting: &Meeting,
    setup: &Setup,
    client: &Client,
    auth: &Auth,
    listener: Arc<TcpListener>,
) -> Result<Option<Welcome>, Exit> {
    let me = Endpoint::parse(&format!("tcp://{}:{}", setup.address, setup.port)).map_err(Exit::options)?;
    let (others, begins) = order(&me, &meeting.join);
    let forming = if begins {
        let deployment = crate::options::hexadecimal(&crate::options::entropy::<8>());
        let forming = Forming::new(deployment, meeting.hello.clone(), setup.agency_size);
        Some(Mutex::new(forming.map_err(|refusal| Exit::options(refusal.message))?))
    } else {
        None
    };
    let ask_instead = if begins { None } else { others.first().cloned() };
    let meet =
        Arc::new(Meet { auth: auth.clone(), id: setup.id.clone(), forming, ask_instead, shutdown: Notify::new() });
    let serving = {
        let meet = meet.clone();
        tokio::spawn(api::serve(listener, move |call| {
            let response = meet.answer(&call);
            async move { response }
        }))
    };
    let met = tokio::select! {
        met = find(&meet, meeting, client, &others) => met.map(Some),
        () = meet.shutdown.notified() => Ok(None),
    };
    serving.abort();
    let _ = serving.await;
    met
}

/// The other addresses of the list, and whether this machine is the one that begins. All who have the same list agree
/// on that, whatever its order; who is not in the list does not begin, unless there is none.
fn order(me: &Endpoint, join: &[Endpoint]) -> (Vec<Endpoint>, bool) {
    let address = |endpoint: &Endpoint| endpoint.authority().to_socket_addrs().ok().and_then(|mut all| all.next());
    let mut by_address: BTreeMap<(Option<SocketAddr>, String), Endpoint> =
        join.iter().map(|other| ((address(other), other.authority().to_owned()), other.clone())).collect();
    let own = address(me);
    let is_me = |at: &Option<SocketAddr>, other: &Endpoint| other == me || (at.is_some() && *at == own);
    let begins = by_address.iter().next().is_none_or(|((at, _), first)| is_me(at, first));
    by_address.retain(|(at, _), other| !is_me(at, other));
    (by_address.into_values().collect(), begins)
}

/// Asks the others until there is a deployment that this machine belongs to.
async fn find(meet: &Meet, meeting: &Meeting, client: &Client, others: &[Endpoint]) -> Result<Welcome, Exit> {
    let mut reminded: Option<Instant> = None;
    let mut said = String::new();
    loop {
        let mut waits = Vec::new();
        for other in others {
            match ask(meet, meeting, client, other).await? {
                Asked::Welcome(welcome) => return Ok(welcome),
                Asked::Wait(why) => waits.push(why),
            }
        }
        if let Some(forming) = &meet.forming {
            let forming = forming.lock().unwrap_or_else(PoisonError::into_inner);
            if forming.is_full() {
                return Ok(forming.welcome());
            }
            let (missing, machines) = (forming.missing(), forming.welcome().machines);
            let here: Vec<String> = machines.iter().map(super::machines::Machine::name).collect();
            waits = vec![format!("{missing} more of the machines that run an agent (here: {})", here.join(", "))];
        }
        let text = waits.join("; ");
        if text != said || reminded.is_none_or(|at| at.elapsed() >= REMIND) {
            crate::log::say!("Waiting for {text}");
            tracing::info!("waiting for {text}");
            said = text;
            reminded = Some(Instant::now());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

enum Asked {
    Welcome(Welcome),
    /// Not yet, and why.
    Wait(String),
}

/// Says hello to one starter, or to the one that it names.
async fn ask(meet: &Meet, meeting: &Meeting, client: &Client, other: &Endpoint) -> Result<Asked, Exit> {
    let mut to = other.clone();
    for _hop in 0..3 {
        // Who begins gives up only for a deployment that is there already.
        let asked = client.get(&to, "/hello", PATIENCE).await;
        let exists = asked.as_ref().ok().and_then(welcome).is_some_and(|welcome| welcome.formed);
        let answer = match asked {
            Ok(_) if meet.forming.is_none() || exists => {
                let hello = serde_json::to_value(&meeting.hello).expect("a hello can be written");
                client.post(&to, "/hello", &hello, PATIENCE * 5).await
            }
            other => other,
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(problem) => return Ok(Asked::Wait(format!("{} ({problem})", to.authority()))),
        };
        match (answer.status, welcome(&answer)) {
            (200, Some(welcome)) if welcome.formed && welcome.machines.iter().any(|m| m.id == meeting.hello.id) => {
                return Ok(Asked::Welcome(welcome));
            }
            (200, Some(welcome)) if welcome.formed => {
                return Ok(Asked::Wait(format!("{} (the deployment is just being formed)", to.authority())));
            }
            (200, Some(_)) => return Ok(Asked::Wait(format!("{} (more machines are to come)", to.authority()))),
            (307, _) => match answer.elsewhere.as_deref().and_then(endpoint_of_url) {
                Some(next) => to = next,
                None => break,
            },
            (404, None) if answer.json()["errorMessage"].is_null() => {
                return Err(Exit::failed(format!("{}: that is no starter", to.authority())));
            }
            (401, _) => {
                let message = format!("{}: {} (--auth.jwt-secret FILE)", to.authority(), answer.problem());
                return Err(Exit::new(Code::Secret, message));
            }
            (400..=499, _) => return Err(Exit::options(format!("{}: {}", to.authority(), answer.problem()))),
            _ => return Ok(Asked::Wait(format!("{} ({})", to.authority(), answer.problem()))),
        }
    }
    Ok(Asked::Wait(format!("{} (it is waiting for others itself)", to.authority())))
}

fn welcome(answer: &Answer) -> Option<Welcome> {
    serde_json::from_slice(&answer.text).ok()
}

impl Meet {
    fn answer(&self, call: &api::Call) -> Response {
        if let Some(refused) = call.refuse(&self.auth) {
            return refused;
        }
        match (call.method.as_str(), call.path.as_str()) {
            ("GET", "/id") => Response::json(200, &json!({"id": self.id})),
            ("GET", "/version") => api::version(),
            ("POST", "/shutdown") => {
                self.shutdown.notify_one();
                Response::text(200, "OK")
            }
            ("GET" | "POST", "/hello") => match (&self.forming, &self.ask_instead) {
                (Some(forming), _) => {
                    let mut forming = forming.lock().unwrap_or_else(PoisonError::into_inner);
                    let welcome = match call.method.as_str() {
                        "POST" => call.hello().and_then(|hello| forming.hello(hello)),
                        _ => Ok(forming.welcome()),
                    };
                    api::welcome(welcome)
                }
                (None, Some(other)) => Response::empty(307).with_header("location", format!("{}/hello", other.url())),
                (None, None) => Response::error(503, 503, "this machine waits for others itself"),
            },
            _ => Response::error(503, 503, "this machine still waits for the others"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_have_the_same_list_agree_on_who_begins() {
        let parse = |text: &str| Endpoint::parse(&format!("tcp://{text}")).unwrap();
        let list = ["10.0.0.2:8528", "10.0.0.10:8528", "10.0.0.1:8528"].map(parse);
        for list in [list.clone(), [list[2].clone(), list[0].clone(), list[1].clone()]] {
            let begins: Vec<bool> = list.iter().map(|me| order(me, &list).1).collect();
            assert_eq!(begins, list.iter().map(|me| me.authority() == "10.0.0.1:8528").collect::<Vec<_>>());
            assert!(list.iter().all(|me| order(me, &list).0.len() == 2 && !order(me, &list).0.contains(me)));
        }
        let outside = order(&parse("10.0.0.9:8528"), &list);
        assert_eq!((outside.0.len(), outside.1), (3, false));
        assert_eq!(order(&parse("10.0.0.9:8528"), &[]), (vec![], true));
        assert_eq!(
            order(&parse("127.0.0.1:1"), &[parse("localhost:1"), parse("127.0.0.1:2")]).0,
            [parse("127.0.0.1:2")]
        );
    }
}
