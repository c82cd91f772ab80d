//! The machines of a deployment, and how the first of them come together.
//!
//! Pure: who is let in, who gets an agent, when there are enough. What a starter says to another is a [`Hello`]; what
//! it hears is a [`Welcome`] or one line that says what is wrong.

use super::setup::{Mode, Role};
use serde::{Deserialize, Serialize};
use tanist_engine::types::Endpoint;

/// Machines that a deployment may have.
pub const MACHINES_MAX: usize = 64;

/// One starter's place: a machine, or one of several peers on one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub id: String,
    pub address: String,
    pub port: u16,
    pub agent: bool,
    pub server: bool,
    /// Its agent was none of the first: it joins the agency instead of forming it. On an etcd there is nothing to join.
    #[serde(default, skip_serializing_if = "is_false")]
    pub joined: bool,
    /// A dead machine whose place it takes, as long as that has nodes in the agency's records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Box<Machine>>,
}

fn is_false(value: &bool) -> bool {
    !*value
}

impl Machine {
    fn new(hello: &Hello, agent: bool, server: bool) -> Machine {
        let (id, address) = (hello.id.clone(), hello.address.clone());
        Machine { id, address, port: hello.port, agent, server, joined: false, replaces: None }
    }

    /// Whether an operator means this one.
    pub fn is_called(&self, name: &str) -> bool {
        self.id == name || self.name() == name || self.address == name
    }

    /// The starter's own endpoint.
    pub fn starter(&self) -> Result<Endpoint, String> {
        self.at(0)
    }

    /// Where its agent or its server listens; `None` if it runs none, or the address is no address.
    pub fn endpoint(&self, role: Role) -> Option<Endpoint> {
        let (runs, offset) = match role {
            Role::Agent => (self.agent, 3),
            Role::Server => (self.server, 1),
        };
        if runs { self.at(offset).ok() } else { None }
    }

    fn at(&self, offset: u16) -> Result<Endpoint, String> {
        let port = self.port.checked_add(offset).ok_or("there are not enough ports above the starter's")?;
        Endpoint::parse(&format!("tcp://{}:{port}", self.address))
    }

    pub fn name(&self) -> String {
        format!("{}:{}", self.address, self.port)
    }
}

/// "I want to belong to you."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Hello {
    pub id: String,
    pub address: String,
    pub port: u16,
    pub mode: Mode,
    /// What the operator asked for, if anything.
    pub agency_size: Option<usize>,
    /// The address of an etcd; who says nothing takes the deployment's.
    #[serde(default)]
    pub etcd: Option<String>,
    pub agent: Option<bool>,
    pub server: Option<bool>,
    /// The id of a dead machine whose place this one takes.
    #[serde(default)]
    pub replaces: Option<String>,
}

/// "This is who we are." With `formed` false the machines are those that have come so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Welcome {
    pub deployment: String,
    pub formed: bool,
    pub agency_size: usize,
    /// The address of the etcd that keeps the agency's log: then its agents have no seats.
    #[serde(default)]
    pub etcd: Option<String>,
    pub machines: Vec<Machine>,
}

/// Why a machine is not let in: an HTTP status and one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub message: String,
}

fn refuse<T>(status: u16, message: String) -> Result<T, Refusal> {
    Err(Refusal { status, message })
}

/// What holds of a hello whatever the state of the deployment.
fn check(hello: &Hello, agency_size: usize, etcd: Option<&str>) -> Result<(), Refusal> {
    if hello.mode != Mode::ActiveFailover {
        return refuse(400, "this is an activefailover deployment, --starter.mode asks for another".to_owned());
    }
    if let Some(size) = hello.agency_size
        && size != agency_size
    {
        return refuse(
            400,
            format!("this deployment has an agency of {agency_size}, --cluster.agency-size says {size}"),
        );
    }
    if let Some(other) = &hello.etcd
        && Some(&**other) != etcd
    {
        let witness = etcd.unwrap_or("agents of its own");
        return refuse(400, format!("this deployment's witness is {witness}, --agency.endpoint says {other}"));
    }
    if hello.agent == Some(false) && hello.server == Some(false) {
        return refuse(400, "a machine with neither agent nor server has nothing to do".to_owned());
    }
    let machine = Machine::new(hello, true, true);
    let sound = hello.id.len() <= 64 && hello.address.len() <= 255 && machine.starter().and(machine.at(3)).is_ok();
    if !sound || hello.id.is_empty() || !hello.id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return refuse(400, format!("{}: that is no address", machine.name()));
    }
    Ok(())
}

/// The first machines, while they come together under the one that began.
#[derive(Clone, Debug)]
pub struct Forming {
    deployment: String,
    agency_size: usize,
    etcd: Option<String>,
    /// In the order in which they came; the first is the one that began.
    hellos: Vec<Hello>,
}

impl Forming {
    pub fn new(deployment: String, own: Hello, agency_size: usize) -> Result<Forming, Refusal> {
        let mut forming = Forming { deployment, agency_size, etcd: own.etcd.clone(), hellos: Vec::new() };
        forming.hello(own)?;
        Ok(forming)
    }

    /// Lets a machine in, or says what is wrong. One that was started afresh at its address takes its own place.
    pub fn hello(&mut self, hello: Hello) -> Result<Welcome, Refusal> {
        check(&hello, self.agency_size, self.etcd.as_deref())?;
        let same = |other: &Hello| (&other.address, other.port) == (&hello.address, hello.port);
        let own = self.hellos.first().is_some_and(|own| same(own) && own.id != hello.id);
        if own {
            return refuse(409, format!("{}:{} is the address of another machine", hello.address, hello.port));
        }
        let full = self.is_full();
        let place = self.hellos.iter_mut().find(|other| other.id == hello.id || same(other));
        match place {
            Some(place) => *place = hello,
            None if full => return refuse(503, "the deployment is just being formed".to_owned()),
            None => self.hellos.push(hello),
        }
        Ok(self.welcome())
    }

    /// How many more machines that may run an agent are waited for.
    pub fn missing(&self) -> usize {
        self.agency_size.saturating_sub(self.hellos.iter().filter(|hello| hello.agent != Some(false)).count())
    }

    pub fn is_full(&self) -> bool {
        self.missing() == 0
    }

    pub fn welcome(&self) -> Welcome {
        let mut agents = 0;
        let machines = self.hellos.iter().map(|hello| {
            let agent = hello.agent != Some(false) && agents < self.agency_size;
            agents += usize::from(agent);
            let server = hello.server != Some(false);
            Machine::new(hello, agent, server)
        });
        let machines = machines.collect();
        let formed = self.is_full();
        let (deployment, etcd) = (self.deployment.clone(), self.etcd.clone());
        Welcome { deployment, formed, agency_size: self.agency_size, etcd, machines }
    }
}

/// A machine that comes to a deployment that exists: who it will be there, and who has to go for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    pub machine: Machine,
    pub replaced: Option<Machine>,
}

/// Decides on a hello to a formed deployment; `None` if that machine belongs to it already.
pub fn admit(welcome: &Welcome, hello: &Hello) -> Result<Option<Admission>, Refusal> {
    check(hello, welcome.agency_size, welcome.etcd.as_deref())?;
    let address = |machine: &Machine| machine.address == hello.address && machine.port == hello.port;
    if let Some(known) = welcome.machines.iter().find(|machine| machine.id == hello.id) {
        if address(known) {
            return Ok(None);
        }
        return refuse(409, format!("machine {} is at {}", known.id, known.name()));
    }
    let replaced = match &hello.replaces {
        None => None,
        Some(old) => match welcome.machines.iter().find(|machine| machine.is_called(old)) {
            Some(old) => Some(old.clone()),
            None => return refuse(404, format!("there is no machine {old} in this deployment")),
        },
    };
    if let Some(other) = welcome.machines.iter().find(|machine| address(machine) && Some(*machine) != replaced.as_ref())
    {
        return refuse(
            409,
            format!(
                "{} is the address of machine {} of this deployment (--starter.replace {} takes the place of a dead one)",
                other.name(),
                other.id,
                other.id
            ),
        );
    }
    if welcome.machines.len() >= MACHINES_MAX {
        return refuse(400, format!("this deployment has {MACHINES_MAX} machines already"));
    }
    // An agent more or less is a change of the agency, so it must be asked for; a replacement keeps what was there.
    let like = replaced.as_ref().map_or((false, true), |old| (old.agent, old.server));
    let (agent, server) = (hello.agent.unwrap_or(like.0), hello.server.unwrap_or(like.1));
    if !agent && !server {
        return refuse(400, "a machine with neither agent nor server has nothing to do".to_owned());
    }
    let machine = Machine::new(hello, agent, server);
    let joined = agent && welcome.etcd.is_none();
    let machine = Machine { joined, replaces: replaced.clone().map(Box::new), ..machine };
    Ok(Some(Admission { machine, replaced }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(id: &str) -> Hello {
        Hello {
            id: id.to_owned(),
            address: format!("10.0.0.{}", id.len()),
            port: 8528,
            mode: Mode::ActiveFailover,
            agency_size: None,
            etcd: None,
            agent: None,
            server: None,
            replaces: None,
        }
    }

    fn roles(welcome: &Welcome) -> Vec<(&str, bool, bool)> {
        welcome.machines.iter().map(|machine| (machine.id.as_str(), machine.agent, machine.server)).collect()
    }

    #[test]
    fn the_first_machines_get_the_agents() {
        let mut forming = Forming::new("d".to_owned(), hello("a"), 3).unwrap();
        assert!(!forming.hello(Hello { agent: Some(false), ..hello("bb") }).unwrap().formed);
        assert!(!forming.hello(hello("ccc")).unwrap().formed);
        assert!(!forming.hello(hello("ccc")).unwrap().formed, "who asks again is no other one");
        let formed = forming.hello(Hello { server: Some(false), ..hello("dddd") }).unwrap();
        assert!(formed.formed);
        let expected = [("a", true, true), ("bb", false, true), ("ccc", true, true), ("dddd", true, false)];
        assert_eq!(roles(&formed), expected);
        assert_eq!(forming.hello(hello("eeeee")).unwrap_err().status, 503);
        // Alone is enough where one agent is.
        assert!(Forming::new("d".to_owned(), hello("a"), 1).unwrap().welcome().formed);
    }

    #[test]
    fn a_machine_that_was_started_afresh_takes_its_own_place() {
        let mut forming = Forming::new("d".to_owned(), hello("a"), 3).unwrap();
        forming.hello(hello("bb")).unwrap();
        let again = forming.hello(Hello { id: "b2".to_owned(), ..hello("bb") }).unwrap();
        assert_eq!(roles(&again).iter().map(|(id, ..)| *id).collect::<Vec<_>>(), ["a", "b2"]);
        let refused = forming.hello(Hello { address: hello("a").address, ..hello("ccc") }).unwrap_err();
        assert!(refused.status == 409 && refused.message.contains("another machine"), "{refused:?}");
    }

    #[test]
    fn who_says_nothing_of_an_etcd_takes_the_deployments() {
        let etcd = Some("etcd://e:1/orders".to_owned());
        let mut forming = Forming::new("d".to_owned(), Hello { etcd: etcd.clone(), ..hello("a") }, 3).unwrap();
        assert_eq!(forming.hello(hello("bb")).unwrap().etcd, etcd);
        forming.hello(Hello { etcd: etcd.clone(), ..hello("ccc") }).unwrap();
        let refused = forming.hello(Hello { etcd: Some("etcd://f:1".to_owned()), ..hello("bb") }).unwrap_err();
        assert!(refused.message.contains("witness is etcd://e:1/orders"), "{refused:?}");
    }

    #[test]
    fn what_can_not_be_is_refused_in_one_line() {
        let formed = Forming::new("d".to_owned(), hello("a"), 1).unwrap().welcome();
        let cases = [
            (Hello { agency_size: Some(3), ..hello("bb") }, 400, "an agency of 1"),
            (Hello { etcd: Some("etcd://e:1".to_owned()), ..hello("bb") }, 400, "witness is agents of its own"),
            (Hello { mode: Mode::Single, ..hello("bb") }, 400, "activefailover"),
            (Hello { agent: Some(false), server: Some(false), ..hello("bb") }, 400, "nothing to do"),
            (Hello { address: "no address".to_owned(), ..hello("bb") }, 400, "no address"),
            (Hello { port: 65534, ..hello("bb") }, 400, "no address"),
            (Hello { id: "../x".to_owned(), ..hello("bb") }, 400, "no address"),
            (Hello { id: "zz".to_owned(), ..hello("a") }, 409, "--starter.replace a"),
            (Hello { port: 1, ..hello("a") }, 409, "is at 10.0.0.1:8528"),
            (Hello { replaces: Some("q".to_owned()), ..hello("bb") }, 404, "no machine q"),
        ];
        for (hello, status, text) in cases {
            let refused = admit(&formed, &hello).unwrap_err();
            assert!(refused.status == status && refused.message.contains(text), "{hello:?}: {refused:?}");
        }
    }

    #[test]
    fn a_later_machine_gets_a_server_and_a_replacement_what_was_there() {
        let formed = Forming::new("d".to_owned(), hello("a"), 1).unwrap().welcome();
        assert_eq!(admit(&formed, &hello("a")).unwrap(), None);
        let later = admit(&formed, &hello("bb")).unwrap().unwrap();
        assert_eq!((later.machine.agent, later.machine.server, later.replaced), (false, true, None));
        let agent = admit(&formed, &Hello { agent: Some(true), server: Some(false), ..hello("bb") }).unwrap().unwrap();
        assert_eq!((agent.machine.agent, agent.machine.server), (true, false));
        for old in ["a", "10.0.0.1:8528"] {
            let new = admit(&formed, &Hello { replaces: Some(old.to_owned()), ..hello("bb") }).unwrap().unwrap();
            assert_eq!((new.machine.agent, new.machine.server), (true, true));
            assert_eq!(new.replaced.as_ref(), formed.machines.first());
        }
        // At the same address, too.
        let same = Hello { id: "zz".to_owned(), replaces: Some("a".to_owned()), ..hello("a") };
        assert!(admit(&formed, &same).unwrap().unwrap().replaced.is_some());
    }
}
