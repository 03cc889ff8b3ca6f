//! One measured figure and its line.

use std::fmt;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Given in seconds, printed in milliseconds.
    Time,
    /// Something per second.
    PerSecond,
    /// Given in nanoseconds.
    Nanoseconds,
    /// Given in bytes, printed in MiB.
    Bytes,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::Time if value >= 10.0 => format!("{value:.1} s"),
            Unit::Time if value >= 0.1 => format!("{:.0} ms", value * 1e3),
            Unit::Time => format!("{:.2} ms", value * 1e3),
            Unit::PerSecond => format!("{}/s", grouped(value)),
            Unit::Nanoseconds => format!("{} ns", grouped(value)),
            Unit::Bytes => format!("{:.1} MiB", value / f64::from(1 << 20)),
        }
    }
}

/// A whole number with commas.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A figure: all repetitions of a measurement.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    name: String,
    unit: Unit,
    samples: Vec<f64>,
    beside: Option<(String, Vec<f64>)>,
}

impl Figure {
    /// A figure with nothing beside it yet.
    pub(crate) fn new(name: impl Into<String>, unit: Unit, samples: Vec<f64>) -> Figure {
        Figure { name: name.into(), unit, samples, beside: None }
    }

    /// With the peer or limit that was measured in the same run, in the same unit.
    pub(crate) fn beside(mut self, name: impl Into<String>, samples: Vec<f64>) -> Figure {
        self.beside = Some((name.into(), samples));
        self
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = median(&self.samples);
        write!(f, "{:<58} {:>12}", self.name, self.unit.show(value))?;
        if self.samples.len() > 1 {
            let least = self.samples.iter().copied().fold(f64::INFINITY, f64::min);
            let most = self.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            write!(f, " {:<28}", format!("[{} … {}]", self.unit.show(least), self.unit.show(most)))?;
        }
        if let Some((name, samples)) = &self.beside {
            let limit = median(samples);
            write!(f, " {name}: {}, ratio {:.2}", self.unit.show(limit), value / limit)?;
        }
        Ok(())
    }
}

/// The middle of the samples; of an even number, the lower of the two.
pub(crate) fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// The sample below which this share of all samples lies; NaN where there is none.
pub(crate) fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share) as usize).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few() {
        assert!(median(&[]).is_nan());
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 3.0, 1.0, 2.0]), 2.0);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((quantile(&hundred, 0.99), quantile(&hundred, 1.0)), (99.0, 100.0));
    }

    #[test]
    fn a_line_holds_the_value_its_range_and_the_ratio() {
        let line = Figure::new("append", Unit::Time, vec![0.0005, 0.0004, 0.0007]).beside("fdatasync", vec![0.00025]);
        let words: Vec<String> = line.to_string().split_whitespace().map(str::to_owned).collect();
        assert_eq!(words.join(" "), "append 0.50 ms [0.40 ms … 0.70 ms] fdatasync: 0.25 ms, ratio 2.00");
        assert!(Figure::new("rate", Unit::PerSecond, vec![1_234_567.0]).to_string().ends_with("1,234,567/s"));
    }
}
