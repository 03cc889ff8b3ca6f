//! An earlier verification's report: what `--since` needs of it.

use serde::Deserialize;

use super::{CheckpointReport, FORMAT, Report};

/// What `--since` needs of an earlier report. Everything else in it is ignored, so that reports of other versions can be read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct EarlierReport {
    /// [`FORMAT`].
    format: String,
    /// The checkpoint that it saw.
    #[serde(default)]
    pub checkpoint: Option<CheckpointReport>,
}

/// Why a text is no earlier report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EarlierReportError {
    /// Not JSON, or not of that form.
    #[error("not a verification report")]
    Json(#[source] serde_json::Error),
    /// JSON of another format.
    #[error("its format is {found:?}; expected {FORMAT:?}")]
    Format {
        /// What it says.
        found: String,
    },
    /// The earlier verification did not get as far as a checkpoint.
    #[error("the earlier verification saw no checkpoint, so there is nothing to compare with")]
    NoCheckpoint,
}

impl EarlierReport {
    /// Reads what `cairn verify --json` printed.
    ///
    /// # Errors
    /// [`EarlierReportError`].
    pub fn parse(json: &[u8]) -> Result<EarlierReport, EarlierReportError> {
        let report: EarlierReport = serde_json::from_slice(json).map_err(EarlierReportError::Json)?;
        if report.format != FORMAT {
            return Err(EarlierReportError::Format { found: report.format });
        }
        if report.checkpoint.is_none() {
            return Err(EarlierReportError::NoCheckpoint);
        }
        Ok(report)
    }
}

impl From<&Report> for EarlierReport {
    fn from(report: &Report) -> EarlierReport {
        EarlierReport { format: report.format.clone(), checkpoint: report.checkpoint.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reports_are_read_as_earlier_ones() {
        assert!(matches!(EarlierReport::parse(b"x"), Err(EarlierReportError::Json(_))));
        assert!(matches!(EarlierReport::parse(b"{\"format\":\"x\"}"), Err(EarlierReportError::Format { .. })));
        let report = Report::could_not_tell(std::path::Path::new("x"), "nothing there");
        let parsed = EarlierReport::parse(report.to_json().as_bytes());
        assert!(matches!(parsed, Err(EarlierReportError::NoCheckpoint)));
    }
}
