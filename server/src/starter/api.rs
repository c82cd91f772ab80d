//! The starter's own port: the part of the ArangoDB Starter's HTTP API that makes sense here.

use super::machines::{Hello, Refusal, Welcome};
use super::setup::Role;
use super::{Deployment, members};
use crate::clock;
use crate::http::to_wire;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::future::Future;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tanist_engine::auth;
use tanist_engine::http::Response;
use tanist_engine::types::{Auth, Endpoint};
use tokio::net::TcpListener;

const LOG_BYTES_MAX: u64 = 1 << 20;
const BODY_BYTES_MAX: usize = 1 << 16;
const PATIENCE: Duration = Duration::from_secs(30);

/// A request, read whole.
pub struct Call {
    pub method: String,
    pub path: String,
    authorization: Option<String>,
    body: Bytes,
}

impl Call {
    /// Whoever does not know the secret gets this.
    pub fn refuse(&self, auth: &Auth) -> Option<Response> {
        if !auth::verify_superuser(auth, self.authorization.as_deref(), clock::now().wall_ms) {
            return Some(Response::error(401, 401, "a token made with the deployment's secret is needed"));
        }
        // One machine with a secret and another without can't work together; better said now.
        if !auth.enabled && self.authorization.is_some() && self.path == "/hello" {
            return Some(Response::error(
                401,
                401,
                "this machine was started without a secret, the other one with one",
            ));
        }
        None
    }

    pub fn hello(&self) -> Result<Hello, Refusal> {
        let parsed = serde_json::from_slice(&self.body);
        parsed.map_err(|e| Refusal { status: 400, message: format!("the hello can't be read: {e}") })
    }
}

pub fn version() -> Response {
    Response::json(200, &json!({"version": env!("CARGO_PKG_VERSION"), "build": "tanist"}))
}

pub fn welcome(welcome: Result<Welcome, Refusal>) -> Response {
    match welcome {
        Ok(welcome) => Response::json(200, &serde_json::to_value(welcome).expect("plain data can be written")),
        Err(refusal) => Response::error(refusal.status, refusal.status.into(), &refusal.message),
    }
}

/// Answers what comes, for ever.
pub async fn serve<F>(listener: Arc<TcpListener>, answer: impl Fn(Call) -> F + Clone + Send + Sync + 'static)
where
    F: Future<Output = Response> + Send + 'static,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    let head = request.method() == hyper::Method::HEAD;
                    let response = match read(request).await {
                        Ok(call) => answer(call).await,
                        Err(response) => response,
                    };
                    Ok::<hyper::Response<Full<Bytes>>, Infallible>(to_wire(response, head, 0))
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .title_case_headers(true)
                .serve_connection(TokioIo::new(stream), service);
            let _ = connection.await;
        });
    }
}

async fn read(request: hyper::Request<Incoming>) -> Result<Call, Response> {
    let (head, body) = request.into_parts();
    let body = tokio::time::timeout(PATIENCE, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        _ => return Err(Response::error(400, 400, "the body is too long, or does not come")),
    };
    let authorization = head.headers.get(hyper::header::AUTHORIZATION);
    let authorization = authorization.and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok(Call { method: head.method.to_string(), path: head.uri.path().to_owned(), authorization, body })
}

pub async fn answer(deployment: Arc<Deployment>, call: Call) -> Response {
    if let Some(refused) = call.refuse(&deployment.auth) {
        return refused;
    }
    let setup = deployment.setup();
    let secure = false;
    match (call.method.as_str(), call.path.as_str()) {
        ("GET", "/id") => Response::json(200, &json!({"id": setup.id})),
        ("GET", "/version") => version(),
        ("GET", "/process") => {
            let children = deployment.children();
            let servers: Vec<_> = children
                .iter()
                .filter_map(|child| {
                    let (ip, port) = child.plan.endpoint.authority().rsplit_once(':')?;
                    Some(json!({
                        "type": child.plan.role.kind(setup.mode), "ip": ip, "port": port.parse::<u16>().ok()?,
                        "pid": child.pid()?, "is-secure": secure
                    }))
                })
                .collect();
            let started = servers.len() == children.len();
            Response::json(200, &json!({"servers-started": started, "servers": servers}))
        }
        ("GET", "/endpoints") => {
            let urls = |role| setup.endpoints(role).iter().map(|endpoint| endpoint.url()).collect::<Vec<_>>();
            let mut starters = vec![format!("http://{}:{}", setup.address, setup.port)];
            let others = setup.machines.iter().filter(|machine| machine.id != setup.id);
            starters.extend(others.map(|machine| format!("http://{}", machine.name())));
            let body = json!({
                "starters": starters, "agents": urls(Role::Agent), "coordinators": urls(Role::Server)
            });
            Response::json(200, &body)
        }
        ("GET" | "POST", "/hello") => match setup.welcome() {
            None => one_machine(),
            Some(known) if call.method == "GET" => welcome(Ok(known)),
            Some(_) => match call.hello() {
                Ok(hello) => welcome(members::let_in(&deployment, hello).await),
                Err(refusal) => welcome(Err(refusal)),
            },
        },
        ("POST", "/agents") => {
            let asked: serde_json::Value = serde_json::from_slice(&call.body).unwrap_or_default();
            match asked["agent"].as_bool() {
                None => Response::error(400, 400, "'agent' (true or false) is missing"),
                Some(_) if setup.deployment.is_none() => one_machine(),
                Some(wanted) => done(members::set_agent(&deployment, asked["machine"].as_str(), wanted).await),
            }
        }
        // The ArangoDB Starter's way to remove another machine.
        ("POST", "/goodbye") => {
            let asked: serde_json::Value = serde_json::from_slice(&call.body).unwrap_or_default();
            match asked["SlaveID"].as_str() {
                None => Response::error(400, 400, "'SlaveID' is missing"),
                Some(_) if setup.deployment.is_none() => one_machine(),
                Some(name) => done(members::remove(&deployment, name).await),
            }
        }
        ("GET", "/logs/agent") => logs(&deployment, Role::Agent),
        ("GET", "/logs/single") => logs(&deployment, Role::Server),
        ("POST", "/restart") => restart(&deployment, &call),
        ("POST", "/shutdown") => {
            deployment.shutdown.notify_one();
            Response::text(200, "OK")
        }
        (
            _,
            "/id" | "/version" | "/agents" | "/goodbye" | "/process" | "/endpoints" | "/hello" | "/logs/agent"
            | "/logs/single" | "/restart" | "/shutdown",
        ) => Response::error(405, 405, "method not supported"),
        _ => Response::error(404, 404, "unknown path"),
    }
}

/// Restarts the process here that has the `endpoint` of the body.
fn restart(deployment: &Deployment, call: &Call) -> Response {
    let body: Value = serde_json::from_slice(&call.body).unwrap_or(Value::Null);
    let Some(endpoint) = body["endpoint"].as_str().and_then(|text| Endpoint::parse(text).ok()) else {
        return Response::error(400, 400, "which endpoint?");
    };
    match deployment.children().iter().find(|child| child.plan.endpoint == endpoint) {
        Some(child) => {
            child.restart();
            Response::json(200, &json!({"restarts": child.plan.name()}))
        }
        None => Response::error(404, 404, "no process of that endpoint runs here"),
    }
}

fn one_machine() -> Response {
    Response::error(400, 400, "this deployment is on one machine (one begun with --starter.local=false is not)")
}

fn done(result: Result<serde_json::Value, Refusal>) -> Response {
    match result {
        Ok(body) => Response::json(200, &body),
        Err(refusal) => Response::error(refusal.status, refusal.status.into(), &refusal.message),
    }
}

/// The ends of the logs of one kind.
fn logs(deployment: &Deployment, role: Role) -> Response {
    let mut children = deployment.children();
    children.retain(|child| child.plan.role == role);
    if children.is_empty() {
        return Response::error(404, 404, "nothing of that kind runs here");
    }
    let parts: Vec<String> = children
        .iter()
        .map(|child| format!("==> {} <==\n{}", child.plan.name(), tail(&child.plan.log_file(), LOG_BYTES_MAX)))
        .collect();
    Response::text(200, parts.join("\n"))
}

/// The end of a file, from the beginning of a line; empty if it can't be read.
pub fn tail(path: &Path, bytes_max: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let skip = file.metadata()?.len().saturating_sub(bytes_max);
        file.seek(SeekFrom::Start(skip))?;
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(if skip == 0 { text } else { text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or(text) })
    };
    read().unwrap_or_default()
}
