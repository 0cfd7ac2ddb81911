package docker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/go-units"

	"dstack/protocol/hostapi"
	"dstack/shim/workload"
)

// defaultStall is how long a pull may go without progress.
const defaultStall = 300 * time.Second

// errStalled cancels a pull that makes no progress.
var errStalled = errors.New("no progress")

func isNetwork(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET)
}

func failed(reason, format string, args ...any) error {
	return &workload.StartError{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// imageRef is the full reference of an image name, and whether what it names
// is expected to change, so that a copy on the host may be old.
func imageRef(name string) (ref string, moving bool, err error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", false, fmt.Errorf("parse image name: %w", err)
	}
	if _, ok := named.(reference.Digested); ok {
		return named.String(), false, nil
	}
	named = reference.TagNameOnly(named)
	tagged, ok := named.(reference.Tagged)
	return named.String(), ok && tagged.Tag() == "latest", nil
}

// Pull makes the image of a task present on the host and says how it is to be
// run. What is there is used as it is unless its tag is latest; an old latest
// is used, with a note, if the registry cannot give a new one.
func (r *Runtime) Pull(ctx context.Context, spec hostapi.TaskSpec, report func(hostapi.PullProgress)) (workload.Image, error) {
	ref, moving, err := imageRef(spec.Image)
	if err != nil {
		return workload.Image{}, failed("creating_container_error", "pullImage error: %q is not a valid image name: %v", spec.Image, err)
	}
	img, have, err := r.present(ctx, ref)
	if err != nil || (have && !moving) {
		return img, err
	}
	err = r.pull(ctx, ref, spec, report)
	switch {
	case ctx.Err() != nil:
		return workload.Image{}, fmt.Errorf("pull image: %w", context.Cause(ctx))
	case err != nil && have:
		r.cfg.Log.Warn().Err(err).Str("image", ref).Msg("pull failed, image of the host used")
		img.Note = fmt.Sprintf("The image %s could not be pulled; the copy on the host is used", spec.Image)
		return img, nil
	case err != nil:
		return workload.Image{}, pullFailure(spec, err)
	}
	img, have, err = r.present(ctx, ref)
	if err == nil && !have {
		err = failed("creating_container_error", "pullImage error: the image %s was pulled but is not there", spec.Image)
	}
	return img, err
}

func (r *Runtime) present(ctx context.Context, ref string) (img workload.Image, have bool, err error) {
	var found image.InspectResponse
	err = r.retry(ctx, func() (err error) {
		found, err = r.cli.ImageInspect(ctx, ref)
		return err
	})
	if errdefs.IsNotFound(err) {
		return img, false, nil
	}
	if err != nil {
		return img, false, fmt.Errorf("look for image: %w", err)
	}
	if found.Config != nil {
		img = workload.Image{Entrypoint: found.Config.Entrypoint, Cmd: found.Config.Cmd, User: found.Config.User}
	}
	return img, true, r.images.use(found.ID, time.Now())
}

// pull runs one pull to its end, again from where it was if the engine went
// away meanwhile, and gives up when nothing moved for the stall time.
func (r *Runtime) pull(ctx context.Context, ref string, spec hostapi.TaskSpec, report func(hostapi.PullProgress)) error {
	stall := time.Duration(spec.PullStall) * time.Second
	if stall <= 0 {
		stall = defaultStall
	}
	opts := image.PullOptions{}
	if spec.RegistryUsername != "" || spec.RegistryPassword != "" {
		auth, err := registry.EncodeAuthConfig(registry.AuthConfig{Username: spec.RegistryUsername, Password: spec.RegistryPassword})
		if err != nil {
			return fmt.Errorf("encode registry credentials: %w", err)
		}
		opts.RegistryAuth = auth
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alarm := time.AfterFunc(stall, func() { cancel(errStalled) })
	defer alarm.Stop()
	seen := newProgress(func(p hostapi.PullProgress) {
		alarm.Reset(stall)
		report(p)
	})
	err := r.retry(ctx, func() error {
		body, err := r.cli.ImagePull(ctx, ref, opts)
		if err != nil {
			return err
		}
		return errors.Join(seen.read(body), body.Close())
	})
	if errors.Is(context.Cause(ctx), errStalled) {
		p := seen.sum()
		return fmt.Errorf("image pull interrupted: no progress for %d s: downloaded %s out of %s",
			int(stall.Seconds()), units.HumanSize(float64(p.Downloaded)), units.HumanSize(float64(p.Total)))
	}
	return err
}

// pullFailure words what a registry or the engine said for the user.
func pullFailure(spec hostapi.TaskSpec, err error) error {
	text := err.Error()
	lower := strings.ToLower(text)
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(lower, p) {
				return true
			}
		}
		return false
	}
	var hint string
	switch {
	case has("unauthorized", "authentication required", "no basic auth", "incorrect username or password"):
		hint = "the registry refused the user name or password: check registry_auth"
		if spec.RegistryUsername == "" {
			hint = "the registry wants a user name and password: set registry_auth"
		}
	case has("denied"):
		hint = "it does not exist, or is private: check its name and registry_auth"
	case has("manifest unknown", "not found", "name unknown", "no such image"):
		hint = "it does not exist in the registry: check its name and tag"
	case has("no matching manifest"):
		hint = "it does not exist for the architecture of this host"
	case has("no space left"):
		hint = "the disk of the host is full"
	case has("no such host", "dial tcp", "timeout", "connection refused", "tls handshake"):
		hint = "the host cannot reach the registry"
	default:
		return failed("creating_container_error", "pullImage error: image %s: %s", spec.Image, text)
	}
	return failed("creating_container_error", "pullImage error: image %s: %s (%s)", spec.Image, hint, text)
}

// message is one line of the engine's pull stream.
type message struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Error  string `json:"error"`
	Detail struct {
		Current int64 `json:"current"`
		Total   int64 `json:"total"`
	} `json:"progressDetail"`
}

type layer struct {
	total, downloaded, extracted int64
	// sized says that the total is known.
	sized bool
}

// progress sums up a pull over its layers. Layers that the host has already
// are no part of it.
type progress struct {
	layers map[string]*layer
	moved  func(hostapi.PullProgress)
}

func newProgress(moved func(hostapi.PullProgress)) *progress {
	return &progress{layers: map[string]*layer{}, moved: moved}
}

// read takes lines until the end of the stream; success is only when the
// engine said so.
func (p *progress) read(body io.Reader) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 4096), 1<<20)
	done := false
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return fmt.Errorf("decode progress of pull: %w", err)
		}
		if m.Error != "" {
			return errors.New(m.Error)
		}
		if strings.HasPrefix(m.Status, "Status:") {
			done = true
		}
		p.add(m)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read progress of pull: %w", err)
	}
	if !done {
		return fmt.Errorf("pull ended early: %w", io.ErrUnexpectedEOF)
	}
	return nil
}

func (p *progress) add(m message) {
	if m.ID == "" {
		return
	}
	before := p.sum()
	l := p.layers[m.ID]
	if l == nil {
		l = &layer{}
	}
	switch m.Status {
	case "Pulling fs layer", "Waiting":
	case "Downloading":
		l.downloaded, l.total, l.sized = m.Detail.Current, max(m.Detail.Total, l.total), m.Detail.Total > 0
	case "Verifying Checksum", "Download complete":
		l.downloaded = l.total
	case "Extracting":
		l.extracted, l.total, l.sized = m.Detail.Current, max(m.Detail.Total, l.total), true
		l.downloaded = l.total
	case "Pull complete":
		l.downloaded, l.extracted, l.sized = l.total, l.total, true
	default: // "Already exists", "Pulling from …"
		return
	}
	p.layers[m.ID] = l
	if after := p.sum(); after != before {
		p.moved(after)
	}
}

func (p *progress) sum() hostapi.PullProgress {
	s := hostapi.PullProgress{TotalFinal: len(p.layers) > 0}
	for _, l := range p.layers {
		s.Downloaded += l.downloaded
		s.Extracted += l.extracted
		s.Total += l.total
		s.TotalFinal = s.TotalFinal && l.sized
	}
	return s
}
