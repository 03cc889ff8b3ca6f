#!/usr/bin/env python3
"""Prints the records that a ledger's checkpoint covers, one a line, in order, with nothing but the standard library.

usage: records.py LEDGER > RECORDS.jsonl
A record is JSON in canonical form, so it holds no line feed. Nothing is verified here; other programs check what comes out.
"""

import pathlib
import sys


def bundle_path(number, width):
    """A C2SP bundle path: three digits an element, all but the last behind an x."""
    digits = f"{number:03d}"
    while len(digits) % 3:
        digits = "0" + digits
    elements = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    name = "/".join(["x" + element for element in elements[:-1]] + elements[-1:])
    return f"tile/entries/{name}" + ("" if width == 256 else f".p/{width}")


def records(ledger):
    size = int((ledger / "checkpoint").read_text().split("\n")[1])
    for first in range(0, size, 256):
        path = ledger / bundle_path(first // 256, min(256, size - first))
        bundle = path.read_bytes()
        while bundle:
            length = int.from_bytes(bundle[:2], "big")
            record, bundle = bundle[2 : 2 + length], bundle[2 + length :]
            if len(record) != length or b"\n" in record:
                sys.exit(f"{path}: not a bundle of records")
            yield record


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for record in records(pathlib.Path(sys.argv[1])):
        sys.stdout.buffer.write(record + b"\n")
