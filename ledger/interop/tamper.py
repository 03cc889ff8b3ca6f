#!/usr/bin/env python3
"""Spoils a copy of a ledger or of a release in one place, so that a check that cannot fail is noticed. Nothing else is changed.

usage: tamper.py byte FILE OFFSET               flips one bit of a byte
       tamper.py signature CHECKPOINT           flips one bit of its signature
       tamper.py known CHECKPOINT               flips one bit of the last signature under the origin's name that is an Ed25519 one
       tamper.py proof RELEASE_DIRECTORY        flips one bit of the first hash in release.tlog-proof
       tamper.py hash PROOF                     flips one bit of the first hash in a tlog-proof
       tamper.py payload RELEASE_DIRECTORY OLD NEW    replaces text in the signed statement, and leaves the signature
       tamper.py line FILE TEXT OLD NEW         replaces text in the first line that holds TEXT

Or greases it, which nobody may mind:
       tamper.py grease CHECKPOINT              adds signature lines by keys that nobody knows
"""

import base64
import json
import os
import pathlib
import sys


def flipped(encoded, at):
    data = bytearray(base64.b64decode(encoded))
    data[at] ^= 1
    return base64.b64encode(data).decode()


def replaced(text, old, new, where):
    if old not in text:
        sys.exit(f"{where} does not hold {old!r}")
    return text.replace(old, new, 1)


def byte(file, offset):
    data = bytearray(pathlib.Path(file).read_bytes())
    data[int(offset)] ^= 1
    pathlib.Path(file).write_bytes(data)


def signature(file):
    file = pathlib.Path(file)
    head, _, encoded = file.read_text().rstrip("\n").rpartition(" ")
    # Four bytes of key id stand before the signature.
    file.write_text(f"{head} {flipped(encoded, 10)}\n")


def grease(file):
    file = pathlib.Path(file)
    text, _, lines = file.read_text().rpartition("\n\n")
    origin, known = text.split("\n")[0], lines.rstrip("\n")
    # Ed25519 under the origin's name and another's, a cosignature, an ML-DSA-44 cosignature, and what nobody has thought of yet.
    unknown = [(origin, 68), ("other.example/key", 68), ("witness.example", 76), ("witness.example/pq", 2432), (origin, 5), ("x", 300)]
    made = [f"\u2014 {name} {base64.b64encode(os.urandom(length)).decode()}" for name, length in unknown]
    file.write_text("\n".join([text, "", *made[:3], known, *made[3:], ""]))


def known(file):
    file = pathlib.Path(file)
    lines = file.read_text().split("\n")
    ours = f"\u2014 {lines[0]} "
    at = [n for n, line in enumerate(lines) if line.startswith(ours) and len(base64.b64decode(line[len(ours) :])) == 68][-1]
    lines[at] = ours + flipped(lines[at][len(ours) :], 10)
    file.write_text("\n".join(lines))


def proof(release):
    hash(pathlib.Path(release) / "release.tlog-proof")


def hash(file):
    file = pathlib.Path(file)
    lines = file.read_text().split("\n")
    lines[2] = flipped(lines[2], 0)
    file.write_text("\n".join(lines))


def payload(release, old, new):
    file = pathlib.Path(release) / "statement.sigstore.json"
    text = file.read_text()
    encoded = json.loads(text)["dsseEnvelope"]["payload"]
    statement = replaced(base64.b64decode(encoded).decode(), old, new, file)
    file.write_text(text.replace(encoded, base64.b64encode(statement.encode()).decode()))


def line(file, text, old, new):
    file = pathlib.Path(file)
    lines = file.read_text().split("\n")
    at = next((number for number, line in enumerate(lines) if text in line), None)
    if at is None:
        sys.exit(f"{file} has no line with {text!r}")
    lines[at] = replaced(lines[at], old, new, file)
    file.write_text("\n".join(lines))


if __name__ == "__main__":
    changes = {"byte": (byte, 2), "signature": (signature, 1), "proof": (proof, 1), "payload": (payload, 3), "line": (line, 4), "grease": (grease, 1)}
    changes |= {"known": (known, 1), "hash": (hash, 1)}
    change, count = changes.get(sys.argv[1] if len(sys.argv) > 1 else "", (None, 0))
    if change is None or len(sys.argv) != 2 + count:
        sys.exit(__doc__)
    change(*sys.argv[2:])
