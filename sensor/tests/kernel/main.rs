//! The kernel programs on the running kernel, as root: what they say of real processes and files.
//!
//! Where they cannot run, each test prints what is missing and what to do about it; with CAIRN_REQUIRE_KERNEL=1 that is a
//! failure. CAIRN_EBPF_OBJECT=path tries another object than the committed one (`cargo xtask ebpf --check` names it).
//! The rest of the machine goes on meanwhile, so tests look for their own processes and files among all events.

mod calls;
mod harness;
mod losses;
mod opens;
mod processes;
mod raw;
