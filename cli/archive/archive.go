// Package archive packs a file or folder of the user for a job: a tar file
// without compression, the same for the same files, made piece by piece
// (spec: cli.md 9.4).
package archive

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"dstack/cli/ignore"
)

// Packed is what was written.
type Packed struct {
	// Hash is the SHA-256 of the archive in hex.
	Hash string
	// Skipped are the paths that were left out: ignored ones, and what no
	// archive can hold.
	Skipped []string
}

// Pack writes the file or folder at the absolute path root to w. Names in the
// archive begin with root's last part; entries are sorted, a folder before
// what is in it. .git in root and what is ignored are left out; global is the
// user's own list of excludes for Git. Symbolic links to something below root
// become relative, others become what they point to.
func Pack(ctx context.Context, w io.Writer, root, global string) (Packed, error) {
	sum := sha256.New()
	p := &packer{ctx: ctx, tar: tar.NewWriter(io.MultiWriter(w, sum)), root: filepath.Clean(root)}
	info, err := os.Stat(p.root)
	if err != nil {
		return Packed{}, fmt.Errorf("read %s: %w", root, reason(err))
	}
	var dir *ignore.Dir
	if info.IsDir() {
		if dir, err = ignore.Open(p.root, global); err != nil {
			return Packed{}, err
		}
	}
	if err := p.add(p.root, filepath.Base(p.root), info, dir); err != nil {
		return Packed{}, err
	}
	if err := p.tar.Close(); err != nil {
		return Packed{}, fmt.Errorf("write archive: %w", err)
	}
	return Packed{Hash: hex.EncodeToString(sum.Sum(nil)), Skipped: p.skipped}, nil
}

type packer struct {
	ctx     context.Context //nolint:containedctx // lives as long as one call of Pack
	tar     *tar.Writer
	root    string
	skipped []string
}

// add packs what is at file under a name; dir are the ignore files of a
// folder, nil if its content is not wanted.
func (p *packer) add(file, name string, info fs.FileInfo, dir *ignore.Dir) error {
	if err := p.ctx.Err(); err != nil {
		return context.Cause(p.ctx)
	}
	switch {
	case info.IsDir():
		if err := p.header(info, name+"/", ""); err != nil || dir == nil {
			return err
		}
		return p.addAll(file, name, dir)
	case info.Mode()&fs.ModeSymlink != 0:
		return p.addLink(file, name, info)
	case info.Mode().IsRegular():
		return p.addFile(file, name, info)
	}
	p.skip(file) // sockets, pipes and devices
	return nil
}

func (p *packer) skip(file string) { p.skipped = append(p.skipped, file) }

func (p *packer) addAll(folder, name string, dir *ignore.Dir) error {
	entries, err := os.ReadDir(folder) // sorted
	if err != nil {
		return fmt.Errorf("read %s: %w", folder, reason(err))
	}
	for _, e := range entries {
		file := filepath.Join(folder, e.Name())
		if folder == p.root && e.Name() == ".git" {
			continue
		}
		if dir.Ignores(e.Name(), e.IsDir()) {
			p.skip(file)
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // it went meanwhile
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", file, reason(err))
		}
		var below *ignore.Dir
		if e.IsDir() {
			if below, err = dir.Enter(e.Name()); err != nil {
				return err
			}
		}
		if err := p.add(file, path.Join(name, e.Name()), info, below); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) addFile(file, name string, info fs.FileInfo) (err error) {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, reason(err))
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := p.header(info, name, ""); err != nil {
		return err
	}
	n, err := io.CopyN(p.tar, contextReader{p.ctx, f}, info.Size())
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s became shorter while it was read, from %d to %d bytes: try again when nothing writes to it", file, info.Size(), n)
	}
	if err != nil {
		return fmt.Errorf("pack %s: %w", file, reason(err))
	}
	return nil
}

// addLink keeps a link to something below root, and embeds what another one
// points to.
func (p *packer) addLink(file, name string, info fs.FileInfo) error {
	target, err := filepath.EvalSymlinks(file)
	if err != nil {
		if text, lexical := p.lexical(file); lexical {
			return p.header(info, name, text) // to something below root that is not there
		}
		return fmt.Errorf("the symbolic link %s leads to nothing: %w", file, reason(err))
	}
	root, err := filepath.EvalSymlinks(p.root)
	if err != nil {
		return fmt.Errorf("read %s: %w", p.root, reason(err))
	}
	if target == root || strings.HasPrefix(target, root+string(filepath.Separator)) {
		folder, err := filepath.EvalSymlinks(filepath.Dir(file))
		if err != nil {
			return fmt.Errorf("read %s: %w", file, reason(err))
		}
		rel, err := filepath.Rel(folder, target)
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		return p.header(info, name, filepath.ToSlash(rel))
	}
	there, err := os.Stat(target)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, reason(err))
	}
	return p.add(target, name, there, nil)
}

// lexical is what a broken link says, made relative, if that is below root.
func (p *packer) lexical(file string) (string, bool) {
	text, err := os.Readlink(file)
	if err != nil {
		return "", false
	}
	target := text
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(file), target)
	}
	rel, err := filepath.Rel(filepath.Dir(file), target)
	return filepath.ToSlash(rel), err == nil && strings.HasPrefix(target, p.root+string(filepath.Separator))
}

func (p *packer) header(info fs.FileInfo, name, link string) error {
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	// What changes without the content, or means nothing elsewhere.
	h.Name, h.Uname, h.Gname, h.Format = name, "", "", tar.FormatPAX
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	if err := p.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	return nil
}

// reason is the error without the path, which the sentence has.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// contextReader ends a long file when ctx ends.
type contextReader struct {
	ctx context.Context //nolint:containedctx // of one call of Pack
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}
