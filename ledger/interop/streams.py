#!/usr/bin/env python3
"""Follows every stream of a ledger as FORMAT.md describes it, with hashlib and the Ed25519 of the `cryptography` package: numbers,
prevdigest, which key a stream has and who vouched for it, and the signatures of its heads. It shares no code with Cairn.

usage: streams.py RECORDS.jsonl        (pip install cryptography; records.py writes RECORDS.jsonl)
Exit 0: all holds. 1: something does not, and standard error says what. A ledger with gaps, forks or rejected records is more than
this program reads; it says so and exits 1.
"""

import base64
import hashlib
import json
import pathlib
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ZEROS = "0" * 64
NOT_READ = ("cairn.stream.gap.v1", "cairn.stream.forked.v1", "cairn.stream.rejected.v1")


def head_text(stream, head):
    """The lines that a head signs."""
    lines = ["cairn stream head v1", stream, head["sequence"], head["digest"]]
    seen = head.get("checkpoint")
    lines += ["checkpoint", seen["origin"], str(seen["size"]), seen["root"]] if seen else ["no checkpoint"]
    return "".join(line + "\n" for line in lines).encode()


def main(file):
    vouched = {}  # node -> the key that it joined with
    streams = {}  # stream -> (next sequence, last leaf hash, key)
    heads = 0
    for index, line in enumerate(pathlib.Path(file).read_bytes().splitlines()):
        record = json.loads(line)
        kind, data = record["type"], record["data"]
        stream = record["source"].removeprefix("/streams/")
        where = f"record {index}, {record['id']}"
        if kind in NOT_READ:
            sys.exit(f"{where}: {kind}")
        if record["id"] != f"{stream}/{record['sequence']}":
            sys.exit(f"{where}: id, source and sequence do not agree")
        if kind == "cairn.ledger.opened.v1":
            vouched[data["control_node"]] = data["control_key"]
        if kind == "cairn.node.joined.v1":
            vouched[data["node"]] = data["key"]

        if stream not in streams:
            key = None
            if stream != "ledger":
                node = stream.rsplit(".", 1)[0]
                if kind != "cairn.stream.opened.v1" or data["node"] != node or data["key"] != vouched.get(node):
                    sys.exit(f"{where}: the stream is not opened by a node that joined, with the key it joined with")
                key = Ed25519PublicKey.from_public_bytes(base64.b64decode(data["key"]))
            streams[stream] = (0, ZEROS, key)
        sequence, previous, key = streams[stream]
        if record["sequence"] != f"{sequence:020d}":
            sys.exit(f"{where}: sequence {sequence} should follow")
        if record["prevdigest"] != previous:
            sys.exit(f"{where}: prevdigest is not the leaf hash of the record before")
        if kind == "cairn.stream.head.v1":
            if (data["sequence"], data["digest"]) != (f"{sequence - 1:020d}", previous):
                sys.exit(f"{where}: the head is not about the record before it")
            try:
                key.verify(base64.b64decode(data["signature"]), head_text(stream, data))
            except InvalidSignature:
                sys.exit(f"{where}: the head's signature is not by the stream's key")
            heads += 1
        streams[stream] = (sequence + 1, hashlib.sha256(b"\0" + line).hexdigest(), key)
    print(f"{len(streams)} streams, {heads} signed heads")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
