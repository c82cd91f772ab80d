//! Whoever speaks to the port and is no client: garbage, half requests, frames that lie, readers that do not read.
//!
//! Each visit says what the port must do with it. It is held to that only when the network was sound all the while.

use crate::net::{PORT, SimNet, Wire, read_all};
use std::time::Duration;
use tanist_engine::types::Rng;
use tanist_server::net::Network;
use tanist_server::peer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longer than the port waits for anybody.
const ENDED: Duration = Duration::from_secs(15);

/// One visit. `Err` says what the port did wrong, if the network is not to blame.
pub async fn visit(net: &SimNet, host: &str, token: &str, rng: &mut Rng) -> Result<(), String> {
    let Ok(mut wire) = net.connect(&format!("{host}:{PORT}")).await else {
        return Err("the connection was refused".to_owned());
    };
    match rng.below(9) {
        0 => {
            let garbage: Vec<u8> = (0..1 + rng.below(300)).map(|_| rng.next_u64() as u8).collect();
            let _ = wire.write_all(&garbage).await;
            is_closed("garbage", &mut wire).await
        }
        1 => {
            let answer = ask(&mut wire, &upgrade("bearer nonsense")).await;
            expect("an upgrade without the secret", &answer, "401")
        }
        2 => {
            upgraded(&mut wire, token).await?;
            let _ = wire.write_all(&[0xff; 100]).await;
            is_closed("a frame of 4 GiB", &mut wire).await
        }
        3 => {
            upgraded(&mut wire, token).await?;
            let _ = wire.write_all(&[3, 0, 0, 0, 99, 0, 0]).await;
            is_closed("a message of another version", &mut wire).await
        }
        4 => {
            // The rest of the frame never comes: that is a peer which died.
            upgraded(&mut wire, token).await?;
            let _ = wire.write_all(&[200, 0, 0, 0, 1, 2, 3]).await;
            Ok(())
        }
        5 => {
            for byte in b"GET /_api/version HTTP/1.1\r\nHost: a\r\n" {
                if wire.write_all(&[*byte]).await.is_err() {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            is_closed("a header of a byte now and then", &mut wire).await
        }
        6 => {
            // Many answers that nobody reads.
            let one = b"GET /_api/version HTTP/1.1\r\nHost: a\r\n\r\n";
            let _ = tokio::time::timeout(Duration::from_secs(5), wire.write_all(&one.repeat(3000))).await;
            Ok(())
        }
        7 => {
            let half = "POST /_api/document/things HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nhalf of it";
            let answer = ask(&mut wire, half).await;
            expect("half of a body", &answer, "408")
        }
        _ => {
            let large = "POST /_api/document/things HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n";
            let answer = ask(&mut wire, large).await;
            expect("the announcement of a large body", &answer, "413")
        }
    }
}

fn upgrade(authorization: &str) -> String {
    let (path, protocol) = (peer::PATH, peer::PROTOCOL);
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n");
    format!("{head}Authorization: {authorization}\r\n\r\n")
}

async fn upgraded(wire: &mut Wire, token: &str) -> Result<(), String> {
    let _ = wire.write_all(upgrade(&format!("bearer {token}")).as_bytes()).await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match tokio::time::timeout(ENDED, wire.read_u8()).await {
            Ok(Ok(byte)) => head.push(byte),
            _ => return Err(format!("an upgrade ended with {:?}", String::from_utf8_lossy(&head))),
        }
    }
    expect("an upgrade", &head, "101")
}

/// What is answered until the connection closes or nothing more comes.
async fn ask(wire: &mut Wire, request: &str) -> Vec<u8> {
    let _ = wire.write_all(request.as_bytes()).await;
    read_all(wire, ENDED).await
}

fn expect(what: &str, answer: &[u8], status: &str) -> Result<(), String> {
    let text = String::from_utf8_lossy(answer);
    let got = text.split(' ').nth(1).unwrap_or("no answer");
    if got == status { Ok(()) } else { Err(format!("{what} is answered with {got}, not with {status}")) }
}

async fn is_closed(what: &str, wire: &mut Wire) -> Result<(), String> {
    let mut bytes = Vec::new();
    match tokio::time::timeout(ENDED, wire.read_to_end(&mut bytes)).await {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("after {what} the connection stays open")),
    }
}
