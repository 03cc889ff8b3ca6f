//! A ledger's records, read from its bytes on disk while it is being written.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cairn_ledger::dir::LedgerDir;
use cairn_schemas::ids::RecordIndex;
use cairn_schemas::record::Record;

/// A record and its place.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Its index.
    pub index: RecordIndex,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
    /// The same, read.
    pub record: Record,
}

/// Reads what the newest checkpoint covers, again and again.
pub struct Reader {
    folder: PathBuf,
}

impl Reader {
    /// A reader of the ledger at `folder`.
    #[must_use]
    pub fn new(folder: &Path) -> Reader {
        Reader { folder: folder.to_owned() }
    }

    /// Every record under the newest checkpoint.
    ///
    /// # Panics
    /// When the ledger cannot be read in five attempts (a partial tile may be replaced while it is being read).
    #[must_use]
    pub fn records(&self) -> Vec<Placed> {
        let mut last = String::new();
        for _ in 0..5 {
            match self.try_records() {
                Ok(records) => return records,
                Err(error) => last = error,
            }
        }
        panic!("{}: {last}", self.folder.display());
    }

    fn try_records(&self) -> Result<Vec<Placed>, String> {
        let ledger = LedgerDir::open(&self.folder).map_err(|error| error.to_string())?;
        let (checkpoint, _) = ledger.checkpoint().map_err(|error| error.to_string())?;
        let mut records = Vec::new();
        for item in ledger.records(0..checkpoint.size.0, checkpoint.size) {
            let (index, bytes) = item.map_err(|error| error.to_string())?;
            let record = Record::parse(&bytes).map_err(|error| format!("record {index}: {}", error.one_line()))?;
            records.push(Placed { index, bytes, record });
        }
        Ok(records)
    }

    /// Waits until a record at or after `from` satisfies `wanted`, and returns it.
    ///
    /// # Panics
    /// After `patience`, with what was waited for and the last records' types.
    pub fn wait(&self, what: &str, from: RecordIndex, patience: Duration, wanted: impl Fn(&Record) -> bool) -> Placed {
        let began = Instant::now();
        loop {
            let records = self.records();
            if let Some(found) = records.iter().find(|placed| placed.index >= from && wanted(&placed.record)) {
                return found.clone();
            }
            if began.elapsed() > patience {
                let tail: Vec<String> = records
                    .iter()
                    .rev()
                    .take(15)
                    .map(|placed| format!("{} {} {}", placed.index, placed.record.kind, placed.record.data))
                    .collect();
                panic!("waited {patience:?} for {what}; the last records, newest first:\n{}", tail.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The next index after everything that is published now.
    #[must_use]
    pub fn end(&self) -> RecordIndex {
        RecordIndex(self.records().len() as u64)
    }
}
