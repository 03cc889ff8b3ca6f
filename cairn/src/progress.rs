//! How far long work is: a bar on a terminal, a plain line now and then elsewhere; always on standard error, never in a command's output.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a plain line is written: work that is over sooner says nothing.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The progress of one piece of work.
pub(crate) struct Bar {
    unit: &'static str,
    form: Form,
}

enum Form {
    Terminal(ProgressBar),
    /// When the last line was written.
    Lines(Mutex<Instant>),
}

/// How many there are so far, of work whose end nobody knows; on a terminal only.
#[cfg(feature = "full")]
pub(crate) struct Counter(ProgressBar);

#[cfg(feature = "full")]
impl Counter {
    /// Counts `unit`; `None` where standard error is no terminal.
    pub(crate) fn on_terminal(unit: &'static str) -> Option<Counter> {
        let style = ProgressStyle::with_template(&format!("{{elapsed}} {{pos}} {unit}"));
        let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
        std::io::stderr().is_terminal().then(|| Counter(ProgressBar::no_length().with_style(style)))
    }

    /// So many.
    pub(crate) fn set(&self, count: u64) {
        self.0.set_position(count);
    }

    /// Wipes the line.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl Bar {
    /// Counts `unit`.
    pub(crate) fn new(unit: &'static str) -> Bar {
        let form = if std::io::stderr().is_terminal() {
            let template = format!("{{bar:40}} {{pos}}/{{len}} {unit}, {{eta}} left");
            let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
            Form::Terminal(ProgressBar::no_length().with_style(style))
        } else {
            Form::Lines(Mutex::new(Instant::now()))
        };
        Bar { unit, form }
    }

    /// The same, for who writes plain lines of their own; `None` where standard error is no terminal.
    #[cfg(feature = "full")]
    pub(crate) fn on_terminal(unit: &'static str) -> Option<Bar> {
        std::io::stderr().is_terminal().then(|| Bar::new(unit))
    }

    /// So much is done. At the end the bar is wiped.
    pub(crate) fn set(&self, done: u64, total: u64) {
        match &self.form {
            Form::Terminal(bar) => {
                bar.set_length(total);
                bar.set_position(done);
                if done >= total {
                    bar.finish_and_clear();
                }
            }
            Form::Lines(last) => {
                let Ok(mut last) = last.lock() else { return };
                if last.elapsed() >= LINE_INTERVAL && done < total {
                    *last = Instant::now();
                    eprintln!("{done} of {total} {}", self.unit);
                }
            }
        }
    }
}
