#!/usr/bin/env python3
"""Computes a ledger's roots from its records with pymerkle, an implementation of RFC 6962 trees that others wrote, and compares
them with the newest checkpoint's and every retained checkpoint's.

usage: roots.py LEDGER RECORDS.jsonl        (pip install pymerkle; records.py writes RECORDS.jsonl)
Exit 0: all the same. 1: one differs. Signatures are not looked at.
"""

import base64
import pathlib
import sys

from pymerkle import InmemoryTree


def main(ledger, records):
    ledger = pathlib.Path(ledger)
    tree = InmemoryTree(algorithm="sha256")
    for record in pathlib.Path(records).read_bytes().splitlines():
        tree.append_entry(record)
    files = [ledger / "checkpoint", *sorted((ledger / "checkpoints").iterdir())]
    for file in files:
        _, size, root, *_ = file.read_text().split("\n")
        own = base64.b64encode(tree.get_root(int(size))).decode()
        if own != root:
            sys.exit(f"{file}: the root of {size} records is {root}, and pymerkle's is {own}")
    print(f"the roots of {len(files)} checkpoints, the largest of {tree.get_size()} records")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
