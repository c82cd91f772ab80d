//! The port against clients that misbehave. Behind it stands no engine but an echo: what a request became on the other
//! side of the inbox is what these tests look at.

use super::*;
use crate::clock;
use crate::net::Tcp;
use crate::storage::MAP_BYTES_DEFAULT;
use crate::storage::check::Extent;
use std::sync::mpsc::{Receiver, channel};
use tanist_engine::types::Auth;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

struct Served {
    address: std::net::SocketAddr,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
    queue_time_us: Arc<AtomicU64>,
    _directory: tempfile::TempDir,
}

/// A port with short patience; every request is answered with its method, target and body's length.
async fn serve_echo(auth: Auth) -> Served {
    let ms = Duration::from_millis;
    serve_with(auth, Patience { idle: ms(300), head: ms(300), piece: ms(300), leave: ms(500) }, 100).await
}

async fn serve_with(auth: Auth, patience: Patience, connections_max: usize) -> Served {
    let (inbox, events) = channel();
    std::thread::spawn(move || echo(events));
    let directory = tempfile::tempdir().unwrap();
    let queue_time_us = Arc::new(AtomicU64::new(0));
    let port = Port {
        receiving: Receiving::new(inbox.clone()),
        inbox,
        views: Arc::new(Views::default()),
        attending: Arc::new(Attending::new(clock::now)),
        store: DiskStore::open(directory.path(), MAP_BYTES_DEFAULT, Extent::All).unwrap(),
        auth: Arc::new(auth),
        limits: Limits { body_bytes: 1000, ..Limits::default() },
        patience,
        connections: AtomicUsize::new(0),
        connections_max,
        trusted_origins: Default::default(),
        pending: AtomicUsize::new(0),
        queue_time_us: queue_time_us.clone(),
        seed: AtomicU64::new(1),
        clock: clock::now,
        observed: Default::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let serving = tokio::spawn(super::serve::<Tcp>(Arc::new(port), vec![listener], stopping));
    Served { address, stop, serving, queue_time_us, _directory: directory }
}

fn echo(events: Receiver<Event>) {
    while let Ok(event) = events.recv() {
        if let Event::Request { request, reply, .. } = event {
            let text = format!("{} {} {}", request.method, request.target, request.body.len());
            let response = Response::text(200, text).with_header("x-arango-endpoint", "http://a:1");
            let _ = reply.send(response);
        }
    }
}

/// Sends bytes and reads until the other side closes, which it must within some seconds.
async fn talk(served: &Served, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stays open after {:?}", String::from_utf8_lossy(bytes));
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn requests_and_answers_go_through() {
    let served = serve_echo(Auth::default()).await;
    let answer =
        talk(&served, b"POST /_db/a%20b/_api/document/c?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nPOST /_db/a%20b/_api/document/c?x=1 3"), "{answer}");
    // Drivers look some names up as ArangoDB writes them.
    for header in
        ["Server: ArangoDB", "X-Arango-Endpoint: http://a:1", "X-Arango-Queue-Time-Seconds: 0.", "Content-Length: 37"]
    {
        assert!(answer.contains(&format!("\r\n{header}")), "{header} in {answer}");
    }
    let impatient = b"GET / HTTP/1.1\r\nHost: a\r\nX-Arango-Queue-Time-Seconds: 0.5\r\n\r\n";
    assert!(talk(&served, impatient).await.ends_with("GET / 0"));
    served.queue_time_us.store(600_000, Ordering::Relaxed);
    let answer = talk(&served, impatient).await;
    assert!(answer.starts_with("HTTP/1.1 412 ") && answer.contains("21004"), "{answer}");
    let answer = talk(&served, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.contains("\r\nContent-Length: 8\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    let chunked = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
    assert!(talk(&served, chunked).await.ends_with("PUT / 7"));
    let old = talk(&served, b"GET /old HTTP/1.0\r\n\r\n").await;
    assert!(old.ends_with("GET /old 0"), "{old}");
    let two = talk(&served, b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(two.contains("GET /1 0") && two.ends_with("GET /2 0"), "{two}");
}

#[tokio::test]
async fn compressed_bodies_are_taken_as_they_were() {
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use std::io::Write;
    let served = serve_echo(Auth::default()).await;
    let zlib = |body: &[u8]| {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    };
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&[b'a'; 900]).unwrap();
    for (encoding, body, answer) in [
        ("gzip", gzip.finish().unwrap(), "POST / 900"),
        ("Deflate", zlib(&[b'a'; 1000]), "POST / 1000"),
        ("identity", b"abc".to_vec(), "POST / 3"),
        ("deflate", Vec::new(), "POST / 0"),
        ("deflate", b"abc".to_vec(), r#""errorMessage":"decoding error","code":400}"#),
        ("frob", b"abc".to_vec(), r#""errorNum":10,"errorMessage":"unknown content encoding","code":400}"#),
        // It is little on the wire, but more than a body may be.
        ("deflate", zlib(&[b'a'; 1001]), r#""errorMessage":"request body too large","code":413}"#),
    ] {
        let length = body.len();
        let head =
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: {encoding}\r\nContent-Length: {length}\r\n\r\n");
        let got = talk(&served, &[head.as_bytes(), &body].concat()).await;
        assert!(got.ends_with(answer), "{encoding}: {got}");
    }
}

#[tokio::test]
async fn the_parts_of_a_batch_are_requests() {
    let served = serve_echo(Auth::default()).await;
    let part = |request: &str| format!("--XX\r\nContent-Id: {request}\r\n\r\n{request} HTTP/1.1\r\n\r\nabc\r\n");
    let body = format!("{}{}--XX--", part("POST /1"), part("PUT /2"));
    let head = "POST /_db/d/_api/batch HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=XX\r\n";
    let ask = |length: usize| format!("{head}Content-Length: {length}\r\n\r\n{}", &body[..length]);
    let answer = talk(&served, ask(body.len()).as_bytes()).await;
    assert!(answer.contains("\r\nContent-Type: multipart/form-data; boundary=XX\r\n"), "{answer}");
    assert_eq!(answer.to_ascii_lowercase().matches("application/json").count(), 0, "{answer}");
    for said in
        ["\r\nContent-Id: PUT /2\r\n", "\r\n\r\nPOST /_db/d/1 3\r\n--XX\r\n", "\r\n\r\nPUT /_db/d/2 3\r\n--XX--"]
    {
        assert!(answer.contains(said), "{said} in {answer}");
    }
    assert!(talk(&served, ask(40).as_bytes()).await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn http2_is_spoken_by_prior_knowledge() {
    let served = serve_echo(Auth::default()).await;
    let stream = TcpStream::connect(served.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::post("http://a/_api/x?y").body(Full::new(Bytes::from("abcde"))).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.headers()["x-arango-endpoint"], "http://a:1");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "POST /_api/x?y 5");
}

#[tokio::test]
async fn nonsense_is_refused_and_the_connection_closed() {
    let served = serve_echo(Auth::default()).await;
    let cases: &[(&[u8], &str)] = &[
        (b"hello\r\n\r\n", "HTTP/1.1 400"),
        (b"GET\r\n\r\n", "HTTP/1.1 400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "HTTP/1.1 400"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", "HTTP/1.1 400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "HTTP/1.1 400"),
        (b"PURGE / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 405"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 405"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", "HTTP/1.1 413"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999\r\n\r\n", "HTTP/1.1 413"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 400"),
    ];
    for (bytes, expected) in cases {
        let answer = talk(&served, bytes).await;
        assert!(answer.starts_with(expected), "{:?}: {answer:?}", String::from_utf8_lossy(bytes));
    }
    let mut long = b"GET / HTTP/1.1\r\nX: ".to_vec();
    long.extend(vec![b'x'; 1 << 20]);
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let _ = stream.write_all(&long).await;
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.unwrap();
    // The rest of the header may have met a closed connection, which then drops the answer.
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{:?}", String::from_utf8_lossy(&answer));
    let mut chunks = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    chunks.extend(b"200\r\n".iter().chain(&vec![b'x'; 512]).chain(b"\r\n").copied().collect::<Vec<u8>>().repeat(3));
    assert!(talk(&served, &chunks).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn slow_and_half_sent_requests_are_given_up() {
    let served = serve_echo(Auth::default()).await;
    for (bytes, expected) in [
        (&b""[..], ""),
        (b"PRI * HT", ""),
        (b"GET / HT", ""),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", ""),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc", "HTTP/1.1 408"),
    ] {
        let answer = talk(&served, bytes).await;
        let fits = answer.starts_with(expected) && (!expected.is_empty() || !answer.contains("200 OK"));
        assert!(fits, "{:?}: {answer:?}", String::from_utf8_lossy(bytes));
    }
    // One that hangs up in the middle leaves nothing behind: the next is served.
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await.unwrap();
    drop(stream);
    assert!(talk(&served, b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await.contains("GET /next 0"));
}

#[tokio::test]
async fn the_peer_path_wants_an_upgrade_and_the_secret() {
    let open = serve_echo(Auth::default()).await;
    let plain = talk(&open, b"GET /_api/tanist/peer HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(plain.starts_with("HTTP/1.1 426"), "{plain}");
    let upgrade = "GET /_api/tanist/peer HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tanist-peer\r\n";
    let garbage = talk(&open, format!("{upgrade}\r\n\x05\0\0\0hello").as_bytes()).await;
    assert!(garbage.starts_with("HTTP/1.1 101"), "{garbage}");

    let auth = Auth { enabled: true, secrets: vec![b"secret".to_vec()], ..Auth::default() };
    let closed = serve_echo(auth.clone()).await;
    let without = talk(&closed, format!("{upgrade}\r\n").as_bytes()).await;
    assert!(without.starts_with("HTTP/1.1 401"), "{without}");
    let forged = auth::superuser_token(&Auth { secrets: vec![b"other".to_vec()], ..auth.clone() }).unwrap();
    let with_forged = talk(&closed, format!("{upgrade}Authorization: bearer {forged}\r\n\r\n").as_bytes()).await;
    assert!(with_forged.starts_with("HTTP/1.1 401"), "{with_forged}");
    let token = auth::superuser_token(&auth).unwrap();
    let with = talk(&closed, format!("{upgrade}Authorization: bearer {token}\r\n\r\n\x01\0\0\0x").as_bytes()).await;
    assert!(with.starts_with("HTTP/1.1 101"), "{with}");
}

#[test]
fn values_that_http_cannot_carry_are_left_out() {
    let response = Response::text(200, "x").with_header("etag", "a\r\nb: c").with_header("location", "/ok");
    let wire = to_wire(response, false, 1_500_000);
    assert!(!wire.headers().contains_key("etag"));
    assert_eq!(wire.headers()["location"], "/ok");
    assert_eq!(wire.headers()["x-arango-queue-time-seconds"], "1.500000");
}

const SHORT: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(30);

/// Sends a byte every 50 ms for as long as the other side allows; for how long that was.
async fn drip(served: &Served, begin: &[u8]) -> Duration {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(begin).await.unwrap();
    let began = Instant::now();
    let mut byte = [0];
    while began.elapsed() < LONG {
        let read = timeout(Duration::from_millis(50), stream.read(&mut byte)).await;
        if read.is_ok() || stream.write_all(b"x").await.is_err() {
            return began.elapsed();
        }
    }
    panic!("a client that drips is never cut");
}

#[tokio::test]
async fn a_header_that_drips_is_cut_and_an_idle_connection_is_not() {
    let served = serve_with(Auth::default(), Patience { idle: LONG, head: SHORT, piece: LONG, leave: SHORT }, 10).await;
    let took = drip(&served, b"GET / HTTP/1.1\r\nX-Slow: ").await;
    assert!((SHORT..SHORT * 10).contains(&took), "{took:?}");

    // Also on a connection that has served a request; and until the next one begins it may wait.
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 1000];
        let length = stream.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..length]));
        tokio::time::sleep(SHORT * 2).await;
    }
    stream.write_all(b"GET / HT").await.unwrap();
    let mut rest = Vec::new();
    timeout(SHORT * 10, stream.read_to_end(&mut rest)).await.expect("it is cut").unwrap();
}

#[tokio::test]
async fn a_body_that_drips_is_refused() {
    let patience = Patience { idle: LONG, head: LONG, piece: SHORT, leave: SHORT };
    let served = serve_with(Auth::default(), patience, 10).await;
    let took = drip(&served, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n").await;
    assert!((SHORT..SHORT * 10).contains(&took), "each piece came in time, but not the whole: {took:?}");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so() {
    let patience = Patience { idle: LONG, head: LONG, piece: LONG, leave: SHORT };
    let served = serve_with(Auth::default(), patience, 3).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 1000];
        assert!(stream.read(&mut answer).await.unwrap() > 0);
        open.push(stream);
    }
    let refusal = talk(&served, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(refusal.starts_with("HTTP/1.1 503") && refusal.contains("too many connections"), "{refusal}");
    // Another node gets through: without it nobody here would serve anyone.
    let upgrade =
        format!("GET {} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {}\r\n\r\n", peer::PATH, peer::PROTOCOL);
    let mut node = TcpStream::connect(served.address).await.unwrap();
    node.write_all(upgrade.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1000];
    let length = node.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer[..length]));
    // And there is room again when one leaves.
    drop(open.pop());
    for _ in 0..100 {
        let answer = talk(&served, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        if answer.starts_with("HTTP/1.1 200") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("there is no room again");
}

/// Clients that hang in every way do not hold up the end.
#[tokio::test]
async fn a_stop_waits_for_nobody_for_long() {
    let patience = Patience { idle: LONG, head: LONG, piece: LONG, leave: SHORT };
    let served = serve_with(Auth::default(), patience, 10).await;
    let mut open = Vec::new();
    for begin in [
        "".as_bytes(),
        b"PRI * HT",
        b"GET / HT",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\nx",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(begin).await.unwrap();
        open.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    served.stop.send(true).unwrap();
    timeout(LONG, served.serving).await.expect("it ends").unwrap();
    assert!(began.elapsed() < SHORT * 3, "{:?}", began.elapsed());
}
