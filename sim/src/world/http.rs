//! HTTP exchanges of clients, operators and starters, and the reads that go beside the engine's loop (R13).

use super::*;

/// About what a request or an answer has before its body.
const HEADER_BYTES: usize = 200;

impl World {
    pub(super) fn send_http(&mut self, from: usize, to: usize, caller: Caller, attempt: u64, request: Request) {
        let bytes = HEADER_BYTES + request.body.len();
        let copies = self.net.carry(self.at, from, to, bytes, net::Kind::Http);
        if let Some(timeline) = &mut self.trace.timeline {
            let op = action::op_of(&request).map_or(String::new(), |op| format!("#{op} "));
            let text = format!("{op}{} {}", request.method, request.target);
            timeline.message(self.at, from, to, copies, "Request", &text);
        }
        if let [Some(at), _] = copies {
            self.later(at, Happening::Http { node: to, from, caller, attempt, request });
        }
    }

    pub(super) fn http(&mut self, node: usize, from: usize, caller: Caller, attempt: u64, request: Request) {
        let (arrived, arrived_in) = (self.at, self.event);
        let local = self.machines[node].clock.time(self.at);
        let admitted = node.checked_sub(self.agents).and_then(|server| self.lease.holds(server, local));
        if let (Some(op), true) = (action::op_of(&request), node >= self.agents) {
            let (ctx, action) = (self.ctx(node), &self.workload.history[&op].action);
            self.history.streams.arrives(&ctx, attempt, action);
        }
        let pending = Pending { caller, attempt, op: action::op_of(&request), arrived, arrived_in, admitted };
        self.trace.hash.word(attempt);
        if self.trace.on() {
            let who = match caller {
                Caller::Client(client) => format!("c{client}"),
                Caller::Nobody => "operator".into(),
            };
            let op = pending.op.map_or(String::new(), |op| format!(" #{op}"));
            self.say(node, format_args!("<= {who}{op} {} {}", request.method, request.target));
        }
        let now = self.machines[node].clock.now(self.at);
        let incarnation = self.machines[node].incarnation;
        let Some(process) = &mut self.machines[node].process else {
            let _ = from;
            self.answer(node, &pending, Ending::Refused);
            return;
        };
        // As the server's connection tasks do: what only reads runs beside the engine's loop.
        if let Some(view) = process.view.clone() {
            match gate::admit(&view, request.clone(), now, self.node_rng.next_u64()) {
                Admission::Refuse(response) => return self.reply(node, pending, response),
                Admission::Run(run) if !run.writes && !run.kept => {
                    let run = Box::new(run);
                    let reading = process.reading(Reading::Fast { run, request, pending });
                    let wait = self.disk_read(node);
                    return self.after(wait, Happening::Read { node, incarnation, reading });
                }
                Admission::Run(_) | Admission::Wait(_) => {}
            }
        }
        self.through_loop(node, request, pending);
    }

    pub(super) fn through_loop(&mut self, node: usize, request: Request, pending: Pending) {
        let Some(process) = &mut self.machines[node].process else { return };
        let id = process.request(pending);
        self.step(node, Input::Request { id, request });
    }

    /// A server or an agent answers.
    pub(super) fn reply(&mut self, node: usize, pending: Pending, response: Response) {
        self.trace.hash.bytes(&response.body);
        if self.trace.on() {
            let op = pending.op.map_or(String::new(), |op| format!("#{op} "));
            let body = String::from_utf8_lossy(&response.body[..response.body.len().min(160)]).into_owned();
            let leader = response.header(header::ENDPOINT).map_or(String::new(), |e| format!(" see {e}"));
            self.say(node, format_args!("=> {op}{}{leader} {body}", response.status));
        }
        match pending.op {
            Some(op) if node >= self.agents => self.judge(node, op, &pending, &response),
            Some(op) if response.status == 200 && self.workload.history[&op].action.is_read() => {
                let ctx = self.ctx(node);
                let verdict =
                    self.grants.read(&ctx, pending.arrived_in, |others| self.agency.is_confirmed(node, others));
                self.hold(verdict);
            }
            _ => {}
        }
        // Starters and operators say nothing malformed; to be refused is to be misunderstood, but for "not now" (409).
        let refused = (400..500).contains(&response.status) && response.status != 409;
        if pending.caller == Caller::Nobody && refused {
            let text = String::from_utf8_lossy(&response.body).into_owned();
            self.hold(Err(("contract", format!("{} refuses an operator: {text}", self.machines[node].name))));
        }
        self.answer(node, &pending, Ending::Answer(response));
    }

    pub(super) fn judge(&mut self, node: usize, op: u64, pending: &Pending, response: &Response) {
        let server = self.server_of(node);
        let ctx = self.ctx(node);
        let Some(view) = self.machines[node].process.as_ref().and_then(|p| p.node.view().cloned()) else { return };
        let named = response.header(header::ENDPOINT).and_then(|url| match self.destination(url)? {
            Destination::Server(server) => self.identity(self.agents + server),
            Destination::Agent(_) => None,
        });
        let answer = Answer {
            op,
            record: &self.workload.history[&op],
            response,
            arrived: pending.arrived,
            admitted: pending.admitted,
            holds: self.lease.holds(server, ctx.local),
            epoch: view.epoch,
            leader: self.lease.leader_of(view.epoch).map(|id| match self.former.get(&id) {
                Some(node) => self.identity(*node).unwrap_or(id),
                None => id,
            }),
            me: view.me.id,
            named,
            waited_for: matches!(pending.caller, Caller::Client(c) if self.workload.attempt_of(c) == Some(pending.attempt)),
        };
        // Clocks that break the assumption of the lease break this one, too.
        let demanded =
            if self.lease.excused { Ok(()) } else { self.history.demanded(&ctx, &answer, &self.replication) };
        let (record, marked) = (answer.record, response.header(header::POTENTIAL_DIRTY_READ).is_some());
        let streamed = match answer.record.action.is_streamed() {
            true => self.history.streams.answered(&ctx, pending.attempt, &answer, &self.replication),
            false => Ok(()),
        };
        let answered = self.history.answered(&ctx, &answer, &self.replication.stores[server]);
        let mut verdict = streamed.and(answered).and(demanded);
        if verdict.is_ok() && (200..300).contains(&response.status) && !marked {
            let shown =
                response.header(header::ETAG).and_then(|rev| self.replication.written_as(rev.trim_matches('"')));
            let judge = (&mut self.synchrony, &self.replication);
            verdict = match (record.action.is_read(), self.history.acknowledged.get(&op), shown) {
                (false, Some(position), _) => {
                    // Whoever asks about a commit has no followers of his own.
                    let asks = record.action.is_streamed() && !self.history.wrote(op);
                    let followers = if asks { 0 } else { record.sync_followers };
                    judge.0.acknowledged(&ctx, judge.1, *position, followers)
                }
                (true, _, Some(position)) => judge.0.shown(&ctx, judge.1, position),
                _ => Ok(()),
            };
        }
        self.hold(verdict);
    }

    /// What the caller gets to see, if it still can.
    pub(super) fn answer(&mut self, node: usize, pending: &Pending, ending: Ending) {
        let Caller::Client(client) = pending.caller else { return };
        let place = self.machines.len() + client;
        let body = if let Ending::Answer(response) = &ending { response.body.len() } else { 0 };
        let copies = self.net.carry(self.at, node, place, HEADER_BYTES + body, net::Kind::Http);
        if let Some(timeline) = &mut self.trace.timeline {
            let op = pending.op.map_or(String::new(), |op| format!("#{op}: "));
            let text = match &ending {
                Ending::Answer(response) => format!("{op}{}", response.status),
                Ending::Refused => format!("{op}connection refused"),
                Ending::Silence => format!("{op}connection broken"),
            };
            timeline.message(self.at, node, place, copies, "Answer", &text);
        }
        if let [Some(at), _] = copies {
            self.later(at, Happening::Answer { client, attempt: pending.attempt, ending });
        }
    }

    pub(super) fn client_ended(&mut self, client: usize, attempt: u64, ending: Ending) {
        if self.workload.attempt_of(client) != Some(attempt) {
            return;
        }
        let op = self.workload.op_of(client);
        let urls: Vec<(String, Destination)> = match &ending {
            Ending::Answer(response) => [header::ENDPOINT, header::LOCATION]
                .iter()
                .filter_map(|name| response.header(name))
                .filter_map(|url| Some((url.to_owned(), self.destination(url)?)))
                .collect(),
            _ => Vec::new(),
        };
        let index_of = |url: &str| urls.iter().find(|(known, _)| known == url).map(|(_, place)| *place);
        let next = self.workload.ended(self.at, client, attempt, &ending, index_of);
        if self.trace.on()
            && let Some(op) = op
        {
            let record = &self.workload.history[&op];
            let text = match &ending {
                Ending::Answer(response) => response.status.to_string(),
                Ending::Refused => "connection refused".into(),
                Ending::Silence => "no answer".into(),
            };
            let text = format!("#{op} {}: {text}, {:?}", record.action, record.outcome);
            self.tell(format_args!("c{client}"), text);
        }
        self.client_next(client, next);
    }

    pub(super) fn client_next(&mut self, client: usize, next: Next) {
        match next {
            Next::Send { to, attempt, request } => {
                let node = self.in_core(match to {
                    Destination::Agent(agent) => agent,
                    Destination::Server(server) => self.agents + server,
                });
                let place = self.machines.len() + client;
                if self.trace.on() {
                    let op = self.workload.op_of(client).unwrap_or(0);
                    let action = self.workload.history[&op].action.clone();
                    let name = self.machines[node].name.clone();
                    self.tell(format_args!("c{client}"), format_args!("#{op} {action} at {name}"));
                }
                self.send_http(place, node, Caller::Client(client), attempt, request);
                self.after(ANSWER_TIMEOUT, Happening::Timeout { client, attempt });
            }
            Next::Wait(wait) => self.after(wait, Happening::Wake { client }),
            Next::Rest => {}
        }
    }
}
