#!/usr/bin/env python3
"""Follows a ledger's volumes, keys and endorsements as FORMAT.md describes them, with hashlib and the Ed25519 of the `cryptography`
package: which key signs which checkpoint, whom the root key endorsed, and how a volume follows from the one before. It shares no code
with Cairn.

usage: volumes.py LEDGER [--root VKEY]      a ledger's directory; the root's key is record 0's unless it is given
       volumes.py --vectors FOLDER          the files in FOLDER/volumes and FOLDER/endorsement, each of which says what to expect
Exit 0: all holds. 1: something does not, and standard error says what, in the words of `cairn verify`.                 (pip install
cryptography)"""

import base64
import hashlib
import json
import pathlib
import re
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WIDTH = 256


class Wrong(Exception):
    """What does not hold: the kind, and a sentence."""

    def __init__(self, kind, reason):
        super().__init__(f"{kind}: {reason}")
        self.kind = kind


class Key:
    """A vkey of Ed25519: <name>+<id>+<base64 of 0x01 and the public key>."""

    def __init__(self, vkey):
        self.vkey = vkey
        self.name, number, data = vkey.split("+", 2)
        data = base64.b64decode(data, validate=True)
        if data[:1] != b"\x01" or len(data) != 33:
            raise ValueError("not a key of Ed25519")
        self.id = hashlib.sha256(self.name.encode() + b"\n" + data).digest()[:4]
        if self.id.hex() != number:
            raise ValueError("the key's id is another one's")
        self.public = data[1:]


class Note:
    """A signed note: a text, and lines that say who signed it."""

    def __init__(self, note):
        text, blank, lines = note.rpartition("\n\n")
        if not blank or not lines.endswith("\n"):
            raise ValueError("not a signed note")
        self.text = text + "\n"
        self.lines = []
        for line in lines[:-1].split("\n"):
            dash, name, data = line.split(" ")
            if dash != "\N{EM DASH}":
                raise ValueError("not a signature line")
            self.lines.append((name, base64.b64decode(data, validate=True)))

    def check(self, key):
        """The key's signature, as a sentence about what is wrong with it; None: it holds."""
        found = [data for name, data in self.lines if name == key.name and data[:4] == key.id]
        if not found:
            return "not-signed"
        try:
            for data in found:
                Ed25519PublicKey.from_public_bytes(key.public).verify(data[4:], self.text.encode())
        except InvalidSignature:
            return "wrong-signature"
        return None


class Checkpoint:
    """Origin, size and root, each on its line."""

    def __init__(self, note):
        self.note = Note(note)
        self.origin, size, root, end = self.note.text.split("\n")
        if end or str(int(size)) != size:
            raise ValueError("not a checkpoint")
        self.size, self.root = int(size), base64.b64decode(root, validate=True)


def root_of(leaves):
    """RFC 6962, from the leaves alone: whole subtrees are joined as the next leaf completes them."""
    stack = []
    for count, leaf in enumerate(leaves, 1):
        while count % 2 == 0:
            leaf = hashlib.sha256(b"\x01" + stack.pop() + leaf).digest()
            count //= 2
        stack.append(leaf)
    if not stack:
        return hashlib.sha256(b"").digest()
    root = stack.pop()
    while stack:
        root = hashlib.sha256(b"\x01" + stack.pop() + root).digest()
    return root


def says(note, root):
    """What the root key's word is about: the lines of its text. Raises ValueError with the word of a vector for what is none."""
    try:
        note = Note(note)
    except (ValueError, UnicodeError) as error:
        raise ValueError("malformed") from error
    wrong = note.check(root)
    if wrong:
        raise ValueError(wrong)
    header, *lines = note.text[:-1].split("\n")
    try:
        if header == "cairn ledger key v1" and len(lines) in (2, 3):
            if Key(lines[1]).name != lines[0] or (len(lines) == 3 and not lines[2].startswith(lines[0] + "+")):
                raise ValueError
        elif header != "cairn witness policy v1" or len(lines) != 2 or not re.fullmatch("[0-9a-f]{64}", lines[1]):
            raise ValueError
    except ValueError as error:
        raise ValueError("malformed") from error
    return [header, *lines]


def endorsed(kind, note, root, *expected):
    try:
        said = says(note or "", root)
    except ValueError as error:
        raise Wrong(kind, f"the root key's word is {error}") from error
    if said != list(expected):
        raise Wrong(kind, f"the root key endorsed {said[-1]}; expected {expected[-1]}")


def read_records(folder):
    """The records that the checkpoint covers, from the entry bundles."""
    size = Checkpoint((folder / "checkpoint").read_text()).size
    records = []
    for number in range(0, (size + WIDTH - 1) // WIDTH):
        digits = f"{number:03}" if number < 1000 else f"x{number // 1000:03}/{number % 1000:03}"
        width = min(WIDTH, size - number * WIDTH)
        full = folder / "tile/entries" / digits
        data = (full if full.exists() else full.with_name(f"{full.name}.p") / str(width)).read_bytes()
        for _ in range(width):
            length = int.from_bytes(data[:2])
            records.append(data[2 : 2 + length])
            data = data[2 + length :]
    return records


class Volume:
    """One volume: what its own records say of its keys, and whether its checkpoints are by these."""

    def __init__(self, folder, root):
        records = read_records(folder)
        self.leaves = [hashlib.sha256(b"\x00" + record).digest() for record in records]
        parsed = ((index, json.loads(record)) for index, record in enumerate(records) if b'"/streams/ledger"' in record)
        own = [(index, record["type"][6:-3], record["data"]) for index, record in parsed]
        if not own or own[0][:2] != (0, "ledger.opened"):
            raise Wrong("ledger_opened", "record 0 is no ledger.opened")
        self.opened = own[0][2]
        self.root = root or Key(self.opened["root_key"])
        name = self.opened["name"]
        self.origin = f"{name}/{self.opened['volume']}"
        self.closed = own[-1][2] if own[-1][:2] == (len(records) - 1, "ledger.closed") else None
        self.windows = [(0, Key(self.opened["ledger_key"]), self.opened.get("mldsa_key"))]
        for index, kind, data in own:
            if kind == "ledger.keyrotated":
                if data["old"] != self.windows[-1][1].vkey:
                    raise Wrong("key_endorsement", "the old key is not the one in force")
                second = [data["mldsa_key"]] if "mldsa_key" in data else []
                words = ["cairn ledger key v1", self.origin, data["new"], *second]
                endorsed("key_endorsement", data["endorsement"], self.root, *words)
                self.windows.append((index + 1, Key(data["new"]), data.get("mldsa_key")))
            elif kind == "ledger.witnesseschanged":
                digest = hashlib.sha256(data.get("policy", "").encode()).hexdigest()
                words = ["cairn witness policy v1", name, digest]
                endorsed("witnesses_endorsement", data["endorsement"], self.root, *words)
        for path in [folder / "checkpoint", *sorted(folder.glob("checkpoints/*"))]:
            self.holds("checkpoint_signature", path.read_text(), path.name)

    def key_at(self, size):
        return [window for window in self.windows if window[0] <= size][-1]

    def holds(self, kind, text, what):
        """A checkpoint of this volume: by the key in force at its size, with the root that the records have."""
        checkpoint = Checkpoint(text)
        wrong = "of another log" if checkpoint.origin != self.origin else checkpoint.note.check(self.key_at(checkpoint.size)[1])
        if wrong:
            raise Wrong(kind, f"{what}: {wrong}")
        leaves = self.leaves[: checkpoint.size]
        if len(leaves) != checkpoint.size or root_of(leaves) != checkpoint.root:
            raise Wrong("volume_chain" if kind == "volume_chain" else "root_wrong", f"{what}: the root is another")
        return checkpoint

    def follows(self, before):
        """That this volume goes on where the one before ended."""
        previous = self.opened["previous"]
        checkpoint = before.holds("volume_chain", previous["checkpoint"], "the checkpoint that volume names as the last before it")
        if previous["reason"] == "rotated":
            closed = before.closed and before.closed["next"] == self.opened["volume"]
            if not closed or checkpoint.size != len(before.leaves):
                raise Wrong("volume_chain", "the volume before was not closed for this one")
        _, last, last_second = before.windows[-1]
        _, first, second = self.windows[0]
        same_second = (last_second or "").rpartition("+")[2] == (second or "").rpartition("+")[2]
        if last.public != first.public or not same_second:
            words = ["cairn ledger key v1", self.origin, first.vkey, *([second] if second else [])]
            endorsed("key_endorsement", previous.get("endorsement"), self.root, *words)


def check_ledger(folder, root=None):
    """Every volume from the first that is here; how many, how many keys, and how many checkpoints."""
    numbers = sorted(int(path.name) for path in folder.glob("volume/*") if path.name.isdigit())
    folders = ([folder] if (folder / "checkpoint").exists() else []) + [folder / "volume" / str(n) for n in numbers]
    before, keys = None, 0
    for place in folders:
        volume = Volume(place, root or (before.root if before else None))
        if before:
            volume.follows(before)
        before, keys = volume, keys + len(volume.windows)
    if before is None:
        raise Wrong("checkpoint_missing", "there is no volume")
    return f"{len(folders)} volumes, {keys} keys"


def check_vectors(folder):
    import tempfile

    def read(path):
        head, body = path.read_text().split("\n\n", 1)
        return dict(line.split(": ", 1) for line in head.split("\n")), body

    done = 0
    for path in sorted((folder / "volumes").iterdir()):
        headers, body = read(path)
        with tempfile.TemporaryDirectory() as made:
            for line in body.splitlines():
                name, data = line.split(" ")
                place = pathlib.Path(made, name)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(bytes.fromhex(data))
            try:
                check_ledger(pathlib.Path(made))
                found, why = "valid", ""
            except Wrong as error:
                found, why = error.kind, error
        if found != headers["expect"]:
            raise Wrong("vector", f"{path.name} is {found}; expected {headers['expect']}: {why}")
        done += 1
    for path in sorted((folder / "endorsement").iterdir()):
        headers, body = read(path)
        try:
            said = says(body, Key(headers["key"]))[2]
            found = "valid" if said == headers["says"] else f"about {said}"
        except ValueError as error:
            found = str(error)
        if found != headers["expect"]:
            raise Wrong("vector", f"{path.name} is {found}; expected {headers['expect']}")
        done += 1
    return f"{done} vectors"


def main(arguments):
    try:
        if arguments[:1] == ["--vectors"] and len(arguments) == 2:
            print(check_vectors(pathlib.Path(arguments[1])))
        elif len(arguments) == 1 or (len(arguments) == 3 and arguments[1] == "--root"):
            print(check_ledger(pathlib.Path(arguments[0]), Key(arguments[2]) if arguments[2:] else None))
        else:
            sys.exit(__doc__)
    except Wrong as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
