//! What the sensor reads of the kernel's ring.

use cairn_rules::{Engine, Limits, Names};

use decoder::Context;

/// The decoder's own source: the crate it is of would bring a policy engine, TLS and an eBPF loader along.
/// That crate formats it.
#[rustfmt::skip]
#[path = "../../sensor/src/kernel/decode.rs"]
#[allow(dead_code, unreachable_pub, reason = "the sensor uses what is not used here")]
mod decoder;

/// As in the module that the decoder stands in: cut to the kernel's tick.
fn start_identity(start_ns: u64) -> u64 {
    start_ns - start_ns % 10_000_000
}

/// Records of the ring, each behind its length in two bytes, as events that rules are tried on.
pub fn decode(data: &[u8]) {
    let context = Context {
        boot_at_ns: 1_700_000_000_000_000_000,
        host_mnt_ns: 0xf000_0000,
        containerd_namespaces: vec!["k8s.io".to_owned()],
    };
    let mut engine = Engine::new(super::built_in(), Limits::default());
    let mut events = Vec::new();
    let mut rest = data;
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let (record, after) = after.split_at(usize::from(u16::from_le_bytes(*len)).min(after.len()));
        rest = after;
        let Ok(event) = decoder::decode(record, &context) else { continue };
        super::shown(&mut engine, &event);
        events.push(event);
    }
    super::written(&Names::default(), &[], events);
}
