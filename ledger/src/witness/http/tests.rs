use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_schemas::digest::Digest;
use cairn_schemas::time::{Clock, Timestamp};

use super::*;
use crate::checkpoint::Checkpoint;
use crate::cosignature::CosignTime;
use crate::note::NOTE_LEN_MAX;
use crate::witness::client::{AskError, Head, WitnessClient};
use crate::witness::fixture::{Log, Memory, cosigner, witness};
use crate::witness::request::{REQUEST_LEN_MAX, SIZE_CONTENT_TYPE};
use crate::witness::server::router;

const ORIGIN: &str = "acme/cairn/1";
const NOW: u64 = 1_700_000_000;

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(NOW * 1_000_000_000)
    }
}

/// A witness behind a socket.
struct Served {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

fn served(log: &Log) -> Served {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build().unwrap();
    let router = router(Arc::new(witness("w.example", 7, log, &Memory::default())), Arc::new(Fixed));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move { axum::serve(listener, router).await });
    Served { address, _runtime: runtime }
}

fn client(address: SocketAddr) -> WitnessClient {
    WitnessClient::new("w", cosigner("w.example", 7).verifier().clone(), &format!("http://{address}"))
}

fn ask(client: &mut WitnessClient, log: &Log, transport: &HttpTransport) -> Result<String, AskError> {
    let head = Head::new(&log.head(log.size())).unwrap();
    client.ask(&head, &|old, new| Ok(log.prove(old, new)), transport, CosignTime(NOW))
}

#[test]
fn client_and_server_understand_each_other() {
    let mut log = Log::new(ORIGIN);
    let served = served(&log);
    let transport = HttpTransport::default();
    let mut first = client(served.address);
    for more in [1, 1, 300] {
        log.grow(more, "a");
        ask(&mut first, &log, &transport).unwrap();
    }
    log.grow(1, "a");
    ask(&mut client(served.address), &log, &transport).unwrap();
    let mut fork = Log::new(ORIGIN);
    fork.grow(303, "b");
    assert!(ask(&mut client(served.address), &fork, &transport).unwrap_err().is_alarm());

    // What monitors see.
    let origin = Digest::sha256(ORIGIN.as_bytes());
    let url = |path: &str| format!("http://{}/{path}", served.address);
    let newest = transport.get(&url(&format!("{origin}/checkpoint")), NOTE_LEN_MAX).unwrap().unwrap();
    assert_eq!(Checkpoint::parse(&newest).unwrap().0.size, log.size());
    let nothing = Digest::sha256(b"another");
    assert_eq!(transport.get(&url(&format!("{nothing}/checkpoint")), NOTE_LEN_MAX).unwrap(), None);
    assert_eq!(transport.get(&url("x/checkpoint"), NOTE_LEN_MAX).unwrap(), None);
    let keys = transport.get(&url(""), NOTE_LEN_MAX).unwrap().unwrap();
    assert_eq!(keys, format!("{}\n", cosigner("w.example", 7).verifier()).into_bytes());
}

#[test]
fn statuses_and_types_are_those_of_the_specification() {
    let mut log = Log::new(ORIGIN);
    let served = served(&log);
    let transport = HttpTransport::default();
    let url = format!("http://{}/add-checkpoint", served.address);
    let post = |body: &[u8]| transport.post(&url, body).unwrap();
    log.grow(5, "a");
    assert_eq!(post(b"").status, 400);
    assert_eq!(post(&log.request(6).to_bytes()).status, 400);
    let cosigned = post(&log.request(0).to_bytes());
    assert_eq!((cosigned.status, cosigned.body.starts_with("\u{2014} w.example ".as_bytes())), (200, true));
    let conflict = post(&log.request(0).to_bytes());
    assert_eq!((conflict.status, conflict.content_type.as_deref()), (409, Some(SIZE_CONTENT_TYPE)));
    assert_eq!(conflict.body, b"5\n");
    let mut other = Log::new("other/1");
    other.grow(1, "a");
    assert_eq!(post(&other.request(0).to_bytes()).status, 404);
    // At the limit it is read, and one past it is not.
    let filled = |len: usize| [&b"old 0\n\n"[..], &vec![b'x'; len - 7]].concat();
    assert_eq!(post(&filled(REQUEST_LEN_MAX)).status, 400);
    assert_eq!(post(&filled(REQUEST_LEN_MAX + 1)).status, 413);
}

/// A peer that does what it likes with each connection, until it is told to end.
fn hostile(behave: impl Fn(TcpStream) + Send + 'static) -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&over);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if ends.load(Ordering::SeqCst) {
                return;
            }
            let mut stream = stream.unwrap();
            // The request has come: what follows is an answer, of a kind.
            let _ = stream.read(&mut [0; 1 << 16]);
            behave(stream);
        }
    });
    (address, over)
}

#[test]
fn hostile_peers_cost_a_bounded_time_and_memory() {
    type Behaviour = fn(TcpStream);
    let behaviours: [(&str, Behaviour); 7] = [
        ("closes", drop),
        ("garbage", |mut stream| drop(stream.write_all(&[0xa5; 4_096]))),
        ("never answers", |stream| drop(std::thread::spawn(move || (&stream).read_to_end(&mut Vec::new())))),
        ("endless head", |mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
            while stream.write_all(b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n").is_ok()
            {
            }
        }),
        ("endless body", |mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n");
            while stream.write_all(&[b'x'; 4_096]).is_ok() {}
        }),
        ("drips", |mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }),
        ("elsewhere", |mut stream| {
            let _ = stream.write_all(
                b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
            );
        }),
    ];
    let mut log = Log::new(ORIGIN);
    log.grow(5, "a");
    for (name, behave) in behaviours {
        let (address, over) = hostile(behave);
        let transport = HttpTransport::new(Duration::from_millis(300));
        let error = ask(&mut client(address), &log, &transport).unwrap_err();
        let expected = match name {
            "elsewhere" => matches!(error, AskError::Declined { status: 307, .. }),
            "endless body" => error.to_string().ends_with("the answer is longer than 65536 bytes"),
            _ => matches!(error, AskError::Unreachable { .. }),
        };
        assert!(expected, "{name}: {error}");
        over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(address);
    }
}
