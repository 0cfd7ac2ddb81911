package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// answerCredential answers git's question for credentials (git-credential(1)).
func answerCredential(operation string, out io.Writer) error {
	token := os.Getenv(tokenVariable)
	if operation != "get" || token == "" {
		return nil // nothing is kept
	}
	if _, err := fmt.Fprintf(out, "username=anything\npassword=%s\n", token); err != nil {
		return fmt.Errorf("answer git: %w", err)
	}
	return nil
}

const sshTimeout = 30 * time.Second

// runSSH runs a command on the host of a repo in place of ssh(1), which an image
// may not have, and gives its exit status. args are what git passes to ssh.
// The key of the host is not checked: nobody knows it.
func runSSH(ctx context.Context, args []string, in io.Reader, out, said io.Writer) (int, error) {
	target, port, command, err := parseSSH(args)
	if err != nil {
		return 0, err
	}
	user, host, hasUser := strings.Cut(target, "@")
	if !hasUser {
		user, host = "git", target
	}
	signer, err := ssh.ParsePrivateKey([]byte(os.Getenv(keyVariable)))
	if err != nil {
		return 0, fmt.Errorf("read the repo's SSH key: %w", err)
	}
	dialer := net.Dialer{Timeout: sshTimeout}
	address := net.JoinHostPort(strings.Trim(host, "[]"), port)
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, fmt.Errorf("connect to %s: %w", address, err)
	}
	conn, channels, requests, err := ssh.NewClientConn(raw, address, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, Timeout: sshTimeout,
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // as in 0.22.5
	})
	if err != nil {
		return 0, errors.Join(fmt.Errorf("log in at %s: %w", address, err), raw.Close())
	}
	client := ssh.NewClient(conn, channels, requests)
	defer client.Close() //nolint:errcheck // the process ends
	session, err := client.NewSession()
	if err != nil {
		return 0, fmt.Errorf("open session: %w", err)
	}
	session.Stdin, session.Stdout, session.Stderr = in, out, said
	err = session.Run(command)
	if status, ok := errors.AsType[*ssh.ExitError](err); ok {
		return status.ExitStatus(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("run git on %s: %w", address, err)
	}
	return 0, nil
}

// parseSSH reads the options that git gives to ssh.
func parseSSH(args []string) (target, port, command string, err error) {
	port = "22"
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		option := args[0]
		args = args[1:]
		if option != "-p" && option != "-o" {
			continue // -4, -6 and the like
		}
		if len(args) == 0 {
			return "", "", "", fmt.Errorf("%s has no value", option)
		}
		if option == "-p" {
			port = args[0]
		}
		args = args[1:]
	}
	if len(args) < 2 {
		return "", "", "", errors.New("a host and a command are needed")
	}
	return args[0], port, strings.Join(args[1:], " "), nil
}
