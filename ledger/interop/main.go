// Checks a Cairn ledger with golang.org/x/mod/sumdb and github.com/transparency-dev/formats: other implementations, by other
// people, of signed notes, RFC 6962 trees and tlog-proofs.
//
//	go run . LEDGER VKEY [PROOFS]
//
// It verifies the checkpoint's signature, computes the root from the records in the entry bundles, compares every stored hash tile
// with hashes of its own, does the same for every retained checkpoint, and checks each release's .tlog-proof against the record
// beside it, and what Cairn proved of the ledger, where ledger/examples/sizes.rs wrote PROOFS. Exit 0: all holds. 1: something does not, and standard error says what.
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
	if len(os.Args) != 3 && len(os.Args) != 4 {
		fail("usage: go run . LEDGER VKEY [PROOFS]")
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
	fmt.Printf("root of %d records, %d hash tiles, %d retained checkpoints, %d release proofs", size, tiles, retained, proofs)
	if len(os.Args) == 4 {
		included, consistent := proved(os.Args[3], verifiers, hashes)
		fmt.Printf(", %d proofs of inclusion, %d of consistency", included, consistent)
	}
	fmt.Println()
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
		included(filepath.Join(folder, "release.tlog-proof"), filepath.Join(folder, "record.json"), verifiers, hashes)
	}
	return len(folders)
}

// included checks a tlog-proof of a record against the tree.
func included(file, record string, verifiers note.Verifiers, hashes stored) {
	var parsed proof.TLogProof
	check(parsed.Unmarshal(read(file)), file)
	size, root := open(parsed.Checkpoint, verifiers, file)
	sameRoot(file, size, root, hashes)
	var path tlog.RecordProof
	for _, hash := range parsed.Hashes {
		path = append(path, tlog.Hash(hash))
	}
	leaf := tlog.RecordHash(read(record))
	what := fmt.Sprintf("%s: the proof of %s", file, filepath.Base(record))
	check(tlog.CheckRecord(path, size, root, int64(parsed.Index), leaf), what)
}

// proved checks INDEX.tlog-proof, with INDEX.record beside it, and OLD-NEW.consistency, with a hash in base64 on each line.
func proved(folder string, verifiers note.Verifiers, hashes stored) (int, int) {
	inclusions, err := filepath.Glob(filepath.Join(folder, "*.tlog-proof"))
	check(err, folder)
	for _, file := range inclusions {
		included(file, strings.TrimSuffix(file, ".tlog-proof")+".record", verifiers, hashes)
	}
	consistencies, err := filepath.Glob(filepath.Join(folder, "*.consistency"))
	check(err, folder)
	for _, file := range consistencies {
		var older, newer int64
		_, err := fmt.Sscanf(filepath.Base(file), "%d-%d.consistency", &older, &newer)
		check(err, file)
		var path tlog.TreeProof
		for _, line := range strings.Fields(string(read(file))) {
			hash, err := tlog.ParseHash(line)
			check(err, file)
			path = append(path, hash)
		}
		check(tlog.CheckTree(path, newer, rootOf(newer, hashes), older, rootOf(older, hashes)), file)
	}
	return len(inclusions), len(consistencies)
}

func rootOf(size int64, hashes stored) tlog.Hash {
	root, err := tlog.TreeHash(size, hashes)
	check(err, "the tree hash")
	return root
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
