package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dstack/cli/term"
	"dstack/client"
	"dstack/client/userconfig"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

const (
	hostedURL   = "https://sky.dstack.ai"
	resolveTime = 5 * time.Second
)

type loginOptions struct {
	url, provider string
	yes, no       bool
}

func (a *App) loginCommand() *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use: "login", Short: "Log in by single sign-on", Args: noArgs,
		Long: "Log in to a server in the browser, and add all projects of the user to ~/.dstack/config.yml.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkExclusive(cmd); err != nil {
				return err
			}
			if o.url == "" && !a.Interactive() {
				return usageError{cmd: cmd, msg: "the following arguments are required: --url"}
			}
			return a.login(cmd.Context(), o)
		},
	}
	set := cmd.Flags()
	set.StringVar(&o.url, "url", "", "The URL of the server")
	set.StringVarP(&o.provider, "provider", "p", "", "How to log in, if the server has several ways")
	set.BoolVarP(&o.yes, "yes", "y", false, "Make the first project the default one")
	set.BoolVarP(&o.no, "no", "n", false, "Don't change the default project")
	exclusive(set, "yes", "no")
	return cmd
}

func (a *App) login(ctx context.Context, o loginOptions) error {
	if o.url == "" {
		answer, err := a.Ask(ctx, "Enter the server URL ("+hostedURL+"): ")
		if err != nil {
			return err
		}
		if o.url = answer; answer == "" {
			o.url = hostedURL
		}
	}
	base, err := resolveURL(ctx, o.url)
	if err != nil {
		return sentence("Failed to resolve url %s: %v", o.url, err)
	}
	c, err := a.client(base, "")
	if err != nil {
		return err
	}
	provider, err := a.chooseProvider(ctx, c, o.provider)
	if err != nil {
		return err
	}
	user, err := a.authorize(ctx, c, provider)
	if err != nil {
		return err
	}
	a.Print("Logged in as " + a.Paint(term.Code, user.Username))
	return a.addProjects(ctx, o, base, user.Creds.Token)
}

// client makes a client that is closed at the end.
func (a *App) client(base, token string) (*client.Client, error) {
	a.log.redact(token)
	c, err := client.New(base, token, client.Options{APIVersion: a.env.Getenv("DSTACK_CLIENT_API_VERSION")})
	if err == nil {
		a.clients = append(a.clients, c)
	}
	return c, err
}

// resolveURL follows redirects to the server's own address.
func resolveURL(ctx context.Context, address string) (string, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return "", err //nolint:wrapcheck // the caller names the URL
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err
		}
		return "", err //nolint:wrapcheck // the caller names the URL
	}
	_ = resp.Body.Close()
	final := resp.Request.URL
	return final.Scheme + "://" + final.Host + strings.TrimRight(req.URL.Path, "/"), nil
}

// chooseProvider finds the way to log in.
func (a *App) chooseProvider(ctx context.Context, c *client.Client, wanted string) (string, error) {
	all, err := c.ListProviders(ctx)
	if err != nil {
		return "", err
	}
	var enabled []string
	for _, p := range all {
		if p.Enabled {
			enabled = append(enabled, p.Name)
		}
	}
	switch {
	case len(enabled) == 0:
		return "", sentence("No SSO providers configured on the server.")
	case wanted != "" && !slices.Contains(enabled, wanted):
		return "", sentence("Provider %s not configured on the server. Available providers: %s", wanted, strings.Join(enabled, ", "))
	case wanted != "":
		return wanted, nil
	case len(enabled) == 1:
		return enabled[0], nil
	case !a.Interactive():
		return "", sentence("Several SSO providers are configured on the server: %s. Choose one with --provider", strings.Join(enabled, ", "))
	}
	chosen, err := a.Select(ctx, "Select the SSO provider:", enabled, 0)
	if err != nil {
		return "", err
	}
	return enabled[chosen], nil
}

// authorize lets the user log in in the browser.
func (a *App) authorize(ctx context.Context, c *client.Client, provider string) (api.UserWithCreds, error) {
	back, err := listenForCallback(ctx)
	if err != nil {
		return api.UserWithCreds{}, err
	}
	defer back.close() //nolint:contextcheck // the browser gets its page even if ctx ended
	start, err := c.Authorize(ctx, provider, back.port)
	if err != nil {
		return api.UserWithCreds{}, err
	}
	a.Print("Your browser has been opened to log in. If it has not, open this URL:\n\n  " + start.AuthorizationURL + "\n")
	openBrowser(start.AuthorizationURL, a.env.Getenv)
	answer, err := back.wait(ctx)
	if err != nil {
		return api.UserWithCreds{}, err
	}
	user, err := c.FinishLogin(ctx, provider, answer.code, answer.state)
	answer.done <- err
	if err != nil {
		return user, fmt.Errorf("CLI authentication failed: %w", err)
	}
	return user, nil
}

// openBrowser tries to open a page; the user has its address in any case.
func openBrowser(address string, getenv func(string) string) {
	program := getenv("BROWSER")
	switch {
	case program != "":
	case runtime.GOOS == "darwin":
		program = "open"
	case runtime.GOOS == "windows":
		program = "explorer"
	case getenv("DISPLAY") != "" || getenv("WAYLAND_DISPLAY") != "":
		program = "xdg-open"
	default:
		return
	}
	cmd := exec.Command(program, address) //nolint:noctx // the browser outlives this command
	if cmd.Start() == nil {
		_ = cmd.Process.Release()
	}
}

// addProjects keeps all projects of the user and chooses the default one.
func (a *App) addProjects(ctx context.Context, o loginOptions, base, token string) error {
	c, err := a.client(base, token)
	if err != nil {
		return err
	}
	projects, err := c.ListProjects(ctx)
	if err != nil {
		return err
	}
	if len(projects) == 0 {
		a.Print("You are not a member of any project. Create one, or ask to be added to one, and log in again.")
		return nil
	}
	file, err := a.userConfig()
	if err != nil {
		return err
	}
	before, hadDefault := file.Project("")
	added := make([]string, len(projects))
	for i, p := range projects {
		added[i] = p.ProjectName
		file.Put(config.ClientProject{Name: p.ProjectName, URL: base, Token: token})
	}
	chosen, err := a.chooseDefault(ctx, o, file, added, before.Name, hadDefault)
	if err != nil {
		return err
	}
	if chosen != "" {
		file.SetDefault(chosen)
	}
	if err := file.Save(); err != nil {
		return err
	}
	path := userconfig.Path(a.env.Home)
	a.Printf("Added %s projects at %s", strings.Join(added, ", "), path)
	if chosen != "" {
		a.Printf("Set %s project as default at %s", chosen, path)
	}
	return nil
}

// chooseDefault gives the project that becomes the default; empty leaves it.
func (a *App) chooseDefault(ctx context.Context, o loginOptions, file *userconfig.File, added []string, before string, hadDefault bool) (string, error) {
	all := file.Projects()
	switch {
	case o.no:
		return "", nil
	case o.yes:
		return added[0], nil
	case len(all) == 1 || !a.Interactive():
		if hadDefault {
			return before, nil
		}
		return added[0], nil
	}
	items := make([]string, len(all))
	for i, p := range all {
		items[i] = fmt.Sprintf("%s (%s)", p.Name, p.URL)
	}
	current := slices.IndexFunc(all, func(p config.ClientProject) bool { return p.Default })
	chosen, err := a.Select(ctx, "Select the default project:", items, current)
	if err != nil {
		return "", err
	}
	return all[chosen].Name, nil
}
