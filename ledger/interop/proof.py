#!/usr/bin/env python3
"""Checks a proof that `cairn ledger prove --out PROOF` wrote, offline, with aics-tlog, a C2SP verifier that others wrote: the
checkpoint's signature and origin, and that the record's exact bytes are in its tree.

usage: proof.py PROOF RECORD VKEY        (pip install aics-tlog, Python 3.12 or newer)
       proof.py --consistency PROOF OLD_ROOT VKEY     a proof that `cairn ledger prove --consistency` wrote; OLD_ROOT in hexadecimal
Exit 0: it holds. 1: it does not, and standard error says what.
"""

import base64
import pathlib
import sys

import aics_tlog


def checkpoint(text, vkey):
    """The checkpoint, after its signature and its origin were checked."""
    key = aics_tlog.parse_vkey(vkey)
    note = aics_tlog.parse_note(text.encode())
    result = aics_tlog.verify_checkpoint(note, key, expected_origin=key.name)
    if not result.ok:
        sys.exit(f"the checkpoint: {result.error}")
    return aics_tlog.parse_checkpoint(note.text)


def inclusion(proof, record, vkey):
    head, _, note = pathlib.Path(proof).read_text().partition("\n\n")
    first, index, *hashes = head.split("\n")
    if first != "c2sp.org/tlog-proof@v1" or not index.startswith("index "):
        sys.exit(f"{proof}: not a C2SP tlog-proof of version 1")
    number = int(index.removeprefix("index "))
    tree = checkpoint(note, vkey)
    record = pathlib.Path(record).read_bytes()
    path = [base64.b64decode(hash, validate=True) for hash in hashes]
    if not aics_tlog.verify_leaf_inclusion(record, number, tree.size, path, tree.root):
        sys.exit(f"{proof}: does not lead from the record to the root of the tree of {tree.size}")
    print(f"record {number} of {tree.size}, signed by {vkey.split('+')[0]}")


def consistency(proof, old_root, vkey):
    head, _, note = pathlib.Path(proof).read_text().partition("\n\n")
    old, *hashes = head.split("\n")
    size = int(old.removeprefix("old "))
    tree = checkpoint(note, vkey)
    path = [base64.b64decode(hash, validate=True) for hash in hashes]
    if not aics_tlog.verify_consistency(size, tree.size, bytes.fromhex(old_root), tree.root, path):
        sys.exit(f"{proof}: the tree of {tree.size} does not begin with the tree of {size} and this root")
    print(f"the tree of {size} is the beginning of the tree of {tree.size}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--consistency", proof, old_root, vkey]:
            consistency(proof, old_root, vkey)
        case [proof, record, vkey]:
            inclusion(proof, record, vkey)
        case _:
            sys.exit(__doc__)
