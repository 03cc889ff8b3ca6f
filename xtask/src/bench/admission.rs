//! Admission answers of a real `cairn up`, each with its record durable before it left, beside plain HTTP by the same client.

use std::io;
use std::process::Command;
use std::time::Instant;

use cairn_tests::up::Up;

use super::disk::Probes;
use super::figure::{Figure, Unit, quantile};
use super::http::Client;
use super::{Bench, BenchError, io_error};

const VALIDATE_PATH: &str = "/v1/admission/validate";
const REVIEW: &str = "examples/first-steps/privileged-pod.json";
/// The uid in [`REVIEW`]: every request gets one of its own, as an API server does it.
const REVIEW_UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";
/// Requests of one repetition, one after another.
const SERIAL: usize = 1_000;
/// Connections at once, and requests of one repetition on each.
const CONNECTIONS: usize = 16;
const EACH: usize = 250;

/// A quantile of one repetition.
struct Times(Vec<Vec<f64>>);

impl Times {
    fn at(&self, share: f64) -> Vec<f64> {
        self.0.iter().map(|times| quantile(times, share)).collect()
    }

    /// Answers per second while all connections were busy.
    fn rates(&self, connections: usize) -> Vec<f64> {
        self.0.iter().map(|times| connections as f64 / (times.iter().sum::<f64>() / times.len() as f64)).collect()
    }
}

/// Starts the release build's `cairn up` in a folder of its own.
pub(crate) fn up(bench: &Bench) -> Up {
    let folder = bench.fresh("up");
    let mut command = Command::new(bench.release.join("cairn"));
    command.args(["up", "--listen", "127.0.0.1:0", "--dir"]).arg(&folder);
    Up::start_command(command, &folder)
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let path = bench.root.join(REVIEW);
    let denied = std::fs::read_to_string(&path).map_err(io_error("read", &path))?;
    let allowed = denied.replace("\"privileged\": true", "\"privileged\": false");
    let up = up(bench);
    let address = up.url.trim_start_matches("http://").to_owned();
    let failed = |source: io::Error| BenchError::Http { url: up.url.clone(), reason: source.to_string() };

    let mut probes = Probes::default();
    let (mut plain, mut serial, mut many_plain, mut many) =
        (Times(Vec::new()), Times(Vec::new()), Times(Vec::new()), Times(Vec::new()));
    for round in 0..bench.repeat {
        eprintln!("admission: {} of {}", round + 1, bench.repeat);
        probes.take(bench)?;
        let review = |connection: usize, number: usize| {
            let body = if number.is_multiple_of(2) { &allowed } else { &denied };
            Some(body.replace(REVIEW_UID, &format!("bench-{round}-{connection}-{number}")))
        };
        plain.0.push(ask(&address, 0, SERIAL, "/healthz", |_, _| None).map_err(failed)?);
        serial.0.push(ask(&address, CONNECTIONS, SERIAL, VALIDATE_PATH, review).map_err(failed)?);
        many_plain.0.push(at_once(&address, "/healthz", |_, _| None).map_err(failed)?);
        many.0.push(at_once(&address, VALIDATE_PATH, review).map_err(failed)?);
    }
    if !up.stop() {
        return Err(BenchError::Http { url: "cairn up".into(), reason: "it did not stop well".into() });
    }

    let floor =
        |http: Vec<f64>, sync: Vec<f64>| http.iter().zip(sync).map(|(http, sync)| http + sync).collect::<Vec<_>>();
    let figure = |name: &str, samples| Figure::new(format!("admission: {name}"), Unit::Time, samples);
    let beside = "/healthz + one fdatasync";
    Ok(vec![
        figure("answer, one after another, p50", serial.at(0.5)).beside(beside, floor(plain.at(0.5), probes.p50())),
        figure("answer, one after another, p99", serial.at(0.99)).beside(beside, floor(plain.at(0.99), probes.p99())),
        figure("answer, one after another, max", serial.at(1.0)).beside("/healthz", plain.at(1.0)),
        figure("answer, 16 at once, p50", many.at(0.5)).beside(beside, floor(many_plain.at(0.5), probes.p50())),
        figure("answer, 16 at once, p99", many.at(0.99)).beside(beside, floor(many_plain.at(0.99), probes.p99())),
        figure("answer, 16 at once, max", many.at(1.0)).beside("/healthz", many_plain.at(1.0)),
        Figure::new("admission: answers, 16 at once", Unit::PerSecond, many.rates(CONNECTIONS))
            .beside("/healthz", many_plain.rates(CONNECTIONS)),
    ])
}

/// Seconds of each request on one connection; the first, which connects, is not counted.
fn ask(
    address: &str,
    connection: usize,
    count: usize,
    path: &str,
    body: impl Fn(usize, usize) -> Option<String>,
) -> io::Result<Vec<f64>> {
    let mut client = Client::connect(address)?;
    client.exchange(&client.request("/healthz", None))?;
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let request = client.request(path, body(connection, number).as_deref());
        let asked = Instant::now();
        let (status, answer) = client.exchange(&request)?;
        times.push(asked.elapsed().as_secs_f64());
        if status != 200 {
            let reason = format!("{path} answered {status}: {}", String::from_utf8_lossy(&answer));
            return Err(io::Error::other(reason));
        }
    }
    Ok(times)
}

fn at_once(
    address: &str,
    path: &str,
    body: impl Fn(usize, usize) -> Option<String> + Copy + Sync + Send,
) -> io::Result<Vec<f64>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|connection| scope.spawn(move || ask(address, connection, EACH, path, body)))
            .collect();
        let mut times = Vec::new();
        for thread in threads {
            times.extend(thread.join().map_err(|_| io::Error::other("a thread panicked"))??);
        }
        Ok(times)
    })
}
