//! Fields of the container the process is in: `container.*`, and of its pod: `k8s.*`.
//!
//! The id comes with the process; everything else is what the runtime says of it ([`Container`]), and absent until it has said it.

use std::borrow::Cow;

use super::{FieldArgument, Kind, Supplied, Value, indexed, plain, present};
use crate::container::{Container, Mount};
use crate::engine::Context;
use crate::event::Text;

pub(super) static FIELDS: &[Supplied] = &[
    plain("container.id", Kind::Text, "first 12 digits of the container's id; host outside one", |c, _| {
        Some(id(c)?.map_or(Value::text("host"), |id| Value::bytes(id.as_bytes())))
    }),
    plain("container.full_id", Kind::Text, "all of the container's id", |c, _| text(&of(c)?.full_id)),
    plain("container.name", Kind::Text, "the container's name; host outside one", |c, _| {
        or_host(c, |container| text(&container.name))
    }),
    plain("container.type", Kind::Text, "the runtime: docker, containerd, podman, ...; host outside one", |c, _| {
        or_host(c, |container| text(&container.runtime))
    }),
    plain("container.image", Kind::Text, "the image's name, with its tag", |c, _| text(&of(c)?.image)),
    plain("container.image.id", Kind::Text, "the image's id", |c, _| text(&of(c)?.image_id)),
    plain("container.image.digest", Kind::Text, "the image's digest", |c, _| text(&of(c)?.image_digest)),
    plain("container.image.repository", Kind::Text, "the image's name, without its tag", |c, _| {
        text(&of(c)?.image_repository)
    }),
    plain("container.image.tag", Kind::Text, "the image's tag", |c, _| text(&of(c)?.image_tag)),
    plain("container.privileged", Kind::Boolean, "does it have all rights?", |c, _| {
        Some(Value::Boolean(of(c)?.is_privileged?))
    }),
    plain("container.host_pid", Kind::Boolean, "does it see the host's processes?", |c, _| {
        Some(Value::Boolean(of(c)?.has_host_pid?))
    }),
    plain("container.host_network", Kind::Boolean, "does it use the host's network?", |c, _| {
        Some(Value::Boolean(of(c)?.has_host_network?))
    }),
    plain("container.host_ipc", Kind::Boolean, "does it use the host's IPC namespace?", |c, _| {
        Some(Value::Boolean(of(c)?.has_host_ipc?))
    }),
    plain("container.ip", Kind::Text, "its first address", |c, _| text(&of(c)?.ip)),
    plain("container.start_ts", Kind::Number, "when it began, nanoseconds since the epoch", |c, _| {
        Some(Value::number(of(c)?.started_at_ns?))
    }),
    plain("container.duration", Kind::Number, "nanoseconds since it began", |c, _| {
        Some(Value::number(c.event.time_ns.saturating_sub(of(c)?.started_at_ns?)))
    }),
    plain(
        "container.mounts",
        Kind::Text,
        "its mounts as source:dest:mode:rdrw:propagation, a comma between",
        |c, _| {
            let mounts = of(c)?.mounts.as_deref()?;
            Some(Value::owned(mounts.iter().map(whole).collect::<Vec<_>>().join(",")))
        },
    ),
    indexed("container.mount", Kind::Text, "a mount by number, or by a pattern of its source", |c, a| {
        mount(c, a, |it| &it.source, whole)
    }),
    indexed(
        "container.mount.source",
        Kind::Text,
        "a mount's source, by number or by a pattern of its destination",
        |c, a| mount(c, a, |it| &it.destination, |it| it.source.clone()),
    ),
    indexed(
        "container.mount.dest",
        Kind::Text,
        "a mount's destination, by number or by a pattern of its source",
        |c, a| mount(c, a, |it| &it.source, |it| it.destination.clone()),
    ),
    indexed("container.mount.mode", Kind::Text, "a mount's mode, by number or by a pattern of its source", |c, a| {
        mount(c, a, |it| &it.source, |it| it.mode.clone())
    }),
    indexed(
        "container.mount.rdwr",
        Kind::Text,
        "may a mount be written? By number or by a pattern of its source",
        |c, a| mount(c, a, |it| &it.source, |it| it.is_writable.to_string()),
    ),
    indexed(
        "container.mount.propagation",
        Kind::Text,
        "how a mount propagates, by number or by a pattern of its source",
        |c, a| mount(c, a, |it| &it.source, |it| it.propagation.clone()),
    ),
    indexed("container.label", Kind::Text, "the value of one of its labels", |c, a| match a {
        FieldArgument::Key(name) => of(c)?.labels.get(&**name).map(|value| Value::text(value)),
        _ => None,
    }),
    plain("container.labels", Kind::Text, "all of its labels as name:value, a comma and a blank between", |c, _| {
        labels(&of(c)?.labels)
    }),
    plain("k8s.pod.name", Kind::Text, "the pod's name", |c, _| text(&of(c)?.pod_name)),
    plain("k8s.pod.uid", Kind::Text, "the pod's id", |c, _| text(&of(c)?.pod_uid)),
    plain("k8s.pod.id", Kind::Text, "the pod's id", |c, _| text(&of(c)?.pod_uid)),
    plain("k8s.ns.name", Kind::Text, "the pod's namespace", |c, _| text(&of(c)?.pod_namespace)),
    plain("k8s.pod.ip", Kind::Text, "the pod's address", |c, _| text(&of(c)?.pod_ip)),
    plain("k8s.pod.sandbox_id", Kind::Text, "first 12 digits of the id of the pod's sandbox", |c, _| {
        text(&of(c)?.pod_sandbox_id)
    }),
    indexed("k8s.pod.label", Kind::Text, "the value of one of the pod's labels", |c, a| match a {
        FieldArgument::Key(name) => of(c)?.pod_labels.get(&**name).map(|value| Value::text(value)),
        _ => None,
    }),
    plain(
        "k8s.pod.labels",
        Kind::Text,
        "all of the pod's labels as name:value, a comma and a blank between",
        |c, _| labels(&of(c)?.pod_labels),
    ),
];

fn id<'a>(context: &Context<'a>) -> Option<Option<&'a Text>> {
    Some(context.process?.image.process.container.as_ref())
}

fn of<'a>(context: &Context<'a>) -> Option<&'a Container> {
    context.names.containers.get(id(context)??)
}

fn text(text: &str) -> Option<Value<'_>> {
    present(text.as_bytes())
}

fn or_host<'a>(context: &Context<'a>, read: fn(&'a Container) -> Option<Value<'a>>) -> Option<Value<'a>> {
    match id(context)? {
        None => Some(Value::text("host")),
        Some(_) => read(of(context)?),
    }
}

fn whole(mount: &Mount) -> String {
    format!("{}:{}:{}:{}:{}", mount.source, mount.destination, mount.mode, mount.is_writable, mount.propagation)
}

/// What a container has no mount for is `N/A`, as Falco has it.
fn mount<'a>(
    context: &Context<'a>,
    argument: &FieldArgument,
    key: fn(&Mount) -> &String,
    show: fn(&Mount) -> String,
) -> Option<Value<'a>> {
    let mounts = of(context)?.mounts.as_deref()?;
    let found = match argument {
        FieldArgument::Index(place) => mounts.get(*place),
        FieldArgument::Key(pattern) => {
            let glob = crate::compile::Glob::new(pattern.as_bytes(), false);
            mounts.iter().find(|it| glob.matches(key(it).as_bytes()))
        }
        FieldArgument::None => None,
    };
    Some(found.map_or(Value::text("N/A"), |found| Value::Text(Cow::Owned(show(found).into_bytes()))))
}

fn labels<'a>(labels: &std::collections::BTreeMap<String, String>) -> Option<Value<'a>> {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}:{value}")).collect();
    (!pairs.is_empty()).then(|| Value::owned(pairs.join(", ")))
}
