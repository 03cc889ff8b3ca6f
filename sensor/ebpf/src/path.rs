//! Writing down where a file lies, by walking directory entries and mounts up to the root of the mount namespace.
//!
//! To the namespace's root, not to the process' (`chroot`): a process cannot give `/etc/shadow` another name by changing
//! its root. In a container both are the same. `bpf_d_path` would stop at the process' root and may not be called here.

use cairn_sensor_abi::{COMPONENT_LEN_MAX, PATH_DEPTH_MAX, PATH_LEN_MAX};

use crate::{
    offset,
    record::Record,
    task::{Place, read},
};

/// How a walk ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At the root: the path is whole.
    Root,
    /// At an entry without parent that is no mount's root: deleted directories, memory files, detached mounts.
    Unrooted,
    /// Too deep, too long, or unreadable: the first components are missing.
    Cut,
}

/// Adds the components of a path, last first, each with a NUL.
#[inline(always)]
pub fn push<T>(record: &mut Record<T>, place: Place) -> End {
    let start = record.mark();
    let mut dentry = place.dentry;
    let mut mount = place.mnt.wrapping_sub(offset!(mount_mnt) as u64);
    for _ in 0..PATH_DEPTH_MAX {
        let root: u64 = read(mount, offset!(mount_mnt) + offset!(vfsmount_root));
        if dentry == root {
            let parent: u64 = read(mount, offset!(mount_parent));
            if parent == mount || dentry == 0 {
                return if dentry == 0 { End::Cut } else { End::Root };
            }
            dentry = read(mount, offset!(mount_mountpoint));
            mount = parent;
            continue;
        }
        if record.mark() > start + PATH_LEN_MAX - COMPONENT_LEN_MAX
            || !record.push_component(read(dentry, offset!(dentry_name)))
        {
            return End::Cut;
        }
        let parent: u64 = read(dentry, offset!(dentry_parent));
        if parent == dentry {
            return End::Unrooted;
        }
        dentry = parent;
    }
    End::Cut
}

/// Adds the components of a cgroup's path, last first, each with a NUL. False if it is cut.
#[inline(always)]
pub fn push_cgroup<T>(record: &mut Record<T>, node: u64) -> bool {
    let start = record.mark();
    let mut node = node;
    for _ in 0..PATH_DEPTH_MAX {
        let parent: u64 = read(node, offset!(kernfs_parent));
        if parent == 0 {
            return true;
        }
        if record.mark() > start + PATH_LEN_MAX - COMPONENT_LEN_MAX
            || !record.push_component(read(node, offset!(kernfs_name)))
        {
            return false;
        }
        node = parent;
    }
    false
}
