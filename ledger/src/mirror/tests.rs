//! Mirrors of directories, while they grow, and of servers.

use std::fs;
use std::io::Write as _;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::*;
use crate::dir::LedgerDir;
use crate::fixture::{Producer, clock, opened, signer};
use crate::writer::Ledger;

const SOON: Duration = Duration::from_secs(30);

/// A ledger that a control plane appends to.
pub(super) struct Growing {
    pub(super) ledger: Ledger,
    control: Producer,
}

impl Growing {
    pub(super) fn create(dir: &Path) -> Growing {
        let ledger = Ledger::create(dir, &opened(), signer(), clock()).unwrap();
        let mut control = Producer::control();
        let opening = control.opening(None);
        ledger.append(&control.stream(), vec![opening]).unwrap();
        Growing { ledger, control }
    }

    /// Grows to `size` records, published.
    pub(super) fn to(&mut self, size: u64) {
        while self.ledger.size().0 < size {
            let record = self.control.record(self.ledger.size().0);
            self.ledger.append(&self.control.stream(), vec![record]).unwrap();
        }
        assert!(self.ledger.wait_published(TreeSize(size), SOON));
    }
}

fn copy(from: &Path, to: &Path) -> Mirrored {
    mirror(&Source::Dir(from.to_owned()), to, &|_, _| {}).unwrap()
}

/// Checks what the mirror's checkpoint covers, from its bytes.
pub(super) fn check(dir: &Path) -> u64 {
    let dir = LedgerDir::open(dir).unwrap();
    let (checkpoint, _) = dir.checkpoint().unwrap();
    let mut tree = crate::tree::Frontier::new();
    for record in dir.records(0..u64::MAX, checkpoint.size) {
        tree.push(cairn_schemas::digest::Digest::leaf(&record.unwrap().1));
    }
    assert_eq!((tree.size(), tree.root()), (checkpoint.size, checkpoint.root));
    checkpoint.size.0
}

#[test]
fn a_mirror_follows_a_ledger_that_grows() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("ledger"), folder.path().join("mirror"));
    let mut ledger = Growing::create(&from);
    let mut copied = 0;
    for size in [2, 17, 255, 256, 257, 600] {
        ledger.to(size);
        let mirrored = copy(&from, &to);
        assert!(mirrored.is_whole(), "{mirrored:?}");
        assert_eq!((mirrored.volumes, check(&to)), (vec![(1, TreeSize(size))], size));
        copied += mirrored.copied;
    }
    let again = copy(&from, &to);
    assert_eq!((again.copied, again.removed), (0, 0));
    let found = LedgerDir::open(&to).unwrap().files().unwrap();
    assert!(!found.iter().any(|file| file.starts_with("wal/") || file == "lock" || file.contains("tmp")), "{found:?}");
    assert!(found.contains(&"tile/0/000".to_owned()) && !found.iter().any(|file| file.starts_with("tile/0/000.p/")));
    assert!(copied > 10);
    let served = AtomicUsize::new(0);
    mirror(&Source::Dir(from), &folder.path().join("other"), &|done, total| {
        assert!(done <= total);
        served.fetch_add(1, Ordering::Relaxed);
    })
    .unwrap();
    assert!(served.load(Ordering::Relaxed) > 5);
}

#[test]
fn an_interrupted_copy_goes_on_and_nothing_is_replaced_by_other_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("ledger"), folder.path().join("mirror"));
    let mut ledger = Growing::create(&from);
    ledger.to(300);
    fs::create_dir_all(from.join("releases/1")).unwrap();
    fs::write(from.join("releases/1/content.tar"), "tar").unwrap();
    // What a run left that died: temporary files, some tiles, no checkpoint.
    fs::create_dir_all(to.join("tile/0")).unwrap();
    fs::create_dir_all(to.join(TEMPORARY_FOLDER)).unwrap();
    fs::write(to.join(TEMPORARY_FOLDER).join("3"), "half").unwrap();
    fs::copy(from.join("tile/0/000"), to.join("tile/0/000")).unwrap();
    let mirrored = copy(&from, &to);
    assert!(mirrored.is_whole() && mirrored.present >= 1, "{mirrored:?}");
    assert_eq!(check(&to), 300);
    assert_eq!(fs::read(to.join("releases/1/content.tar")).unwrap(), b"tar");

    fs::write(from.join("releases/1/content.tar"), "another tar").unwrap();
    let mirrored = copy(&from, &to);
    assert_eq!(mirrored.differing, ["releases/1/content.tar"]);
    assert_eq!(fs::read(to.join("releases/1/content.tar")).unwrap(), b"tar");

    fs::remove_file(from.join("tile/entries/000")).unwrap();
    let fresh = folder.path().join("fresh");
    let mirrored = copy(&from, &fresh);
    assert_eq!(mirrored.missing, ["tile/entries/000"]);
}

#[test]
fn what_is_no_mirror_of_this_ledger_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("ledger"), folder.path().join("mirror"));
    let mut ledger = Growing::create(&from);
    ledger.to(10);
    let old = fs::read(from.join(CHECKPOINT_FILE)).unwrap();
    let refused = |from: &Path, to: &Path| mirror(&Source::Dir(from.to_owned()), to, &|_, _| {}).unwrap_err();
    assert!(matches!(refused(&to, &from), MirrorError::NoLedger { .. }));
    ledger.to(20);
    copy(&from, &to);
    assert!(matches!(refused(&to, &from), MirrorError::NotAMirror { found: "lock", .. }));
    drop(ledger);
    fs::write(from.join(CHECKPOINT_FILE), old).unwrap();
    let error = refused(&from, &to);
    assert!(matches!(error, MirrorError::RolledBack { held: TreeSize(20), found: TreeSize(10), .. }), "{error}");
    assert_eq!(check(&to), 20);
}

#[test]
fn sources_are_read() {
    assert_eq!("data/ledger".parse(), Ok(Source::Dir("data/ledger".into())));
    assert!(matches!("".parse::<Source>(), Err(SourceError::Scheme { .. })));
    assert!(matches!("ftp://host/x".parse::<Source>(), Err(SourceError::Scheme { .. })));
    #[cfg(feature = "witness-client")]
    assert_eq!("http://127.0.0.1:1/ledger/".parse(), Ok(Source::Http("http://127.0.0.1:1/ledger".into())));
    #[cfg(not(feature = "s3"))]
    assert!("s3://bucket/x".parse::<Source>().unwrap_err().to_string().contains("feature `s3`"));
}

/// A directory, served: one request a connection.
#[cfg(feature = "witness-client")]
fn serve(dir: PathBuf) -> String {
    use std::io::{BufRead as _, BufReader};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/ledger", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let path = lines.next().and_then(|line| Some(line.split(' ').nth(1)?.strip_prefix("/ledger/")?.to_owned()));
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let (status, body) = match path.and_then(|path| fs::read(dir.join(path)).ok()) {
                Some(body) => ("200 OK", body),
                None => ("404 Not Found", Vec::new()),
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    url
}

#[cfg(feature = "witness-client")]
#[test]
fn a_server_is_mirrored() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("ledger"), folder.path().join("mirror"));
    let mut ledger = Growing::create(&from);
    let source: Source = serve(from.clone()).parse().unwrap();
    for file in ["content.tar", "statement.sigstore.json", "record.json", "release.tlog-proof"] {
        fs::create_dir_all(from.join("releases/1")).unwrap();
        fs::write(from.join("releases/1").join(file), file).unwrap();
    }
    for size in [3, 260] {
        ledger.to(size);
        let mirrored = mirror(&source, &to, &|_, _| {}).unwrap();
        assert!(mirrored.is_whole(), "{mirrored:?}");
        assert_eq!(check(&to), size);
    }
    assert_eq!(fs::read(to.join("releases/1/content.tar")).unwrap(), b"content.tar");
}

/// A server cannot be asked which volumes there are.
#[cfg(feature = "witness-client")]
#[test]
fn a_server_whose_first_volumes_were_dropped_is_mirrored() {
    let folder = tempfile::tempdir().unwrap();
    let (first, from, to) = (folder.path().join("first"), folder.path().join("served"), folder.path().join("mirror"));
    let mut ledger = Growing::create(&first);
    ledger.to(300);
    ledger.ledger.close();
    fs::create_dir_all(from.join("volume")).unwrap();
    let source: Source = serve(from.clone()).parse().unwrap();
    assert!(matches!(mirror(&source, &to, &|_, _| {}), Err(MirrorError::NoLedger { .. })));
    // What a volume's number is stands in its records, which a mirror does not read.
    fs::rename(&first, from.join("volume/3")).unwrap();
    let mirrored = mirror(&source, &to, &|_, _| {}).unwrap();
    assert_eq!((mirrored.volumes.clone(), mirrored.is_whole()), (vec![(3, TreeSize(300))], true), "{mirrored:?}");
}
