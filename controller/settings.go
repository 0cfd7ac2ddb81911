package controller

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rs/zerolog"

	"dstack/controller/api"
	"dstack/controller/engine/jobspec"
)

// Log formats of the server.
const (
	FormatRich     = "rich"
	FormatStandard = "standard"
	FormatJSON     = "json"
)

// Settings is everything that the server can be told from outside, with the
// names and defaults of spec server-operations.md 1 and 3. SettingsFrom reads
// the environment; flags overwrite fields; [Settings.Validate] checks all.
type Settings struct {
	Host string
	Port int
	// URL is what is printed and written to the CLI's configuration; empty
	// means http://Host:Port.
	URL string
	// Dir holds config.yml, the database, keys and logs.
	Dir string
	// CLIConfig is the CLI's own configuration file.
	CLIConfig string
	// AdminToken is used when the admin user is created; empty makes one up.
	AdminToken string
	// LogLevel and LogFormat shape the log on standard output.
	LogLevel  string
	LogFormat string
	// UpdateDefault answers whether project main becomes the CLI's default:
	// nil asks, if another project is the default.
	UpdateDefault *bool
	// Local offers this machine as a host to admins, LocalShared to all.
	Local       bool
	LocalShared bool
	// DatabaseURL, if set, replaces the SQLite file below Dir.
	DatabaseURL string
	// EncryptionKey is base64 of 32 bytes; it replaces the key file.
	EncryptionKey string
	// NoConfig leaves config.yml alone.
	NoConfig bool
	// NoBackground serves the API and drives nothing.
	NoBackground bool
	// EventsTTL is how many seconds events are kept; 0 or less keeps none.
	EventsTTL int
	// HealthTTL is how many seconds it is kept how hosts were
	// (DSTACK_SERVER_INSTANCE_HEALTH_TTL_SECONDS).
	HealthTTL int
	// ProjectQuota is how many projects a user may own who is no global admin.
	ProjectQuota int
	// LogQuota is how many bytes a job may log in an hour; 0 means no limit.
	LogQuota int
	// UploadLimit is how many bytes of code or files may be uploaded at once;
	// 0 or less means no limit.
	UploadLimit int
	// Replica is where the database is replicated to.
	Replica ReplicaSettings
	// Logs is where logs of jobs are copied to, and how long they stay here.
	Logs LogSettings
	// Archives is where uploaded code and files are kept.
	Archives ArchiveSettings
	// Metrics is how long metrics are kept and whether Prometheus may have them.
	Metrics MetricsSettings
	// Jobs are the images and registry of jobs; the two fields below fill in
	// the rest.
	Jobs jobspec.Options
	// Runs are what runs are checked against.
	Runs api.RunLimits
	// TemplatesRepo has the templates of projects without a repo of their own.
	TemplatesRepo string
	// SSHProxy is the service through which users reach jobs, if there is one.
	SSHProxy api.SSHProxy
	// OnlySSHProxy makes it the only way, if there is one.
	OnlySSHProxy bool
	// NoDefaultCreds refuses backends with the credentials that lie around here.
	NoDefaultCreds bool
	// Catalog is a file or URL of a catalogue of prices; empty is none.
	Catalog string
	// ShimURL is where rented machines get the shim from; empty is from here.
	ShimURL string
	// BootLimit is how many seconds a rented machine may take until it takes
	// jobs.
	BootLimit int
	// OffersTried is how many offers are asked for a machine until one has it.
	OffersTried int
	// GatewayReplicas is how many replicas a gateway may have.
	GatewayReplicas int
	// JobNetworkMode is 1, 2 or 3 (spec: server-operations.md 3).
	JobNetworkMode int
	// Ignored are variables of dstack 0.22.5 that are set and do nothing.
	Ignored []string
}

// SettingsFrom reads the settings from the environment. home is the user's
// home directory. The error joins all variables that cannot be read.
func SettingsFrom(getenv func(string) string, home string) (Settings, error) {
	env := environment{get: getenv}
	s := Settings{
		Host:            env.text("DSTACK_SERVER_HOST", "127.0.0.1"),
		Port:            env.number("DSTACK_SERVER_PORT", 3000),
		URL:             env.text("DSTACK_SERVER_URL", ""),
		Dir:             env.text("DSTACK_SERVER_DIR", filepath.Join(home, ".dstack", "server")),
		CLIConfig:       filepath.Join(home, ".dstack", "config.yml"),
		AdminToken:      env.text("DSTACK_SERVER_ADMIN_TOKEN", ""),
		LogLevel:        env.text("DSTACK_SERVER_LOG_LEVEL", "INFO"),
		LogFormat:       env.text("DSTACK_SERVER_LOG_FORMAT", FormatRich),
		DatabaseURL:     env.text("DSTACK_DATABASE_URL", ""),
		EncryptionKey:   env.text("DSTACK_SERVER_ENCRYPTION_KEY", ""),
		NoConfig:        env.on("DSTACK_SERVER_CONFIG_DISABLED"),
		NoBackground:    env.on("DSTACK_SERVER_BACKGROUND_PROCESSING_DISABLED"),
		EventsTTL:       env.number("DSTACK_SERVER_EVENTS_TTL_SECONDS", 30*24*3600),
		HealthTTL:       env.number("DSTACK_SERVER_INSTANCE_HEALTH_TTL_SECONDS", 7*24*3600),
		ProjectQuota:    env.number("DSTACK_USER_PROJECT_DEFAULT_QUOTA", 10),
		LogQuota:        env.number("DSTACK_SERVER_LOG_QUOTA_PER_JOB_HOUR", 50<<20),
		UploadLimit:     env.number("DSTACK_SERVER_CODE_UPLOAD_LIMIT", 2<<20),
		TemplatesRepo:   env.text("DSTACK_SERVER_TEMPLATES_REPO", ""),
		SSHProxy:        sshProxy(&env),
		OnlySSHProxy:    env.on("DSTACK_SERVER_SSHPROXY_ENFORCED"),
		NoDefaultCreds:  env.on("DSTACK_DEFAULT_CREDS_DISABLED"),
		Catalog:         env.text("DSTACK_SERVER_CATALOG", ""),
		ShimURL:         env.text("DSTACK_SERVER_SHIM_URL", ""),
		BootLimit:       env.number("DSTACK_SERVER_BOOT_TIMEOUT_SECONDS", 600),
		OffersTried:     env.number("DSTACK_SERVER_MAX_OFFERS_TRIED", 25),
		GatewayReplicas: env.number("DSTACK_SERVER_GATEWAY_MAX_REPLICAS", 9),
		JobNetworkMode:  env.number("DSTACK_SERVER_JOB_NETWORK_MODE", standardNetworkMode),
		Local:           env.on("DSTACK_SERVER_LOCAL"),
		LocalShared:     env.on("DSTACK_SERVER_LOCAL_SHARED"),
	}
	s.Metrics = metricsSettings(&env)
	s.Replica = replicaSettings(&env)
	s.Logs = logSettings(&env)
	s.Archives = archiveSettings(&env)
	s.Jobs = jobspec.Options{
		BaseImage: env.text("DSTACK_DOCKER_BASE_IMAGE", ""), BaseVersion: env.text("DSTACK_DOCKER_BASE_IMAGE_VERSION", ""),
		BaseUbuntu: env.text("DSTACK_DOCKER_BASE_IMAGE_UBUNTU_VERSION", ""), DindImage: env.text("DSTACK_DIND_IMAGE", ""),
		Registry:         env.text("DSTACK_SERVER_DEFAULT_DOCKER_REGISTRY", ""),
		RegistryUsername: env.text("DSTACK_SERVER_DEFAULT_DOCKER_REGISTRY_USERNAME", ""),
		RegistryPassword: env.text("DSTACK_SERVER_DEFAULT_DOCKER_REGISTRY_PASSWORD", ""),
	}
	s.Runs = api.RunLimits{
		MetricsWindow:   env.number("DSTACK_SERVER_METRICS_RUNNING_TTL_SECONDS", 3600),
		MaxProbes:       env.number("DSTACK_SERVER_MAX_PROBES_PER_JOB", 10),
		MaxProbeTimeout: env.number("DSTACK_SERVER_MAX_PROBE_TIMEOUT", 300),
		ForbidDstack:    env.on("DSTACK_FORBID_DSTACK_IN_RUNS"),
		ForbidNoGateway: env.on("DSTACK_FORBID_SERVICES_WITHOUT_GATEWAY"),
	}
	s.Ignored = slices.DeleteFunc(ignored(), func(name string) bool { return getenv(name) == "" })
	yes, no := true, false
	switch {
	case env.on("DSTACK_DO_NOT_UPDATE_DEFAULT_PROJECT"):
		s.UpdateDefault = &no
	case env.on("DSTACK_UPDATE_DEFAULT_PROJECT"):
		s.UpdateDefault = &yes
	}
	return s, errors.Join(env.faults...)
}

// Validate reports all faults at once.
func (s *Settings) Validate() error {
	var faults []error
	if s.Port < 1 || s.Port > 65535 {
		faults = append(faults, fmt.Errorf("port %d: allowed are 1 to 65535", s.Port))
	}
	if _, err := s.level(); err != nil {
		faults = append(faults, err)
	}
	switch s.LogFormat {
	case FormatRich, FormatStandard, FormatJSON:
	default:
		faults = append(faults, fmt.Errorf("log format %q: allowed are rich, standard and json", s.LogFormat))
	}
	if s.JobNetworkMode < 1 || s.JobNetworkMode > 3 {
		faults = append(faults, fmt.Errorf("DSTACK_SERVER_JOB_NETWORK_MODE=%d: allowed are 1, 2 and 3", s.JobNetworkMode))
	}
	if s.OffersTried < 1 {
		faults = append(faults, fmt.Errorf("DSTACK_SERVER_MAX_OFFERS_TRIED=%d: allowed are 1 and more", s.OffersTried))
	}
	if s.ShimURL != "" && !strings.HasPrefix(s.ShimURL, "http://") && !strings.HasPrefix(s.ShimURL, "https://") {
		faults = append(faults, fmt.Errorf("DSTACK_SERVER_SHIM_URL=%s: it has to begin with http:// or https://", s.ShimURL))
	}
	if s.DatabaseURL != "" && !strings.HasPrefix(s.DatabaseURL, "sqlite") {
		faults = append(faults, errors.New("DSTACK_DATABASE_URL: this build keeps its data in SQLite only; unset the variable"))
	}
	if err := s.Replica.validate(); err != nil {
		faults = append(faults, err)
	}
	if err := s.Logs.validate(); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// standardNetworkMode is the one that no line of the log tells of.
const standardNetworkMode = 2

// networkMode is what dstack 0.22.5 calls the mode of the network of jobs.
func (s *Settings) networkMode() string {
	return [...]string{1: "HOST_FOR_MULTINODE_ONLY", 2: "HOST_WHEN_POSSIBLE", 3: "FORCED_BRIDGE"}[s.JobNetworkMode]
}

// level reads the log level by its Python name.
func (s *Settings) level() (zerolog.Level, error) {
	switch strings.ToUpper(s.LogLevel) {
	case "DEBUG":
		return zerolog.DebugLevel, nil
	case "INFO":
		return zerolog.InfoLevel, nil
	case "WARNING", "WARN":
		return zerolog.WarnLevel, nil
	case "ERROR":
		return zerolog.ErrorLevel, nil
	case "CRITICAL":
		return zerolog.FatalLevel, nil
	}
	return zerolog.NoLevel, fmt.Errorf("log level %q: allowed are DEBUG, INFO, WARNING, ERROR and CRITICAL", s.LogLevel)
}

func (s *Settings) address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// serverURL is where clients reach the server.
func (s *Settings) serverURL() string {
	if s.URL != "" {
		return s.URL
	}
	return "http://" + s.address()
}

// databasePath is the SQLite file: the one of DSTACK_DATABASE_URL, or below Dir.
func (s *Settings) databasePath() string {
	if _, path, ok := strings.Cut(s.DatabaseURL, "://"); ok && strings.HasPrefix(path, "/") {
		return strings.TrimPrefix(path, "/")
	}
	return filepath.Join(s.Dir, "data", "sqlite.db")
}

func (s *Settings) configPath() string { return filepath.Join(s.Dir, "config.yml") }

// shorten writes the home directory as ~, as start-up lines do.
func shorten(path, home string) string {
	if rest, ok := strings.CutPrefix(path, home+string(os.PathSeparator)); ok && home != "" {
		return filepath.Join("~", rest)
	}
	return path
}

// environment reads variables and collects what is wrong with them.
type environment struct {
	get    func(string) string
	faults []error
}

func (e *environment) text(name, otherwise string) string {
	if v := e.get(name); v != "" {
		return v
	}
	return otherwise
}

func (e *environment) number(name string, otherwise int) int {
	v := e.get(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(strings.TrimSpace(v))
	if err != nil {
		e.faults = append(e.faults, fmt.Errorf("environment variable %s=%q: must be a whole number", name, v))
		return otherwise
	}
	return n
}

// on reads a switch. dstack 0.22.5 takes any value for "on", even "0";
// we take the usual words for "off" at their meaning.
func (e *environment) on(name string) bool {
	switch strings.ToLower(strings.TrimSpace(e.get(name))) {
	case "", "0", "false", "no", "off", "n", "f":
		return false
	}
	return true
}

// sshProxy reads HOST[:PORT]. The service counts only with token and address.
func sshProxy(env *environment) api.SSHProxy {
	const name = "DSTACK_SERVER_SSHPROXY_ADDRESS"
	p := api.SSHProxy{Token: env.text("DSTACK_SSHPROXY_API_TOKEN", ""), Port: 22}
	address := env.text(name, "")
	host, port, found := strings.Cut(address, ":")
	p.Host = host
	if !found {
		return p
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" {
		env.faults = append(env.faults, fmt.Errorf("environment variable %s=%q: must be HOST or HOST:PORT", name, address))
	}
	p.Port = int(n)
	return p
}
