//! Release files in a bucket.
//!
//! A release's archive and statement must be there before the record that names them, and until that record is durable another commit
//! may take their place. So they are *staged*: written without a lock. Once the record is durable they are *settled*: what stands there is
//! held to the bytes that the record names, and locked as everything that never changes. A crash between the two leaves files that the
//! next build of the same serial takes up or replaces.
//!
//! These files are the ledger's and not a volume's, and need no session: what is settled follows from a durable record, and a writer that
//! was replaced gets no record in. Should it remove what its successor staged, the successor's settling puts it back. No line of
//! `versions/` names them: their digests stand in `release.built`.

use std::io;

use super::bucket::{Bucket, of_objects, of_session, wait};
use super::client::Client;
use super::objects::{ObjectStore as _, Removal};
use super::session::put_object;
use crate::store::{ReleaseFiles, StoreError};

impl ReleaseFiles for Bucket {
    fn stage(&self, path: &str, bytes: Vec<u8>) -> io::Result<()> {
        let (client, key) = (self.client().clone(), path.to_owned());
        wait(async move {
            loop {
                match put_object(&client, &key, &bytes, false).await.map_err(of_session)? {
                    (_, None) => return Ok(()),
                    // What an earlier attempt left; it has no record.
                    (_, Some(_)) => {
                        client.delete(&[Removal { key: key.clone(), version: None }]).await.map_err(of_objects)?;
                    }
                }
            }
        })
    }

    fn settle(&self, path: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let (client, key) = (self.client().clone(), path.to_owned());
        wait(async move {
            let before = client.get(&key).await.map_err(of_objects)?;
            if before.is_none() {
                return match put_object(&client, &key, &bytes, true).await.map_err(of_session)? {
                    (_, None) => Ok(()),
                    (_, Some(_)) => Err(StoreError::Conflict { path: key }),
                };
            }
            let (version, other) = put_object(&client, &key, &bytes, false).await.map_err(of_session)?;
            if other.is_some() {
                return Err(StoreError::Conflict { path: key });
            }
            lock(&client, &key, version.as_deref()).await
        })
    }

    fn unstage(&self, path: &str) -> io::Result<()> {
        let (client, key) = (self.client().clone(), path.to_owned());
        wait(async move { client.delete(&[Removal { key, version: None }]).await }).map_err(of_objects)
    }

    fn below(&self, folder: &str) -> io::Result<Vec<String>> {
        let (client, prefix) = (self.client().clone(), format!("{folder}/"));
        wait(async move { client.list(&prefix).await }).map_err(of_objects)
    }
}

/// Locks what is there, where the ledger's address asks for it and an earlier attempt did not: a lock that would end earlier, because
/// the clock or the address changed, is refused by every server.
async fn lock(client: &Client, key: &str, version: Option<&str>) -> Result<(), StoreError> {
    if !client.locks() {
        return Ok(());
    }
    let failed = |error| StoreError::Io(of_objects(error));
    if client.retention(key, version.unwrap_or("null")).await.map_err(failed)?.is_some() {
        return Ok(());
    }
    client.lock(key, version).await.map_err(failed)
}
