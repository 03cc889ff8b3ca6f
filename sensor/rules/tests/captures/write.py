#!/usr/bin/env python3
"""Writes the events of the test captures, independently of the reader in src/capture.

  write.py events OUT        events as libscap's writer takes them: a length of 32 bits, then the event with its header
  write.py scap OUT [big]    a whole capture in today's form; with `big`, in the byte order of a big-endian machine

Event numbers, parameters and their encodings are written down here again, from falcosecurity/libs.
"""
import socket
import struct
import sys

ORDER = "<"
NOW = 1_700_000_000_000_000_000


def u8(n): return struct.pack("B", n)
def u16(n): return struct.pack(ORDER + "H", n)
def u32(n): return struct.pack(ORDER + "I", n & 0xFFFFFFFF)
def i32(n): return struct.pack(ORDER + "i", n)
def u64(n): return struct.pack(ORDER + "Q", n)
def i64(n): return struct.pack(ORDER + "q", n)
def s(text): return text.encode() + b"\0"
def many(*texts): return b"".join(map(s, texts))


def ip4(address, port): return socket.inet_aton(address) + u16(port)
def ip6(address, port): return socket.inet_pton(socket.AF_INET6, address) + u16(port)
def tuple4(a, p, b, q): return u8(2) + ip4(a, p) + ip4(b, q)
def tuple6(a, p, b, q): return u8(10) + ip6(a, p) + ip6(b, q)
def unix(a, b, path): return u8(1) + u64(a) + u64(b) + s(path)


class Events:
    """A row of events, a millisecond apart."""

    def __init__(self, wide=()):
        self.time, self.all, self.wide = NOW, [], wide

    def add(self, number, tid, *params):
        self.time += 1_000_000
        width = u32 if number in self.wide else u16
        body = b"".join(width(len(p)) for p in params) + b"".join(params)
        head = u64(self.time) + u64(tid) + u32(26 + len(body)) + u16(number) + u32(len(params))
        self.all.append(head + body)


CLONE_THREAD, CLONE_VM, IN_PIDNS = 1 << 13, 1 << 15, 1 << 29
O_RDONLY, O_WRONLY, O_CREAT, O_TRUNC, O_DIRECTORY, O_CLOEXEC = 1, 2, 4, 256, 1024, 4096
CGROUPS = many("cpuset=/", "cpu=/docker/" + "ab" * 32, "memory=/docker/" + "ab" * 32)
HOST = many("cpuset=/", "cpu=/user.slice", "memory=/user.slice")


def clone(events, tid, number, res, exe, args, pid, ptid, comm, flags, cgroups, vtid, vpid, extra=()):
    events.add(number, tid, i64(res), s(exe), many(*args), i64(tid), i64(pid), i64(ptid), s(""), i64(1024),
               u64(0), u64(1), u32(100), u32(50), u32(0), s(comm), cgroups, u32(flags), u32(0), u32(0), i64(vtid), i64(vpid), *extra)


def execve19(events, tid, pid, ptid, exe, args, comm, cgroups, env, more=()):
    events.add(293, tid, i64(0), s(exe), many(*args), i64(tid), i64(pid), i64(ptid), s(""), u64(1024),
               u64(0), u64(1), u32(100), u32(50), u32(0), s(comm), cgroups, many(*env), u32(34817), i64(pid), u32(1000), *more)


# Of the shell that libscap finds running.
SHELL_ARGS = ["record.sh", "inside"]


def of_2022():
    """What a driver of 2022 says: a beginning and an end of each call, arguments often at the beginning."""
    e = Events()
    # The shell makes a child, which returns first; it becomes cat.
    e.add(222, 1)
    e.add(222, 1)
    clone(e, 500, 223, 0, "sh", SHELL_ARGS, 500, 1, "sh", 0, HOST, 500, 500)
    clone(e, 1, 223, 500, "sh", SHELL_ARGS, 1, 0, "sh", 0, HOST, 1, 1)
    e.add(292, 500, s("/usr/bin/cat"))
    execve19(e, 500, 500, 1, "cat", ["/etc/shadow", "-n"], "cat", HOST, ["PATH=/usr/bin", "HOME=/root"])
    e.add(306, 500)
    e.add(307, 500, i64(3), i64(-100), s("/etc/shadow"), u32(O_RDONLY | O_CLOEXEC), u32(0), u32(0x801))
    e.add(6, 500, i64(3), u32(4096))
    e.add(7, 500, i64(5), b"root:")
    e.add(8, 500, i64(1), u32(5))
    e.add(9, 500, i64(5), b"root:")
    e.add(4, 500, i64(3))
    e.add(5, 500, i64(0))
    e.add(306, 500)
    e.add(307, 500, i64(-2), i64(-100), s("/no/such"), u32(O_RDONLY), u32(0), u32(0))
    e.add(186, 500, i64(0), i64(0), u8(0), u8(0))
    # The parent returns first; the child works in a directory of its own.
    e.add(222, 1)
    clone(e, 1, 223, 600, "sh", SHELL_ARGS, 1, 0, "sh", 0, HOST, 1, 1)
    clone(e, 600, 223, 0, "sh", SHELL_ARGS, 600, 1, "sh", 0, HOST, 600, 600)
    e.add(94, 600)
    e.add(95, 600, i64(0), s("/srv/jobs"))
    e.add(94, 600)
    e.add(95, 600, i64(0), s("../data"))
    e.add(292, 600, s("./tool"))
    execve19(e, 600, 600, 1, "./tool", ["--all"], "tool", HOST, [])
    e.add(306, 600)
    e.add(307, 600, i64(3), i64(-100), s("out/../log"), u32(O_WRONLY | O_CREAT | O_TRUNC), u32(0o644), u32(0x801))
    e.add(306, 600)
    e.add(307, 600, i64(4), i64(-100), s("sub"), u32(O_RDONLY | O_DIRECTORY), u32(0), u32(0x801))
    e.add(306, 600)
    e.add(307, 600, i64(5), i64(4), s("inner"), u32(O_RDONLY), u32(0), u32(0x801))
    # Copies of descriptors.
    e.add(124, 600, i64(5))
    e.add(125, 600, i64(6))
    e.add(8, 600, i64(6), u32(1))
    e.add(9, 600, i64(1), b"x")
    e.add(96, 600, i64(4))
    e.add(97, 600, i64(0))
    # A client.
    e.add(18, 600, u32(2), u32(1), u32(0))
    e.add(19, 600, i64(7))
    e.add(22, 600, i64(7))
    e.add(23, 600, i64(0), tuple4("10.0.0.1", 40000, "93.184.216.34", 443))
    e.add(30, 600, i64(7), u32(5), b"")
    e.add(31, 600, i64(5), b"hello")
    e.add(4, 600, i64(7))
    e.add(5, 600, i64(0))
    e.add(18, 600, u32(10), u32(1), u32(0))
    e.add(19, 600, i64(7))
    e.add(22, 600, i64(7))
    e.add(23, 600, i64(0), tuple6("2001:db8::1", 40001, "2001:db8::2", 80))
    # A server.
    e.add(18, 600, u32(2), u32(1), u32(0))
    e.add(19, 600, i64(8))
    e.add(20, 600, i64(8))
    e.add(21, 600, i64(0), u8(2) + ip4("0.0.0.0", 8080))
    e.add(24, 600, i64(8), i32(16))
    e.add(25, 600, i64(0))
    e.add(246, 600)
    e.add(247, 600, i64(9), tuple4("192.168.1.7", 50123, "10.0.0.1", 8080), u8(0), u32(0), u32(16))
    # Datagrams.
    e.add(18, 600, u32(2), u32(2), u32(0))
    e.add(19, 600, i64(10))
    e.add(30, 600, i64(10), u32(5), tuple4("10.0.0.1", 5000, "10.0.0.53", 53))
    e.add(31, 600, i64(5), b"query")
    e.add(34, 600, i64(10), u32(512))
    e.add(35, 600, i64(3), b"ans", tuple4("10.0.0.53", 53, "10.0.0.1", 5000))
    # Pipes, a Unix socket, other descriptors.
    e.add(60, 600)
    e.add(61, 600, i64(0), i64(11), i64(12), u64(777))
    e.add(18, 600, u32(1), u32(1), u32(0))
    e.add(19, 600, i64(13))
    e.add(22, 600, i64(13))
    e.add(23, 600, i64(0), unix(0xFFFF0001, 0xFFFF0002, "/run/docker.sock"))
    e.add(62, 600, u64(0), u32(0))
    e.add(63, 600, i64(14))
    # Files.
    e.add(276, 600, u32(0o755))
    e.add(277, 600, i64(0), s("newdir"))
    e.add(302, 600)
    e.add(303, 600, i64(0), i64(4), s("old"), u32(0))
    e.add(174, 600)
    e.add(175, 600, i64(0), s("a"), s("/tmp/b"))
    e.add(314, 600)
    e.add(315, 600, i64(0), s("/tmp/b"), u32(0o4755))
    e.add(310, 600, i64(4), s("x"), i64(-100), s("y"))
    e.add(311, 600, i64(0), i64(4), s("x"), i64(-100), s("y"), u32(0))
    # A thread, which opens something in its process' directory and ends.
    e.add(222, 600)
    clone(e, 600, 223, 601, "./tool", ["--all"], 600, 1, "tool", CLONE_THREAD | CLONE_VM, HOST, 600, 600)
    clone(e, 601, 223, 0, "./tool", ["--all"], 600, 1, "tool", CLONE_THREAD | CLONE_VM, HOST, 601, 600)
    e.add(306, 601)
    e.add(307, 601, i64(15), i64(-100), s("by-thread"), u32(O_RDONLY), u32(0), u32(0x801))
    e.add(186, 601, i64(0), i64(0), u8(0), u8(0))
    # Other people.
    e.add(198, 600, u32(1000))
    e.add(199, 600, i64(0))
    e.add(126, 600, i64(-1), u32(0), u8(0))
    e.add(127, 600, i64(16))
    # A child in a container: its parent is told a number of the namespace.
    e.add(222, 600)
    clone(e, 600, 223, 7, "./tool", ["--all"], 600, 1, "tool", IN_PIDNS, HOST, 600, 600)
    clone(e, 700, 223, 0, "./tool", ["--all"], 700, 600, "tool", IN_PIDNS, CGROUPS, 7, 7)
    e.add(292, 700, s("/bin/sh"))
    execve19(e, 700, 700, 600, "/bin/sh", ["-c", "id"], "sh", CGROUPS, [])
    e.add(186, 700, i64(0x100), i64(1), u8(0), u8(0))
    e.add(186, 600, i64(9), i64(0), u8(9), u8(0))
    return e


def of_today():
    """What a driver of 2026 says: the ends of calls, with everything."""
    e = Events(wide=(322, 324, 402))
    about = '{"container":{"id":"abababababab","type":0,"name":"web","imagerepo":"docker.io/nginx","imagetag":"1"}}'
    e.add(324, 2**64 - 1, s(about))
    fork = (u64(0),)
    clone(e, 1, 223, 500, "sh", ["-l"], 1, 0, "sh", 0, HOST, 1, 1, fork)
    clone(e, 500, 223, 0, "sh", ["-l"], 500, 1, "sh", 0, HOST, 500, 500, fork)
    caps = (u64(0), u64(0x1FF), u64(0x1FF))
    execve19(e, 500, 500, 1, "curl", ["http://10.0.0.9/x"], "curl", CGROUPS, ["A=1"],
             (u32(1 | 2), *caps, u64(4242), u64(NOW - 5), u64(NOW - 9), u32(0), s("/usr/bin/curl"), i64(500), u32(0), s("/bin/curl")))
    e.add(307, 500, i64(3), i64(-100), s("/etc/passwd"), u32(O_RDONLY), u32(0), u32(0x801), u64(99))
    e.add(7, 500, i64(4), b"root", i64(3), u32(4096))
    e.add(5, 500, i64(0), i64(3))
    e.add(19, 500, i64(5), u32(2), u32(0x80001), u32(0), u32(0))
    e.add(23, 500, i64(-115), tuple4("10.0.0.1", 40000, "10.0.0.9", 80), i64(5), u8(2) + ip4("10.0.0.9", 80))
    e.add(391, 500, i64(-1), s("/mnt"), u32(1))
    e.add(401, 500, i64(0), u32(15), s("renamed"), i64(0))
    e.add(425, 500, i64(-1), s("nf_tables"), u32(0))
    e.add(169, 500, i64(0), u8(0) + u64(0), u8(0) + u64(0), u16(10), i64(1))
    e.add(1, 500, u16(206), u16(267))
    e.add(186, 500, i64(0), i64(0), u8(0), u8(0), i64(1))
    e.add(60000, 1, i64(0))
    return e


def block(kind, body):
    body += b"\0" * (-len(body) % 4)
    return u32(kind) + u32(len(body) + 12) + body + u32(len(body) + 12)


def text(t): return u16(len(t)) + t


def capture(events):
    out = block(0x0A0D0D0A, u32(0x1A2B3C4D) + u16(1) + u16(2) + b"\xff" * 8)
    out += block(0x201, u32(2) + u64(1 << 30) + u64(32768) + b"recorder".ljust(128, b"\0") + u64(NOW - 60_000_000_000) + u64(0) * 3)
    out += block(0x219, b"")
    user = u8(0) + u32(0) + u32(0) + text(b"root") + text(b"/root") + text(b"/bin/sh")
    group = u8(1) + u32(0) + text(b"root")
    out += block(0x220, b"".join(u32(len(x) + 4) + x for x in (user, group)))
    shell = u64(1) + u64(1) + u64(0) + u64(1) + u64(1) + text(b"sh") + text(b"/bin/sh") + text(b"/usr/bin/dash")
    shell += text(b"-l\0") + text(b"/root") + u64(1024) + u32(0) + u32(0) + u32(0) + u32(1) * 3 + u64(0) * 2
    shell += text(b"A=1\0B=2\0") + u64(1) + u64(1) + text(HOST) + text(b"/")
    shell += u64(7) + u32(34816) + u32(1000) + u8(1) + u64(0) + u64(1) + u64(1) + u8(0) + u64(11) + u64(12) + u64(13) + u8(0) + u8(1) + u64(1)
    out += block(0x215, u32(len(shell) + 4) + shell)
    tty = i64(0) + u64(3) + u8(16) + u32(2) + text(b"/dev/pts/0") + u32(0x88)
    listening = i64(5) + u64(4) + u8(5) + ip4("127.0.0.1", 22) + u8(2)
    out += block(0x218, u64(1) + b"".join(u32(len(x) + 4) + x for x in (tty, listening)))
    out += block(0x299, b"something new")
    for number, event in enumerate(events.all):
        wide = event[20:22] in map(u16, (324,))
        out += block(0x221 if wide else 0x216, u16(number % 4) + event)
    return out


if __name__ == "__main__":
    if sys.argv[3:] == ["big"]:
        ORDER = ">"
    with open(sys.argv[2], "wb") as file:
        if sys.argv[1] == "events":
            for event in of_2022().all:
                file.write(struct.pack("<I", len(event)) + event)
        else:
            file.write(capture(of_today()))
