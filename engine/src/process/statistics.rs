//! Figures of a process, in ArangoDB's two forms: JSON objects and the lines of Prometheus. Names are ArangoDB's.

use crate::http::Method;
use serde_json::{Map, Value, json};
use std::fmt::Write;

const SECONDS: &[f64] = &[0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 15.0, 30.0];
const CONNECTED: &[f64] = &[0.1, 1.0, 60.0];
const SENT: &[f64] = &[250.0, 1000.0, 2000.0, 5000.0, 10000.0];
const RECEIVED: &[f64] = &[250.0, 1000.0, 2000.0, 5000.0, 10000.0];

/// How many values there were up to each cut, and their sum.
#[derive(Clone, Debug)]
pub struct Distribution {
    cuts: &'static [f64],
    /// One more than cuts.
    counts: Vec<u64>,
    sum: f64,
}

impl Distribution {
    fn new(cuts: &'static [f64]) -> Distribution {
        Distribution { cuts, counts: vec![0; cuts.len() + 1], sum: 0.0 }
    }

    pub fn add(&mut self, value: f64) {
        let place = self.cuts.iter().position(|cut| value < *cut).unwrap_or(self.cuts.len());
        self.counts[place] += 1;
        self.sum += value;
    }

    fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn json(&self) -> Value {
        json!({"sum": self.sum, "count": self.count(), "counts": self.counts})
    }

    fn metrics(&self, name: &str, help: &str, text: &mut String) {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut below = 0;
        for (cut, count) in self.cuts.iter().zip(&self.counts) {
            below += count;
            let _ = writeln!(text, "{name}_bucket{{le=\"{cut}\"}} {below}");
        }
        let count = self.count();
        let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_count {count}\n{name}_sum {}", self.sum);
    }
}

/// What went through the port. Reading a request is input, then it waits, then it is in the engine's hands until the
/// first byte of its answer: together the total.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Of connections that have ended.
    pub connection_time: Distribution,
    pub total_time: Distribution,
    pub request_time: Distribution,
    pub queue_time: Distribution,
    pub io_time: Distribution,
    pub bytes_sent: Distribution,
    pub bytes_received: Distribution,
}

impl Default for Traffic {
    fn default() -> Traffic {
        Traffic {
            connection_time: Distribution::new(CONNECTED),
            total_time: Distribution::new(SECONDS),
            request_time: Distribution::new(SECONDS),
            queue_time: Distribution::new(SECONDS),
            io_time: Distribution::new(SECONDS),
            bytes_sent: Distribution::new(SENT),
            bytes_received: Distribution::new(RECEIVED),
        }
    }
}

impl Traffic {
    /// Name, name as a metric, what it is.
    fn parts(&self) -> [(&'static str, &'static str, &'static str, &Distribution); 7] {
        [
            ("connectionTime", "connection_time", "Total connection time of a client", &self.connection_time),
            ("totalTime", "total_time", "Total time needed to answer a request", &self.total_time),
            ("requestTime", "request_time", "Request time needed to answer a request", &self.request_time),
            ("queueTime", "queue_time", "Queue time needed to answer a request", &self.queue_time),
            ("ioTime", "io_time", "Request time needed to read a request", &self.io_time),
            ("bytesSent", "bytes_sent", "Bytes sent for a request", &self.bytes_sent),
            ("bytesReceived", "bytes_received", "Bytes received for a request", &self.bytes_received),
        ]
    }

    fn json(&self, connections: u64) -> Value {
        let mut shown = Map::new();
        shown.insert("httpConnections".into(), connections.into());
        shown.extend(self.parts().map(|(name, _, _, distribution)| (name.to_owned(), distribution.json())));
        shown.into()
    }
}

/// What the system says of the process and of the machine's cores.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub minor_page_faults: u64,
    pub major_page_faults: u64,
    pub user_time_s: f64,
    pub system_time_s: f64,
    pub threads: u64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub physical_bytes: u64,
    pub cores: u64,
    /// Of the time of all cores since the machine started, the parts that went to programs, to the system, to nothing,
    /// and to waiting for disks.
    pub of_cores: [f64; 4],
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub memory: Memory,
    pub uptime_s: f64,
    pub connections: u64,
    /// Requests that are not answered yet.
    pub pending: u64,
    pub all: Traffic,
    /// Without what the deployment's own tokens asked.
    pub of_users: Traffic,
    pub requests: Requests,
}

/// How many requests there were.
#[derive(Clone, Copy, Debug, Default)]
pub struct Requests {
    total: u64,
    of_superuser: u64,
    without_waiting: u64,
    by_method: [u64; METHODS.len()],
}

const METHODS: [(&str, &str, Method); 7] = [
    ("Get", "get", Method::Get),
    ("Head", "head", Method::Head),
    ("Post", "post", Method::Post),
    ("Put", "put", Method::Put),
    ("Patch", "patch", Method::Patch),
    ("Delete", "delete", Method::Delete),
    ("Options", "options", Method::Options),
];

impl Requests {
    /// `waits` says whether the client waits for the answer.
    pub fn add(&mut self, method: Method, of_superuser: bool, waits: bool) {
        self.total += 1;
        self.of_superuser += u64::from(of_superuser);
        self.without_waiting += u64::from(!waits);
        if let Some(place) = METHODS.iter().position(|(_, _, known)| *known == method) {
            self.by_method[place] += 1;
        }
    }

    fn json(&self) -> Value {
        let mut shown = json!({
            "requestsTotal": self.total,
            "requestsSuperuser": self.of_superuser,
            "requestsUser": self.total - self.of_superuser,
            "requestsAsync": self.without_waiting,
        });
        for ((name, _, _), count) in METHODS.iter().zip(self.by_method) {
            shown[format!("requests{name}")] = count.into();
        }
        shown["requestsOther"] = 0.into();
        shown
    }
}

impl Figures {
    fn resident_part(&self) -> f64 {
        match self.memory.physical_bytes {
            0 => 0.0,
            all => self.memory.resident_bytes as f64 / all as f64,
        }
    }

    pub(super) fn json(&self, wall_ms: u64) -> Value {
        let memory = &self.memory;
        json!({
            "time": wall_ms as f64 / 1000.0,
            "enabled": true,
            "system": {
                "minorPageFaults": memory.minor_page_faults,
                "majorPageFaults": memory.major_page_faults,
                "userTime": memory.user_time_s,
                "systemTime": memory.system_time_s,
                "numberOfThreads": memory.threads,
                "residentSize": memory.resident_bytes,
                "residentSizePercent": self.resident_part(),
                "virtualSize": memory.virtual_bytes,
            },
            "client": self.all.json(self.connections),
            "clientUser": self.of_users.json(self.connections),
            "http": self.requests.json(),
            "server": {
                "uptime": self.uptime_s,
                "physicalMemory": memory.physical_bytes,
                // There is no V8.
                "v8Context": {"available": 0, "busy": 0, "dirty": 0, "free": 0, "max": 0, "min": 0, "memory": []},
                "threads": {
                    "scheduler-threads": memory.threads,
                    "blocked": 0,
                    "queued": 0,
                    "in-progress": self.pending,
                    "direct-exec": 0,
                },
            },
            "error": false,
            "code": 200,
        })
    }

    pub(super) fn metrics(&self) -> String {
        let mut text = String::new();
        let memory = &self.memory;
        let requests = &self.requests;
        let mut one = |name: &str, kind: &str, help: &str, value: f64| {
            let _ =
                writeln!(text, "# HELP arangodb_{name} {help}\n# TYPE arangodb_{name} {kind}\narangodb_{name} {value}");
        };
        for (name, kind, help, value) in [
            ("minor_page_faults_total", "counter", "Page faults without reading", memory.minor_page_faults as f64),
            ("major_page_faults_total", "counter", "Page faults with reading", memory.major_page_faults as f64),
            ("user_time", "gauge", "Seconds in user mode", memory.user_time_s),
            ("system_time", "gauge", "Seconds in kernel mode", memory.system_time_s),
            ("number_of_threads", "gauge", "Threads of the process", memory.threads as f64),
            ("resident_set_size", "gauge", "Bytes of real memory in use", memory.resident_bytes as f64),
            ("resident_set_size_percent", "gauge", "Part of the real memory in use", self.resident_part()),
            ("virtual_memory_size", "gauge", "Bytes of virtual memory", memory.virtual_bytes as f64),
        ] {
            one(&format!("process_statistics_{name}"), kind, help, value);
        }
        for (name, kind, help, value) in [
            ("physical_memory", "gauge", "Bytes of the machine's memory", memory.physical_bytes as f64),
            ("cpu_cores", "gauge", "Cores that the process may use", memory.cores as f64),
            ("server_uptime_total", "counter", "Seconds since the start", self.uptime_s),
            ("user_percent", "gauge", "Part of the cores' time that programs had", memory.of_cores[0]),
            ("system_percent", "gauge", "Part of the cores' time that the system had", memory.of_cores[1]),
            ("idle_percent", "gauge", "Part of the cores' time that nobody had", memory.of_cores[2]),
            ("iowait_percent", "gauge", "Part of the cores' time spent waiting for disks", memory.of_cores[3]),
        ] {
            one(&format!("server_statistics_{name}"), kind, help, value);
        }
        for name in ["alive", "busy", "dirty", "free", "max", "min"] {
            one(&format!("v8_context_{name}"), "gauge", "V8 contexts, of which there are none", 0.0);
        }
        let of_users = requests.total - requests.of_superuser;
        for (name, help, value) in [
            ("total_requests_total", "Requests", requests.total),
            ("superuser_requests_total", "Requests with the deployment's own tokens", requests.of_superuser),
            ("user_requests_total", "Requests of users", of_users),
            ("async_requests_total", "Requests whose clients do not wait", requests.without_waiting),
            ("other_http_requests_total", "Requests with no known method", 0),
        ] {
            one(&format!("http_request_statistics_{name}"), "counter", help, value as f64);
        }
        for ((_, name, _), count) in METHODS.iter().zip(requests.by_method) {
            let name = format!("http_request_statistics_http_{name}_requests_total");
            one(&name, "counter", "Requests with this method", count as f64);
        }
        let connections = self.connections as f64;
        one("client_connection_statistics_client_connections", "gauge", "Open connections", connections);
        for (group, traffic) in [("client", &self.all), ("client_user", &self.of_users)] {
            for (_, name, help, distribution) in traffic.parts() {
                distribution.metrics(&format!("arangodb_{group}_connection_statistics_{name}"), help, &mut text);
            }
        }
        text
    }
}

/// Groups and figures of the JSON form.
pub(super) fn description() -> (Value, Value) {
    let groups = [
        ("system", "Process Statistics", "Statistics about the process"),
        ("client", "Client Connection Statistics", "Statistics about the connections"),
        ("clientUser", "Client User Connection Statistics", "The same without the deployment's own requests"),
        ("http", "HTTP Request Statistics", "Statistics about the HTTP requests"),
        ("server", "Server Statistics", "Statistics about the server"),
    ];
    let groups = groups.map(|(group, name, text)| json!({"group": group, "name": name, "description": text}));
    let mut figures = Vec::new();
    let mut figure = |group: &str, name: &str, text: &str, kind: &str, units: &str| {
        figures.push(json!({
            "group": group, "identifier": name, "name": text, "description": text, "type": kind, "units": units,
        }));
    };
    for (name, text, kind, units) in [
        ("userTime", "User Time", "accumulated", "seconds"),
        ("systemTime", "System Time", "accumulated", "seconds"),
        ("numberOfThreads", "Number of Threads", "current", "number"),
        ("residentSize", "Resident Set Size", "current", "bytes"),
        ("residentSizePercent", "Resident Set Size", "current", "percent"),
        ("virtualSize", "Virtual Memory Size", "current", "bytes"),
        ("minorPageFaults", "Minor Page Faults", "accumulated", "number"),
        ("majorPageFaults", "Major Page Faults", "accumulated", "number"),
    ] {
        figure("system", name, text, kind, units);
    }
    figure("client", "httpConnections", "Client Connections", "current", "number");
    let nothing = Traffic::default();
    for (name, _, text, distribution) in nothing.parts() {
        let units = if distribution.cuts == SENT { "bytes" } else { "seconds" };
        figure("client", name, text, "distribution", units);
    }
    for name in nothing_of_requests().as_object().into_iter().flat_map(Map::keys) {
        figure("http", name, "Number of requests", "accumulated", "number");
    }
    figure("server", "uptime", "Server Uptime", "current", "seconds");
    figure("server", "physicalMemory", "Physical Memory", "current", "bytes");
    for figure in &mut figures {
        let cuts = nothing.parts().into_iter().find(|(name, ..)| figure["identifier"] == *name);
        if let Some((_, _, _, distribution)) = cuts {
            figure["cuts"] = distribution.cuts.into();
        }
    }
    (groups.to_vec().into(), figures.into())
}

fn nothing_of_requests() -> Value {
    Requests::default().json()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_where_they_belong() {
        let mut distribution = Distribution::new(SENT);
        for value in [0.0, 249.0, 250.0, 9_999.0, 1e9] {
            distribution.add(value);
        }
        assert_eq!(distribution.json()["counts"], json!([2, 1, 0, 0, 1, 1]));
        let mut text = String::new();
        distribution.metrics("m", "help", &mut text);
        assert!(text.contains("m_bucket{le=\"250\"} 2\n") && text.contains("m_bucket{le=\"+Inf\"} 5\n"), "{text}");
    }

    #[test]
    fn every_line_of_metrics_is_well_formed() {
        let mut figures = Figures::default();
        figures.requests.add(Method::Put, true, true);
        let text = figures.metrics();
        assert!(text.contains("\narangodb_http_request_statistics_http_put_requests_total 1\n"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("arangodb_") && value.parse::<f64>().is_ok(), "{line}");
        }
        let (_, described) = description();
        let shown = figures.json(0);
        for figure in described.as_array().unwrap() {
            let (group, name) = (figure["group"].as_str().unwrap(), figure["identifier"].as_str().unwrap());
            assert!(shown[group].get(name).is_some(), "{group}.{name}");
        }
    }
}
