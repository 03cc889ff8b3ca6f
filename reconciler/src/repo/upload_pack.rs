use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::git::ConnectMode;
use gix::protocol::transport::client::git::blocking_io::Connection;

use super::error::RepoError;
use super::owner::Owner;
use super::source::one_line;

/// How much of what `git` complains is kept, in bytes.
const COMPLAINT_LEN_MAX: u64 = 4 * 1024;

/// A running `git upload-pack`, which serves a local repo's objects over its standard input and output.
///
/// gix could start it too, but with this process's environment and as this process's user: we start it with nothing of the
/// environment but `PATH`, no configuration of the system or of a user, and as the repo's owner where we are root.
pub(super) struct UploadPack {
    child: Child,
    complaint: Option<JoinHandle<Vec<u8>>>,
}

/// The wire to it, for gix.
pub(super) type Wire = Connection<ChildStdout, ChildStdin>;

impl UploadPack {
    pub(super) fn start(git_folder: &Path, owner: Option<Owner>) -> Result<(UploadPack, Wire), RepoError> {
        UploadPack::start_program("git", git_folder, owner)
    }

    fn start_program(program: &str, git_folder: &Path, owner: Option<Owner>) -> Result<(UploadPack, Wire), RepoError> {
        let failed = |error: &std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => RepoError::NoGit,
            _ => RepoError::Fetch { path: git_folder.to_owned(), reason: one_line(error) },
        };
        // The child's working folder is `/`, since ours may be closed to the owner: so the path must not be relative.
        let folder = std::path::absolute(git_folder).map_err(|error| failed(&error))?;
        let mut command = scrubbed_git(program);
        command.args(["upload-pack", "--strict"]).arg(&folder).current_dir("/").env("GIT_PROTOCOL", "version=2");
        if let Some(owner) = owner {
            command.uid(owner.uid).gid(owner.gid);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let input = child.stdin.take().expect("invariant: piped above");
        let output = child.stdout.take().expect("invariant: piped above");
        let mut errors = child.stderr.take().expect("invariant: piped above");
        let complaint = std::thread::spawn(move || {
            let mut kept = Vec::new();
            let _ = errors.by_ref().take(COMPLAINT_LEN_MAX).read_to_end(&mut kept);
            // The rest is read and dropped, so that `git` never waits for a full pipe.
            let _ = std::io::copy(&mut errors, &mut std::io::sink());
            kept
        });
        let path = folder.as_os_str().as_encoded_bytes().to_vec();
        let host: Option<(String, Option<u16>)> = None;
        let wire = Connection::new(output, input, Protocol::V2, path, host, ConnectMode::Process, false);
        Ok((UploadPack { child, complaint: Some(complaint) }, wire))
    }

    /// What `git` complained of, if anything. Call when the wire is closed.
    pub(super) fn complaint(mut self) -> String {
        let _ = self.child.kill();
        let kept = self.complaint.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        one_line(&String::from_utf8_lossy(&kept))
    }
}

impl Drop for UploadPack {
    fn drop(&mut self) {
        // Already gone, if all went well. Waiting leaves no zombie behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The `git` program with nothing of this process's environment but `PATH`, and no configuration but the repo's own.
pub(super) fn scrubbed_git(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).envs([
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("HOME", "/nonexistent"),
        ("LC_ALL", "C"),
        // The operator named this repo as the policy's source, which is the consent that Git asks for where the repo is
        // somebody else's; upload-pack is made to serve such repos, and obeys no program named in them.
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "safe.directory"),
        ("GIT_CONFIG_VALUE_0", "*"),
    ]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_git_is_told_so() {
        let error = UploadPack::start_program("no-such-git", Path::new("/"), None).err().unwrap();
        assert!(matches!(error, RepoError::NoGit));
        assert_eq!(error.to_string(), "the program `git` was not found: install git, or add it to PATH");
    }
}
