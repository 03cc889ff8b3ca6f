//! A container as Falco tells of it in its captures, in JSON.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{CONTAINER_ID_LEN, Container, Mount};
use crate::event::Text;

/// Falco's numbers for what runs a container.
const RUNTIMES: [(u32, &str); 12] = [
    (0, "docker"),
    (1, "lxc"),
    (2, "libvirt-lxc"),
    (3, "mesos"),
    (4, "rkt"),
    (5, "custom"),
    (6, "cri"),
    (7, "containerd"),
    (8, "cri-o"),
    (9, "bpm"),
    (10, "static"),
    (11, "podman"),
];
const SECOND_NS: u64 = 1_000_000_000;

/// What stands in the JSON and is used; much more stands there.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct About {
    id: String,
    full_id: String,
    name: String,
    #[serde(rename = "type")]
    runtime: u32,
    image: String,
    imageid: String,
    imagedigest: String,
    imagerepo: String,
    imagetag: String,
    privileged: Option<bool>,
    host_pid: Option<bool>,
    host_network: Option<bool>,
    host_ipc: Option<bool>,
    ip: String,
    created_time: Option<u64>,
    #[serde(rename = "Mounts")]
    mounts: Option<Vec<AboutMount>>,
    labels: BTreeMap<String, String>,
    pod_sandbox_id: String,
    pod_sandbox_labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AboutMount {
    source: String,
    destination: String,
    mode: String,
    #[serde(rename = "RW")]
    is_writable: bool,
    propagation: String,
}

#[derive(Deserialize)]
struct Wrapped {
    container: About,
}

/// The container's id as processes carry it, and what is known of it; `None` when the JSON is none of Falco's.
pub(crate) fn of_falco(json: &[u8]) -> Option<(Text, Container)> {
    let json = json.strip_suffix(&[0]).unwrap_or(json);
    // The first versions put it there without a wrapping.
    let about = match serde_json::from_slice::<Wrapped>(json) {
        Ok(wrapped) => wrapped.container,
        Err(_) => serde_json::from_slice::<About>(json).ok()?,
    };
    let id = about.id.get(..CONTAINER_ID_LEN.min(about.id.len()))?;
    if id.is_empty() || id == "host" {
        return None;
    }
    let id = Text::from(id);
    let label = |name: &str| about.labels.get(name).cloned().unwrap_or_default();
    let runtime = RUNTIMES.iter().find(|(number, _)| *number == about.runtime).map_or("", |(_, name)| *name);
    let (pod_name, pod_uid) = (label("io.kubernetes.pod.name"), label("io.kubernetes.pod.uid"));
    let pod_namespace = label("io.kubernetes.pod.namespace");
    let mounts = about.mounts.map(|mounts| {
        mounts
            .into_iter()
            .map(|mount| Mount {
                source: mount.source,
                destination: mount.destination,
                mode: mount.mode,
                is_writable: mount.is_writable,
                propagation: mount.propagation,
            })
            .collect()
    });
    let container = Container {
        full_id: about.full_id,
        name: about.name,
        runtime: runtime.to_owned(),
        image: about.image,
        image_id: about.imageid,
        image_digest: about.imagedigest,
        image_repository: about.imagerepo,
        image_tag: about.imagetag,
        is_privileged: about.privileged,
        has_host_pid: about.host_pid,
        has_host_network: about.host_network,
        has_host_ipc: about.host_ipc,
        ip: about.ip,
        started_at_ns: about.created_time.and_then(|seconds| seconds.checked_mul(SECOND_NS)).filter(|at| *at > 0),
        mounts,
        labels: about.labels,
        pod_name,
        pod_uid,
        pod_namespace,
        pod_sandbox_id: about.pod_sandbox_id,
        pod_labels: about.pod_sandbox_labels,
        ..Container::default()
    };
    Some((id, container))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_falco_says_of_a_container() {
        let json = br#"{"container":{"id":"3f4a9c0b7d21","full_id":"3f4a","type":7,"name":"web","image":"docker.io/nginx:1","imagerepo":"docker.io/nginx",
            "imagetag":"1","privileged":true,"created_time":1700000000,"labels":{"io.kubernetes.pod.name":"web-1"},"cpu_shares":1024,
            "Mounts":[{"Source":"/proc","Destination":"/host/proc","Mode":"rw","RW":true,"Propagation":"rprivate"}]}}"#;
        let (id, container) = of_falco(json).unwrap();
        assert_eq!(id, Text::from("3f4a9c0b7d21"));
        assert_eq!(
            (container.runtime.as_str(), container.image_repository.as_str()),
            ("containerd", "docker.io/nginx")
        );
        assert_eq!((container.is_privileged, container.pod_name.as_str()), (Some(true), "web-1"));
        assert_eq!(container.mounts.unwrap()[0].destination, "/host/proc");
        assert_eq!(container.started_at_ns, Some(1_700_000_000 * SECOND_NS));
        let (id, old) = of_falco(br#"{"id":"abc","type":0,"name":"db","image":"mysql"}"#).unwrap();
        assert_eq!((id, old.name.as_str(), old.runtime.as_str()), (Text::from("abc"), "db", "docker"));
        for json in [
            &b""[..],
            b"[]",
            br#"{"container":{}}"#,
            br#"{"id":"host"}"#,
            br#"{"id":"x\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"}"#,
        ] {
            assert!(of_falco(json).is_none(), "{}", json.escape_ascii());
        }
    }
}
