// Checks a Cairn ledger with golang.org/x/mod/sumdb: another implementation of signed notes and RFC 6962 trees, by other people.
//
//	go run . LEDGER VKEY
//
// It verifies the checkpoint's signature, computes the root from the records in the entry bundles, compares every stored hash tile
// with hashes of its own, and checks each release's .tlog-proof against the record beside it.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if len(os.Args) != 3 {
		fail("usage: go run . LEDGER VKEY")
	}
	ledger, vkey := os.Args[1], os.Args[2]
	verifier, err := note.NewVerifier(vkey)
	check(err, "the vkey")
	verifiers := note.VerifierList(verifier)

	size, root := open(read(filepath.Join(ledger, "checkpoint")), verifiers, "checkpoint")
	leaves := entries(ledger, size)
	hashes := build(leaves)
	own, err := tlog.TreeHash(size, hashes)
	check(err, "the tree hash")
	if own != root {
		fail("the checkpoint's root is %v, the records' is %v", root, own)
	}
	tiles := hashTiles(ledger, size, hashes)
	proofs := releases(ledger, verifiers, hashes)
	fmt.Printf("golang.org/x/mod/sumdb: signature, root of %d records, %d hash tiles, %d release proofs: OK\n", size, tiles, proofs)
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
		bundle := read(filepath.Join(ledger, path("entries", index, width)))
		for len(bundle) > 0 {
			length := 2 + int(binary.BigEndian.Uint16(bundle))
			leaves = append(leaves, bundle[2:length])
			bundle = bundle[length:]
		}
	}
	if int64(len(leaves)) != size {
		fail("the bundles hold %d records, the checkpoint says %d", len(leaves), size)
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
				fail("%s differs", name)
			}
			count++
		}
	}
	return count
}

func releases(ledger string, verifiers note.Verifiers, hashes stored) int {
	folders, err := filepath.Glob(filepath.Join(ledger, "releases", "*"))
	check(err, "releases")
	for _, folder := range folders {
		record := read(filepath.Join(folder, "record.json"))
		head, checkpoint, found := strings.Cut(string(read(filepath.Join(folder, "release.tlog-proof"))), "\n\n")
		if !found {
			fail("%s: no checkpoint in the proof", folder)
		}
		lines := strings.Split(head, "\n")
		if lines[0] != "c2sp.org/tlog-proof@v1" {
			fail("%s: %s", folder, lines[0])
		}
		index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
		check(err, folder)
		var proof tlog.RecordProof
		for _, line := range lines[2:] {
			hash, err := base64.StdEncoding.DecodeString(line)
			check(err, folder)
			proof = append(proof, tlog.Hash(hash))
		}
		size, root := open([]byte(checkpoint), verifiers, folder)
		check(tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(record)), folder)
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
