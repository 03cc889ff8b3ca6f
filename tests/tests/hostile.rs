//! Hostile clients of a running `cairn up`: none gets what is not theirs, none is in another's way.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use cairn_schemas::ids::RecordIndex;
use cairn_schemas::types::RecordType;
use cairn_tests::up::{PATIENCE, Up, cairn};
use serde_json::{Value, json};

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Every error says what is wrong, in one form.
    fn error(&self) -> String {
        let json: Value =
            serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}: {}", self.status, self.text()));
        json["error"].as_str().unwrap().to_owned()
    }
}

fn connect(up: &Up) -> TcpStream {
    let stream = TcpStream::connect(address(up)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn address(up: &Up) -> &str {
    up.url.strip_prefix("http://").unwrap()
}

/// Sends bytes as they are, and reads one answer.
fn raw(up: &Up, request: &[u8]) -> Answer {
    let mut stream = connect(up);
    // A server that refuses early may close before it has read everything.
    let _ = stream.write_all(request);
    read_answer(&mut stream, !request.starts_with(b"HEAD "))
}

fn read_answer(stream: &mut TcpStream, has_body: bool) -> Answer {
    let mut bytes = Vec::new();
    let mut chunk = [0u8; 65_536];
    loop {
        let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = head_end {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let mut lines = head.lines();
            let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
            let headers: BTreeMap<String, String> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let len: usize = headers.get("content-length").map_or(0, |len| len.parse().unwrap());
            let body = bytes[end + 4..].to_vec();
            if body.len() >= len || !has_body {
                return Answer { status, headers, body };
            }
        }
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&chunk[..read]);
    }
}

fn ask(up: &Up, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
    let mut all = vec![("host", address(up)), ("connection", "close")];
    let len = body.len().to_string();
    if !body.is_empty() {
        all.push(("content-length", &len));
    }
    all.retain(|(name, _)| !headers.iter().any(|(other, _)| other == name));
    for (name, value) in all.iter().chain(headers) {
        request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    raw(up, &request)
}

fn review(uid: &str) -> Vec<u8> {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": uid, "operation": "CREATE", "namespace": "shop", "name": "web",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "userInfo": {"username": "alice"},
            "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": []}}
        }
    })
    .to_string()
    .into_bytes()
}

const JSON: (&str, &str) = ("content-type", "application/json");
const VALIDATE: &str = "/v1/admission/validate";

fn admits(up: &Up, uid: &str) {
    let answer = ask(up, "POST", VALIDATE, &[JSON], &review(uid));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// `identity.json` and the stream of a node of this data folder.
fn node(dir: &Path, kind: &str) -> (String, String, String) {
    let folder = dir.join("nodes").join(kind);
    let identity: Value = serde_json::from_slice(&std::fs::read(folder.join("identity.json")).unwrap()).unwrap();
    let spool = std::fs::read_dir(folder.join("spool")).unwrap();
    let names = spool.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let stream = names.into_iter().find(|name| name.starts_with(kind)).unwrap();
    let text = |name: &str| identity[name].as_str().unwrap().to_owned();
    (text("node"), text("credential"), stream)
}

/// One start for all of it: what each client tries must not have spoilt the server for the next.
#[test]
fn hostile_clients_get_nothing_and_stop_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cairn-data");
    let up = Up::start(&dir);

    paths(&up, &dir);
    methods(&up);
    hosts_and_origins(&up);
    bodies(&up);
    credentials(&up, &dir);
    idle_connections(&up);
    admits(&up, "after-all-of-it");
    let printed = up.printed();
    for word in ["panicked", "RUST_BACKTRACE", "error:"] {
        assert!(!printed.contains(word), "{printed}");
    }
    assert!(up.stop());
    let output = cairn(&["verify", dir.join("ledger").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", cairn_tests::shell::text(&output));
}

fn paths(up: &Up, dir: &Path) {
    let secret = std::fs::read_to_string(dir.join("keys/root.key")).unwrap();
    // A link that somebody put beside the tiles is not a tile.
    std::os::unix::fs::symlink("../keys/root.key", dir.join("ledger/link")).unwrap();
    let hostile = [
        "/ledger/../keys/root.key",
        "/ledger/tile/../../keys/root.key",
        "/ledger/tile/%2e%2e/%2e%2e/keys/root.key",
        "/ledger/tile/%252e%252e/%252e%252e/keys/root.key",
        "/ledger/tile/..%5c..%5ckeys%5croot.key",
        "/ledger/tile//etc/passwd",
        "//etc/passwd",
        "/ledger//keys/root.key",
        "/ledger/releases/1/..%2f..%2f..%2fkeys%2froot.key",
        "/ledger/releases/..%2f..%2fkeys/root.key",
        "/ledger/releases/01/content.tar",
        "/ledger/releases/1/content.tar%00",
        "/ledger/checkpoints/..%2f..%2fkeys%2froot.key",
        "/ledger/checkpoints/1/../../../keys/root.key",
        "/ledger/tile/0/000%00",
        "/ledger/tile/%ff%fe",
        "/ledger/link",
        "/ledger/tile/link",
        "/ledger/lock",
        "/ledger/wal/00000000000000000000.wal",
        "/keys/root.key",
        "/nodes/sensor/node.key",
    ];
    for path in hostile {
        let answer = ask(up, "GET", path, &[], b"");
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
        assert!(!answer.text().contains(secret.trim()), "{path}");
        answer.error();
    }
    std::fs::remove_file(dir.join("ledger/link")).unwrap();
    assert_eq!(ask(up, "GET", "/ledger/checkpoint", &[], b"").status, 200);
    // An absolute-form target is served like any other, and its path is no file either.
    assert_eq!(ask(up, "GET", &format!("{}/ledger/checkpoint", up.url), &[], b"").status, 200);
    assert_eq!(ask(up, "GET", "file:///etc/passwd", &[], b"").status / 100, 4);
}

fn methods(up: &Up) {
    for (method, path) in [
        ("POST", "/"),
        ("PUT", VALIDATE),
        ("GET", VALIDATE),
        ("DELETE", "/ledger/checkpoint"),
        ("PATCH", "/v1/nodes/join"),
        ("TRACE", "/"),
        ("BREW", "/"),
    ] {
        let answer = ask(up, method, path, &[], b"");
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(answer.error().contains(method), "{}", answer.text());
        assert!(answer.headers.contains_key("allow"));
    }
    for path in ["/", "/healthz", "/readyz", "/ledger/checkpoint"] {
        let (head, get) = (ask(up, "HEAD", path, &[], b""), ask(up, "GET", path, &[], b""));
        assert_eq!((head.status, get.status), (200, 200), "{path}");
        assert_eq!(head.headers.get("content-type"), get.headers.get("content-type"), "{path}");
    }
    // Neither HTTP, nor an end of it.
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\0\0\r\n\r\n",
    ] {
        let mut stream = connect(up);
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.1 5"));
    }
}

fn hosts_and_origins(up: &Up) {
    let before = up.ledger().end();
    for path in ["/", "/healthz", "/ledger/checkpoint", "/v1/nodes/desired", VALIDATE, "/nothing"] {
        for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::ffff:127.0.0.1]x"] {
            let answer = ask(up, "GET", path, &[("host", host)], b"");
            assert_eq!(answer.status, 421, "{path} of {host}");
            answer.error();
        }
    }
    let port = address(up).rsplit_once(':').unwrap().1;
    for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), "localhost".to_owned()] {
        assert_eq!(ask(up, "GET", "/", &[("host", &host)], b"").status, 200, "{host}");
    }
    // What a form on a web page can send.
    let as_a_page = [("content-type", "text/plain"), ("origin", "http://evil.example")];
    for path in [VALIDATE, "/v1/git/notify", "/v1/nodes/join"] {
        let answer = ask(up, "POST", path, &as_a_page, &review("from-a-page"));
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
    }
    let records = up.ledger().records();
    let after = records.iter().skip(usize::try_from(before.0).unwrap());
    assert!(
        !after.into_iter().any(|placed| placed.record.kind == RecordType::AdmissionDecided),
        "no decision was made"
    );
}

fn bodies(up: &Up) {
    let chunked = [JSON, ("transfer-encoding", "chunked"), ("content-length-was", "")];
    // Too long, said and unsaid.
    let head = format!(
        "POST {VALIDATE} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        address(up),
        (8 << 20) + 1
    );
    assert_eq!(raw(up, head.as_bytes()).status, 413, "before it is sent");
    let said = ask(up, "POST", VALIDATE, &[JSON, ("content-length", "99999999999999")], b"{");
    assert_eq!(said.status, 413, "refused by what it says");
    let mut stream = connect(up);
    let head =
        format!("POST {VALIDATE} HTTP/1.1\r\nhost: {}\r\n{}: {}\r\n\r\n", address(up), chunked[1].0, chunked[1].1);
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [format!("{:x}\r\n", 1 << 20).into_bytes(), vec![b'['; 1 << 20], b"\r\n".to_vec()].concat();
    for _ in 0..16 {
        // Without an end: it is refused at the limit, whatever follows.
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let mut answer = [0u8; 12];
    // The connection may be reset before the answer is read.
    if stream.read_exact(&mut answer).is_ok() {
        assert_eq!(&answer, b"HTTP/1.1 413");
    }
    // Not JSON, not UTF-8, nested without end, numbers without end.
    let deep = [b"[".repeat(1 << 20), b"]".repeat(1 << 20)].concat();
    let bodies: [&[u8]; 6] =
        [b"\xff\xfe{}", b"{\"kind\":\"\xc3\x28\"}", &deep, b"1e999999999", b"\0", b"{\"a\":1,\"a\":2}"];
    for body in bodies {
        let answer = ask(up, "POST", VALIDATE, &[JSON], body);
        assert_eq!(answer.status, 400, "{:.20}", String::from_utf8_lossy(body));
        answer.error();
        assert_eq!(ask(up, "POST", "/v1/nodes/join", &[JSON], body).status / 100, 4);
    }
    admits(up, "after-bodies");
}

fn credentials(up: &Up, dir: &Path) {
    let (_, sensor_credential, sensor_stream) = node(dir, "sensor");
    let (_, admission_credential, admission_stream) = node(dir, "admission");
    let bearer = |credential: &str| format!("Bearer {credential}");
    let stream = |id: &str| format!("/v1/nodes/streams/{id}");
    // Nobody, a wrong one, one that is nearly right, one in another form.
    let mut nearly = sensor_credential.clone();
    nearly.pop();
    let wrong =
        ["Bearer ", "Bearer x", "bearer", "Basic eDp4", &bearer(&nearly), &bearer(&format!("{sensor_credential}x"))];
    for shown in wrong {
        for path in ["/v1/nodes/desired".to_owned(), stream(&sensor_stream)] {
            let answer = ask(up, "GET", &path, &[("authorization", shown)], b"");
            assert_eq!(answer.status, 401, "{shown} {path}");
            assert!(!answer.text().contains(&sensor_credential));
        }
    }
    assert_eq!(ask(up, "GET", &stream(&sensor_stream), &[], b"").status, 401);
    // A node's own, and others', read and written.
    let shown = bearer(&admission_credential);
    let shown = [("authorization", shown.as_str())];
    assert_eq!(ask(up, "GET", &stream(&admission_stream), &shown, b"").status, 200);
    let control =
        up.ledger().records().into_iter().find(|placed| placed.record.kind == RecordType::ReleaseBuilt).unwrap();
    for other in [sensor_stream.as_str(), "ledger", control.record.stream.as_str()] {
        assert_eq!(ask(up, "GET", &stream(other), &shown, b"").status / 100, 4, "{other}");
        assert_eq!(ask(up, "POST", &stream(other), &shown, &control.bytes).status / 100, 4, "{other}");
    }
    // A record of the control plane in the node's own stream does not become one: replaced, or refused.
    let from = up.ledger().end();
    let answer = ask(up, "POST", &stream(&admission_stream), &shown, &control.bytes);
    if answer.status == 200 {
        up.ledger().wait("the rejection", from, PATIENCE, |record| record.kind == RecordType::StreamRejected);
    }
    let built = up.ledger().records();
    let built = built.iter().filter(|placed| placed.record.kind == RecordType::ReleaseBuilt);
    assert_eq!(built.count(), 1);

    // A token that was used, one that never was, and one for another kind.
    let used = std::fs::read_to_string(dir.join("keys/join-sensor.token")).unwrap();
    let join = |token: &str, kind: &str| {
        let body = json!({
            "token": token.trim(), "kind": kind, "labels": {}, "protocol": "1.0",
            "key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
        });
        ask(up, "POST", "/v1/nodes/join", &[JSON], body.to_string().as_bytes())
    };
    let unknown = used.replace(|c: char| c.is_ascii_digit(), "0");
    for (token, kind) in
        [(used.as_str(), "sensor"), (&unknown, "sensor"), ("", "sensor"), (&used, "admission"), (&used, "x")]
    {
        let answer = join(token, kind);
        assert!(matches!(answer.status, 400 | 401 | 403 | 422), "{kind}: {} {}", answer.status, answer.text());
        let said = answer.text();
        assert!(!said.contains("credential\":") && !said.contains(used.trim()), "{said}");
    }
}

/// Clients that connect and say nothing, or half of something, or ask and do not read.
fn idle_connections(up: &Up) {
    let mut held = Vec::new();
    for number in 0..900 {
        let mut stream = connect(up);
        match number % 8 {
            0 => {}
            1 => drop(stream.write_all(b"POST /v1/admission/validate HTTP/1.1\r\nhost: loc")),
            _ => {
                let head = "POST /v1/admission/validate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{";
                // Those that give way to others find out here.
                let _ = stream.write_all(head.as_bytes());
            }
        }
        held.push(stream);
    }
    let began = Instant::now();
    for number in 0..20 {
        admits(up, &format!("beside-900-others-{number}"));
    }
    println!("20 answers beside 900 connections {:?}", began.elapsed());
    // Nodes get through, too: the last decision comes to the ledger.
    up.ledger().wait("the last decision", RecordIndex(0), PATIENCE, |record| {
        record.kind == RecordType::AdmissionDecided && record.data["uid"] == "beside-900-others-19"
    });
    assert!(began.elapsed() < PATIENCE + Duration::from_secs(60));
    drop(held);
}
