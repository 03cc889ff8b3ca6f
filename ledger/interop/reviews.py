#!/usr/bin/env python3
"""Sends AdmissionReviews to a running Cairn, so that its ledger has something in it: each with a uid of its own, each must be
answered with HTTP 200 and the same uid.

usage: reviews.py URL REVIEW.json COUNT        (URL: http://ADDRESS:PORT/v1/admission/validate)
"""

import http.client
import json
import pathlib
import sys
import urllib.parse
import uuid


def main(url, file, count):
    address = urllib.parse.urlsplit(url)
    review = json.loads(pathlib.Path(file).read_text())
    connection = http.client.HTTPConnection(address.netloc, timeout=30)
    for number in range(int(count)):
        uid = review["request"]["uid"] = str(uuid.UUID(int=number))
        connection.request("POST", address.path, json.dumps(review), {"content-type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200 or json.loads(body)["response"]["uid"] != uid:
            sys.exit(f"review {number}: HTTP {answer.status}: {body.decode(errors='replace')[:300]}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
