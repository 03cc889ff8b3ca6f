#!/usr/bin/env python3
"""Spoils a copy of a ledger or of a release in one place, so that a check that cannot fail is noticed. Nothing else is changed.

usage: tamper.py byte FILE OFFSET               flips one bit of a byte
       tamper.py signature CHECKPOINT           flips one bit of its signature
       tamper.py proof RELEASE_DIRECTORY        flips one bit of the first hash in release.tlog-proof
       tamper.py payload RELEASE_DIRECTORY OLD NEW    replaces text in the signed statement, and leaves the signature
       tamper.py line FILE TEXT OLD NEW         replaces text in the first line that holds TEXT
"""

import base64
import json
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


def proof(release):
    file = pathlib.Path(release) / "release.tlog-proof"
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
    changes = {"byte": (byte, 2), "signature": (signature, 1), "proof": (proof, 1), "payload": (payload, 3), "line": (line, 4)}
    change, count = changes.get(sys.argv[1] if len(sys.argv) > 1 else "", (None, 0))
    if change is None or len(sys.argv) != 2 + count:
        sys.exit(__doc__)
    change(*sys.argv[2:])
