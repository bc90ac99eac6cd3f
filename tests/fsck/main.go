// Command fsck checks a tlog-tiles log with Tessera's fsck library, which keytrail's authors did not write.
//
//	fsck -key FILE -url file:///DIR/ [-origin NAME] [-workers N] [-timeout 60s]
//
// Exit code 0: every tile, bundle and the checkpoint agree. 1: they do not, with the reason on stdout.
// 2: usage. Tessera's own command exits 0 on failure and hangs when as many tiles are bad as it has
// workers, hence the exit code and the time limit here.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
)

// maxReason bounds what one finding may print: a broken log can quote whole tiles.
const maxReason = 300

func main() {
	keyFile := flag.String("key", "", "file with the log's verifier key (C2SP signed-note)")
	location := flag.String("url", "", "the log: file:///DIR/ or an HTTP prefix")
	origin := flag.String("origin", "", "origin line of the checkpoint (default: the key's name)")
	workers := flag.Uint("workers", 4, "concurrent fetches")
	timeout := flag.Duration("timeout", time.Minute, "give up after this time")
	flag.Parse()

	check, err := prepare(*keyFile, *location, *origin, *workers)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fsck:", err)
		os.Exit(2)
	}
	if err := within(*timeout, check.Check); err != nil {
		reason := err.Error()
		if len(reason) > maxReason {
			reason = reason[:maxReason] + "..."
		}
		fmt.Println("fsck failed:", reason)
		fmt.Println(check.Status())
		os.Exit(1)
	}
	fmt.Println("fsck ok")
}

func prepare(keyFile, location, origin string, workers uint) (*fsck.Fsck, error) {
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(key)))
	if err != nil {
		return nil, err
	}
	if origin == "" {
		origin = verifier.Name()
	}
	u, err := url.Parse(location)
	if err != nil {
		return nil, err
	}
	var source fsck.Fetcher
	switch u.Scheme {
	case "file":
		source = &client.FileFetcher{Root: u.Path}
	case "http", "https":
		if source, err = client.NewHTTPFetcher(u, nil); err != nil {
			return nil, err
		}
	default:
		return nil, errors.New("expected -url file:///DIR/ or an HTTP prefix")
	}
	return fsck.New(origin, verifier, source, leafHashes, fsck.Opts{N: workers}), nil
}

// leafHashes gives the RFC 6962 leaf hashes of an entry bundle.
func leafHashes(bundle []byte) ([][]byte, error) {
	b := &api.EntryBundle{}
	if err := b.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	hashes := make([][]byte, 0, len(b.Entries))
	for _, entry := range b.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}

// within runs check, turning a panic or a hang into an error.
func within(limit time.Duration, check func(context.Context) error) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("panic: %v", p)
			}
		}()
		done <- check(context.Background())
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		return fmt.Errorf("no answer in %v", limit)
	}
}
