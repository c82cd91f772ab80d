//! The starter's own port: the part of the ArangoDB Starter's HTTP API that makes sense for one machine.

use super::Deployment;
use super::setup::Role;
use crate::clock;
use crate::http::to_wire;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use std::convert::Infallible;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tanist_engine::auth;
use tanist_engine::http::Response;
use tokio::net::TcpListener;

const LOG_BYTES_MAX: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn serve(deployment: Arc<super::Deployment>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let deployment = deployment.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let response = answer(&deployment, &request);
                let head = request.method() == hyper::Method::HEAD;
                async move { Ok::<hyper::Response<Full<Bytes>>, Infallible>(to_wire(response, head, 0)) }
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

fn answer(deployment: &Deployment, request: &hyper::Request<Incoming>) -> Response {
    let authorization = request.headers().get(hyper::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !auth::verify_superuser(&deployment.auth, authorization, clock::now().wall_ms) {
        return Response::error(401, 401, "a token made with the deployment's secret is needed");
    }
    let secure = false;
    match (request.method().as_str(), request.uri().path()) {
        ("GET", "/id") => Response::json(200, &json!({"id": deployment.setup.id})),
        ("GET", "/version") => Response::json(200, &json!({"version": env!("CARGO_PKG_VERSION"), "build": "tanist"})),
        ("GET", "/process") => {
            let servers: Vec<_> = deployment
                .children
                .iter()
                .filter_map(|child| {
                    let (ip, port) = child.plan.endpoint.authority().rsplit_once(':')?;
                    Some(json!({
                        "type": child.plan.role.kind(deployment.setup.mode), "ip": ip, "port": port.parse::<u16>().ok()?,
                        "pid": child.pid()?, "is-secure": secure
                    }))
                })
                .collect();
            let started = servers.len() == deployment.children.len();
            Response::json(200, &json!({"servers-started": started, "servers": servers}))
        }
        ("GET", "/endpoints") => {
            let urls = |role| deployment.endpoints(role).iter().map(|endpoint| endpoint.url()).collect::<Vec<_>>();
            let starter = format!("http://{}:{}", deployment.setup.address, deployment.setup.port);
            let body = json!({
                "starters": [starter], "agents": urls(Role::Agent), "coordinators": urls(Role::Server)
            });
            Response::json(200, &body)
        }
        ("GET", "/logs/agent") => logs(deployment, Role::Agent),
        ("GET", "/logs/single") => logs(deployment, Role::Server),
        ("POST", "/shutdown") => {
            deployment.shutdown.notify_one();
            Response::text(200, "OK")
        }
        (_, "/id" | "/version" | "/process" | "/endpoints" | "/logs/agent" | "/logs/single" | "/shutdown") => {
            Response::error(405, 405, "method not supported")
        }
        _ => Response::error(404, 404, "unknown path"),
    }
}

/// The ends of the logs of one kind.
fn logs(deployment: &Deployment, role: Role) -> Response {
    let children: Vec<_> = deployment.children.iter().filter(|child| child.plan.role == role).collect();
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
