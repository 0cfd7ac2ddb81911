package cli

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"dstack/cli/term"
	"dstack/test/gitserver"
)

var update = flag.Bool("update", false, "rewrite golden files and scripts")

func TestMain(m *testing.M) {
	if asJob() {
		return
	}
	if os.Getenv("TEST_AS_DSTACK") != "" { // see startOnPTY
		os.Exit(Main(context.Background(), testEnv()))
	}
	testscript.Main(leakChecked{m}, map[string]func(){"dstack": func() { os.Exit(Main(context.Background(), testEnv())) }})
}

// leakChecked fails tests that leave goroutines behind.
type leakChecked struct{ m *testing.M }

// Run runs the tests.
func (l leakChecked) Run() int {
	code := l.m.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// testEnv is the process's own environment with a fixed clock and a server
// that only says how it was started.
func testEnv() Env {
	return Env{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: os.Getenv, LookupEnv: os.LookupEnv, Home: os.Getenv("HOME"),
		Now: func() time.Time { return fakeStart.Add(time.Hour) },
		Serve: func(_ context.Context, o ServerOptions) error {
			if o.Host == "panic" {
				panic("a planted crash with the-token in it")
			}
			if o.Host == "fail" {
				return errors.New("port 3000 is in use")
			}
			update := "ask"
			if o.UpdateDefault != nil {
				update = fmt.Sprint(*o.UpdateDefault)
			}
			fmt.Printf("%s %d %s %s %s %v %v\n", o.Host, o.Port, o.LogLevel, o.AdminToken, update, o.Local, o.LocalShared)
			return nil
		},
		Restore: func(_ context.Context, o RestoreOptions) error {
			fmt.Printf("restore %q %s\n", o.From, o.At.UTC().Format(time.RFC3339))
			return nil
		},
		Backup: func(_ context.Context, file string) error {
			fmt.Printf("backup %q\n", file)
			return nil
		},
		Health: func(_ context.Context, o HealthOptions) error {
			fmt.Printf("health %q %d\n", o.Host, o.Port)
			return nil
		},
	}
}

// TestScripts runs the command line against a fake server, one for each
// script. $URL is its address.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			fake := newFakeServer()
			server := httptest.NewServer(fake)
			env.Defer(server.Close)
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("HOME", home)
			env.Setenv("TZ", "UTC")
			env.Setenv("URL", server.URL)
			env.Setenv("DSTACK_SERVER_URL", server.URL)
			env.Setenv("DSTACK_TOKEN", fakeToken)
			env.Setenv("DSTACK_PROJECT", fakeProject)
			return errors.Join(os.MkdirAll(home, 0o700), writeKeys(env.WorkDir), serveRepo(t, env))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// exits CODE COMMAND... runs dstack and wants the exit code.
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec("dstack", args[1:]...)
				got := "0"
				if err != nil {
					got = strings.TrimPrefix(err.Error(), "exit status ")
				}
				if got != args[0] {
					ts.Fatalf("dstack %s: exit code %s, want %s", strings.Join(args[1:], " "), got, args[0])
				}
			},
			// nourl FILE replaces the server's address by URL.
			"nourl": func(ts *testscript.TestScript, _ bool, args []string) {
				path := ts.MkAbs(args[0])
				text := strings.ReplaceAll(ts.ReadFile(args[0]), ts.Getenv("URL"), "URL")
				ts.Check(os.WriteFile(path, []byte(text), 0o600))
			},
		},
	})
}

// serveRepo makes an empty repo, which the token sesame opens at $GIT_URL. The
// git of a script has that token; dstack is not told.
func serveRepo(t *testing.T, env *testscript.Env) error {
	t.Helper()
	root, home := filepath.Join(env.WorkDir, "git"), env.Getenv("HOME")
	if out, err := exec.Command("git", "init", "-q", "--bare", filepath.Join(root, "r.git")).CombinedOutput(); err != nil {
		return fmt.Errorf("git init: %w: %s", err, out)
	}
	url, cert := gitserver.StartTLS(t, root, "sesame")
	env.Setenv("GIT_URL", url+"/r.git")
	env.Setenv("GIT_SSL_CAINFO", cert)
	config := fmt.Sprintf("[user]\n\tname = Me\n\temail = me@x\n[http %q]\n\textraHeader = Authorization: Basic %s\n",
		url, base64.StdEncoding.EncodeToString([]byte("x:sesame")))
	receive := exec.Command("git", "-C", filepath.Join(root, "r.git"), "config", "http.receivepack", "true").Run()
	return errors.Join(receive, os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(config), 0o600))
}

// writeKeys makes SSH keys for the scripts: plain, plain.pub, encrypted.
func writeKeys(dir string) error {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	plain, err := ssh.MarshalPrivateKey(private, "lab")
	if err != nil {
		return err
	}
	encrypted, err := ssh.MarshalPrivateKeyWithPassphrase(private, "lab", []byte("secret"))
	if err != nil {
		return err
	}
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{
		"plain": pem.EncodeToMemory(plain), "encrypted": pem.EncodeToMemory(encrypted), "plain.pub": ssh.MarshalAuthorizedKey(line),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// TestHelp pins the help text of every command.
func TestHelp(t *testing.T) {
	t.Parallel()
	a := &App{Console: &term.Console{Size: func() (int, int) { return 100, 40 }}, env: Env{Getenv: func(string) string { return "" }}}
	for _, cmd := range allCommands(a.root()) {
		if cmd.Hidden || strings.HasSuffix(cmd.Short, "(not in this build yet)") {
			continue
		}
		golden(t, strings.ReplaceAll(cmd.CommandPath(), " ", "-"), a.helpPage(cmd, ""))
		if cmd.Name() == "apply" {
			for _, kind := range configurationTypes {
				golden(t, "dstack-apply-"+kind, a.helpPage(cmd, kind))
			}
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "help", name+".txt")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; run go test -update to accept):\n%s", path, diff)
	}
}
