//! Faults: what each does to the machines and links, and how it is undone.

use super::core::REST;
use super::damage::OPERATOR;
use super::*;
use crate::atlas;
use crate::node::death_notice;

/// A fault that has struck and is not healed.
pub(super) struct Struck {
    nodes: Vec<usize>,
    /// How often it has gone on.
    round: u64,
    /// When whom it keeps down is started again next.
    again_at: At,
    /// For what it draws as it goes on.
    pub rng: Rng,
}

fn mask(nodes: &[usize]) -> Places {
    nodes.iter().fold(0, |mask, node| mask | net::only(*node))
}

/// The links between these places and those, one way or both.
pub(super) fn links(these: Places, those: Places, way: Way) -> impl Iterator<Item = Links> {
    let out = (way != Way::In).then_some(Links(these, those));
    out.into_iter().chain((way != Way::Out).then_some(Links(those, these)))
}

impl World {
    pub(super) fn leading_server(&self) -> usize {
        let serving = self.lease.serving(&self.server_times()).map(|(server, _)| server);
        self.agents + serving.unwrap_or(0)
    }

    /// Whom a fault meets: roles are looked up now.
    fn resolve(&self, target: Target, rng: &mut Rng) -> Vec<usize> {
        let servers = self.agents..self.machines.len();
        let agency = self.agency.leader().unwrap_or(0);
        match target {
            Target::Leader => vec![self.leading_server()],
            Target::Follower => {
                let leader = self.leading_server();
                let others: Vec<usize> = servers.filter(|node| *node != leader).collect();
                if others.is_empty() {
                    return vec![leader];
                }
                vec![others[rng.below(others.len() as u64) as usize]]
            }
            Target::AgencyLeader => vec![agency],
            Target::Leaders => vec![self.leading_server(), agency],
            Target::Agents => (0..self.agents).collect(),
            Target::Servers => servers.collect(),
            Target::All => (0..self.machines.len()).collect(),
            Target::Agent(agent) => vec![agent],
            Target::Server(server) => vec![self.agents + server],
            Target::Etcd => vec![self.etcd_place()],
        }
    }

    fn place_name(&self, place: usize) -> String {
        self.machines.get(place).map_or("etcd".to_owned(), |machine| machine.name.clone())
    }

    pub(super) fn strike(&mut self, number: usize) {
        let fault: Fault = self.scenario.faults[number].clone();
        let mut rng = fault.rng(&self.scenario);
        let nodes = self.resolve(fault.target, &mut rng);
        if self.trace.on() {
            let names: Vec<String> = nodes.iter().map(|n| self.place_name(*n)).collect();
            self.tell("fault", format_args!("{fault} strikes {}", names.join(" ")));
        }
        if let Some(timeline) = &mut self.trace.timeline {
            let until = self.at.plus(Duration::from_millis(fault.for_ms));
            timeline.fault(self.at, until, &nodes, fault.to_string());
        }
        for node in &nodes {
            let Some(machine) = self.machines.get(*node) else { continue };
            if let Some((invariant, why)) = atlas::excuse(&fault.kind, &self.scenario, machine.kind) {
                self.excuse(invariant, why);
            }
        }
        self.figures.strikes.entry(fault.kind.name()).or_default().struck += nodes.len() as u64;
        self.struck.insert(number, Struck { nodes: nodes.clone(), round: 0, again_at: At(0), rng });
        match fault.kind {
            Kind::CrashLoop { .. } | Kind::Rolling { .. } | Kind::Flap { .. } => self.again(number),
            Kind::Cut { way, whom } => self.cut(number, &nodes, way, whom, fault.for_ms),
            Kind::Ring => self.close_ring(number, &nodes, fault.for_ms),
            Kind::Bandwidth { bytes_per_s, way, whom } => {
                for links in links(mask(&nodes), self.whom(whom), way) {
                    self.net.add_narrow(number, links, bytes_per_s);
                }
            }
            Kind::Storm { loss_permille, duplicate_permille, delay_us, way, whom } => {
                let (straggler_permille, straggler_ms) = (20, 500);
                let ordered = self.scenario.net_ordered == 1;
                let weather = Weather {
                    loss_permille,
                    duplicate_permille,
                    delay_us,
                    straggler_permille,
                    straggler_ms,
                    ordered,
                    ..Weather::CALM
                };
                for links in links(mask(&nodes), self.whom(whom), way) {
                    self.net.add_storm(number, links, weather);
                }
            }
            Kind::Handover => self.ask_for_handover(nodes[0]),
            Kind::Reseat => self.take_seat(nodes[0]),
            Kind::Timing { lease_ms } => self.set_timing(nodes[0], lease_ms),
            kind => nodes.into_iter().for_each(|node| self.strike_node(node, number, &kind)),
        }
        self.after(Duration::from_millis(fault.for_ms), Happening::Heal { fault: number });
    }

    /// A fault that does the same to each node that it meets.
    fn strike_node(&mut self, node: usize, number: usize, kind: &Kind) {
        if node == self.etcd_place() {
            return self.strike_etcd(number, kind);
        }
        if self.is_at_rest(node, kind) {
            self.spared(number);
        }
        let machine = &mut self.machines[node];
        match *kind {
            Kind::Kill { notice_ms, notices } => self.kill(node, number, notice_ms, notices),
            Kind::Stop => self.ask_to_leave(node, number),
            Kind::Pause => self.pause(node, number, false),
            Kind::Suspend => self.pause(node, number, true),
            Kind::Busy { step_us } => machine.step_extra = Duration::from_micros(step_us),
            Kind::Slow { disk_ms } => machine.disk_extra = Duration::from_millis(disk_ms),
            Kind::Drift { ppm } => {
                machine.clock.set_rate(self.at, ppm);
                self.clock_changed(node);
            }
            Kind::Jump { ms } => {
                machine.clock.jump(self.at, Duration::from_millis(ms));
                self.clock_changed(node);
            }
            Kind::Wall { ms } => machine.clock.step_wall(ms),
            Kind::SyncFails { .. } => machine.sync_fails_by = Some(number),
            Kind::Full { room_bytes } => self.fill(node, number, room_bytes),
            Kind::Rot { table, rows } => self.rot(node, number, table, rows),
            Kind::Wipe => self.wipe_if_spared(node, number),
            Kind::Restore => self.back_up(node, number),
            Kind::CrashLoop { .. }
            | Kind::Rolling { .. }
            | Kind::Flap { .. }
            | Kind::Cut { .. }
            | Kind::Ring
            | Kind::Bandwidth { .. }
            | Kind::Storm { .. }
            | Kind::Timing { .. }
            | Kind::Expire
            | Kind::Reseat
            | Kind::Handover => unreachable!("these strike a group as a whole"),
        }
    }

    /// Whether a fault that ends or stops a process finds none to do it to.
    fn is_at_rest(&self, node: usize, kind: &Kind) -> bool {
        let machine = &self.machines[node];
        match kind {
            Kind::Kill { .. } => machine.process.is_none(),
            Kind::Stop => machine.process.is_none() || machine.down_by.is_some(),
            Kind::Pause | Kind::Suspend => machine.process.is_none() || machine.paused,
            _ => false,
        }
    }

    /// The fault had met a node, but did nothing to it.
    pub(super) fn spared(&mut self, number: usize) {
        if let Some(fault) = self.scenario.faults.get(number) {
            self.figures.strikes.entry(fault.kind.name()).or_default().spared += 1;
        }
    }

    /// An operator's request, sent to the agency.
    fn ask_agency(&mut self, from: usize, request: Request) {
        if let Some(agent) = self.agency.leader() {
            self.send_http(from, agent, Caller::Nobody, 0, request);
        }
    }

    pub(super) fn write_to_agency(&mut self, from: usize, transaction: String) {
        self.ask_agency(from, Request::new(Method::Post, "/_api/agency/write").with_body(transaction));
    }

    fn set_timing(&mut self, node: usize, lease_ms: u64) {
        let drift_permille = self.scenario.drift_permille;
        let body = format!(r#"{{"leaseMs":{lease_ms},"driftPermille":{drift_permille}}}"#);
        self.ask_agency(node, Request::new(Method::Put, "/_api/tanist/timing").with_body(body));
        self.aim_at_old_lease();
    }

    /// The seat is taken away if the agency can do that now.
    fn take_seat(&mut self, node: usize) {
        if let Some(id) = self.machines[node].id {
            let body = format!(r#"{{"id":"{id}"}}"#);
            self.ask_agency(node, Request::new(Method::Delete, "/_api/tanist/agents").with_body(body));
        }
    }

    /// Asks for the agent's seat until it has one again.
    pub(super) fn give_seat(&mut self, node: usize) {
        if self.agency.is_seated(node) && self.healed.is_none() {
            // It may lose it yet: the request to take it away may be on its way.
            return self.after(OPERATOR, Happening::GiveSeat { node });
        }
        if self.agency.is_seated(node) {
            return;
        }
        if let Some(wait) = self.aim_at_learner(node) {
            return self.after(wait, Happening::GiveSeat { node });
        }
        if let (Some(id), Some(disk)) = (self.machines[node].id, self.agency.disk_id(node)) {
            let (disk, endpoint) = (Uuid(disk.0), &self.machines[node].endpoint);
            let body = format!(r#"{{"id":"{id}","disk":"{disk}","endpoint":"{endpoint}"}}"#);
            self.ask_agency(node, Request::new(Method::Post, "/_api/tanist/agents").with_body(body));
        }
        self.after(OPERATOR, Happening::GiveSeat { node });
    }

    fn ask_for_handover(&mut self, node: usize) {
        if let Some(to) = self.machines[node].id {
            let key = "/arango/Plan/AsyncReplication/Leader";
            self.write_to_agency(node, format!(r#"[[{{"{key}":{{"op":"set","new":"{to}"}}}}]]"#));
        }
    }

    /// What the atlas says that this run may break from here on.
    pub(super) fn excuse(&mut self, invariant: &'static str, why: String) {
        if self.scenario.strict == 1 {
            return;
        }
        self.tell("fault", format_args!("excuses {invariant} from here on: {why}"));
        self.figures.excused.entry(invariant).or_insert(why);
        self.lease.excused |= invariant == "I5";
    }

    /// Whom this fault keeps down is started again after a while, all at once.
    pub(super) fn again_after(&mut self, number: usize, wait: Duration) {
        let at = self.at.plus(wait);
        if let Some(struck) = self.struck.get_mut(&number)
            && struck.again_at <= self.at
        {
            struck.again_at = at;
            self.later(at, Happening::Again { fault: number });
        }
    }

    /// The next round of a fault that has several.
    pub(super) fn again(&mut self, number: usize) {
        let Some(struck) = self.struck.get_mut(&number) else { return };
        let (round, nodes) = (struck.round, struck.nodes.clone());
        struck.round += 1;
        let kind = self.scenario.faults[number].kind.clone();
        let wait_ms = match kind {
            Kind::CrashLoop { up_ms, down_ms } => {
                for node in nodes {
                    if round % 2 == 0 {
                        self.kill(node, number, 1, 1);
                    } else if self.machines[node].down_by == Some(number) {
                        self.boot(node);
                    }
                }
                if round % 2 == 0 { down_ms } else { up_ms }
            }
            Kind::Rolling { every_ms } => {
                if let Some(before) = (round as usize).checked_sub(1).and_then(|n| nodes.get(n)) {
                    self.start_again(*before, number);
                }
                let Some(node) = nodes.get(round as usize) else { return };
                self.ask_to_leave(*node, number);
                every_ms
            }
            Kind::Flap { way, whom, period_ms } => {
                if round % 2 == 0 {
                    self.cut(number, &nodes, way, whom, period_ms);
                } else {
                    self.net.heal(number);
                }
                period_ms
            }
            Kind::SyncFails { .. } | Kind::Full { .. } | Kind::Rot { .. } => {
                for node in nodes {
                    if self.machines[node].process.is_none() {
                        self.start_again(node, number);
                    }
                }
                return;
            }
            _ => return,
        };
        self.after(Duration::from_millis(wait_ms), Happening::Again { fault: number });
    }

    pub(super) fn kill(&mut self, node: usize, number: usize, notice_ms: u64, notices: u64) {
        let machine = &mut self.machines[node];
        if machine.process.is_none() {
            return;
        }
        machine.down_by = Some(number);
        if let Some(id) = machine.id {
            let body = death_notice(id, machine.nonce);
            for notice in 0..notices {
                let wait = Duration::from_millis(notice_ms + notice * (notice_ms + 700));
                self.after(wait, Happening::Notice { node, body: body.clone() });
            }
        }
        self.end(node);
        self.say(node, "killed");
    }

    fn ask_to_leave(&mut self, node: usize, number: usize) {
        if self.runs(node) && self.machines[node].down_by.is_none() {
            self.machines[node].down_by = Some(number);
            let incarnation = self.machines[node].incarnation;
            self.later(self.at, Happening::Stop { node, incarnation });
        }
    }

    /// Whom this fault brought down, or asked to leave, starts again.
    pub(super) fn start_again(&mut self, node: usize, number: usize) {
        if self.machines[node].down_by == Some(number) {
            self.end(node);
            self.boot(node);
        }
    }

    pub(super) fn pause(&mut self, node: usize, number: usize, suspended: bool) {
        let machine = &mut self.machines[node];
        if machine.process.is_none() || machine.paused {
            return;
        }
        machine.paused = true;
        machine.paused_by = Some(number);
        if suspended {
            machine.clock.stop(self.at);
            if node >= self.agents {
                self.lease.falls_asleep(node - self.agents);
            }
        }
        self.effects.push(Effect::Paused(node));
    }

    fn whom(&self, whom: Whom) -> Places {
        let etcd = net::only(self.etcd_place());
        let agents: Places = (1 << self.agents) - 1;
        let nodes: Places = (1 << self.machines.len()) - 1;
        match whom {
            Whom::Everyone => etcd | (etcd - 1),
            Whom::Peers => nodes | etcd,
            Whom::Agents => agents,
            Whom::Servers => nodes & !agents,
            Whom::Etcd => etcd,
        }
    }

    pub(super) fn cut(&mut self, number: usize, nodes: &[usize], way: Way, whom: Whom, for_ms: u64) {
        let (inside, whom) = (mask(nodes), self.whom(whom));
        let until = if number == REST { At::NEVER } else { self.at.plus(Duration::from_millis(for_ms)) };
        for links in links(inside, whom & !inside, way) {
            self.net.add_cut(number, links, until);
        }
    }

    fn close_ring(&mut self, number: usize, nodes: &[usize], for_ms: u64) {
        let until = self.at.plus(Duration::from_millis(for_ms));
        let ring = nodes.len();
        for (place, node) in nodes.iter().enumerate() {
            let near = [nodes[(place + 1) % ring], nodes[(place + ring - 1) % ring], *node];
            self.net.add_cut(number, Links(net::only(*node), mask(nodes) & !mask(&near)), until);
        }
    }

    // ---- a slow node ------------------------------------------------------------------------------------------------

    /// Whether what comes now has to wait until a slow node is through with what it is at. If not, it is at it now.
    pub(super) fn must_wait(&mut self, node: usize) -> bool {
        let machine = &mut self.machines[node];
        if machine.busy {
            return true;
        }
        if machine.step_extra > Duration::ZERO {
            machine.busy = true;
            let (wait, incarnation) = (machine.step_extra, machine.incarnation);
            self.after(wait, Happening::Free { node, incarnation });
        }
        false
    }

    pub(super) fn free(&mut self, node: usize) {
        self.machines[node].busy = false;
        // One, if it is still slow; otherwise all that has come meanwhile.
        while let Some(next) = self.machines[node].waiting.pop_front() {
            self.handle(self.at, next);
            if self.machines[node].busy {
                return;
            }
        }
    }

    /// Rates beyond what the lease allows for are put right; others stay as they are.
    fn clock_heals(&mut self, node: usize) {
        let most = self.scenario.drift_most_ppm() as i64;
        let clock = &mut self.machines[node].clock;
        if clock.rate_ppm().abs() > most {
            clock.set_rate(self.at, 0);
            self.clock_changed(node);
        }
    }

    /// A timer that was set by the old clock is due at another time by the new one.
    pub(super) fn clock_changed(&mut self, node: usize) {
        if let Some(process) = &mut self.machines[node].process {
            process.timer = None;
            self.settle(node);
        }
    }

    pub(super) fn heal(&mut self, number: usize) {
        let Some(struck) = self.struck.remove(&number) else { return };
        self.net.heal(number);
        self.restore(number);
        self.etcd_goes_on(Some(number));
        for node in struck.nodes {
            let Some(machine) = self.machines.get_mut(node) else { continue };
            match self.scenario.faults[number].kind {
                Kind::Kill { .. } | Kind::CrashLoop { .. } | Kind::Stop | Kind::Rolling { .. } => {
                    self.start_again(node, number);
                }
                Kind::Wipe => self.start_again(node, number),
                Kind::SyncFails { .. } | Kind::Full { .. } => self.disk_heals(node, number),
                Kind::Rot { .. } if machine.rotten_by == Some(number) => self.rot_ends(node, number),
                Kind::Pause | Kind::Suspend if machine.paused_by == Some(number) => self.resume(node),
                Kind::Reseat => self.give_seat(node),
                Kind::Slow { .. } => machine.disk_extra = Duration::ZERO,
                Kind::Busy { .. } => machine.step_extra = Duration::ZERO,
                _ => {}
            }
        }
    }

    /// A suspended machine's clock goes on.
    pub(super) fn wake(&mut self, node: usize) {
        let told = Duration::from_millis(self.scenario.slack_ms() + 2);
        let stood_still = self.machines[node].clock.go_on(self.at, told);
        if node >= self.agents {
            self.lease.wakes(node - self.agents, stood_still);
        }
        if stood_still {
            self.clock_changed(node);
        }
    }

    pub(super) fn resume(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if !machine.paused {
            return;
        }
        machine.paused = false;
        machine.paused_by = None;
        let held = std::mem::take(&mut machine.held);
        self.effects.push(Effect::Resumed(node));
        self.say(node, "goes on");
        self.wake(node);
        for what in held {
            self.later(self.at, what);
        }
    }

    pub(super) fn heal_all(&mut self) {
        self.tell("fault", "everything is healed");
        if let Some(timeline) = &mut self.trace.timeline {
            timeline.healed(self.at);
        }
        let open: Vec<usize> = self.struck.keys().copied().collect();
        open.into_iter().for_each(|number| self.heal(number));
        self.net.heal_all();
        self.etcd_goes_on(None);
        for node in 0..self.machines.len() {
            self.resume(node);
            self.machines[node].disk_extra = Duration::ZERO;
            self.machines[node].step_extra = Duration::ZERO;
            self.clock_heals(node);
            self.boot(node);
        }
        self.healed = Some(self.at);
        self.workload.heal(self.at);
    }
}
