#!/usr/bin/env python3
"""Checks with git that a promoted release is the commit it says: git computes every id, from its own copy and from the release.

- the tag vN is annotated and points to the commit that the statement names, and its message names the content and the record
- the raw commit and trees in the statement are what git has under those ids
- content.tar, unpacked by GNU tar and hashed by git, gives the same tree as the commit's policy files: same names, modes, bytes

usage: verify_git.py RELEASE_DIRECTORY REPOSITORY        (git, tar)
Exit 0: the same. 1: refused. Nothing is written to the repository.
"""

import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile

# What of a policy repo is policy, and so in a release.
POLICY = ["cairn.yaml", "owners.yaml", "controls", "detections", "exceptions", "guardrails", "responses", "runbooks"]


class Git:
    """Git on a repository, writing new objects and its index into a scratch folder."""

    def __init__(self, repository, scratch):
        found = subprocess.run(
            ["git", "-C", repository, "rev-parse", "--absolute-git-dir"], capture_output=True, text=True
        )
        if found.returncode != 0:
            sys.exit(f"refused: {found.stderr.strip()}")
        directory = pathlib.Path(found.stdout.strip())
        objects = scratch / "objects"
        objects.mkdir()
        self.environment = os.environ | {
            "GIT_DIR": str(directory),
            "GIT_INDEX_FILE": str(scratch / "index"),
            "GIT_OBJECT_DIRECTORY": str(objects),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(directory / "objects"),
        }

    def __call__(self, *arguments, stdin=b"", cwd=None):
        ran = subprocess.run(["git", *arguments], input=stdin, capture_output=True, env=self.environment, cwd=cwd)
        if ran.returncode != 0:
            sys.exit(f"refused: git {' '.join(arguments)}: {ran.stderr.decode(errors='replace').strip()}")
        return ran.stdout

    def word(self, *arguments, stdin=b"", cwd=None):
        return self(*arguments, stdin=stdin, cwd=cwd).decode().strip()

    def tree(self, entries):
        """The id of the tree that these `mode type id TAB path` lines make."""
        self("read-tree", "--empty")
        self("update-index", "-z", "--index-info", stdin=entries)
        return self.word("write-tree", "--missing-ok")


def entries_of(git, folder):
    """Every file below `folder` as git would enter it, without attributes or filters."""
    files = sorted(path for path in folder.rglob("*") if not path.is_dir())
    lines = []
    for path in files:
        if path.is_symlink() or not path.is_file():
            sys.exit(f"refused: content.tar holds {path.relative_to(folder)}, which is no regular file")
        mode = "100755" if path.stat().st_mode & 0o100 else "100644"
        blob = git.word("hash-object", "--no-filters", "--stdin", stdin=path.read_bytes())
        lines.append(f"{mode} blob {blob}\t{path.relative_to(folder)}\0".encode())
    return b"".join(lines), len(files)


def main(release, repository):
    release = pathlib.Path(release)
    bundle = json.loads((release / "statement.sigstore.json").read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    predicate, commit = statement["predicate"], statement["predicate"]["commit"]
    tag = f"v{predicate['serial']}"
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        git = Git(repository, scratch)

        if git.word("cat-file", "-t", f"refs/tags/{tag}") != "tag":
            sys.exit(f"refused: {tag} is not an annotated tag")
        if git.word("rev-parse", "--verify", f"refs/tags/{tag}^{{commit}}") != commit["id"]:
            sys.exit(f"refused: {tag} is not the commit {commit['id']} that the statement names")
        index = (release / "release.tlog-proof").read_text().split("\n")[1]
        message = git.word("cat-file", "tag", f"refs/tags/{tag}")
        for expected in (f"Content: sha256:{statement['subject'][0]['digest']['sha256']}", f", {index}"):
            if expected not in message:
                sys.exit(f"refused: the tag {tag} does not say '{expected}'")

        raw = base64.b64decode(commit["raw"])
        if git.word("hash-object", "-t", "commit", "--stdin", stdin=raw) != commit["id"]:
            sys.exit("refused: the statement's raw commit has another id")
        if git("cat-file", "commit", commit["id"]) != raw:
            sys.exit(f"refused: git has another commit {commit['id']}")
        for encoded in commit["trees"]:
            tree = base64.b64decode(encoded)
            name = git.word("hash-object", "-t", "tree", "--stdin", stdin=tree)
            if git("cat-file", "tree", name) != tree:
                sys.exit(f"refused: git has another tree {name}")

        files = scratch / "files"
        files.mkdir()
        untar = subprocess.run(
            ["tar", "--extract", "--file", release / "content.tar", "--directory", files], capture_output=True, text=True
        )
        if untar.returncode != 0 or untar.stderr:
            sys.exit(f"refused: tar: {untar.stderr.strip()}")
        ours, count = entries_of(git, files)
        theirs = git("ls-tree", "-r", "-z", "--full-tree", commit["id"], "--", *POLICY)
        if git.tree(ours) != git.tree(theirs):
            differing = set(ours.split(b"\0")) ^ set(theirs.split(b"\0"))
            sys.exit(f"refused: content.tar is not the commit's policy: {sorted(differing)[0].decode(errors='replace')}")
    print(f"{tag} is {commit['id'][:12]} with {len(commit['trees'])} trees and {count} files")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
