//! A system call, or another kernel event, with its parameters.
//!
//! Whoever makes it has resolved what the number of a descriptor stood for when the call was made; the engine keeps no table of
//! descriptors.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::process::{Capabilities, Process};
use super::{EventType, Text};

/// One call. Parameters have the names and the order that [`EventType::params`] says; one that is not known is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Which.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// What it returned, an error as a negative number; `None` where nothing is returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<i64>,
    /// Its parameters, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<(String, Param)>,
    /// What the descriptor it is about stands for: `fd.*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Box<Descriptor>>,
    /// What is different about the process from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Box<Change>>,
}

impl Call {
    /// A call of which no more is known than its type.
    #[must_use]
    pub fn new(event_type: EventType) -> Call {
        Call { event_type, result: None, params: Vec::new(), descriptor: None, change: None }
    }

    /// A parameter by name.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|(own, _)| own == name).map(|(_, param)| param)
    }
}

/// A parameter's value. How it is shown depends on its type in the event's table: bits of a flag set by their names, a mode by its bits.
///
/// Bits and enumerations have the numbers that Falco gives them (`PPM_*`), not the kernel's: a source translates. Addresses are
/// texts, `10.0.0.1:80` and `10.0.0.1:40000->10.0.0.2:80`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Param {
    /// A number, an error, a pid, a descriptor.
    Signed(i64),
    /// A number or bits beyond what `i64` holds.
    Unsigned(u64),
    /// A path as the program gave it, a name, or bytes of a buffer.
    Text(Text),
    /// A path, and where it leads: absolute, `.` and `..` taken out, relative to the descriptor that the call names.
    Path {
        /// As the program gave it.
        raw: Text,
        /// Where it leads.
        resolved: Text,
    },
    /// Several texts: arguments, an environment.
    Texts(Vec<Text>),
}

/// What a descriptor stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Its number, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num: Option<i64>,
    /// What kind of thing it is.
    #[serde(default)]
    pub kind: DescriptorKind,
    /// An absolute path, or what Falco shows for a thing that has none; for a socket it is made of the addresses.
    #[serde(default)]
    pub name: Text,
    /// The path as the program gave it.
    #[serde(default)]
    pub nameraw: Text,
    /// Its device, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<u64>,
    /// Its inode, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ino: Option<u64>,
    /// A socket's ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<Socket>,
}

/// What a descriptor can stand for, with Falco's letters (`fd.typechar`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DescriptorKind {
    /// Not known.
    #[default]
    Unknown,
    /// A file: `f`.
    File,
    /// A directory: `d`.
    Directory,
    /// An IPv4 socket: `4`.
    Ipv4,
    /// An IPv6 socket: `6`.
    Ipv6,
    /// A Unix socket: `u`.
    Unix,
    /// A netlink socket: `n`.
    Netlink,
    /// A pipe: `p`.
    Fifo,
    /// An event counter: `e`.
    Event,
    /// A signal descriptor: `s`.
    Signal,
    /// A timer: `t`.
    Timer,
    /// An event poll: `l`.
    Eventpoll,
    /// An inotify descriptor: `i`.
    Inotify,
    /// A BPF object: `b`.
    Bpf,
    /// A userfaultfd: `u`.
    Userfaultfd,
    /// An io_uring: `r`.
    IoUring,
    /// A process: `P`.
    Pidfd,
    /// A memory file: `m`.
    Memfd,
}

/// A socket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// The address family as the kernel numbers it, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<u16>,
    /// The protocol above IP as IANA numbers it: 6 for TCP, 17 for UDP; `None` when not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    /// The end that began the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Address>,
    /// The end that was addressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Address>,
    /// Is this process the server's side? `None` when not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_server: Option<bool>,
    /// Did a `connect` succeed? `None` when not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_connected: Option<bool>,
    /// Did the other end change with this call, as a datagram socket's can?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_changed: Option<bool>,
}

/// An end of an IP conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// The port; 0 where there is none.
    pub port: u16,
}

/// What a call changed about the process that made it. What is `None` stays as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// The real user id.
    pub uid: Option<u32>,
    /// The effective user id.
    pub euid: Option<u32>,
    /// The real group id.
    pub gid: Option<u32>,
    /// The effective group id.
    pub egid: Option<u32>,
    /// The login user id; `u32::MAX` when it is unset.
    pub loginuid: Option<u32>,
    /// The working directory.
    pub cwd: Option<Text>,
    /// The session.
    pub sid: Option<u32>,
    /// The process group.
    pub pgid: Option<u32>,
    /// The task's name.
    pub comm: Option<Text>,
    /// What it may do.
    pub capabilities: Option<Capabilities>,
    /// The container it is in now; empty for the host.
    pub container: Option<Text>,
    /// The process that does this was made just now, and nothing said so before: by whom, and how.
    pub made: Option<Box<Made>>,
}

/// A process whose first event is this one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The process that made it.
    pub by: u32,
    /// What would have been said of it.
    pub fork: super::Fork,
}

impl Change {
    /// Puts into a process what the call changed.
    pub(crate) fn apply(&self, process: &mut Process) {
        let put = |new: Option<u32>, old: &mut u32| *old = new.unwrap_or(*old);
        put(self.uid, &mut process.uid);
        put(self.gid, &mut process.gid);
        process.euid = self.euid.or(process.euid);
        process.egid = self.egid.or(process.egid);
        process.sid = self.sid.or(process.sid);
        process.pgid = self.pgid.or(process.pgid);
        process.capabilities = self.capabilities.or(process.capabilities);
        if let Some(loginuid) = self.loginuid {
            process.loginuid = (loginuid != u32::MAX).then_some(loginuid);
        }
        if let Some(cwd) = &self.cwd {
            process.cwd = cwd.clone();
        }
        if let Some(comm) = &self.comm {
            process.comm = comm.clone();
        }
        if let Some(container) = &self.container {
            process.container = Some(container.clone()).filter(|container| !container.is_empty());
        }
    }
}
