//! Whether the live parts of a test can run here, and what happens when they cannot.

/// Why the eBPF sensor cannot be live on this machine; `None` when it can.
///
/// With `CAIRN_REQUIRE_KERNEL=1` (set by `.ci/run` where it holds) a missing part is a failure instead.
///
/// # Panics
/// When `CAIRN_REQUIRE_KERNEL=1` and something is missing.
#[must_use]
pub fn missing() -> Option<&'static str> {
    let missing = if !rustix::process::geteuid().is_root() {
        Some("not root")
    } else if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        Some("no /sys/kernel/btf/vmlinux")
    } else {
        None
    };
    if let Some(what) = missing {
        assert!(std::env::var_os("CAIRN_REQUIRE_KERNEL").is_none(), "the kernel tests must run here, but: {what}");
        println!("skipped: the live sensor: {what}");
    }
    missing
}
