#!/usr/bin/env python3
"""Drives witnesses of others with Cairn's client, and Cairn's witness with others' client.

usage: witness.py CAIRN WORK [--spoil]        (pip install aics-tlog aics-witness, Python 3.12 or newer)
CAIRN is the binary, WORK a folder for what is made; it must not exist. --spoil changes one byte of what came back, so that it must be
refused. Exit 0: all holds. 1: something does not, and standard error says what.

1. `cairn ledger append` makes a ledger; `cairn ledger cosign` has each of its checkpoints cosigned by a running aics-witness and by
   a running `cairn ledger witness`; aics-tlog checks both cosignatures.
2. The same ledger, put back and grown differently, must be refused by both.
3. aics-tlog's proofs and checkpoints, sent by the standard library, drive `cairn ledger witness`; every status is the
   specification's.
"""

import base64
import hashlib
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import aics_tlog

AICS_PORT, OURS_PORT = 18731, 18732


def fail(text):
    sys.exit(f"witness.py: {text}")


def run(*command, code=0, **more):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)
    if done.returncode != code:
        fail(f"{command} ended with {done.returncode}, not {code}:\n{done.stdout}{done.stderr}")
    return done.stdout


def append(cairn, ledger, first, count):
    lines = "".join(
        json.dumps({"type": "cairn.evidence.received.v1", "id": f"{first + n}", "data": {"number": first + n}}) + "\n"
        for n in range(count)
    )
    run(cairn, "ledger", "append", ledger, "--stream", "interop", input=lines)


def post(url, body):
    request = urllib.request.Request(url, data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get_content_type(), error.read()


def wait_for(url):
    for _ in range(100):
        try:
            urllib.request.urlopen(url, timeout=1).read()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    fail(f"{url} does not answer")


def opened(ledger, key, keys=()):
    note = aics_tlog.parse_note((ledger / "checkpoint").read_bytes())
    result = aics_tlog.verify_checkpoint(note, key, expected_origin=key.name)
    if not result.ok:
        fail(f"{ledger}: {result.error}")
    return aics_tlog.parse_checkpoint(note.text)


def request(ledger, key, old):
    """An add-checkpoint body, made with aics-tlog from the tiles on disk."""
    head = opened(ledger, key)
    proof = []
    if 0 < old < head.size:
        proof = aics_tlog.consistency_proof_from_tiles(aics_tlog.FileSystemTileReader(ledger), old, head.size)
    lines = "".join(base64.b64encode(part).decode() + "\n" for part in proof)
    return f"old {old}\n{lines}\n".encode() + (ledger / "checkpoint").read_bytes()


def main(cairn, work, spoil=False):
    cairn, work = pathlib.Path(cairn).resolve(), pathlib.Path(work)
    work.mkdir(parents=True)
    ledger = work / "ledger"
    append(cairn, ledger, 0, 3)
    vkey = json.loads(
        run(cairn, "verify", ledger, "--json")
    )
    vkey = find_vkey(vkey) or fail("cairn verify names no key")
    key = aics_tlog.parse_vkey(vkey)

    # The witnesses: one of theirs, one of ours.
    aics = pathlib.Path(sys.executable).parent / "aics-witness"
    config = work / "aics" / "witness.json"
    config.parent.mkdir()
    said = run(aics, "init", "-c", config, "--name", "aics.example/w", "--listen", f"127.0.0.1:{AICS_PORT}")
    aics_vkey = next(word for word in said.split() if word.startswith("aics.example/w+"))
    run(aics, "add-log", "-c", config, "--origin", key.name, "--vkey", vkey)
    processes = [subprocess.Popen([aics, "serve", "-c", config, "--log-level", "ERROR"])]
    ours = subprocess.Popen(
        [cairn, "ledger", "witness", "--dir", work / "ours", "--name", "ours.example/w", "--mldsa", "--json"]
        + ["--listen", f"127.0.0.1:{OURS_PORT}", "--ledger", vkey],
        stdout=subprocess.PIPE,
        text=True,
    )
    processes.append(ours)
    try:
        what = json.loads(ours.stdout.readline())
        wait_for(f"http://127.0.0.1:{AICS_PORT}/")
        drive(cairn, work, ledger, key, aics_vkey, what, spoil)
        ours.send_signal(signal.SIGTERM)
        if ours.wait(10) != 0:
            fail(f"cairn ledger witness ended with {ours.returncode} when it was told to stop")
    finally:
        for process in processes:
            process.kill()


def find_vkey(report):
    """The ledger's key, wherever the report has it."""
    if isinstance(report, dict):
        report = list(report.values())
    if isinstance(report, list):
        return next(filter(None, map(find_vkey, report)), None)
    is_one = isinstance(report, str) and report.count("+") >= 2 and "/1+" in report and " " not in report
    return report if is_one else None


def drive(cairn, work, ledger, key, aics_vkey, what, spoil):
    witnesses = [("aics", aics_vkey, AICS_PORT)] + [(f"ours{n}", k, OURS_PORT) for n, k in enumerate(what["keys"])]
    policy = work / "policy"
    policy.write_text(
        f"log {aics_tlog.format_vkey(key)}\n"
        + "".join(f"witness {name} {vkey} http://127.0.0.1:{port}\n" for name, vkey, port in witnesses)
        + f"group all-of-them all {' '.join(name for name, _, _ in witnesses)}\nquorum all-of-them\n"
    )
    cosigned = 0
    for count in [0, 1, 250, 1, 300]:
        if count:
            append(cairn, ledger, opened(ledger, key).size, count)
        size = opened(ledger, key).size
        answer = json.loads(run(cairn, "ledger", "cosign", ledger, "--policy", policy, "--json"))
        if spoil:
            # In the signature of aics-witness, whose line is behind the log's own.
            lines = answer["checkpoint"].splitlines(keepends=True)
            at = next(n for n, line in enumerate(lines) if " aics.example/w " in line)
            lines[at] = lines[at][:-12] + ("B" if lines[at][-12] == "A" else "A") + lines[at][-11:]
            answer["checkpoint"] = "".join(lines)
        note = aics_tlog.parse_note(answer["checkpoint"].encode())
        keys = [aics_tlog.parse_vkey(vkey) for _, vkey, _ in witnesses[:2]]
        result = aics_tlog.verify_checkpoint(note, key, keys, 2, expected_origin=key.name, max_age_seconds=300)
        if not result.ok or answer["size"] != size:
            fail(f"at {size}: aics-tlog does not accept what was cosigned: {result.error}")
        cosigned += 1
        if size > 3 and not (work / "older").exists():
            # For later: this state, to be grown in another way.
            for beside in ["", ".keys"]:
                shutil.copytree(f"{ledger}{beside}", work / f"older{beside}")
    print(f"{cosigned} checkpoints cosigned by aics-witness and by cairn ledger witness, and accepted by aics-tlog")

    # Another history, signed by the same key: of the same size, and of a larger one.
    size = opened(ledger, key).size
    older = work / "older"
    append(cairn, older, 1_000_000, size - opened(older, key).size + 9)
    refused = subprocess.run(
        [cairn, "ledger", "cosign", older, "--policy", policy], capture_output=True, text=True, check=False
    )
    for name, _, _ in witnesses:
        if refused.returncode != 1 or f"witness {name} has cosigned another history" not in refused.stderr:
            fail(f"{name} did not refuse another history: {refused.stderr}")
    print(f"another history refused by {len(witnesses)} of {len(witnesses)}")

    # Their client's bytes, our witness.
    url = f"http://127.0.0.1:{OURS_PORT}"
    add = f"{url}/add-checkpoint"
    status, kind, body = post(add, request(ledger, key, 0))
    if (status, kind, body) != (409, "text/x.tlog.size", f"{size}\n".encode()):
        fail(f"a wrong old size: {status} {kind} {body}")
    append(cairn, ledger, 5_000, 7)
    status, _, body = post(add, request(ledger, key, size))
    head = opened(ledger, key)
    lines = aics_tlog.parse_note((ledger / "checkpoint").read_bytes() + body)
    theirs = [aics_tlog.parse_vkey(what["keys"][0])]
    result = aics_tlog.verify_checkpoint(lines, key, theirs, 1, expected_origin=key.name)
    if status != 200 or not result.ok:
        fail(f"a proof by aics-tlog: {status} {body}")
    good = request(ledger, key, head.size)
    for name, bad, expected in [
        ("no request", b"", 400),
        ("an old size beyond", request(ledger, key, head.size + 1), 400),
        ("another log", good.replace(key.name.encode(), b"nobody/1"), 404),
        ("a changed checkpoint", good.replace(f"\n{head.size}\n".encode(), f"\n{head.size + 1}\n".encode()), 403),
        ("a proof where none belongs", good.replace(b"\n\n", b"\n" + b"A" * 43 + b"=\n\n", 1), 422),
    ]:
        status, _, body = post(add, bad)
        if status != expected:
            fail(f"{name}: {status}, not {expected}: {body}")
    origin = hashlib.sha256(key.name.encode()).hexdigest()
    newest = urllib.request.urlopen(f"{url}/{origin}/checkpoint", timeout=10).read()
    if aics_tlog.parse_checkpoint(aics_tlog.parse_note(newest).text).size != head.size:
        fail("the monitoring endpoint shows another size")
    print("cairn ledger witness answers aics-tlog's requests with the specification's statuses")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[3:] not in ([], ["--spoil"]):
        sys.exit(__doc__)
    main(*sys.argv[1:3], spoil=len(sys.argv) == 4)
