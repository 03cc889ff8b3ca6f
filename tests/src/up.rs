//! `cairn up` as a child process.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::ledger::Reader;

/// How long a test waits for something that should take seconds at most.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The binary under test: `CAIRN_BIN`, else the one built beside this test.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("CAIRN_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.parent().and_then(Path::parent).expect("target/<profile>/deps/<test>");
    let path = folder.join("cairn");
    assert!(path.exists(), "{} is missing: run `cargo build -p cairn`, or set CAIRN_BIN", path.display());
    path
}

/// Runs `cairn` with these arguments to its end.
///
/// # Panics
/// When it cannot be started.
pub fn cairn(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().expect("the binary starts")
}

#[derive(Default)]
struct Lines {
    lines: Mutex<Vec<String>>,
    changed: Condvar,
}

/// A running `cairn up`. Killed when dropped.
pub struct Up {
    child: Child,
    /// The data folder.
    pub dir: PathBuf,
    /// `http://127.0.0.1:<port>`.
    pub url: String,
    began: Instant,
    /// From start to the line that says ready.
    pub ready_after: Duration,
    output: Arc<Lines>,
}

impl Up {
    /// Starts `cairn up --dir <dir>` on a free port and waits until it says that it is ready.
    ///
    /// # Panics
    /// When it ends or is not ready within [`PATIENCE`]; the message holds what it printed.
    #[must_use]
    pub fn start(dir: &Path) -> Up {
        Up::spawn(dir).until_ready()
    }

    /// Starts plain `cairn up` in `folder`: its data folder and its address are the defaults.
    ///
    /// # Panics
    /// As [`Up::start`], and when the default port is taken.
    #[must_use]
    pub fn start_in(folder: &Path) -> Up {
        let mut command = Command::new(binary());
        command.arg("up").current_dir(folder);
        Up::from_command(command, &folder.join("cairn-data")).until_ready()
    }

    /// Starts it and waits for nothing.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(dir: &Path) -> Up {
        let mut command = Command::new(binary());
        command.args(["up", "--listen", "127.0.0.1:0", "--dir"]).arg(dir);
        Up::from_command(command, dir)
    }

    /// Starts a command that runs `cairn up` with this data folder, and waits until it says that it is ready.
    ///
    /// # Panics
    /// As [`Up::start`].
    #[must_use]
    pub fn start_command(command: Command, dir: &Path) -> Up {
        Up::from_command(command, dir).until_ready()
    }

    fn from_command(mut command: Command, dir: &Path) -> Up {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let output = Arc::new(Lines::default());
        collect(child.stdout.take().expect("piped"), Arc::clone(&output));
        collect(child.stderr.take().expect("piped"), Arc::clone(&output));
        let began = Instant::now();
        Up { child, dir: dir.to_owned(), url: String::new(), began, ready_after: Duration::ZERO, output }
    }

    fn until_ready(mut self) -> Up {
        let page = self.wait_line("page: http://", PATIENCE);
        let address = page.split_whitespace().find(|word| word.starts_with("http://")).expect("an address");
        self.url = address.trim_end_matches('/').to_owned();
        self.wait_line("ready", PATIENCE);
        self.ready_after = self.began.elapsed();
        self
    }

    /// The policy repo.
    #[must_use]
    pub fn policies(&self) -> PathBuf {
        self.dir.join("policies")
    }

    /// The ledger's folder.
    #[must_use]
    pub fn ledger_dir(&self) -> PathBuf {
        self.dir.join("ledger")
    }

    /// The ledger's records.
    #[must_use]
    pub fn ledger(&self) -> Reader {
        Reader::new(&self.ledger_dir())
    }

    /// Everything it printed so far.
    ///
    /// # Panics
    /// When a reading thread panicked.
    #[must_use]
    pub fn printed(&self) -> String {
        self.output.lines.lock().expect("no reader panics").join("\n")
    }

    /// Waits for a line that holds `needle`, from the first line on.
    ///
    /// # Panics
    /// After `patience`, or when the process has ended without it; the message holds what it printed.
    pub fn wait_line(&mut self, needle: &str, patience: Duration) -> String {
        let began = Instant::now();
        loop {
            {
                let lines = self.output.lines.lock().expect("no reader panics");
                if let Some(line) = lines.iter().find(|line| line.contains(needle)) {
                    return line.clone();
                }
                let _ = self.output.changed.wait_timeout(lines, Duration::from_millis(50)).expect("no reader panics");
            }
            let ended = self.child.try_wait().expect("a child can be asked");
            assert!(
                ended.is_none() || self.printed().contains(needle),
                "cairn up ended with {ended:?} before it said {needle:?}:\n{}",
                self.printed()
            );
            assert!(began.elapsed() < patience, "waited {patience:?} for {needle:?}:\n{}", self.printed());
        }
    }

    /// `kill -9`, and waits for its end.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it cannot be signalled.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("a child can be signalled");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within [`PATIENCE`].
    pub fn wait_end(&mut self) -> std::process::ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "cairn up did not stop:\n{}", self.printed());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks it to stop (SIGTERM), waits, and says whether it ended well.
    ///
    /// # Panics
    /// When it does not end within [`PATIENCE`].
    #[must_use]
    pub fn stop(mut self) -> bool {
        self.signal(rustix::process::Signal::TERM);
        self.wait_end().success()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- what cairn up printed\n{}\n---", self.printed());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(pipe: impl std::io::Read + Send + 'static, output: Arc<Lines>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            output.lines.lock().expect("no reader panics").push(line);
            output.changed.notify_all();
        }
    });
}
