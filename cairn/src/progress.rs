//! A line on a terminal that says how far something is. Nothing on anything else: a command prints its report and nothing before it.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often the line is drawn anew, at most.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// Signs between the brackets.
const WIDTH: u64 = 40;

/// The line; what is drawn goes to standard error.
pub(crate) struct Bar {
    unit: &'static str,
    drawn: Mutex<Drawn>,
}

struct Drawn {
    started: Instant,
    last: Option<Instant>,
    over: bool,
}

impl Bar {
    /// A line that counts `unit`; `None` where standard error is no terminal.
    pub(crate) fn on_terminal(unit: &'static str) -> Option<Bar> {
        let drawn = Drawn { started: Instant::now(), last: None, over: false };
        std::io::stderr().is_terminal().then(|| Bar { unit, drawn: Mutex::new(drawn) })
    }

    /// So much is done. At the end the line is wiped.
    pub(crate) fn set(&self, done: u64, total: u64) {
        let Ok(mut drawn) = self.drawn.lock() else { return };
        let now = Instant::now();
        let due = drawn.last.is_none_or(|last| now - last >= REDRAW_INTERVAL);
        if drawn.over || !(due || done >= total) {
            return;
        }
        drawn.last = Some(now);
        drawn.over = done >= total;
        let line = if drawn.over { String::new() } else { line(done, total, now - drawn.started, self.unit) };
        // A terminal that went away is no reason to stop.
        let _ = write!(std::io::stderr(), "\r\x1b[2K{line}");
        let _ = std::io::stderr().flush();
    }
}

fn line(done: u64, total: u64, spent: Duration, unit: &str) -> String {
    let filled = u128::from(WIDTH) * u128::from(done) / u128::from(total.max(1));
    let bar: String = (0..u128::from(WIDTH)).map(|at| if at < filled { '#' } else { '-' }).collect();
    let left = match done {
        0 => String::new(),
        done => format!(", {} s left", spent.as_secs_f64().mul_add((total - done) as f64 / done as f64, 0.5) as u64),
    };
    format!("[{bar}] {done}/{total} {unit}{left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_and_how_long() {
        let at = |done| line(done, 1_000, Duration::from_secs(10), "records");
        assert_eq!(at(0), "[----------------------------------------] 0/1000 records");
        assert_eq!(at(250), "[##########------------------------------] 250/1000 records, 30 s left");
        assert_eq!(at(1_000), "[########################################] 1000/1000 records, 0 s left");
    }
}
