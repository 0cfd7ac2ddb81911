package cli

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"dstack/cli/repo"
)

// repoAccess are the options that say what opens a repo.
type repoAccess struct{ token, identity string }

func (a *App) initCommand() *cobra.Command {
	var (
		project, place string
		access         repoAccess
	)
	cmd := &cobra.Command{
		Use: "init", Short: "Give dstack access to a Git repo", Args: cobra.NoArgs,
		Long:              "Give dstack access to a Git repo, so that runs can clone it. Without options the credentials of Git, SSH and gh on this machine are tried.",
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.initRepo(cmd.Context(), project, place, access)
		},
	}
	a.projectFlag(cmd, &project)
	set := cmd.Flags()
	set.StringVarP(&place, "repo", "P", "", "The repo: a local path or the URL of a Git repo; default is the current folder")
	metavar(set, "repo", "REPO")
	set.StringVarP(&access.token, "token", "t", "", "The OAuth token for the repo")
	metavar(set, "token", "OAUTH_TOKEN")
	set.StringVar(&access.identity, "git-identity", "", "The private SSH key for the repo")
	metavar(set, "git-identity", "SSH_PRIVATE_KEY")
	return cmd
}

func (a *App) initRepo(ctx context.Context, project, place string, access repoAccess) error {
	s, err := a.connect(project)
	if err != nil {
		return err
	}
	finder := a.finder(access)
	if place == "" {
		place = "."
	}
	remote := place
	if !repo.IsURL(place) {
		copied, err := repo.Open(ctx, expandHome(place, a.env.Home), os.Environ())
		if err != nil {
			return err
		}
		remote = copied.Remote
	}
	u, err := repo.ParseURL(remote, hostNames(ctx, finder))
	if err != nil {
		return err
	}
	if err := a.saveCreds(ctx, s, finder, u); err != nil {
		return err
	}
	a.Print("OK")
	return nil
}
