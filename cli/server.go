package cli

import (
	"github.com/spf13/cobra"
)

// ServerOptions are the flags of `dstack server`. A nil or empty field was
// not given: the environment or the default decides.
type ServerOptions struct {
	Host       string
	Port       int
	LogLevel   string
	AdminToken string
	// UpdateDefault says whether project main becomes the default project;
	// nil asks.
	UpdateDefault *bool
	Local         bool
	LocalShared   bool
	// WaitForLease waits for a server that replicates to the same place.
	WaitForLease bool
}

func (a *App) serverCommand() *cobra.Command {
	var (
		o              ServerOptions
		debug, yes, no bool
	)
	cmd := &cobra.Command{
		Use: "server", Short: "Start a server", Args: noArgs,
		Long: "Start a server. Its data is in ~/.dstack/server (DSTACK_SERVER_DIR). Running jobs go on when it stops.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkExclusive(cmd); err != nil {
				return err
			}
			if debug {
				o.LogLevel = "DEBUG"
			}
			if yes || no {
				o.UpdateDefault = &yes
			}
			return a.env.Serve(cmd.Context(), o)
		},
	}
	set := cmd.Flags()
	set.StringVar(&o.Host, "host", "", "The address to listen on (DSTACK_SERVER_HOST, default 127.0.0.1)")
	set.IntVarP(&o.Port, "port", "p", 0, "The port to listen on (DSTACK_SERVER_PORT, default 3000)")
	set.BoolVarP(&debug, "debug", "d", false, "Same as --log-level DEBUG")
	set.StringVarP(&o.LogLevel, "log-level", "l", "", "DEBUG, INFO, WARNING, ERROR or CRITICAL (DSTACK_SERVER_LOG_LEVEL, default INFO)")
	exclusive(set, "debug", "log-level")
	set.BoolVarP(&yes, "yes", "y", false, "Make project main the default project without asking")
	set.BoolVarP(&no, "no", "n", false, "Don't make project main the default project")
	exclusive(set, "yes", "no")
	set.StringVar(&o.AdminToken, "token", "", "The admin's token, used when the database is created (DSTACK_SERVER_ADMIN_TOKEN)")
	set.BoolVar(&o.Local, "local", false, "Offer this machine as a host, to admins only")
	set.BoolVar(&o.LocalShared, "local-shared", false, "Offer this machine as a host to all users (as root only; instance volumes let them mount its folders)")
	set.BoolVar(&o.WaitForLease, "wait-for-lease", false, "Wait for another server on the same replica, instead of ending (DSTACK_SERVER_WAIT_FOR_LEASE)")
	cmd.AddCommand(a.sweepCommand(), a.restoreCommand(), a.backupCommand(), a.healthCommand())
	return quietly(cmd)
}
