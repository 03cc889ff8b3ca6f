// Drives Tessera's POSIX storage in this process, as `bench_ledger raw` drives Cairn's: so many writers, each with one entry outstanding,
// which counts when its index is durable. No deduplication; batches of 256 entries or 250 ms, a checkpoint each second, as Tessera has them.
//
//	go run . FOLDER WRITERS LEN SECONDS
//
// FOLDER must not exist. Prints `name value`, times in seconds.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

func main() {
	if len(os.Args) != 5 {
		fail(fmt.Errorf("usage: go run . FOLDER WRITERS LEN SECONDS"))
	}
	writers, err := strconv.Atoi(os.Args[2])
	check(err)
	length, err := strconv.Atoi(os.Args[3])
	check(err)
	seconds, err := strconv.ParseFloat(os.Args[4], 64)
	check(err)

	secret, _, err := note.GenerateKey(nil, "bench")
	check(err)
	signer, err := note.NewSigner(secret)
	check(err)
	ctx := context.Background()
	driver, err := posix.New(ctx, posix.Config{Path: os.Args[1]})
	check(err)
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithBatching(256, 250*time.Millisecond).
		WithCheckpointInterval(time.Second).
		WithPushback(uint(4 * writers))
	appender, shutdown, _, err := tessera.NewAppender(ctx, driver, options)
	check(err)

	times := make([][]float64, writers)
	started := time.Now()
	end := started.Add(time.Duration(seconds * float64(time.Second)))
	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			for round := uint64(0); time.Now().Before(end); round++ {
				data := make([]byte, length)
				binary.BigEndian.PutUint64(data, round)
				binary.BigEndian.PutUint64(data[8:], uint64(writer))
				asked := time.Now()
				_, err := appender.Add(ctx, tessera.NewEntry(data))()
				check(err)
				times[writer] = append(times[writer], time.Since(asked).Seconds())
			}
		})
	}
	group.Wait()
	took := time.Since(started).Seconds()
	check(shutdown(ctx))

	var all []float64
	for _, each := range times {
		all = append(all, each...)
	}
	sort.Float64s(all)
	at := func(share float64) float64 { return all[int(float64(len(all)-1)*share)] }
	fmt.Println("records", len(all))
	fmt.Println("per_second", float64(len(all))/took)
	fmt.Println("append_p50", at(0.5))
	fmt.Println("append_p99", at(0.99))
	fmt.Println("append_p999", at(0.999))
	fmt.Println("append_max", at(1))
}

func check(err error) {
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "error:", err)
	os.Exit(1)
}
