package hosts

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"dstack/sshlink"
)

//go:embed install.sh
var installScript string

//go:embed start.sh
var startScript string

// Limits of the steps of a deployment.
const (
	stepTimeout   = 3 * time.Minute // the longest is to end all tasks of a host
	uploadTimeout = 10 * time.Minute
	startTimeout  = 20 * time.Second
)

// remote is one host behind a live SSH connection, as far as deploying goes.
type remote struct {
	target  Target
	server  string // Options.ServerID
	client  *sshlink.Client
	layout  layout
	payload Payload
	facts   facts
}

// script runs a POSIX script with variables set, as root where asked for. It
// goes over stdin, so that no login shell has to understand it and no secret
// is on a command line.
func (r *remote) script(ctx context.Context, shell string, vars map[string]string, text string) (sshlink.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	res, err := r.client.Run(ctx, shell, scriptText(vars, text))
	if err != nil {
		return res, fmt.Errorf("run script: %w", err)
	}
	return res, nil
}

// scriptText puts variables before a script. In braces, it is read whole
// before one of its commands could read the rest of it.
func scriptText(vars map[string]string, text string) io.Reader {
	var b strings.Builder
	for name, value := range vars {
		fmt.Fprintf(&b, "%s=%s\n", name, quote(value))
	}
	fmt.Fprintf(&b, "{\n%s\n} </dev/null\n", text)
	return strings.NewReader(b.String())
}

// rootScript runs a script as root; its failure is a problem of the host.
func (r *remote) rootScript(ctx context.Context, step string, vars map[string]string, text string) error {
	res, err := r.script(ctx, r.facts.asRoot("/bin/sh -s"), vars, text)
	if err != nil {
		return err
	}
	if res.Status != 0 {
		return deployProblem(r.target, step, string(res.Stderr))
	}
	return nil
}

// probe finds out what the host is and what is installed there.
func (r *remote) probe(ctx context.Context) error {
	res, err := r.script(ctx, "/bin/sh -s", map[string]string{
		"SHIM": r.layout.shim, "AGENT": r.layout.agent(), "UNIT": r.layout.unit, "ENV_FILE": r.layout.env(),
	}, probeScript)
	if err != nil {
		return err
	}
	r.facts, err = parseFacts(string(res.Stdout))
	if err != nil {
		return deployProblem(r.target, "look at the host", err.Error()+" "+string(res.Stderr))
	}
	if p := r.facts.problem(r.target); p != nil {
		return p
	}
	return nil
}

// upload is one file to bring to the host.
type upload struct {
	name, path, mode, digest string
	open                     func() (io.ReadCloser, error)
}

// missing lists the files that are not on the host as they should be.
func (r *remote) missing() ([]upload, error) {
	shim, err := r.payload.find("dstack-shim", r.facts.arch())
	if err != nil {
		return nil, err
	}
	agent, err := r.payload.find("dstack-agent", r.facts.arch())
	if err != nil {
		return nil, err
	}
	var list []upload
	add := func(have string, u upload) {
		if have != u.digest {
			list = append(list, u)
		}
	}
	add(r.facts.agent, upload{"agent", r.layout.agent(), "755", agent.Digest, agent.Open})
	add(r.facts.shim, upload{"shim", r.layout.shim, "755", shim.Digest, shim.Open})
	add(r.facts.env, textUpload("env", r.layout.env(), "600", envText(shimEnv(r.target))))
	if r.facts.systemd {
		add(r.facts.unit, textUpload("unit", r.layout.unit, "644", r.layout.unitText()))
	}
	return list, nil
}

func textUpload(name, path, mode, text string) upload {
	return upload{name, path, mode, fmt.Sprintf("%x", sha256.Sum256([]byte(text))), func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(text)), nil
	}}
}

// install brings files to the host: first into a private temporary folder of
// the login user, then as root to their places.
func (r *remote) install(ctx context.Context, files []upload) error {
	const needed = 48 << 10 // KiB: shim and agent, with room to spare
	for place, free := range map[string]int64{"the temporary folder": r.facts.freeTemp, r.layout.agentDir: r.facts.freeLib} {
		if free >= 0 && free < needed {
			return deployProblem(r.target, "check space",
				fmt.Sprintf("No space left on device: %d MB are free in %s", free>>10, place))
		}
	}
	res, err := r.script(ctx, "/bin/sh -s", nil, `echo; echo "temp=$(mktemp -d "/tmp/dstack-upload.XXXXXXXXXX")"`)
	if err != nil {
		return err
	}
	_, temp, _ := strings.Cut(string(res.Stdout), "temp=")
	if temp = strings.TrimSpace(temp); temp == "" {
		return deployProblem(r.target, "make a temporary folder", string(res.Stderr))
	}
	var plan strings.Builder
	for _, f := range files {
		if err := r.send(ctx, temp, f); err != nil {
			_, _ = r.script(ctx, "/bin/sh -s", map[string]string{"TEMP": temp}, `rm -rf "$TEMP"`) // err says more
			return err
		}
		fmt.Fprintf(&plan, "put %s %s %s %s\n", f.name, quote(f.path), f.mode, f.digest)
	}
	return r.rootScript(ctx, "install files", map[string]string{"TEMP": temp, "HOME_DIR": r.layout.home, "OLD_RUNNER": r.layout.oldRunner},
		installScript+plan.String())
}

// send uploads one file, compressed if the host can unpack it.
func (r *remote) send(ctx context.Context, folder string, f upload) error {
	ctx, cancel := context.WithTimeout(ctx, uploadTimeout)
	defer cancel()
	open, path := f.open, folder+"/"+f.name
	if r.facts.gzip {
		open, path = compressed(f.open), path+".gz"
	}
	err := sendBySFTP(ctx, r.client, path, open)
	if err == nil || ctx.Err() != nil {
		return err
	}
	// No sftp here, or it failed with no more than "failure": `cat` works
	// everywhere and names the reason.
	in, err := open()
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	res, err := r.client.Run(ctx, "/bin/sh -c "+quote("umask 077; cat > "+quote(path)), in)
	if err != nil {
		return fmt.Errorf("upload %s: %w", f.name, err)
	}
	if res.Status != 0 {
		return deployProblem(r.target, "upload "+f.name, string(res.Stderr))
	}
	return nil
}

// compressed packs what open gives on the fly, fast rather than small.
func compressed(open func() (io.ReadCloser, error)) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		in, err := open()
		if err != nil {
			return nil, err
		}
		z := &gzipReader{in: in, chunk: make([]byte, 64<<10)}
		if z.out, err = gzip.NewWriterLevel(&z.buf, gzip.BestSpeed); err != nil {
			return nil, errors.Join(fmt.Errorf("start compression: %w", err), in.Close())
		}
		return z, nil
	}
}

// gzipReader reads the compressed form of in.
type gzipReader struct {
	in    io.ReadCloser
	out   *gzip.Writer
	buf   bytes.Buffer
	chunk []byte
	ended bool
}

func (z *gzipReader) Read(p []byte) (int, error) {
	for z.buf.Len() == 0 && !z.ended {
		n, err := z.in.Read(z.chunk)
		if _, err := z.out.Write(z.chunk[:n]); err != nil {
			return 0, fmt.Errorf("compress: %w", err)
		}
		if errors.Is(err, io.EOF) {
			z.ended = true
			err = z.out.Close()
		}
		if err != nil {
			return 0, fmt.Errorf("compress: %w", err)
		}
	}
	return z.buf.Read(p)
}

func (z *gzipReader) Close() error { return z.in.Close() }

// start starts the shim, or starts it again.
func (r *remote) start(ctx context.Context) error {
	return r.rootScript(ctx, "start the service", r.layout.vars(r.facts.systemd), startScript)
}
