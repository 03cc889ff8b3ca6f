// Checks a Cairn ledger with golang.org/x/mod/sumdb and github.com/transparency-dev/formats: other implementations, by other
// people, of signed notes, RFC 6962 trees and tlog-proofs.
//
//	go run . LEDGER VKEY
//
// It verifies the checkpoint's signature, computes the root from the records in the entry bundles, compares every stored hash tile
// with hashes of its own, does the same for every retained checkpoint, and checks each release's .tlog-proof against the record
// beside it. Exit 0: all holds. 1: something does not, and standard error says what.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if len(os.Args) != 3 {
		fail("usage: go run . LEDGER VKEY")
	}
	ledger, vkey := os.Args[1], os.Args[2]
	verifier, err := note.NewVerifier(vkey)
	check(err, "the verifier key")
	verifiers := note.VerifierList(verifier)

	size, root := open(read(filepath.Join(ledger, "checkpoint")), verifiers, "checkpoint")
	hashes := build(entries(ledger, size))
	sameRoot("checkpoint", size, root, hashes)
	tiles := hashTiles(ledger, size, hashes)
	retained := checkpoints(ledger, size, verifiers, hashes)
	proofs := releases(ledger, verifiers, hashes)
	fmt.Printf("root of %d records, %d hash tiles, %d retained checkpoints, %d release proofs\n", size, tiles, retained, proofs)
}

// open checks a checkpoint's signature and returns its size and root.
func open(message []byte, verifiers note.Verifiers, what string) (int64, tlog.Hash) {
	opened, err := note.Open(message, verifiers)
	check(err, what)
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 {
		fail("%s: %d lines", what, len(lines))
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err, what+": size")
	root, err := tlog.ParseHash(lines[2])
	check(err, what+": root")
	return size, root
}

func sameRoot(what string, size int64, root tlog.Hash, hashes stored) {
	own, err := tlog.TreeHash(size, hashes)
	check(err, what+": the tree hash")
	if own != root {
		fail("%s: the signed root of %d records is %v, and the records' is %v", what, size, root, own)
	}
}

// path is a C2SP tile path: three digits an element, all but the last with an x.
func path(level string, index, width int64) string {
	name := fmt.Sprintf("%03d", index%1000)
	for index >= 1000 {
		index /= 1000
		name = fmt.Sprintf("x%03d/%s", index%1000, name)
	}
	if width < 256 {
		name = fmt.Sprintf("%s.p/%d", name, width)
	}
	return filepath.Join("tile", level, name)
}

func entries(ledger string, size int64) [][]byte {
	var leaves [][]byte
	for index := int64(0); index*256 < size; index++ {
		width := min(256, size-index*256)
		name := path("entries", index, width)
		bundle := read(filepath.Join(ledger, name))
		for range width {
			if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
				fail("%s ends inside a record", name)
			}
			length := 2 + int(binary.BigEndian.Uint16(bundle))
			leaves = append(leaves, bundle[2:length])
			bundle = bundle[length:]
		}
		if len(bundle) > 0 {
			fail("%s has %d bytes behind its %d records", name, len(bundle), width)
		}
	}
	return leaves
}

type stored []tlog.Hash

func (s stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index >= int64(len(s)) {
			return nil, fmt.Errorf("no hash %d", index)
		}
		hashes[i] = s[index]
	}
	return hashes, nil
}

func build(leaves [][]byte) stored {
	var hashes stored
	for index, leaf := range leaves {
		more, err := tlog.StoredHashes(int64(index), leaf, hashes)
		check(err, "hashes")
		hashes = append(hashes, more...)
	}
	return hashes
}

func hashTiles(ledger string, size int64, hashes stored) int {
	count := 0
	for level, width := 0, size; width > 0; level, width = level+1, width/256 {
		for index := int64(0); index*256 < width; index++ {
			wide := min(256, width-index*256)
			var want bytes.Buffer
			for i := range wide {
				at := tlog.StoredHashIndex(level*8, index*256+i)
				want.Write(hashes[at][:])
			}
			name := path(strconv.Itoa(level), index, wide)
			if !bytes.Equal(read(filepath.Join(ledger, name)), want.Bytes()) {
				fail("%s does not hold the records' hashes", name)
			}
			count++
		}
	}
	return count
}

func checkpoints(ledger string, newest int64, verifiers note.Verifiers, hashes stored) int {
	files, err := filepath.Glob(filepath.Join(ledger, "checkpoints", "*"))
	check(err, "checkpoints")
	for _, file := range files {
		size, root := open(read(file), verifiers, file)
		if strconv.FormatInt(size, 10) != filepath.Base(file) || size > newest {
			fail("%s is of %d records", file, size)
		}
		sameRoot(file, size, root, hashes)
	}
	return len(files)
}

func releases(ledger string, verifiers note.Verifiers, hashes stored) int {
	folders, err := filepath.Glob(filepath.Join(ledger, "releases", "*"))
	check(err, "releases")
	for _, folder := range folders {
		var parsed proof.TLogProof
		check(parsed.Unmarshal(read(filepath.Join(folder, "release.tlog-proof"))), folder)
		size, root := open(parsed.Checkpoint, verifiers, folder)
		sameRoot(folder, size, root, hashes)
		var path tlog.RecordProof
		for _, hash := range parsed.Hashes {
			path = append(path, tlog.Hash(hash))
		}
		leaf := tlog.RecordHash(read(filepath.Join(folder, "record.json")))
		check(tlog.CheckRecord(path, size, root, int64(parsed.Index), leaf), folder+": the proof of record.json")
	}
	return len(folders)
}

func read(name string) []byte {
	data, err := os.ReadFile(name)
	check(err, name)
	return data
}

func check(err error, what string) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}
