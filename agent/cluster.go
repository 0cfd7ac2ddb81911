package agent

import (
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/crypto/ssh"

	"dstack/agent/jobenv"
	"dstack/protocol/jobapi"
)

// Files below the home of the job's user.
const (
	clusterKeyFile = ".ssh/dstack_job"
	sshConfigFile  = ".ssh/config"
)

// joinCluster lets the job's user log in to the other nodes: it puts the
// replica's key and a block for each node into ~/.ssh, beside what is there
// (spec: job-execution.md 10). A home in the repo gets nothing: it would be
// committed; nor does one outside the folder of a job without isolation.
func (h host) joinCluster(spec *jobapi.Spec, s *setup) (err error) {
	home := s.user.Home
	if spec.NodesNum < 2 || spec.ClusterKey == "" || home == "/" ||
		spec.Repo != nil && below(home, s.repoDir) || !spec.Isolated && !below(home, h.dir) {
		return nil
	}
	key, err := sshKeyFile(spec.ClusterKey)
	if err != nil {
		return err
	}
	if err := makeDir(home, s.command.Credential); err != nil {
		return fmt.Errorf("make home: %w", err)
	}
	// Links in a home that came with an image or from a host lead nowhere else.
	root, err := os.OpenRoot(home)
	if err != nil {
		return fmt.Errorf("open home: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	c := cluster{root, s.command.Credential}
	if err := c.makeDir(".ssh"); err != nil {
		return fmt.Errorf("make ~/.ssh: %w", err)
	}
	if err := c.write(clusterKeyFile, key, 0o600); err != nil {
		return fmt.Errorf("write key of the nodes: %w", err)
	}
	config, mode, err := c.read(sshConfigFile)
	if err == nil {
		text := jobenv.SSHConfig(config, spec.NodesIPs, filepath.Join(home, clusterKeyFile))
		err = c.write(sshConfigFile, []byte(text), mode)
	}
	if err != nil {
		return fmt.Errorf("write SSH configuration: %w", err)
	}
	return nil
}

// sshKeyFile is a key as every OpenSSH client reads it.
func sshKeyFile(text string) ([]byte, error) {
	raw, err := ssh.ParseRawPrivateKey([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("read key of the nodes: %w", err)
	}
	key, ok := raw.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read key of the nodes: it is a %T", raw)
	}
	block, err := ssh.MarshalPrivateKey(key, "dstack")
	if err != nil {
		return nil, fmt.Errorf("encode key of the nodes: %w", err)
	}
	return pem.EncodeToMemory(block), nil
}

// cluster writes into a home for its owner.
type cluster struct {
	home  *os.Root
	owner *syscall.Credential
}

func (c cluster) give(name string) error {
	if c.owner == nil {
		return nil
	}
	return c.home.Lchown(name, int(c.owner.Uid), int(c.owner.Gid))
}

func (c cluster) makeDir(name string) error {
	err := c.home.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return errors.Join(err, c.give(name))
}

// read gives an empty text for a file that is not there.
func (c cluster) read(name string) (text string, mode fs.FileMode, err error) {
	info, err := c.home.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", 0o600, nil
	}
	if err != nil {
		return "", 0, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSpecSize {
		return "", 0, fmt.Errorf("~/%s is no file that can be extended", name)
	}
	data, err := c.home.ReadFile(name)
	return string(data), info.Mode().Perm(), err
}

// write replaces a file by another name and a rename: nodes may share a home.
func (c cluster) write(name string, data []byte, mode fs.FileMode) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	aside := fmt.Sprintf("%s.%s-%d", name, host, os.Getpid())
	// Whoever shares the home may have put a pipe, or a link to a file, there.
	if err := c.home.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := c.home.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Chmod(mode), file.Close(), c.give(aside))
	if err == nil {
		err = c.home.Rename(aside, name)
	}
	if err != nil {
		return errors.Join(err, c.home.Remove(aside))
	}
	return nil
}
