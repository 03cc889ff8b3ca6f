#!/usr/bin/env python3
"""Audits a ledger with aics-tlog, a C2SP verifier that others wrote: signatures of the checkpoint and of every retained one, each
tile and bundle against the root, consistency from every retained checkpoint to the newest, and each release's record in the tree.

usage: audit.py LEDGER VKEY        (pip install aics-tlog, Python 3.12 or newer)
Exit 0: all holds. 1: something does not, and standard error says what.
"""

import pathlib
import sys

import aics_tlog


def opened(file, key):
    """A checkpoint, after its signature and its origin were checked."""
    note = aics_tlog.parse_note(file.read_bytes())
    result = aics_tlog.verify_checkpoint(note, key, expected_origin=key.name)
    if not result.ok:
        sys.exit(f"{file}: {result.error}")
    return aics_tlog.parse_checkpoint(note.text)


def main(ledger, vkey):
    ledger, key = pathlib.Path(ledger), aics_tlog.parse_vkey(vkey)
    newest = opened(ledger / "checkpoint", key)
    tiles = aics_tlog.FileSystemTileReader(ledger)
    try:
        audit = aics_tlog.audit_tiles(tiles, newest.size, newest.root)
    except (aics_tlog.TileVerificationError, aics_tlog.TileMissingError) as error:
        sys.exit(f"{ledger}: {error}")

    retained = sorted(ledger.glob("checkpoints/*"))
    for file in retained:
        older = opened(file, key)
        proof = aics_tlog.consistency_proof_from_tiles(tiles, older.size, newest.size)
        if not aics_tlog.verify_consistency(older.size, newest.size, older.root, newest.root, proof):
            sys.exit(f"{file}: not a prefix of the newest checkpoint")

    releases = sorted(ledger.glob("releases/*"))
    for folder in releases:
        record = (folder / "record.json").read_bytes()
        index = int((folder / "release.tlog-proof").read_text().split("\n")[1].removeprefix("index "))
        proof = aics_tlog.inclusion_proof_from_tiles(tiles, index, newest.size)
        if not aics_tlog.verify_leaf_inclusion(record, index, newest.size, proof, newest.root):
            sys.exit(f"{folder}: record.json is not the record at index {index}")
    print(
        f"{audit.size} records, {audit.tiles} tiles, {audit.bundles} bundles, {len(retained)} retained checkpoints, "
        f"{len(releases)} releases' records"
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
