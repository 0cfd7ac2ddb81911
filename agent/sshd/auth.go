package sshd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/cpu"

	"dstack/agent/become"
)

// version is how the server calls itself.
const version = "SSH-2.0-dstack_agent"

// accountKey finds the account in the permissions of a login, and
// keyExtension the fingerprint of the key that proved it.
type accountKey struct{}

const keyExtension = "key"

var (
	errUser = errors.New("no such user here")
	errKey  = errors.New("key is not authorized")
)

func (s *Server) serverConfig() *ssh.ServerConfig {
	config := &ssh.ServerConfig{
		ServerVersion: version,
		MaxAuthTries:  maxAuthTries,
		// Clients offer keys that they need not have: what is found out here
		// decides only whether they may go on to prove it.
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			_, err := s.authorize(meta.User(), key)
			return &ssh.Permissions{}, err
		},
		VerifiedPublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
			who, err := s.authorize(meta.User(), key)
			return &ssh.Permissions{
				Extensions: map[string]string{keyExtension: ssh.FingerprintSHA256(key)},
				ExtraData:  map[any]any{accountKey{}: who},
			}, err
		},
	}
	config.Ciphers = ciphers()
	for _, key := range s.cfg.HostKeys {
		config.AddHostKey(key)
	}
	return config
}

// ciphers are those for clients to choose from. Most prefer ChaCha20, which
// is several times slower than AES where the processor has the latter.
func ciphers() []string {
	list := []string{
		ssh.CipherAES128GCM, ssh.CipherAES256GCM,
		ssh.CipherAES128CTR, ssh.CipherAES192CTR, ssh.CipherAES256CTR,
	}
	if cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL {
		return list
	}
	return append([]string{ssh.CipherChaCha20Poly1305}, list...)
}

// authorize finds the account that key opens under a login name.
func (s *Server) authorize(name string, key ssh.PublicKey) (Account, error) {
	who, err := s.cfg.Account(name)
	if err != nil {
		s.cfg.Log.Debug().Err(err).Str("user", name).Msg("ssh user refused")
		return Account{}, errUser
	}
	for _, known := range append(ownKeys(who), s.cfg.Keys...) {
		if equal(known, key) {
			return who, nil
		}
	}
	return Account{}, errKey
}

func equal(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

// maxKeysFile is how much of an authorized_keys file is read, in bytes.
const maxKeysFile = 1 << 20

// ownKeys are the keys in the user's own ~/.ssh/authorized_keys. As in
// OpenSSH, a file that others can write to does not count.
func ownKeys(who Account) []ssh.PublicKey {
	if who.Home == "/" || who.Home == "" {
		return nil
	}
	dir := filepath.Join(who.Home, ".ssh")
	var data []byte
	err := become.Do(who.Credential, func() error {
		for _, path := range []string{who.Home, dir} {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			if err := trusted(info, who); err != nil {
				return err
			}
		}
		// A named pipe must not block us.
		file, err := os.OpenFile(filepath.Join(dir, "authorized_keys"), os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer file.Close() //nolint:errcheck // only read
		info, err := file.Stat()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return errors.New("no regular file")
		}
		if err := trusted(info, who); err != nil {
			return err
		}
		data, err = io.ReadAll(io.LimitReader(file, maxKeysFile))
		return err
	})
	if err != nil {
		return nil // none, or none that count
	}
	return parseKeys(data)
}

// trusted says whether nobody but root and the user can change a file.
func trusted(info os.FileInfo, who Account) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("owner is not known")
	}
	if stat.Uid != 0 && stat.Uid != who.UID || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s can be changed by others", info.Name())
	}
	return nil
}

// parseKeys reads the keys of an authorized_keys file. A key with options,
// all of which restrict it, is left out: they are not implemented.
func parseKeys(data []byte) []ssh.PublicKey {
	var keys []ssh.PublicKey
	for len(data) > 0 {
		key, _, options, rest, err := ssh.ParseAuthorizedKey(data)
		if err != nil {
			break // nothing more that is a key
		}
		if data = rest; len(options) == 0 {
			keys = append(keys, key)
		}
	}
	return keys
}
