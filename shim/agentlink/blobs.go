package agentlink

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"dstack/protocol/jobapi"
)

// ClearBlobs makes an empty folder for blobs, owned by uid if that is not 0.
// Like WriteBlob it is called before the workload is started.
func (f *Folder) ClearBlobs(uid int) error {
	if err := f.root.RemoveAll(jobapi.BlobsDir); err != nil {
		return fmt.Errorf("remove old files: %w", err)
	}
	if err := f.root.Mkdir(jobapi.BlobsDir, 0o700); err != nil {
		return fmt.Errorf("make folder of files: %w", err)
	}
	if uid != 0 {
		if err := f.root.Lchown(jobapi.BlobsDir, uid, uid); err != nil {
			return fmt.Errorf("hand over folder of files: %w", err)
		}
	}
	return nil
}

// WriteBlob copies a blob for the agent, owned by uid if that is not 0.
func (f *Folder) WriteBlob(hash string, from io.Reader, uid int) (err error) {
	file, err := f.root.OpenFile(path.Join(jobapi.BlobsDir, hash), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create file: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := io.Copy(file, from); err != nil {
		return fmt.Errorf("copy file: %w", err)
	}
	if uid != 0 {
		if err := file.Chown(uid, uid); err != nil {
			return fmt.Errorf("hand over file: %w", err)
		}
	}
	return nil
}
