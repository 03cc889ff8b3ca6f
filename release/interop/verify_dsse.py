#!/usr/bin/env python3
"""Checks a release's signature with securesystemslib, which others wrote: the DSSE envelope in the Sigstore bundle, by the
given P-256 key, and that the signed in-toto statement's subject is content.tar.

usage: verify_dsse.py RELEASE_DIRECTORY PUBLIC_KEY.pem        (pip install securesystemslib[crypto])
Exit 0: verified. 1: refused.
"""

import hashlib
import json
import pathlib
import sys

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey


def main(directory, key_file):
    directory = pathlib.Path(directory)
    bundle = json.loads((directory / "statement.sigstore.json").read_text())
    hint = bundle["verificationMaterial"]["publicKey"]["hint"]
    public = load_pem_public_key(pathlib.Path(key_file).read_bytes())
    # The library's own default key id differs; the envelope's must be the bundle's hint.
    key = SSlibKey.from_crypto(public, keyid=hint)
    envelope = Envelope.from_dict(bundle["dsseEnvelope"])
    try:
        envelope.verify([key], 1)
    except VerificationError as error:
        sys.exit(f"refused: {error}")
    statement = json.loads(envelope.payload)
    tar = hashlib.sha256((directory / "content.tar").read_bytes()).hexdigest()
    subject = statement["subject"][0]
    if statement["_type"] != "https://in-toto.io/Statement/v1":
        sys.exit(f"refused: {statement['_type']} is not an in-toto Statement v1")
    if subject != {"name": "content.tar", "digest": {"sha256": tar}}:
        sys.exit(f"refused: the statement is about {subject}, and content.tar is {tar}")
    print(f"verified release {statement['predicate']['serial']} of sha256:{tar}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
