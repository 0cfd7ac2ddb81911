// Package sftpserver serves files over SFTP, as a process of the user that
// has logged in: the system decides what that user may do.
package sftpserver

import (
	"errors"
	"fmt"
	"io"

	"github.com/pkg/sftp"
)

// Command is the argument with which the agent's program is this server.
const Command = "sftp"

// Serve serves on in and out, relative to the working directory, until in ends.
func Serve(in io.Reader, out io.WriteCloser) error {
	server, err := sftp.NewServer(struct {
		io.Reader
		io.WriteCloser
	}{in, out})
	if err != nil {
		return fmt.Errorf("start SFTP server: %w", err)
	}
	if err := server.Serve(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("serve SFTP: %w", err)
	}
	return nil
}
