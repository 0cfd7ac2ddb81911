package api

import (
	"context"
	"crypto/ed25519"
	"crypto/md5" //nolint:gosec // a name, as in 0.22.5, and no protection
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// minRSABits is the smallest RSA key that ssh-keygen reads.
const minRSABits = 1024

// keyTypes are the SSH keys that may be uploaded (spec: rest-api.md 7.1).
func keyTypes() []string {
	return []string{
		ssh.KeyAlgoRSA, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoED25519, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoSKED25519,
	}
}

func (a *API) listPublicKeys(ctx context.Context, c call, _ noBody) ([]api.PublicKeyInfo, error) {
	out := []api.PublicKeyInfo{}
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		rows, err := tx.PublicKeys(c.User.ID)
		if err != nil {
			return fmt.Errorf("list public keys: %w", err)
		}
		for i := range rows {
			out = append(out, publicKeyView(&rows[i]))
		}
		return nil
	})
	return out, err
}

func (a *API) addPublicKey(ctx context.Context, c call, in api.AddPublicKeyRequest) (api.PublicKeyInfo, error) {
	k, err := parsePublicKey(in.Key)
	if err != nil {
		return api.PublicKeyInfo{}, err
	}
	if name := deref(in.Name, ""); name != "" {
		k.Name = name
	}
	k.ID, k.UserID, k.AddedAt = uuid.NewString(), c.User.ID, a.deps.Now()
	err = a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.InsertPublicKey(&k); isTaken(err) {
			return exists()
		} else if err != nil {
			return fmt.Errorf("add public key: %w", err)
		}
		return a.record(tx, c, "Public key added. Fingerprint: "+k.Fingerprint, userTarget(&c.User))
	})
	return publicKeyView(&k), err
}

// deletePublicKeys ignores keys that do not exist or are others'.
func (a *API) deletePublicKeys(ctx context.Context, c call, in api.DeletePublicKeysRequest) (nothing, error) {
	return nil, a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		gone, err := tx.DeletePublicKeys(c.User.ID, in.IDs)
		if err != nil {
			return fmt.Errorf("delete public keys: %w", err)
		}
		for _, k := range gone {
			if err := a.record(tx, c, "Public key deleted. Fingerprint: "+k.Fingerprint, userTarget(&c.User)); err != nil {
				return err
			}
		}
		return nil
	})
}

// parsePublicKey reads TYPE BASE64 [COMMENT]; without a comment the key is
// called after its MD5 sum.
func parsePublicKey(text string) (store.PublicKey, error) {
	var k store.PublicKey
	invalid := refuse("Invalid public key, must be in OpenSSH public key format")
	kind, rest := firstWord(strings.TrimSpace(text))
	encoded, comment := firstWord(rest)
	blob, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || kind == "" || blobType(blob) != kind {
		return k, invalid
	}
	if !slices.Contains(keyTypes(), kind) {
		return k, refuse("Unsupported key type: %s", kind)
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil || weak(key) {
		return k, invalid
	}
	k.Type, k.Fingerprint, k.Name = kind, ssh.FingerprintSHA256(key), comment
	k.Key = kind + " " + encoded
	if k.Name == "" {
		sum := md5.Sum(blob) //nolint:gosec // a name
		k.Name = hex.EncodeToString(sum[:])
	}
	return k, nil
}

// firstWord cuts text after its first word.
func firstWord(text string) (word, rest string) {
	if i := strings.IndexAny(text, " \t\n\r"); i >= 0 {
		return text[:i], strings.TrimSpace(text[i:])
	}
	return text, ""
}

// blobType is the type that a key says it has; empty if it says none.
func blobType(blob []byte) string {
	const prefix = 4
	if len(blob) < prefix {
		return ""
	}
	n := binary.BigEndian.Uint32(blob)
	if uint64(n) > uint64(len(blob)-prefix) {
		return ""
	}
	return string(blob[prefix : prefix+n])
}

// weak says whether a key is one that ssh-keygen refuses to read.
func weak(key ssh.PublicKey) bool {
	c, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return false
	}
	switch k := c.CryptoPublicKey().(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() < minRSABits
	case ed25519.PublicKey:
		return len(k) != ed25519.PublicKeySize
	}
	return false
}

func publicKeyView(k *store.PublicKey) api.PublicKeyInfo {
	return api.PublicKeyInfo{
		ID: k.ID, AddedAt: api.At(k.AddedAt), Name: k.Name, Type: k.Type, Fingerprint: k.Fingerprint,
	}
}
