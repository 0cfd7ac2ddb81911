package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"dstack/protocol/jobapi"
)

// maxSpecSize is the size limit of a job's description in bytes.
const maxSpecSize = 32 << 20

// takeSpec reads the job's description from dir and removes it, for it holds
// secrets. It fails with [os.ErrNotExist] if it was taken before.
func takeSpec(dir string) (jobapi.Spec, error) {
	path := filepath.Join(dir, jobapi.SpecFile)
	info, err := os.Stat(path)
	if err != nil {
		return jobapi.Spec{}, fmt.Errorf("read job: %w", err)
	}
	if info.Size() > maxSpecSize {
		return jobapi.Spec{}, fmt.Errorf("read job: %s has %d bytes, allowed are %d", path, info.Size(), maxSpecSize)
	}
	data, err := os.ReadFile(path)
	if err := errors.Join(err, os.Remove(path)); err != nil {
		return jobapi.Spec{}, fmt.Errorf("read job: %w", err)
	}
	return parseSpec(data)
}

// parseSpec decodes a job and checks that it can be started at all.
func parseSpec(data []byte) (jobapi.Spec, error) {
	var spec jobapi.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return jobapi.Spec{}, fmt.Errorf("decode job: %w", err)
	}
	if len(spec.Commands) == 0 || spec.Commands[0] == "" {
		return jobapi.Spec{}, errors.New("decode job: commands are empty")
	}
	for i, arg := range spec.Commands {
		if strings.ContainsRune(arg, 0) {
			return jobapi.Spec{}, fmt.Errorf("decode job: commands[%d] has a NUL character", i)
		}
	}
	for name, value := range spec.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(value, 0) {
			return jobapi.Spec{}, fmt.Errorf("decode job: env %q is not a variable that a process can have", name)
		}
	}
	if strings.ContainsRune(spec.WorkingDir, 0) || strings.ContainsRune(spec.RepoDir, 0) {
		return jobapi.Spec{}, errors.New("decode job: a directory has a NUL character")
	}
	for _, hash := range spec.Blobs() {
		if strings.ContainsAny(hash, "/\x00") || strings.HasPrefix(hash, ".") {
			return jobapi.Spec{}, fmt.Errorf("decode job: %q names no file", hash)
		}
	}
	if spec.MaxDuration < 0 || spec.LogQuotaHour < 0 {
		return jobapi.Spec{}, errors.New("decode job: max_duration or log_quota_hour is negative")
	}
	return spec, nil
}
