#!/usr/bin/env python3
"""Computes a ledger's roots from its records with pymerkle, an implementation of RFC 6962 trees that others wrote, and compares
them with the newest checkpoint's and every retained checkpoint's.

usage: roots.py LEDGER [RECORDS.jsonl]      (pip install pymerkle; records.py writes RECORDS.jsonl, or is asked for the records)
Exit 0: all the same. 1: one differs. Signatures are not looked at.
"""

import base64
import pathlib
import sys

import records
from pymerkle import InmemoryTree


def main(ledger, lines=None):
    ledger = pathlib.Path(ledger)
    tree = InmemoryTree(algorithm="sha256")
    for record in pathlib.Path(lines).read_bytes().splitlines() if lines else records.records(ledger):
        tree.append_entry(record)
    files = [ledger / "checkpoint", *sorted(ledger.glob("checkpoints/*"))]
    for file in files:
        _, size, root, *_ = file.read_text().split("\n")
        own = base64.b64encode(tree.get_root(int(size))).decode()
        if own != root:
            sys.exit(f"{file}: the root of {size} records is {root}, and pymerkle's is {own}")
    print(f"the roots of {len(files)} checkpoints, the largest of {tree.get_size()} records")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
