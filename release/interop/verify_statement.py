#!/usr/bin/env python3
"""Reads a release's statement with in-toto's own library (protobuf messages of the attestation framework): it must be a Statement v1
with a valid subject and no member that the specification does not know. The signature is not looked at here.

usage: verify_statement.py RELEASE_DIRECTORY        (pip install in-toto-attestation)
Exit 0: valid. 1: refused.
"""

import base64
import json
import pathlib
import sys

from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement


def main(directory):
    bundle = json.loads((pathlib.Path(directory) / "statement.sigstore.json").read_text())
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"], validate=True)
    try:
        message = json_format.Parse(payload, statement_pb2.Statement())
        Statement.copy_from_pb(message).validate()
    except (json_format.ParseError, ValueError) as error:
        sys.exit(f"refused: {error}")
    print(f"a Statement v1 of {message.predicate_type} about {message.subject[0].name}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
