//! The ledger's files, as C2SP tlog-tiles serves them, of every volume, and releases' files.
//!
//! A path is parsed into an id that cannot name anything else and written again from it: what a client sends never becomes part of
//! a file name. Tiles and release files never change, so caches may keep them for ever; checkpoints may be kept for seconds. A partial
//! tile that is gone because the full one is there is answered from that one, whose beginning it is. What a caller says that it has is
//! not sent again, and a part that it asks for is sent alone: [`serve`].

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use cairn_ledger::dir::COSIGNED_FILE;
use cairn_ledger::tile::{TileId, TileKind, decode_entries};
use cairn_ledger::volume;
use cairn_release::files::{CONTENT_FILE, PROOF_FILE, RECORD_FILE, STATEMENT_FILE};
use cairn_schemas::ids::{Serial, TreeSize};

mod serve;

use super::{Api, Refused};
use serve::{BYTES, Kept, Served, TEXT};

const JSON: &str = "application/json";
const TAR: &str = "application/x-tar";

/// The volume that lies at the ledger's root.
const FIRST: &str = "1";

pub(super) async fn checkpoint(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Refused> {
    newest(api, headers, FIRST, cairn_ledger::dir::CHECKPOINT_FILE).await
}

pub(super) async fn checkpoint_of(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Path(volume): Path<String>,
) -> Result<Response, Refused> {
    newest(api, headers, later(&volume)?, cairn_ledger::dir::CHECKPOINT_FILE).await
}

pub(super) async fn cosigned(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Refused> {
    newest(api, headers, FIRST, COSIGNED_FILE).await
}

pub(super) async fn cosigned_of(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Path(volume): Path<String>,
) -> Result<Response, Refused> {
    newest(api, headers, later(&volume)?, COSIGNED_FILE).await
}

pub(super) async fn numbered(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Path(size): Path<String>,
) -> Result<Response, Refused> {
    numbered_in(api, headers, FIRST, &size).await
}

pub(super) async fn numbered_of(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Path((volume, size)): Path<(String, String)>,
) -> Result<Response, Refused> {
    numbered_in(api, headers, later(&volume)?, &size).await
}

pub(super) async fn tile(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Path(path): Path<String>,
) -> Result<Response, Refused> {
    tile_in(api, headers, FIRST, &path).await
}

pub(super) async fn tile_of(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Path((volume, path)): Path<(String, String)>,
) -> Result<Response, Refused> {
    tile_in(api, headers, later(&volume)?, &path).await
}

pub(super) async fn release(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Path((serial, file)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let serial: Serial = serial
        .parse()
        .ok()
        .filter(|number: &Serial| number.to_string() == serial)
        .ok_or_else(|| missing(&format!("releases/{serial}")))?;
    let (name, content_type) = match file.as_str() {
        CONTENT_FILE => (CONTENT_FILE, TAR),
        STATEMENT_FILE => (STATEMENT_FILE, JSON),
        RECORD_FILE => (RECORD_FILE, JSON),
        PROOF_FILE => (PROOF_FILE, TEXT),
        _ => return Err(missing(&format!("releases/{serial}/{file}"))),
    };
    let shown = format!("releases/{serial}/{name}");
    // The proof comes last. Before it the serial may yet be given to other files, which a cache must not have kept.
    let proof = read(&api, &format!("releases/{serial}/{PROOF_FILE}")).await?.ok_or_else(|| missing(&shown))?;
    let bytes = if name == PROOF_FILE { Some(proof) } else { read(&api, &shown).await? };
    let bytes = bytes.ok_or_else(|| missing(&shown))?;
    Ok(Served { bytes, content_type, kept: Kept::ForEver }.answer(&headers).await)
}

/// A volume after the first, in its one spelling.
fn later(volume: &str) -> Result<&str, Refused> {
    let number = volume::parse_number(volume).filter(|number| *number >= 2);
    number.map(|_| volume).ok_or_else(|| missing(&format!("volume/{volume}")))
}

/// A file of a volume: its path below the ledger's root.
fn place(volume: &str, file: &str) -> String {
    volume::path(volume::parse_number(volume).unwrap_or(1), file)
}

/// The newest checkpoint, or the newest that its witnesses cosigned.
async fn newest(api: Arc<Api>, headers: HeaderMap, volume: &str, file: &'static str) -> Result<Response, Refused> {
    let shown = place(volume, file);
    let bytes = read(&api, &shown).await?.ok_or_else(|| missing(&shown))?;
    Ok(Served { bytes, content_type: TEXT, kept: Kept::Seconds }.answer(&headers).await)
}

async fn numbered_in(api: Arc<Api>, headers: HeaderMap, volume: &str, size: &str) -> Result<Response, Refused> {
    let number: u64 =
        size.parse().ok().filter(|number: &u64| number.to_string() == size).ok_or_else(|| missing(size))?;
    let shown = place(volume, &cairn_ledger::dir::numbered_path(TreeSize(number)));
    let bytes = read(&api, &shown).await?.ok_or_else(|| missing(&shown))?;
    Ok(Served { bytes, content_type: TEXT, kept: Kept::ForEver }.answer(&headers).await)
}

async fn tile_in(api: Arc<Api>, headers: HeaderMap, volume: &str, path: &str) -> Result<Response, Refused> {
    let tile: TileId = format!("tile/{path}").parse().map_err(|_| missing(path))?;
    let shown = place(volume, &tile.to_string());
    let bytes = match read(&api, &shown).await? {
        Some(bytes) => bytes,
        None if tile.is_partial() => {
            let full = tile.to_full();
            let file = place(volume, &full.to_string());
            let bytes = read(&api, &file).await?;
            bytes.and_then(|bytes| beginning(tile, full, bytes)).ok_or_else(|| missing(&shown))?
        }
        None => return Err(missing(&shown)),
    };
    Ok(Served { bytes, content_type: BYTES, kept: Kept::ForEver }.answer(&headers).await)
}

/// What a partial tile held, from the full one: its first hashes, or its first records.
fn beginning(tile: TileId, full: TileId, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let width = usize::from(tile.width());
    let len = match tile.kind() {
        TileKind::Hashes(_) => width * cairn_ledger::tile::HASH_LEN,
        TileKind::Entries => decode_entries(full, &bytes).ok()?.iter().take(width).map(|record| 2 + record.len()).sum(),
    };
    if bytes.len() < len {
        return None;
    }
    bytes.truncate(len);
    Some(bytes)
}

/// A file of the ledger, wherever that lies; `None`: it is not there.
async fn read(api: &Api, path: &str) -> Result<Option<Vec<u8>>, Refused> {
    let (ledger, file) = (api.ledger.clone(), path.to_owned());
    let answer = tokio::task::spawn_blocking(move || ledger.read_file(&file)).await;
    match answer.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked))) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => {
            tracing::error!(path, %error, "a file of the ledger cannot be read");
            Err(Refused::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{path} cannot be read"), None))
        }
    }
}

fn missing(path: &str) -> Refused {
    let path: String = path.chars().take(120).collect();
    Refused::new(StatusCode::NOT_FOUND, format!("the ledger has no {}", path.escape_debug()), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_tile_is_the_beginning_of_the_full_one() {
        let full = TileId::full(TileKind::Hashes(0), 0);
        let tile = TileId::in_tree(TileKind::Hashes(0), 0, TreeSize(3)).unwrap();
        let bytes: Vec<u8> = (0..=255).flat_map(|hash| [hash; 32]).collect();
        assert_eq!(beginning(tile, full, bytes.clone()).unwrap(), bytes[..96]);
        assert_eq!(beginning(tile, full, bytes[..95].to_vec()), None);
        let full = TileId::full(TileKind::Entries, 0);
        let tile = TileId::in_tree(TileKind::Entries, 0, TreeSize(2)).unwrap();
        let mut bundle = Vec::new();
        (0..256_usize).for_each(|len| cairn_ledger::tile::encode_entry(&mut bundle, &vec![b'x'; len]));
        assert_eq!(beginning(tile, full, bundle.clone()).unwrap(), bundle[..5]);
        assert_eq!(beginning(tile, full, bundle[..5].to_vec()), None);
    }

    #[test]
    fn the_first_volume_has_one_path() {
        assert_eq!(later("2").unwrap(), "2");
        for bad in ["1", "0", "02", "+2", "", "x", "2/..", "18446744073709551616"] {
            assert!(later(bad).is_err(), "{bad}");
        }
        assert_eq!(
            (place("1", "checkpoint"), place("3", "checkpoint")),
            ("checkpoint".into(), "volume/3/checkpoint".into())
        );
    }
}
