//! System calls that no library makes any more, made by hand.
#![cfg(target_arch = "x86_64")]

use std::arch::asm;
use std::ffi::CStr;

const MMAP: usize = 9;
const PROT_READ_WRITE: usize = 3;
const MAP_PRIVATE_ANONYMOUS_32BIT: usize = 0x2 | 0x20 | 0x40;

pub(crate) const OPEN: usize = 2;
pub(crate) const CREAT: usize = 85;
pub(crate) const OPENAT2: usize = 437;
const COMPAT_OPEN: usize = 5;

/// Makes a call with up to six arguments; returns what the kernel does.
///
/// # Safety
/// The arguments have to be what the call takes.
unsafe fn call(number: usize, arguments: [usize; 6]) -> isize {
    let result;
    // SAFETY: the instruction's clobbers are named; the arguments are the caller's promise.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result,
            in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2],
            in("r10") arguments[3], in("r8") arguments[4], in("r9") arguments[5],
            lateout("rcx") _, lateout("r11") _);
    }
    result
}

/// `open` or `creat`.
pub(crate) fn open(number: usize, path: &CStr, second: usize, third: usize) -> isize {
    // SAFETY: a path that ends, and two numbers.
    unsafe { call(number, [path.as_ptr() as usize, second, third, 0, 0, 0]) }
}

/// `openat2` relative to a directory.
pub(crate) fn openat2(dirfd: i32, path: &CStr, flags: u64, mode: u64) -> isize {
    let how = [flags, mode, 0u64];
    // SAFETY: a path that ends, a `struct open_how`, and its size.
    unsafe { call(OPENAT2, [dirfd as usize, path.as_ptr() as usize, how.as_ptr() as usize, size_of_val(&how), 0, 0]) }
}

/// `open` as a 32-bit program makes it. The path is copied to where 32 bits reach.
pub(crate) fn compat_open(path: &CStr, flags: usize) -> isize {
    // SAFETY: a fresh anonymous page, checked below.
    let page = unsafe { call(MMAP, [0, 4096, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_32BIT, usize::MAX, 0]) };
    assert!(page > 0, "no page below 4 GiB: {page}");
    let bytes = path.to_bytes_with_nul();
    assert!(bytes.len() <= 4096);
    // SAFETY: the page is ours and long enough.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), page as *mut u8, bytes.len()) };
    let result: isize;
    // SAFETY: the 32-bit `open` takes a path in ebx and flags in ecx; rbx is put back. Older kernels clear r8 to r11.
    unsafe {
        asm!("xchg rbx, {path}", "int 0x80", "xchg rbx, {path}",
            path = inout(reg) page => _,
            inlateout("rax") COMPAT_OPEN as isize => result, in("rcx") flags, in("rdx") 0,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _);
    }
    result as i32 as isize
}

/// Can this kernel run 32-bit calls? One that cannot kills the process that tries.
pub(crate) fn has_compat() -> bool {
    std::fs::read_to_string("/proc/kallsyms")
        .is_ok_and(|symbols| ["do_int80_emulation", "entry_INT80_compat"].iter().any(|name| symbols.contains(name)))
}
