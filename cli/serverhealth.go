package cli

import "github.com/spf13/cobra"

// HealthOptions are the flags of `dstack server health`. An empty field was not
// given: the environment or the default decides.
type HealthOptions struct {
	Host string
	Port int
}

func (a *App) healthCommand() *cobra.Command {
	var o HealthOptions
	cmd := &cobra.Command{
		Use: "health", Short: "Tell whether the server of this machine is running", Args: noArgs,
		Long: "Tell whether the server of this machine is running and reaches its database, and how far its replica is behind. " +
			"The exit code is 0 if it runs and 1 if not.",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.env.Health(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.Host, "host", "", "The address that it listens on (DSTACK_SERVER_HOST, default 127.0.0.1)")
	cmd.Flags().IntVarP(&o.Port, "port", "p", 0, "The port that it listens on (DSTACK_SERVER_PORT, default 3000)")
	return quietly(cmd)
}
