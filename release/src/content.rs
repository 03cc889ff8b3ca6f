//! `content.tar`: the policy files of one commit, in one possible encoding.
//!
//! A `ustar` archive of regular files only: sorted by path, mode 0644 or 0755, owner 0, time 0, no names, two zero blocks at
//! the end. The same files always give the same bytes, so a digest names a content. [`unpack`] accepts exactly what [`pack`]
//! writes and nothing else: a link, a device, an extended header, a byte after the end has no way in.
//!
//! What it is not: a check that the files are policy, or a commit's. `gitobj::bind` does that.

use std::collections::BTreeMap;

use cairn_schemas::paths::{self, PathError};
use thiserror::Error;

/// The largest `content.tar`, in bytes (ARCHITECTURE.md, limits).
pub const CONTENT_LEN_MAX: usize = 16 * 1024 * 1024;

const BLOCK_LEN: usize = 512;
const END_LEN: usize = 2 * BLOCK_LEN;

/// One file of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Mode 0755 if true, else 0644: the two that Git keeps.
    pub executable: bool,
    /// The file's bytes.
    pub bytes: Vec<u8>,
}

impl FileEntry {
    /// A file that is not executable.
    pub fn plain(bytes: impl Into<Vec<u8>>) -> Self {
        Self { executable: false, bytes: bytes.into() }
    }
}

/// A release's files by their path in the policy repo.
pub type Content = BTreeMap<String, FileEntry>;

/// Why bytes are not a content, or a content has no encoding. `entry` is the path as the archive gives it, escaped.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ContentError {
    /// More than [`CONTENT_LEN_MAX`].
    #[error("content is {len} bytes, more than the {CONTENT_LEN_MAX} a release may have")]
    TooLarge {
        /// Length of the archive in bytes.
        len: usize,
    },
    /// A path no release may hold.
    #[error("entry {entry}: {source}")]
    Path {
        /// The path, escaped.
        entry: String,
        /// What is wrong with it.
        source: PathError,
    },
    /// A path that is not UTF-8.
    #[error("entry {entry}: the path is not UTF-8")]
    PathNotUtf8 {
        /// The path with `\xNN` for its bytes.
        entry: String,
    },
    /// Not a regular file: a link, folder, device or extended header.
    #[error("entry {entry}: type `{kind}` is not a regular file")]
    NotAFile {
        /// The path, escaped.
        entry: String,
        /// The type flag, escaped.
        kind: String,
    },
    /// Not after the entry before it: unsorted or a duplicate.
    #[error("entry {entry} does not sort after `{previous}`")]
    Order {
        /// The path.
        entry: String,
        /// The entry before it.
        previous: String,
    },
    /// A header field has another value or another spelling than the one this format has.
    #[error("entry {entry}: header byte {offset} is not what this format writes")]
    Header {
        /// The path, escaped.
        entry: String,
        /// First differing byte in the 512-byte header.
        offset: usize,
    },
    /// The archive ends inside an entry.
    #[error("entry {entry}: the archive ends inside it")]
    Truncated {
        /// The path, escaped.
        entry: String,
    },
    /// Padding after a file's bytes is not zero.
    #[error("entry {entry}: its padding is not zero")]
    Padding {
        /// The path.
        entry: String,
    },
    /// After the last entry there is something else than exactly two zero blocks.
    #[error("after the last entry there are {len} bytes, not the {END_LEN} zero bytes of the end mark")]
    End {
        /// Bytes from the end of the last entry.
        len: usize,
    },
}

/// Writes the archive. Fails on a path that no release may hold and past [`CONTENT_LEN_MAX`].
pub fn pack(content: &Content) -> Result<Vec<u8>, ContentError> {
    let mut archive_len = END_LEN;
    for (path, file) in content {
        paths::validate(path)
            .map_err(|source| ContentError::Path { entry: path.escape_debug().to_string(), source })?;
        archive_len = archive_len.saturating_add(BLOCK_LEN).saturating_add(padded_len(file.bytes.len()));
    }
    if archive_len > CONTENT_LEN_MAX {
        return Err(ContentError::TooLarge { len: archive_len });
    }
    let mut archive = Vec::with_capacity(archive_len);
    for (path, file) in content {
        archive.extend_from_slice(&header(path, file.executable, file.bytes.len()));
        archive.extend_from_slice(&file.bytes);
        archive.resize(archive.len().next_multiple_of(BLOCK_LEN), 0);
    }
    archive.resize(archive.len() + END_LEN, 0);
    Ok(archive)
}

/// Reads an archive that [`pack`] wrote; refuses every other.
pub fn unpack(archive: &[u8]) -> Result<Content, ContentError> {
    if archive.len() > CONTENT_LEN_MAX {
        return Err(ContentError::TooLarge { len: archive.len() });
    }
    let mut content = Content::new();
    let mut previous: Option<String> = None;
    let mut rest = archive;
    while let Some((block, after)) = rest.split_first_chunk::<BLOCK_LEN>() {
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        let (path, entry) = entry_path(block)?;
        let kind = block[TYPE_AT];
        if kind != b'0' {
            return Err(ContentError::NotAFile { entry, kind: kind.escape_ascii().to_string() });
        }
        paths::validate(&path).map_err(|source| ContentError::Path { entry: entry.clone(), source })?;
        if let Some(previous) = &previous
            && *previous >= path
        {
            return Err(ContentError::Order { entry, previous: previous.clone() });
        }
        let executable = block[MODE_AT..MODE_AT + 7] == *b"0000755";
        let size = octal(&block[SIZE_AT..SIZE_AT + 11])
            .ok_or(ContentError::Header { entry: entry.clone(), offset: SIZE_AT })?;
        // The header is wholly determined by path, mode and size: comparing it leaves no field unchecked.
        let expected = header(&path, executable, size);
        if let Some(offset) = (0..BLOCK_LEN).find(|at| block[*at] != expected[*at]) {
            return Err(ContentError::Header { entry, offset });
        }
        if after.len() < padded_len(size) {
            return Err(ContentError::Truncated { entry });
        }
        let (body, next) = after.split_at(padded_len(size));
        let (bytes, padding) = body.split_at(size);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(ContentError::Padding { entry });
        }
        content.insert(path.clone(), FileEntry { executable, bytes: bytes.to_vec() });
        previous = Some(path);
        rest = next;
    }
    if rest.len() != END_LEN || rest.iter().any(|byte| *byte != 0) {
        return Err(ContentError::End { len: rest.len() });
    }
    Ok(content)
}

// Offsets of a POSIX.1-1988 `ustar` header.
const NAME_AT: usize = 0;
const MODE_AT: usize = 100;
const UID_AT: usize = 108;
const GID_AT: usize = 116;
const SIZE_AT: usize = 124;
const MTIME_AT: usize = 136;
const CHECKSUM_AT: usize = 148;
const TYPE_AT: usize = 156;
const MAGIC_AT: usize = 257;
const PREFIX_AT: usize = 345;
const PREFIX_LEN: usize = 155;

/// The one header of a file. `path` has passed `paths::validate`, so it splits; `size` is at most 16 MiB, so it fits.
fn header(path: &str, executable: bool, size: usize) -> [u8; BLOCK_LEN] {
    let (prefix, name) = paths::ustar_split(path).expect("invariant: a validated path splits");
    let mut block = [0u8; BLOCK_LEN];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(NAME_AT, name.as_bytes());
    put(MODE_AT, if executable { b"0000755\0" } else { b"0000644\0" });
    put(UID_AT, b"0000000\0");
    put(GID_AT, b"0000000\0");
    put(SIZE_AT, format!("{size:011o}\0").as_bytes());
    put(MTIME_AT, b"00000000000\0");
    put(CHECKSUM_AT, b"        ");
    put(TYPE_AT, b"0");
    put(MAGIC_AT, b"ustar\x0000");
    put(PREFIX_AT, prefix.as_bytes());
    let checksum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[CHECKSUM_AT..CHECKSUM_AT + 8].copy_from_slice(format!("{checksum:06o}\0 ").as_bytes());
    block
}

/// The path a header gives, and its escaped form for messages.
fn entry_path(block: &[u8; BLOCK_LEN]) -> Result<(String, String), ContentError> {
    let field = |at: usize, len: usize| {
        let field = &block[at..at + len];
        &field[..field.iter().position(|byte| *byte == 0).unwrap_or(len)]
    };
    let mut path = field(PREFIX_AT, PREFIX_LEN).to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(field(NAME_AT, paths::NAME_LEN_MAX));
    let entry = format!("`{}`", path.escape_ascii());
    match String::from_utf8(path) {
        Ok(path) => Ok((path, entry)),
        Err(_) => Err(ContentError::PathNotUtf8 { entry }),
    }
}

fn octal(digits: &[u8]) -> Option<usize> {
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    // Eleven octal digits are 8 GiB: more than any archive accepted here, so nothing downstream overflows.
    usize::from_str_radix(digits, 8).ok()
}

fn padded_len(len: usize) -> usize {
    len.next_multiple_of(BLOCK_LEN)
}

#[cfg(test)]
mod tests;
