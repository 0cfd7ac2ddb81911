package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pkg/sftp"

	"dstack/sshlink"
)

// sendBySFTP writes one new file on the host.
func sendBySFTP(ctx context.Context, client *sshlink.Client, path string, open func() (io.ReadCloser, error)) (err error) {
	session, err := client.NewSession()
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	defer session.Close() //nolint:errcheck // closed already by the client's Close
	// What a login script prints makes the start hang as well as fail.
	starting, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	stop := context.AfterFunc(starting, func() { _ = session.Close() })
	out, err := session.StdoutPipe()
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	in, err := session.StdinPipe()
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	if err := session.RequestSubsystem("sftp"); err != nil {
		return fmt.Errorf("start sftp: %w", err)
	}
	files, err := sftp.NewClientPipe(out, in, sftp.UseConcurrentWrites(true))
	if err != nil {
		return fmt.Errorf("start sftp: %w", err)
	}
	stop()
	defer context.AfterFunc(ctx, func() { _ = session.Close() })()
	defer files.Close() //nolint:errcheck // the file's Close has told whether it is written

	data, err := open()
	if err != nil {
		return err
	}
	defer data.Close() //nolint:errcheck // only read
	to, err := files.Create(path)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if err := to.Chmod(0o600); err != nil {
		return fmt.Errorf("protect %s: %w", path, err)
	}
	if _, err := to.ReadFromWithConcurrency(data, 64); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
