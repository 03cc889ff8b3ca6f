use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Once;

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::error::RepoError;

/// The user and group to whom a repo belongs, where that is not this process itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Owner {
    /// The owner of a file or folder, if this process is root and the owner is not: then, and only then, it can and should
    /// act as that owner.
    pub(super) fn of(path: &Path) -> Option<Owner> {
        let metadata = std::fs::metadata(path).ok()?;
        let owner = Owner { uid: metadata.uid(), gid: metadata.gid() };
        (geteuid().is_root() && owner.uid != 0).then_some(owner)
    }

    /// Who called `sudo`, from the values of `SUDO_UID` and `SUDO_GID`. `None` where either is absent or not a number, or
    /// where it was root.
    #[must_use]
    pub fn from_sudo(uid: Option<&str>, gid: Option<&str>) -> Option<Owner> {
        let owner = Owner { uid: uid?.parse().ok()?, gid: gid?.parse().ok()? };
        (owner.uid != 0).then_some(owner)
    }
}

/// Runs `work` as `owner`: on a thread of its own, whose user, group and groups are the owner's and which ends after the
/// work. Linux keeps these per thread, and libgit2 and the file system ask the thread's. `None` runs it here.
pub(super) fn run_as<T: Send>(
    owner: Option<Owner>,
    work: impl FnOnce() -> Result<T, RepoError> + Send,
) -> Result<T, RepoError> {
    let Some(owner) = owner else { return work() };
    let become_owner = || -> rustix::io::Result<()> {
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        // Groups first: after the user is changed, nothing else may be.
        set_thread_groups(&[])?;
        set_thread_res_gid(Some(gid), Some(gid), Some(gid))?;
        set_thread_res_uid(Some(uid), Some(uid), Some(uid))
    };
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            become_owner().map_err(|error| RepoError::Owner { uid: owner.uid, reason: error.to_string() })?;
            work()
        });
        match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Starts libgit2, once per process, so that it looks for no configuration in root's home.
///
/// It settles at its start in whose home the user's configuration is, and later fails where that cannot even be looked at:
/// which a thread that runs as somebody else cannot, in root's. For a set-user-id program it takes the effective user's
/// home; so a root process starts it as `nobody`, who has none.
pub(super) fn start_libgit2() {
    static STARTED: Once = Once::new();
    const NOBODY: u32 = 65_534;
    STARTED.call_once(|| {
        let start = || drop(git2::Config::new());
        if !geteuid().is_root() {
            return start();
        }
        let started = std::thread::spawn(move || {
            // Should this fail, as in a container without the right to change users, then acting as an owner fails too.
            let _ = set_thread_res_uid(None, Some(Uid::from_raw(NOBODY)), None);
            start();
        });
        started.join().expect("invariant: starting libgit2 does not panic");
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_names_a_user_or_nobody() {
        assert_eq!(Owner::from_sudo(Some("1000"), Some("1001")), Some(Owner { uid: 1000, gid: 1001 }));
        for (uid, gid) in [(None, None), (Some("1000"), None), (Some("x"), Some("1")), (Some("0"), Some("0"))] {
            assert_eq!(Owner::from_sudo(uid, gid), None);
        }
    }

    #[test]
    fn work_runs_as_the_owner_and_this_thread_stays_what_it_is() {
        let before = geteuid();
        assert_eq!(run_as(None, || Ok(geteuid())).unwrap(), before);
        let owner = Owner { uid: 1234, gid: 1235 };
        let result = run_as(Some(owner), || Ok((geteuid().as_raw(), rustix::process::getegid().as_raw())));
        if before.is_root() {
            assert_eq!(result.unwrap(), (1234, 1235));
        } else {
            assert!(matches!(result, Err(RepoError::Owner { uid: 1234, .. })));
        }
        assert_eq!(geteuid(), before);
    }
}
