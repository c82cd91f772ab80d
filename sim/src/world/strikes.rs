//! Faults: what each does to the machines and links, and how it is undone.

use super::*;

impl World {
    pub(super) fn leading_server(&self) -> usize {
        let serving = self.lease.serving(&self.server_times()).map(|(server, _)| server);
        self.agents + serving.unwrap_or(0)
    }

    pub(super) fn resolve(&mut self, target: Target) -> Vec<usize> {
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
                vec![others[self.chance.below(others.len() as u64) as usize]]
            }
            Target::AgencyLeader => vec![agency],
            Target::Leaders => vec![self.leading_server(), agency],
            Target::Agents => (0..self.agents).collect(),
            Target::Servers => servers.collect(),
            Target::All => (0..self.machines.len()).collect(),
            Target::Agent(agent) => vec![agent],
            Target::Server(server) => vec![self.agents + server],
        }
    }

    pub(super) fn strike(&mut self, number: usize) {
        let fault: Fault = self.scenario.faults[number].clone();
        let nodes = self.resolve(fault.target);
        let names: Vec<String> = nodes.iter().map(|n| self.machines[*n].name.clone()).collect();
        self.tell("fault", format_args!("{fault} strikes {}", names.join(" ")));
        let lasts = Duration::from_millis(fault.for_ms);
        let all: Places = (1 << (self.machines.len() + self.scenario.clients as usize)) - 1;
        let mask = nodes.iter().fold(0, |mask, node| mask | net::only(*node));
        let mut struck = Vec::new();
        match fault.kind {
            Kind::Kill { notice_ms, notices } => {
                for node in nodes {
                    let machine = &mut self.machines[node];
                    if machine.process.is_none() {
                        continue;
                    }
                    machine.down_by = Some(number);
                    struck.push(node);
                    if let (Some(id), NodeKind::Server) = (machine.id, machine.kind) {
                        let body = format!(r#"{{"server":"{id}","nonce":"{:032x}"}}"#, machine.nonce.0);
                        for notice in 0..notices {
                            let wait = Duration::from_millis(notice_ms + notice * (notice_ms + 700));
                            self.after(wait, Happening::Notice { node, body: body.clone() });
                        }
                    }
                    self.end(node);
                    self.say(node, "killed");
                }
            }
            Kind::Stop => {
                for node in nodes {
                    if self.runs(node) && self.machines[node].down_by.is_none() {
                        self.machines[node].down_by = Some(number);
                        struck.push(node);
                        let incarnation = self.machines[node].incarnation;
                        self.later(self.at, Happening::Stop { node, incarnation });
                    }
                }
            }
            Kind::Pause => {
                for node in nodes {
                    let machine = &mut self.machines[node];
                    if machine.process.is_some() && !machine.paused {
                        machine.paused = true;
                        machine.paused_by = Some(number);
                        self.effects.push(Effect::Paused(node));
                        struck.push(node);
                    }
                }
            }
            Kind::Cut { way, whom } => {
                let agents: Places = (1 << self.agents) - 1;
                let peers: Places = (1 << self.machines.len()) - 1;
                let others = !mask
                    & match whom {
                        Whom::Everyone => all,
                        Whom::Peers => peers,
                        Whom::Agents => agents,
                        Whom::Servers => peers & !agents,
                    };
                let until = self.at.plus(lasts);
                if way != Way::In {
                    self.net.add_cut(number, mask, others, until);
                }
                if way != Way::Out {
                    self.net.add_cut(number, others, mask, until);
                }
            }
            Kind::Storm { loss_permille, duplicate_permille, delay_us } => {
                let (straggler_permille, straggler_ms) = (20, 500);
                let ordered = self.scenario.net_ordered == 1;
                let weather =
                    Weather { loss_permille, duplicate_permille, delay_us, straggler_permille, straggler_ms, ordered };
                self.net.add_storm(number, mask, weather);
            }
            Kind::Slow { disk_ms } => {
                for node in nodes {
                    self.machines[node].disk_extra = Duration::from_millis(disk_ms);
                    struck.push(node);
                }
            }
            Kind::Drift { ppm } => {
                for node in nodes {
                    self.machines[node].clock.set_rate(self.at, ppm);
                    self.clock_changed(node);
                }
            }
            Kind::Jump { ms } => {
                for node in nodes {
                    self.machines[node].clock.jump(self.at, Duration::from_millis(ms));
                    self.clock_changed(node);
                }
            }
            Kind::Wall { ms } => {
                for node in nodes {
                    self.machines[node].clock.step_wall(ms);
                }
            }
            Kind::Handover => {
                let to = self.machines[nodes[0]].id;
                if let (Some(to), Some(agent)) = (to, self.agency.leader()) {
                    let body = format!(r#"[[{{"/arango/Plan/AsyncReplication/Leader":{{"op":"set","new":"{to}"}}}}]]"#);
                    let request = Request::new(Method::Post, "/_api/agency/write").with_body(body);
                    self.send_http(nodes[0], agent, Caller::Nobody, 0, request);
                }
            }
        }
        self.struck.insert(number, struck);
        self.after(lasts, Happening::Heal { fault: number });
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
        for node in struck {
            let machine = &mut self.machines[node];
            match self.scenario.faults[number].kind {
                Kind::Kill { .. } if machine.down_by == Some(number) => self.boot(node),
                Kind::Stop if machine.down_by == Some(number) => {
                    self.end(node);
                    self.boot(node);
                }
                Kind::Pause if machine.paused_by == Some(number) => self.resume(node),
                Kind::Slow { .. } => machine.disk_extra = Duration::ZERO,
                _ => {}
            }
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
        for what in held {
            self.later(self.at, what);
        }
    }

    pub(super) fn heal_all(&mut self) {
        self.tell("fault", "everything is healed");
        let open: Vec<usize> = self.struck.keys().copied().collect();
        open.into_iter().for_each(|number| self.heal(number));
        self.net.heal_all();
        for node in 0..self.machines.len() {
            self.resume(node);
            self.machines[node].disk_extra = Duration::ZERO;
            self.boot(node);
        }
        self.healed = Some(self.at);
        self.workload.healed = Some(self.at);
        self.after(WATCH_EVERY, Happening::Watch);
    }
}
