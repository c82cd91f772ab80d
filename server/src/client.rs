//! A small HTTP client for the commands that talk to nodes: one request, one connection, bounded in time and size.

use crate::net::{Network, Tcp};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::Duration;
use tanist_engine::auth;
use tanist_engine::types::{Auth, Endpoint};
use tokio::task::JoinSet;

/// An entry of a rollback record is told as a whole, with what was there before and after.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// What a node answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// `Location` of a redirect, `X-Arango-Endpoint` of a refusal.
    pub elsewhere: Option<String>,
    pub text: Bytes,
}

impl Answer {
    /// The body as JSON; null for anything else.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.text).unwrap_or(Value::Null)
    }

    /// The body's error message, or the status.
    pub fn problem(&self) -> String {
        let json = self.json();
        let message = json.get("errorMessage").or_else(|| json.get("message")).and_then(Value::as_str);
        message.map_or_else(|| format!("status {}", self.status), str::to_owned)
    }
}

/// Talks to nodes with the deployment's token, if there is a secret.
#[derive(Clone, Debug, Default)]
pub struct Client<N = Tcp> {
    network: N,
    authorization: Option<String>,
}

impl Client {
    pub fn new(secrets: Vec<Vec<u8>>) -> Client {
        Client::over(Tcp, secrets)
    }
}

impl<N: Network> Client<N> {
    pub fn over(network: N, secrets: Vec<Vec<u8>>) -> Client<N> {
        let auth = Auth { enabled: !secrets.is_empty(), secrets, ..Auth::default() };
        Client { network, authorization: auth::superuser_token(&auth).map(|token| format!("bearer {token}")) }
    }

    /// Any request, with headers of its own.
    pub async fn send(
        &self,
        method: &str,
        to: &Endpoint,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
        patience: Duration,
    ) -> Result<Answer, String> {
        match tokio::time::timeout(patience, self.exchange(method, to, path, body, headers)).await {
            Ok(result) => result,
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    pub async fn get(&self, to: &Endpoint, path: &str, patience: Duration) -> Result<Answer, String> {
        self.call("GET", to, path, None, patience).await
    }

    pub async fn post(&self, to: &Endpoint, path: &str, body: &Value, patience: Duration) -> Result<Answer, String> {
        self.call("POST", to, path, Some(body), patience).await
    }

    /// Asks agents, one after the other, until the leading one has answered; a redirect is followed.
    pub async fn ask_agency(
        &self,
        agents: &[Endpoint],
        method: &str,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Answer, String> {
        let mut problem = "there is no agent to ask".to_owned();
        for agent in agents {
            let mut to = agent.clone();
            for _hop in 0..3 {
                match self.call(method, &to, path, body, patience).await {
                    Ok(answer) if answer.status == 307 => {
                        problem = format!("{to} names no other agent");
                        let Some(next) = answer.elsewhere.as_deref().and_then(endpoint_of_url) else { break };
                        to = next;
                    }
                    Ok(answer) if answer.status == 503 => {
                        problem = format!("{to}: {}", answer.problem());
                        break;
                    }
                    Ok(answer) => return Ok(answer),
                    Err(e) => {
                        problem = format!("{to}: {e}");
                        break;
                    }
                }
            }
        }
        Err(problem)
    }

    /// Asks all agents at once, for what does no harm if it comes more than once: one that is silent delays nobody.
    pub async fn ask_all_agents(
        &self,
        agents: &[Endpoint],
        method: &'static str,
        path: &'static str,
        body: &Value,
        patience: Duration,
    ) -> Result<Answer, String> {
        let mut asked = JoinSet::new();
        for agent in agents {
            let (client, agent, body) = (self.clone(), [agent.clone()], body.clone());
            asked.spawn(async move { client.ask_agency(&agent, method, path, Some(&body), patience).await });
        }
        let mut problem = "there is no agent to ask".to_owned();
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(e)) => problem = e,
                Err(e) => problem = e.to_string(),
            }
        }
        Err(problem)
    }

    async fn call(
        &self,
        method: &str,
        to: &Endpoint,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Answer, String> {
        self.send(method, to, path, body, &[], patience).await
    }

    async fn exchange(
        &self,
        method: &str,
        to: &Endpoint,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let text = |e: hyper::Error| e.to_string();
        let stream = self.network.connect(to.authority()).await.map_err(|e| e.to_string())?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
        let connection = tokio::spawn(connection);
        let mut request = hyper::Request::builder().method(method).uri(path).header("host", to.authority());
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(Full::new(bytes)).map_err(|e| e.to_string())?;
        let (head, incoming) = sender.send_request(request).await.map_err(text)?.into_parts();
        let body = Limited::new(incoming, ANSWER_BYTES_MAX).collect().await.map_err(|e| e.to_string())?;
        connection.abort();
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let elsewhere = header("location").or_else(|| header("x-arango-endpoint"));
        Ok(Answer { status: head.status.as_u16(), elsewhere, text: body.to_bytes() })
    }
}

/// The endpoint in an URL like `http://host:port/path`.
pub fn endpoint_of_url(url: &str) -> Option<Endpoint> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    Endpoint::parse(&format!("{scheme}://{authority}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_found_in_urls() {
        let endpoint = |url| endpoint_of_url(url).map(|e| e.to_string());
        assert_eq!(endpoint("http://a:1/_api/agency/read").as_deref(), Some("tcp://a:1"));
        assert_eq!(endpoint("https://[::1]:2").as_deref(), Some("ssl://[::1]:2"));
        assert_eq!(endpoint("/_api/agency/read"), None);
    }
}
