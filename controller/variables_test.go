package controller

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestVariablesDocumented holds docs/variables.md against the program and
// against dstack 0.22.5: each variable that the settings are read from has its
// line, as has each one of 0.22.5; what is left out is not read; what 0.22.5
// does not know is marked.
func TestVariablesDocumented(t *testing.T) {
	t.Parallel()
	honoured, leftOut, found := strings.Cut(page(t, "../docs/variables.md"), "\n## Left out\n")
	if !found {
		t.Fatal("the page has no section of what is left out")
	}
	var read []string
	if _, err := SettingsFrom(func(name string) string {
		read = append(read, name)
		return ""
	}, "/home/u"); err != nil {
		t.Fatal(err)
	}
	read = slices.DeleteFunc(read, func(name string) bool { return slices.Contains(ignored(), name) })
	if diff := cmp.Diff(sorted(read), variables(honoured, "")); diff != "" {
		t.Errorf("variables that are read and that are documented (-read +documented):\n%s", diff)
	}
	if diff := cmp.Diff(sorted(ignored()), variables(leftOut, "")); diff != "" {
		t.Errorf("variables that are left out and that the page has as left out (-left out +documented):\n%s", diff)
	}
	ours := variables(honoured, "Ours |\n")
	theirs := slices.DeleteFunc(sorted(append(read, ignored()...)), func(name string) bool { return slices.Contains(ours, name) })
	if diff := cmp.Diff(variablesOf0225(), theirs); diff != "" {
		t.Errorf("variables of 0.22.5 and those here that are not marked as ours (-0.22.5 +here):\n%s", diff)
	}
}

// TestOtherVariablesDocumented: what is read elsewhere than in the settings,
// such as credentials, is on one of the pages for users.
func TestOtherVariablesDocumented(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, name := range pages {
		text.WriteString(page(t, name))
	}
	// Not the server's: what jobs and hosts are given.
	given := []string{"DSTACK_INSTANCE_METADATA", "DSTACK_PROJECT", "DSTACK_SHIM_RUNTIME"}
	names := append(namesIn(t, "."), namesIn(t, "../cmd/dstack")...)
	if !slices.Contains(names, "AWS_ACCESS_KEY_ID") {
		t.Fatalf("only %v are found", names)
	}
	for _, name := range sorted(names) {
		if !slices.Contains(given, name) && !strings.Contains(text.String(), "`"+name+"`") {
			t.Errorf("%s is on no page of docs", name)
		}
	}
}

// TestFlagsDocumented: the flags of `dstack server` are those of 0.22.5 and
// ours, and each is on the page beside its variable.
func TestFlagsDocumented(t *testing.T) {
	t.Parallel()
	got := sorted(regexp.MustCompile(`--[a-z-]+`).FindAllString(page(t, "../cli/testdata/help/dstack-server.txt"), -1))
	want := []string{"--debug", "--help", "--host", "--local", "--local-shared", "--log-level", "--no", "--port", "--token", "--wait-for-lease", "--yes"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flags (-want +got):\n%s", diff)
	}
	text := page(t, "../docs/variables.md")
	for _, flag := range got {
		if flag != "--help" && !strings.Contains(text, "`"+flag+"`") {
			t.Errorf("%s is not on the page", flag)
		}
	}
}

// namesIn are the names of variables among the texts of the sources of a folder.
func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	isVariable := regexp.MustCompile(`^(DSTACK|LITESTREAM|AWS|GOOGLE|AZURE)(_[A-Z0-9]+)+$`)
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				if name, err := strconv.Unquote(l.Value); err == nil && isVariable.MatchString(name) {
					names = append(names, name)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// variables are those of the first column of the lines with this end.
func variables(page, end string) []string {
	var names []string
	for line := range strings.Lines(page) {
		column, _, ok := strings.Cut(strings.TrimPrefix(line, "| `"), " | ")
		if ok && strings.HasPrefix(line, "| `") && strings.HasSuffix(line, end) {
			names = append(names, regexp.MustCompile(`[A-Z][A-Z0-9_]+`).FindAllString(column, -1)...)
		}
	}
	return sorted(names)
}

func sorted(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }

// variablesOf0225 are those that the server of dstack 0.22.5 and its image
// read (spec: server-operations.md 1, 3 and 14, cli.md 3, configuration.md
// 14.1). A program that recorded what the real server asks its environment for
// found the same ones.
func variablesOf0225() []string {
	var names []string
	for prefix, rests := range map[string]string{
		"DSTACK_SERVER_": `ADMIN_TOKEN BACKGROUND_PROCESSING_DISABLED BUCKET BUCKET_REGION CLOUDWATCH_LOG_GROUP CLOUDWATCH_LOG_REGION
			CODE_UPLOAD_LIMIT CONFIG_DISABLED DEFAULT_DOCKER_REGISTRY DEFAULT_DOCKER_REGISTRY_PASSWORD DEFAULT_DOCKER_REGISTRY_USERNAME DIR
			ELASTICSEARCH_API_KEY ELASTICSEARCH_HOST ELASTICSEARCH_INDEX ENVIRONMENT EVENTS_TTL_SECONDS EXECUTOR_MAX_WORKERS
			FLUENTBIT_HOST FLUENTBIT_PORT FLUENTBIT_PROTOCOL FLUENTBIT_TAG_PREFIX GATEWAY_MAX_REPLICAS GCP_LOGGING_PROJECT GCS_BUCKET HOST
			INSTANCE_HEALTH_MIN_COLLECT_INTERVAL_SECONDS INSTANCE_HEALTH_TTL_SECONDS JOB_NETWORK_MODE KEEP_SHIM_TASKS LOG_FORMAT LOG_LEVEL
			LOG_QUOTA_PER_JOB_HOUR MAX_OFFERS_TRIED MAX_PROBES_PER_JOB MAX_PROBE_TIMEOUT METRICS_FINISHED_TTL_SECONDS
			METRICS_RUNNING_TTL_SECONDS PORT PROFILING_ENABLED RELOAD_DISABLED ROOT_LOG_LEVEL S3_BUCKET S3_BUCKET_REGION SSHPROXY_ADDRESS
			SSHPROXY_ENFORCED SSH_CONNECT_TIMEOUT SSH_POOL_DISABLED TEMPLATES_REPO URL UVICORN_LOG_LEVEL`,
		"DSTACK_": `ACME_EAB_HMAC_KEY ACME_EAB_KID ACME_SERVER ALEMBIC_MIGRATIONS_LOCATION DATABASE_URL DB_COMMAND_TIMEOUT DB_MAX_OVERFLOW
			DB_POOL_SIZE DEFAULT_CREDS_DISABLED DEFAULT_SERVICE_CLIENT_MAX_BODY_SIZE DIND_IMAGE DOCKER_BASE_IMAGE
			DOCKER_BASE_IMAGE_UBUNTU_VERSION DOCKER_BASE_IMAGE_VERSION DO_NOT_UPDATE_DEFAULT_PROJECT ENABLE_PROMETHEUS_METRICS
			FF_HOTAISLE_BARE_METAL_NO_FORCE_RELEASE FORBID_DSTACK_IN_RUNS FORBID_SERVICES_WITHOUT_GATEWAY GATEWAY_PACKAGE_URL
			PLUGIN_SERVICE_URI PROMETHEUS_AUTH_TOKEN RELEASE SERVICE_CLIENT_TIMEOUT SKIP_GATEWAY_UPDATE SQL_ECHO_ENABLED SSHPROXY_API_TOKEN
			UPDATE_DEFAULT_PROJECT USER_PROJECT_DEFAULT_QUOTA USE_LATEST_FROM_BRANCH VERSION VM_BASE_IMAGE_PREFIX VM_BASE_IMAGE_VERSION`,
		"DSTACK_OTEL_":   `LOGS_ENABLED METRICS_ENABLED METRICS_EXPORTERS TRACES_BACKGROUND_SAMPLE_RATE TRACES_ENABLED TRACES_SAMPLE_RATE`,
		"DSTACK_SENTRY_": `DSN PROFILES_SAMPLE_RATE TRACES_BACKGROUND_SAMPLE_RATE TRACES_SAMPLE_RATE`,
		"DSTACK_RUNNER_": `ALLOW_DOWNGRADE DOWNLOAD_URL VERSION VERSION_URL`,
		"DSTACK_SHIM_":   `ALLOW_DOWNGRADE DOWNLOAD_URL VERSION VERSION_URL`,
		"LITESTREAM_":    `REPLICA_URL`,
	} {
		for rest := range strings.FieldsSeq(rests) {
			names = append(names, prefix+rest)
		}
	}
	return sorted(names)
}
