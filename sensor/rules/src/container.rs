//! Which container a cgroup path belongs to, and what is known of a container.

mod falco;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::text::Text;

pub(crate) use falco::of_falco;

/// What a container runtime says of a container. A text that is empty is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Container {
    /// All of its id.
    pub full_id: String,
    /// Its name.
    pub name: String,
    /// The runtime, as Falco calls it: `docker`, `containerd`, `cri-o`, `podman`.
    pub runtime: String,
    /// The image's name as it was asked for, with its tag.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// The image's digest.
    pub image_digest: String,
    /// The image's name without its tag.
    pub image_repository: String,
    /// The image's tag.
    pub image_tag: String,
    /// Does it have all rights? `None` when not known, here and below.
    pub is_privileged: Option<bool>,
    /// Does it see the host's processes?
    pub has_host_pid: Option<bool>,
    /// Does it use the host's network?
    pub has_host_network: Option<bool>,
    /// Does it use the host's IPC namespace?
    pub has_host_ipc: Option<bool>,
    /// Its first address.
    pub ip: String,
    /// When it began, in nanoseconds since the epoch.
    pub started_at_ns: Option<u64>,
    /// Its mounts.
    pub mounts: Option<Vec<Mount>>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The name of the pod it is in.
    pub pod_name: String,
    /// The pod's id.
    pub pod_uid: String,
    /// The pod's namespace.
    pub pod_namespace: String,
    /// The pod's address.
    pub pod_ip: String,
    /// The pod's sandbox, its first 12 digits.
    pub pod_sandbox_id: String,
    /// The pod's labels.
    pub pod_labels: BTreeMap<String, String>,
}

/// A folder or file of the host in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mount {
    /// Where it is on the host.
    pub source: String,
    /// Where it is in the container.
    pub destination: String,
    /// Its mode, as the runtime says it.
    pub mode: String,
    /// May it be written?
    pub is_writable: bool,
    /// How it propagates: `private`, `rslave`.
    pub propagation: String,
}

/// Characters of a container id that rules and people see, as Docker and Falco shorten it.
pub const CONTAINER_ID_LEN: usize = 12;

/// The length of the ids container runtimes give: 32 random bytes in hexadecimal.
const RUNTIME_ID_LEN: usize = 64;

/// The container id in a cgroup path, shortened to [`CONTAINER_ID_LEN`]; `None` for the host's own cgroups.
///
/// Runtimes put their 64-digit id into a component of the path: `/docker/<id>`, `docker-<id>.scope`,
/// `cri-containerd-<id>.scope`, `crio-<id>.scope`, `libpod-<id>.scope`, `/kubepods/…/<id>`. The innermost one counts, so a
/// container inside a container is named by its own id. `crio-conmon-<id>` and `libpod-conmon-<id>` are the runtime's
/// monitor on the host, not the container. A path that ends in a short name given by hand (`ctr run … NAME`) is recognised
/// under `/default/` and other containerd namespaces only by [`id_of_containerd_cgroup`].
pub fn id_of_cgroup(cgroup: &[u8]) -> Option<Text> {
    cgroup.split(|byte| *byte == b'/').rev().find_map(id_of_component)
}

/// As [`id_of_cgroup`], and also `/<namespace>/<name>`, what `ctr run` makes with cgroupfs, for a namespace the caller
/// knows to be containerd's. The name may be anything, so it is kept whole.
pub fn id_of_containerd_cgroup(cgroup: &[u8], namespaces: &[&str]) -> Option<Text> {
    if let Some(id) = id_of_cgroup(cgroup) {
        return Some(id);
    }
    let mut components = cgroup.split(|byte| *byte == b'/').filter(|component| !component.is_empty());
    let (namespace, name) = (components.next()?, components.next()?);
    namespaces.iter().any(|known| known.as_bytes() == namespace).then(|| Text::from(name))
}

fn id_of_component(component: &[u8]) -> Option<Text> {
    let component = component.strip_suffix(b".scope").unwrap_or(component);
    let start = component.len().checked_sub(RUNTIME_ID_LEN)?;
    let (prefix, id) = component.split_at(start);
    let is_id = id.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    let is_monitor = prefix.ends_with(b"conmon-");
    let is_bounded = prefix.is_empty() || matches!(prefix.last(), Some(b'-' | b':'));
    (is_id && is_bounded && !is_monitor).then(|| Text::from(&id[..CONTAINER_ID_LEN]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4a9c0b7d21e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e";

    #[test]
    fn known_layouts() {
        for layout in [
            "/docker/ID",
            "/system.slice/docker-ID.scope",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12.slice/cri-containerd-ID.scope",
            "/kubepods/besteffort/pod0a1b/ID",
            "/machine.slice/libpod-ID.scope/container",
            "/k8s.io/ID",
            "/system.slice/containerd.service/kubepods-burstable-pod1:cri-containerd:ID",
        ] {
            let path = layout.replace("ID", ID);
            assert_eq!(id_of_cgroup(path.as_bytes()), Some(Text::from("3f4a9c0b7d21")), "{path}");
        }
    }

    #[test]
    fn the_host_is_no_container() {
        let monitor = format!("/machine.slice/libpod-conmon-{ID}.scope");
        let longer = format!("/x/0{ID}");
        for path in
            ["", "/", "/system.slice/ssh.service", "/user.slice/user-0.slice/session-1.scope", &monitor, &longer]
        {
            assert_eq!(id_of_cgroup(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn names_given_by_hand_to_containerd() {
        assert_eq!(id_of_containerd_cgroup(b"/default/web", &["default"]), Some(Text::from("web")));
        assert_eq!(id_of_containerd_cgroup(b"/user.slice/web", &["default"]), None);
    }
}
