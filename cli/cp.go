package cli

import (
	"context"
	"errors"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"dstack/cli/render"
	"dstack/cli/term"
	"dstack/cli/transfer"
)

type cpOptions struct {
	jobFlags

	recursive, quiet bool
}

func (a *App) cpCommand() *cobra.Command {
	var o cpOptions
	cmd := &cobra.Command{
		Use: "cp source [source ...] target", Short: "Copy files to or from a running job", Args: names(2, -1, "source, target"),
		Long: "Copy files and folders to or from a running job. One side is this machine, the other a job: run_name:path. " +
			"A relative path in a job begins in the job's working directory, ~/ in the user's home. Folders are copied with all that " +
			"is in them; modes, times and symbolic links are kept. What ends in /. is copied without its own name.\n\n" +
			"A file gets its name when it is complete and its SHA-256 is that of the source; until then it is called " +
			"NAME.dstack-part. A copy that broke off goes on where it stopped, by itself or when the command is given again.",
		Example:           "  dstack cp model.bin my-run:/data/\n  dstack cp my-run:checkpoints ./\n  dstack cp my-run:logs/. logs",
		ValidArgsFunction: a.completeJobPaths,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := planCopy(args)
			if err != nil {
				return usageError{cmd: cmd, msg: err.Error()}
			}
			return a.cp(cmd.Context(), o, p)
		},
	}
	set := cmd.Flags()
	set.BoolVarP(&o.recursive, "recursive", "r", false, "Copy folders (they are in any case)")
	set.BoolVarP(&o.quiet, "quiet", "q", false, "Show no progress, and no summary")
	o.define(a, cmd, true)
	return cmd
}

// copyPlan is what the arguments of cp say.
type copyPlan struct {
	run     string
	upload  bool
	sources []string
	target  string
}

// planCopy finds out which side is the job's.
func planCopy(args []string) (copyPlan, error) {
	last := len(args) - 1
	targetRun, target := splitJobPath(args[last])
	p := copyPlan{run: targetRun, upload: targetRun != "", target: target}
	for _, arg := range args[:last] {
		run, source := splitJobPath(arg)
		switch {
		case run != "" && p.upload:
			return p, errors.New("one side must be this machine: copying from job to job takes two commands")
		case run == "" && !p.upload:
			return p, errors.New("one side must be a job: run_name:path")
		case run != "" && p.run != "" && run != p.run:
			return p, errors.New("all sources must be of the same run")
		}
		if !p.upload {
			p.run = run
		}
		p.sources = append(p.sources, source)
	}
	if target == "" && !p.upload {
		return p, errors.New("the target is empty")
	}
	return p, nil
}

// splitJobPath reads "run:path". A run of "" stands for this machine: a path
// with a colon is written as ./a:b there.
func splitJobPath(arg string) (run, rest string) {
	run, rest, found := strings.Cut(arg, ":")
	if !found || run == "" || strings.ContainsAny(run, `/\`) || runtime.GOOS == "windows" && len(run) == 1 {
		return "", arg
	}
	return run, rest
}

// completeJobPaths offers runs and local files.
func (a *App) completeJobPaths(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	if strings.ContainsAny(word, `:/\.`) {
		return nil, cobra.ShellCompDirectiveDefault
	}
	runs, _ := a.completeRuns(true)(cmd, nil, word)
	for i := range runs {
		runs[i] += ":"
	}
	if len(runs) == 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return runs, cobra.ShellCompDirectiveNoSpace
}

// jobPath completes a path in a job with its working directory.
func jobPath(dir, p string, target bool) string {
	switch {
	case path.IsAbs(p) || p == "~" || strings.HasPrefix(p, "~/"):
		return p
	case dir == "":
		dir = "~"
	}
	if p == "" && target {
		return dir
	}
	if p == "" {
		p = "."
	}
	return strings.TrimSuffix(dir, "/") + "/" + p
}

func (a *App) cp(ctx context.Context, o cpOptions, p copyPlan) error {
	var away atomic.Bool
	link, err := a.linkJob(ctx, p.run, o.jobFlags, func() { away.Store(true) }, func() { away.Store(false) })
	if err != nil {
		return err
	}
	defer link.close()
	dir := ""
	if data := link.job.submission().JobRuntimeData; data != nil && data.WorkingDir != nil {
		dir = *data.WorkingDir
	}
	c := transfer.New(transfer.Job{Name: p.run, Connect: func(ctx context.Context) (*ssh.Client, error) {
		client, err := link.Client(ctx)
		if err != nil {
			return nil, err //nolint:wrapcheck // the copier says what it is
		}
		return client.Client, nil
	}}, a.warn)
	defer c.Close() //nolint:errcheck // the connection is closed, too
	began := a.env.Now()
	stop := a.showTransfer(c, &away, o.quiet)
	if p.upload {
		err = c.Upload(link.ctx, p.sources, jobPath(dir, p.target, true)) //nolint:contextcheck // made of ctx
	} else {
		for i := range p.sources {
			p.sources[i] = jobPath(dir, p.sources[i], false)
		}
		err = c.Download(link.ctx, p.sources, p.target) //nolint:contextcheck // made of ctx
	}
	stop()
	done := c.Progress()
	switch {
	case ctx.Err() != nil:
		if done.BytesDone > 0 {
			a.Warn("Stopped. Give the same command again to go on.")
		}
		return context.Cause(ctx)
	case err != nil:
		return copyFault(link.lostCause(err))
	case !o.quiet:
		a.Print(copied(done, a.env.Now().Sub(began)))
	}
	return nil
}

// copyFault puts each file that could not be copied on a line of its own.
func copyFault(err error) error {
	if lost, ok := errors.AsType[*transfer.LostError](err); ok {
		return sentence("The copy broke off: %v. Give the same command again to go on.", lost)
	}
	return err
}

// copied says what was done.
func copied(p transfer.Progress, took time.Duration) string {
	what := "1 file"
	if p.Files != 1 {
		what = strconv.FormatInt(p.Files, 10) + " files"
	}
	text := "Copied " + what + ", " + render.Size(p.BytesDone)
	if p.Resumed > 0 {
		text += " (" + render.Size(min(p.Resumed, p.BytesDone)) + " of it were there already)"
	}
	if sent := p.BytesDone - p.Resumed; took >= time.Second && sent > 0 {
		text += " in " + took.Round(time.Second).String() + ", " + render.Size(int64(float64(sent)/took.Seconds())) + "/s"
	}
	return text
}

// transferFrame is how often the progress bar is drawn.
const transferFrame = 100 * time.Millisecond

// showTransfer draws a progress bar until stop is called.
func (a *App) showTransfer(c *transfer.Copier, away *atomic.Bool, quiet bool) (stop func()) {
	if quiet || !a.TTY {
		return func() {}
	}
	live, done := a.Live(), make(chan struct{})
	var drawing sync.WaitGroup
	drawing.Go(func() {
		defer live.Clear()
		var meter render.Meter
		frame := time.NewTicker(transferFrame)
		defer frame.Stop()
		for {
			select {
			case <-done:
				return
			case <-frame.C:
			}
			p := c.Progress()
			columns, _ := a.Size()
			line := render.TransferLine(render.Transfer{
				Name: p.Name, Files: p.Files, FilesDone: p.FilesDone, Bytes: p.Bytes, BytesDone: p.BytesDone, Rate: meter.Add(time.Now(), p.BytesDone-p.Resumed),
			}, columns)
			if away.Load() {
				line += "\n" + a.Paint(term.Warning, "The connection was lost. Connecting again...")
			}
			live.Body(line + "\n")
		}
	})
	return func() {
		close(done)
		drawing.Wait()
	}
}
