#!/usr/bin/env python3
"""Checks records with libraries that others wrote, against the public formats that Cairn says it uses.

usage: check_records.py canonical RECORDS.jsonl            every record is its own RFC 8785 form      (pip install rfc8785)
       check_records.py cloudevents RECORDS.jsonl          every record is a CloudEvents 1.0 event     (pip install cloudevents)
       check_records.py schema RECORDS.jsonl SCHEMAS       its data is of schemas/v1's form            (pip install jsonschema)
Exit 0: all hold. 1: one does not, and standard error says which. `ledger/interop/records.py LEDGER` writes RECORDS.jsonl.
"""

import collections
import json
import pathlib
import sys


def canonical(lines):
    import rfc8785

    for number, line in enumerate(lines):
        own = rfc8785.dumps(json.loads(line))
        if own != line:
            at = next((i for i, (a, b) in enumerate(zip(own, line)) if a != b), min(len(own), len(line)))
            sys.exit(f"record {number}: not in RFC 8785 form: byte {at} of {line[: at + 40]!r}")
    print(f"{len(lines)} records are their own RFC 8785 form")


def cloudevents(lines):
    from cloudevents.core.exceptions import CloudEventValidationError
    from cloudevents.core.formats.json import JSONFormat

    for number, line in enumerate(lines):
        try:
            event = JSONFormat().read(None, line)
        except CloudEventValidationError as error:
            sys.exit(f"record {number}: not a CloudEvents event: {error.errors}")
        stated = json.loads(line)
        if (event.get_id(), event.get_source(), event.get_type()) != (stated["id"], stated["source"], stated["type"]):
            sys.exit(f"record {number}: the library reads other attributes")
    print(f"{len(lines)} records are CloudEvents 1.0 events")


def schema(lines, folder):
    from jsonschema import Draft202012Validator

    validators = {}
    for file in sorted(pathlib.Path(folder).glob("*.schema.json")):
        document = json.loads(file.read_text())
        Draft202012Validator.check_schema(document)
        validators[file.name.removesuffix(".schema.json") + ".v1"] = Draft202012Validator(document)
    seen = collections.Counter()
    for number, line in enumerate(lines):
        record = json.loads(line)
        kind = record["type"]
        if kind not in validators:
            sys.exit(f"record {number}: {kind} has no schema in {folder}")
        for error in validators[kind].iter_errors(record["data"]):
            sys.exit(f"record {number}, {kind}: data{error.json_path.removeprefix('$')}: {error.message[:300]}")
        seen[kind] += 1
    print(f"{len(lines)} records of {len(seen)} types have their schema's form; {len(validators)} schemas are valid themselves")


if __name__ == "__main__":
    checks = {"canonical": (canonical, 3), "cloudevents": (cloudevents, 3), "schema": (schema, 4)}
    check, arguments = checks.get(sys.argv[1] if len(sys.argv) > 1 else "", (None, 0))
    if check is None or len(sys.argv) != arguments:
        sys.exit(__doc__)
    check(pathlib.Path(sys.argv[2]).read_bytes().splitlines(), *sys.argv[3:])
