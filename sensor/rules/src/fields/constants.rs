//! Names of kernel numbers, as Falco prints them.

use std::fmt::Write as _;

/// `O_*` bits (asm-generic: x86-64 and aarch64 differ in `O_DIRECTORY`, `O_NOFOLLOW`, `O_DIRECT`, `O_LARGEFILE`, which a
/// source on aarch64 translates), in Falco's order of printing. `O_RDWR`, `O_WRONLY`, `O_RDONLY` are the access mode, not bits.
const OPEN_FLAGS: [(u32, &str); 9] = [
    (0o100_000, "O_LARGEFILE"),
    (0o200_000, "O_DIRECTORY"),
    (0o40_000, "O_DIRECT"),
    (0o1_000, "O_TRUNC"),
    (0o4_000_000, "O_SYNC"),
    (0o4_000, "O_NONBLOCK"),
    (0o200, "O_EXCL"),
    (0o10_000, "O_DSYNC"),
    (0o2_000, "O_APPEND"),
];

pub(crate) const O_ACCMODE: u32 = 0o3;
pub(crate) const O_WRONLY: u32 = 0o1;
pub(crate) const O_RDWR: u32 = 0o2;
pub(crate) const O_CREAT: u32 = 0o100;
pub(crate) const O_TRUNC: u32 = 0o1_000;
pub(crate) const O_CLOEXEC: u32 = 0o2_000_000;
pub(crate) const O_DIRECTORY: u32 = 0o200_000;
pub(crate) const O_TMPFILE_BIT: u32 = 0o20_000_000;
/// Bits of a mode that let someone execute.
pub(crate) const ANY_EXECUTE: u32 = 0o111;

/// `O_TRUNC|O_CREAT|O_WRONLY`, the words of Falco in its order.
pub(crate) fn open_flags(flags: u32) -> String {
    let mut names: Vec<&str> = OPEN_FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    if flags & O_CREAT != 0 {
        names.push("O_CREAT");
    }
    names.push(match flags & O_ACCMODE {
        O_WRONLY => "O_WRONLY",
        O_RDWR => "O_RDWR",
        _ => "O_RDONLY",
    });
    if flags & O_CLOEXEC != 0 {
        names.push("O_CLOEXEC");
    }
    if flags & O_TMPFILE_BIT != 0 {
        names.push("O_TMPFILE");
    }
    names.join("|")
}

/// Bits of an open as the kernel has them, and as Falco numbers them; the access mode apart.
const FALCO_OPEN_FLAGS: [(u32, u32); 12] = [
    (O_CREAT, 1 << 2),
    (0o2_000, 1 << 3),
    (0o10_000, 1 << 4),
    (0o200, 1 << 5),
    (0o4_000, 1 << 6),
    (0o4_000_000, 1 << 7),
    (O_TRUNC, 1 << 8),
    (0o40_000, 1 << 9),
    (O_DIRECTORY, 1 << 10),
    (0o100_000, 1 << 11),
    (O_CLOEXEC, 1 << 12),
    (O_TMPFILE_BIT, 1 << 13),
];

/// An open's flags in Falco's numbers.
pub(crate) fn falco_open_flags(kernel: u32) -> u32 {
    let access = match kernel & O_ACCMODE {
        O_WRONLY => 2,
        O_RDWR => 3,
        _ => 1,
    };
    FALCO_OPEN_FLAGS.iter().filter(|(bit, _)| kernel & bit != 0).fold(access, |bits, (_, bit)| bits | bit)
}

/// `SUCCESS`, or the name of the error a system call returned; a number where Linux has no name.
pub(crate) fn result_name(result: i64) -> std::borrow::Cow<'static, str> {
    if result >= 0 {
        return "SUCCESS".into();
    }
    let number = result.unsigned_abs();
    let found = ERRORS.binary_search_by_key(&number, |(code, _)| u64::from(*code));
    match found {
        Ok(index) => ERRORS[index].1.into(),
        Err(_) => result.to_string().into(),
    }
}

/// The number of an error's name.
pub(crate) fn error_number(name: &str) -> Option<i64> {
    ERRORS.iter().find(|(_, known)| *known == name).map(|(code, _)| i64::from(*code))
}

/// The bits of `O_*` names, or of access words: what a replay case writes.
pub(crate) fn open_flag_bits(name: &str) -> Option<u32> {
    let others = [
        ("O_RDONLY", 0),
        ("O_WRONLY", O_WRONLY),
        ("O_RDWR", O_RDWR),
        ("O_CREAT", O_CREAT),
        ("O_CLOEXEC", O_CLOEXEC),
        ("O_TMPFILE", O_TMPFILE_BIT | O_DIRECTORY),
        ("O_NOFOLLOW", 0o400_000),
        ("O_PATH", 0o10_000_000),
    ];
    let listed = OPEN_FLAGS.iter().find(|(_, known)| *known == name).map(|(bit, _)| *bit);
    listed.or_else(|| others.iter().find(|(known, _)| *known == name).map(|(_, bit)| *bit))
}

/// A mode as Falco prints it: octal with a leading zero, 0 as `0`.
pub(crate) fn octal(mode: u32) -> String {
    let mut out = String::from("0");
    if mode != 0 {
        write!(out, "{mode:o}").expect("invariant: writing to a String cannot fail");
    }
    out
}

/// Linux' errors (asm-generic), by number.
#[rustfmt::skip]
const ERRORS: &[(u8, &str)] = &[
    (1, "EPERM"), (2, "ENOENT"), (3, "ESRCH"), (4, "EINTR"), (5, "EIO"), (6, "ENXIO"), (7, "E2BIG"), (8, "ENOEXEC"),
    (9, "EBADF"), (10, "ECHILD"), (11, "EAGAIN"), (12, "ENOMEM"), (13, "EACCES"), (14, "EFAULT"), (15, "ENOTBLK"),
    (16, "EBUSY"), (17, "EEXIST"), (18, "EXDEV"), (19, "ENODEV"), (20, "ENOTDIR"), (21, "EISDIR"), (22, "EINVAL"),
    (23, "ENFILE"), (24, "EMFILE"), (25, "ENOTTY"), (26, "ETXTBSY"), (27, "EFBIG"), (28, "ENOSPC"), (29, "ESPIPE"),
    (30, "EROFS"), (31, "EMLINK"), (32, "EPIPE"), (33, "EDOM"), (34, "ERANGE"), (35, "EDEADLK"),
    (36, "ENAMETOOLONG"), (37, "ENOLCK"), (38, "ENOSYS"), (39, "ENOTEMPTY"), (40, "ELOOP"), (42, "ENOMSG"),
    (43, "EIDRM"), (44, "ECHRNG"), (45, "EL2NSYNC"), (46, "EL3HLT"), (47, "EL3RST"), (48, "ELNRNG"), (49, "EUNATCH"),
    (50, "ENOCSI"), (51, "EL2HLT"), (52, "EBADE"), (53, "EBADR"), (54, "EXFULL"), (55, "ENOANO"), (56, "EBADRQC"),
    (57, "EBADSLT"), (59, "EBFONT"), (60, "ENOSTR"), (61, "ENODATA"), (62, "ETIME"), (63, "ENOSR"), (64, "ENONET"),
    (65, "ENOPKG"), (66, "EREMOTE"), (67, "ENOLINK"), (68, "EADV"), (69, "ESRMNT"), (70, "ECOMM"), (71, "EPROTO"),
    (72, "EMULTIHOP"), (73, "EDOTDOT"), (74, "EBADMSG"), (75, "EOVERFLOW"), (76, "ENOTUNIQ"), (77, "EBADFD"),
    (78, "EREMCHG"), (79, "ELIBACC"), (80, "ELIBBAD"), (81, "ELIBSCN"), (82, "ELIBMAX"), (83, "ELIBEXEC"),
    (84, "EILSEQ"), (85, "ERESTART"), (86, "ESTRPIPE"), (87, "EUSERS"), (88, "ENOTSOCK"), (89, "EDESTADDRREQ"),
    (90, "EMSGSIZE"), (91, "EPROTOTYPE"), (92, "ENOPROTOOPT"), (93, "EPROTONOSUPPORT"), (94, "ESOCKTNOSUPPORT"),
    (95, "EOPNOTSUPP"), (96, "EPFNOSUPPORT"), (97, "EAFNOSUPPORT"), (98, "EADDRINUSE"), (99, "EADDRNOTAVAIL"),
    (100, "ENETDOWN"), (101, "ENETUNREACH"), (102, "ENETRESET"), (103, "ECONNABORTED"), (104, "ECONNRESET"),
    (105, "ENOBUFS"), (106, "EISCONN"), (107, "ENOTCONN"), (108, "ESHUTDOWN"), (109, "ETOOMANYREFS"),
    (110, "ETIMEDOUT"), (111, "ECONNREFUSED"), (112, "EHOSTDOWN"), (113, "EHOSTUNREACH"), (114, "EALREADY"),
    (115, "EINPROGRESS"), (116, "ESTALE"), (117, "EUCLEAN"), (118, "ENOTNAM"), (119, "ENAVAIL"), (120, "EISNAM"),
    (121, "EREMOTEIO"), (122, "EDQUOT"), (123, "ENOMEDIUM"), (124, "EMEDIUMTYPE"), (125, "ECANCELED"),
    (126, "ENOKEY"), (127, "EKEYEXPIRED"), (128, "EKEYREVOKED"), (129, "EKEYREJECTED"), (130, "EOWNERDEAD"),
    (131, "ENOTRECOVERABLE"), (132, "ERFKILL"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_falco() {
        assert_eq!(open_flags(0o1101), "O_TRUNC|O_CREAT|O_WRONLY");
        assert_eq!(open_flags(0), "O_RDONLY");
        assert_eq!(open_flags(0o2_000_002), "O_RDWR|O_CLOEXEC");
        assert_eq!(result_name(3), "SUCCESS");
        assert_eq!(result_name(-2), "ENOENT");
        assert_eq!(result_name(-4000), "-4000");
        assert_eq!(error_number("EACCES"), Some(13));
        assert_eq!(falco_open_flags(0o1101), 0b1_0000_0110);
        assert_eq!(octal(0o644), "0644");
        assert_eq!(octal(0), "0");
    }

    #[test]
    fn errors_are_sorted() {
        assert!(ERRORS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
