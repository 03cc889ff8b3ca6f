//! The ledger's files, as C2SP tlog-tiles serves them, and releases' files.
//!
//! A path is parsed into an id that cannot name anything else and written again from it: what a client sends never becomes part of
//! a file name. Tiles and release files never change, so caches may keep them for ever; the checkpoint changes all the time.

use std::path::Path as FilePath;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cairn_ledger::tile::TileId;
use cairn_release::files::{CONTENT_FILE, PROOF_FILE, RECORD_FILE, STATEMENT_FILE};
use cairn_schemas::ids::{Serial, TreeSize};

use super::{Api, Refused};

const FOR_EVER: &str = "public, max-age=31536000, immutable";
const NOT_AT_ALL: &str = "no-store";
const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

pub(super) async fn checkpoint(State(api): State<Arc<Api>>) -> Response {
    answer(api.ledger.checkpoint().bytes.clone(), TEXT, NOT_AT_ALL)
}

pub(super) async fn numbered(State(api): State<Arc<Api>>, Path(size): Path<String>) -> Result<Response, Refused> {
    let number: u64 =
        size.parse().ok().filter(|number: &u64| number.to_string() == size).ok_or_else(|| missing(&size))?;
    let path = cairn_ledger::dir::numbered_path(TreeSize(number));
    serve(&api.ledger_folder.join(&path), &path, TEXT).await
}

pub(super) async fn tile(State(api): State<Arc<Api>>, Path(path): Path<String>) -> Result<Response, Refused> {
    let tile: TileId = format!("tile/{path}").parse().map_err(|_| missing(&path))?;
    let path = tile.to_string();
    serve(&api.ledger_folder.join(&path), &path, BYTES).await
}

pub(super) async fn release(
    State(api): State<Arc<Api>>,
    Path((serial, file)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let serial: Serial = serial
        .parse()
        .ok()
        .filter(|number: &Serial| number.to_string() == serial)
        .ok_or_else(|| missing(&format!("releases/{serial}")))?;
    let (name, content_type) = match file.as_str() {
        CONTENT_FILE => (CONTENT_FILE, "application/x-tar"),
        STATEMENT_FILE => (STATEMENT_FILE, "application/json"),
        RECORD_FILE => (RECORD_FILE, "application/json"),
        PROOF_FILE => (PROOF_FILE, TEXT),
        _ => return Err(missing(&format!("releases/{serial}/{file}"))),
    };
    let folder = api.ledger_folder.join("releases").join(serial.to_string());
    let shown = format!("releases/{serial}/{name}");
    // The proof comes last. Before it the serial may yet be given to other files, which a cache must not have kept.
    if !tokio::fs::try_exists(folder.join(PROOF_FILE)).await.unwrap_or(false) {
        return Err(missing(&shown));
    }
    serve(&folder.join(name), &shown, content_type).await
}

async fn serve(path: &FilePath, shown: &str, content_type: &'static str) -> Result<Response, Refused> {
    match tokio::fs::read(path).await {
        Ok(bytes) => Ok(answer(bytes, content_type, FOR_EVER)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing(shown)),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "a file of the ledger cannot be read");
            Err(Refused::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{shown} cannot be read"), None))
        }
    }
}

fn answer(bytes: Vec<u8>, content_type: &'static str, cache: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, cache),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, bytes).into_response()
}

fn missing(path: &str) -> Refused {
    let path: String = path.chars().take(120).collect();
    Refused::new(StatusCode::NOT_FOUND, format!("the ledger has no {}", path.escape_debug()), None)
}
