package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"dstack/controller/api"
	"dstack/controller/auth"
	"dstack/controller/store"
	"dstack/durable"
	"dstack/protocol/config"
	"dstack/protocol/version"
)

// Config is what a server is started with.
type Config struct {
	Settings Settings
	// Out gets the log.
	Out io.Writer
	// Home is shown as ~ in the log.
	Home string
	Now  func() time.Time
	// Getenv reads the credentials of the replica's storage.
	Getenv func(string) string
	// ConfigureCLI writes the project to the CLI's configuration and says
	// whether it did; nil leaves it alone.
	ConfigureCLI func(url, project, token string) (bool, error)
}

// logoText is printed first at every start.
const logoText = `     _     _             _
  __| |___| |_ __ _  ___| | __
 / _  / __| __/ _  |/ __| |/ /
| (_| \__ \ || (_| | (__|   <
 \__,_|___/\__\__,_|\___|_|\_\
`

func (s *Server) logo() {
	if s.cfg.Settings.LogFormat == FormatJSON {
		return
	}
	// A log that cannot be written is no reason not to serve.
	_, _ = io.WriteString(s.cfg.Out, logoText+"\n")
}

// listen takes the port.
func listen(ctx context.Context, s *Settings) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.address())
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("port %d on %s is in use: stop the program that listens there, or choose another port with --port", s.Port, s.Host)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("port %d may not be used by this user: choose one above 1023 with --port", s.Port)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("this machine has no address %s: choose another one with --host", s.Host)
	}
	return nil, fmt.Errorf("cannot listen on %s: %w; choose another --host or --port", s.address(), err)
}

// serverFile is what config.yml says, as far as it matters here.
type serverFile struct {
	present  bool
	parsed   config.Server
	projects []string
	keys     []config.EncryptionKey
}

// readConfig reads config.yml. A file that cannot be read stops the start: it
// may hold the encryption keys.
func (s *Server) readConfig() (serverFile, auth.Policy, error) {
	policy := auth.Policy(config.StandardPermissions())
	if s.cfg.Settings.NoConfig {
		return serverFile{}, policy, nil
	}
	path := s.cfg.Settings.configPath()
	data, err := os.ReadFile(path)
	// Where the folder is a file, its making says so.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return serverFile{}, policy, nil
	}
	if err != nil {
		return serverFile{}, policy, fmt.Errorf("cannot read %s: %w; it must be a file that this user can read", path, cause(err))
	}
	parsed, err := config.DecodeServer(path, data, config.OSFile)
	if err != nil {
		return serverFile{}, policy, fmt.Errorf("%w\nCorrect the file; nothing was changed", err)
	}
	file := serverFile{present: true, parsed: parsed}
	for _, p := range parsed.Projects {
		file.projects = append(file.projects, p.Name)
	}
	if parsed.Encryption != nil {
		file.keys = parsed.Encryption.Keys
	}
	if p := parsed.DefaultPermissions; p != nil {
		policy = auth.Policy(*p)
	}
	return file, policy, nil
}

// reportConfig says what of config.yml is applied, and what is not.
func (s *Server) reportConfig(f serverFile) {
	if !f.present {
		return
	}
	s.log.Info().Msgf("Applying %s...", shorten(s.cfg.Settings.configPath(), s.cfg.Home))
	if len(f.parsed.Plugins) > 0 {
		s.log.Warn().Strs("plugins", f.parsed.Plugins).Msg("Plugins are not supported by this build yet")
	}
}

// cause is the error below a path error: the path is in our own sentence.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// openStore opens the database with its keys, making both at the first start.
func (s *Server) openStore(ctx context.Context, file serverFile, changes *api.Changes) error {
	path := s.cfg.Settings.databasePath()
	if err := os.MkdirAll(s.cfg.Settings.Dir, 0o700); err != nil {
		return fmt.Errorf("cannot make folder %s: %w; choose another one with DSTACK_SERVER_DIR", s.cfg.Settings.Dir, cause(err))
	}
	if err := s.prepareReplica(ctx, file.keys); err != nil {
		return err
	}
	if err := s.takeOver(ctx, file.keys); err != nil {
		return err
	}
	// An empty file is none: a start that was cut off made it.
	info, err := os.Stat(path)
	sealer, err := s.sealer(file.keys, errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0)
	if errors.Is(err, fs.ErrNotExist) {
		// A database without its key may be none of ours.
		if other := store.Check(ctx, path, path, store.PlainSealer()); errors.Is(other, store.ErrForeign) || errors.Is(other, store.ErrCorrupt) {
			err = other
		}
	}
	if err != nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	s.warnOfKey(file.keys)
	s.store, err = store.Open(ctx, store.Options{
		Path: path, Sealer: sealer, NoEvents: s.cfg.Settings.EventsTTL <= 0, Replicated: s.replica != nil,
		BeforeCommit: s.beforeCommit, AfterCommit: func() error { return s.committed(changes) },
	})
	if err != nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	return s.takeOverLogs(ctx)
}

// prepare does what comes before the first request and needs the data open.
func (s *Server) prepare(ctx context.Context) error {
	if err := s.writeConfig(); err != nil {
		return err
	}
	if err := s.offerLocal(ctx); err != nil {
		return err
	}
	if s.cfg.ConfigureCLI == nil {
		return nil
	}
	done, err := s.cfg.ConfigureCLI(s.cfg.Settings.serverURL(), auth.MainProject, s.admin.Token)
	if err != nil {
		// The server is of use without it.
		s.log.Warn().Err(err).Msgf("%s was not written", shorten(s.cfg.Settings.CLIConfig, s.cfg.Home))
	}
	if done {
		s.log.Info().Msgf("Configured the %s project in %s", auth.MainProject, shorten(s.cfg.Settings.CLIConfig, s.cfg.Home))
	}
	return nil
}

// writeConfig makes config.yml where there is none.
func (s *Server) writeConfig() error {
	path := s.cfg.Settings.configPath()
	if s.cfg.Settings.NoConfig {
		return nil
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s.log.Info().Msg("Initializing the default configuration...")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cannot make folder %s: %w", filepath.Dir(path), cause(err))
	}
	if err := durable.WriteFile(path, []byte(config.DefaultServerFile), 0o600); err != nil {
		return fmt.Errorf("cannot write %s: %w; make the folder writable or free some space", path, cause(err))
	}
	s.log.Info().Msgf("Initialized the default configuration at %s", shorten(path, s.cfg.Home))
	return nil
}

// warnOfVariables names variables of dstack 0.22.5 that are set and do nothing.
func (s *Server) warnOfVariables() {
	if names := s.cfg.Settings.Ignored; len(names) > 0 {
		s.log.Warn().Strs("variables", names).Msg("These environment variables have no effect here; docs/variables.md tells why")
	}
}

// announce prints the lines that scripts wait for: the two that the page of the
// image shows, then those of 0.22.5, which are its last ones.
func (s *Server) announce() {
	set, token := &s.cfg.Settings, s.admin.Token
	url := set.serverURL()
	if set.NoBackground {
		s.log.Info().Msg("Background processing is disabled")
	}
	if set.JobNetworkMode != standardNetworkMode {
		s.log.Info().Msgf("Job network mode: %s (%d)", set.networkMode(), set.JobNetworkMode)
	}
	s.log.Info().Msgf("The dstack server is running at %s", url)
	s.log.Info().Msgf("The admin user token is '%s'", token)
	s.log.Info().Msgf("The admin token is %s", token)
	s.log.Info().Msgf("The dstack server %s is running at %s", version.Version, url)
}

// projectNames are the projects that a start makes sure of.
func (f serverFile) projectNames() []string {
	names := slices.Clone(f.projects)
	if !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, auth.MainProject) }) {
		names = append(names, auth.MainProject)
	}
	return names
}
