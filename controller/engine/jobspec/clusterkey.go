package jobspec

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"

	"dstack/controller/store"
)

// clusterKey is the private key with which the nodes of a replica log in to
// each other. It follows from the project's key, which opens every job of the
// project anyhow, and from the submission of the first job: each submission of
// a replica has its own key, all its nodes get the same one whenever they
// start, and nobody has to keep it.
func clusterKey(project store.Project, firstJobID string) string {
	if project.PrivateKey == "" {
		return "" // anybody could compute it
	}
	mac := hmac.New(sha256.New, []byte(project.PrivateKey))
	mac.Write([]byte("cluster key of " + firstJobID)) // never fails
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(mac.Sum(nil)))
	if err != nil {
		return "" // an Ed25519 key can always be encoded
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
