// Checks a release's signature with sigstore-go, the library inside cosign: the bundle by the given key, without a transparency log
// or time stamp, and that the signed statement's subject is content.tar.
//
//	go run . RELEASE_DIRECTORY PUBLIC_KEY.pem
//
// Exit 0: verified. 1: refused.
package main

import (
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
)

func main() {
	if len(os.Args) != 3 {
		refuse(fmt.Errorf("usage: go run . RELEASE_DIRECTORY PUBLIC_KEY.pem"))
	}
	release, keyFile := os.Args[1], os.Args[2]
	pem, err := os.ReadFile(keyFile)
	refuse(err)
	public, err := cryptoutils.UnmarshalPEMToPublicKey(pem)
	refuse(err)
	key, err := signature.LoadVerifier(public, crypto.SHA256)
	refuse(err)
	// Only the given key is known, whatever the bundle hints at.
	trusted := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(key, time.Time{}, time.Time{}), nil
	})
	verifier, err := verify.NewVerifier(trusted, verify.WithNoObserverTimestamps())
	refuse(err)
	entity, err := bundle.LoadJSONFromPath(filepath.Join(release, "statement.sigstore.json"))
	refuse(err)
	content, err := os.Open(filepath.Join(release, "content.tar"))
	refuse(err)
	result, err := verifier.Verify(entity, verify.NewPolicy(verify.WithArtifact(content), verify.WithKey()))
	refuse(err)
	fmt.Printf("verified a %s about %s\n", result.Statement.PredicateType, result.Statement.Subject[0].Name)
}

func refuse(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(1)
	}
}
