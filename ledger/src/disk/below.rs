//! A folder of a disk as a disk of its own: a volume lies in one as the first volume lies at the root.

use std::io;
use std::sync::Arc;

use super::{Disk, DiskFile, LockGuard, SyncSite};

/// Everything below one folder, which exists and is durable in its parent.
pub(crate) struct Below {
    disk: Arc<dyn Disk>,
    folder: String,
}

impl Below {
    /// `folder` without a `/` at the end.
    pub(crate) fn new(disk: Arc<dyn Disk>, folder: String) -> Below {
        Below { disk, folder }
    }

    fn path(&self, path: &str) -> String {
        if path.is_empty() { self.folder.clone() } else { format!("{}/{path}", self.folder) }
    }
}

impl Disk for Below {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.disk.read(&self.path(path))
    }

    fn read_beginning(&self, path: &str, len: usize) -> io::Result<Vec<u8>> {
        self.disk.read_beginning(&self.path(path), len)
    }

    fn len(&self, path: &str) -> io::Result<u64> {
        self.disk.len(&self.path(path))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list(&self.path(folder))
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create(&self.path(path))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(&self.path(path))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(&self.path(from), &self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(&self.path(path))
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        self.disk.remove_folder(&self.path(folder))
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        self.disk.create_folder(&self.path(folder))
    }

    fn sync_folder_at(&self, folder: &str, site: SyncSite) -> io::Result<()> {
        self.disk.sync_folder_at(&self.path(folder), site)
    }

    fn syncs_at_once(&self) -> usize {
        self.disk.syncs_at_once()
    }

    fn lock(&self, path: &str) -> io::Result<LockGuard> {
        self.disk.lock(&self.path(path))
    }
}
