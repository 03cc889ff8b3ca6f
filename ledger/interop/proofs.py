#!/usr/bin/env python3
"""Checks with aics-tlog, which others wrote, what Cairn proves of a ledger: inclusion of records and consistency with earlier sizes.

usage: proofs.py LEDGER VKEY PROOFS        (pip install aics-tlog, Python 3.12 or newer; ledger/examples/sizes.rs writes PROOFS)
Exit 0: all holds. 1: something does not, and standard error says what.
"""

import base64
import pathlib
import sys

import aics_tlog


def opened(note, key, what):
    note = aics_tlog.parse_note(note)
    result = aics_tlog.verify_checkpoint(note, key, expected_origin=key.name)
    if not result.ok:
        sys.exit(f"{what}: {result.error}")
    return aics_tlog.parse_checkpoint(note.text)


def main(ledger, vkey, proofs):
    ledger, key, proofs = pathlib.Path(ledger), aics_tlog.parse_vkey(vkey), pathlib.Path(proofs)
    included = sorted(proofs.glob("*.tlog-proof"))
    for file in included:
        # Of C2SP tlog-proof: a version, maybe a line of extra data, the index, the hashes, an empty line, the checkpoint.
        head, _, note = file.read_bytes().partition(b"\n\n")
        lines = [line for line in head.decode().split("\n") if not line.startswith("extra ")]
        if lines[0] != "c2sp.org/tlog-proof@v1" or lines[1] != f"index {file.stem}":
            sys.exit(f"{file}: it begins with {lines[:2]}")
        checkpoint = opened(note, key, file)
        hashes = [base64.b64decode(line, validate=True) for line in lines[2:]]
        record = file.with_suffix(".record").read_bytes()
        if not aics_tlog.verify_leaf_inclusion(record, int(file.stem), checkpoint.size, hashes, checkpoint.root):
            sys.exit(f"{file}: it does not prove the record beside it")

    newest = opened((ledger / "checkpoint").read_bytes(), key, "checkpoint")
    consistent = sorted(proofs.glob("*.consistency"))
    for file in consistent:
        old, new = (int(size) for size in file.stem.split("-"))
        older = opened((ledger / "checkpoints" / str(old)).read_bytes(), key, f"checkpoints/{old}")
        hashes = [base64.b64decode(line, validate=True) for line in file.read_text().splitlines()]
        if (older.size, newest.size) != (old, new):
            sys.exit(f"{file}: the checkpoints are of {older.size} and {newest.size} records")
        if not aics_tlog.verify_consistency(old, new, older.root, newest.root, hashes):
            sys.exit(f"{file}: it does not prove that the one is a prefix of the other")
    print(f"{len(included)} proofs of inclusion, {len(consistent)} of consistency")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
