package cli

import (
	"time"

	"github.com/spf13/cobra"
)

// RestoreOptions are the flags of `dstack server restore`.
type RestoreOptions struct {
	// From is the URL of a replica, or the path of a backup; empty: the
	// environment says it.
	From string
	// At is the time whose state is wanted; zero: the last.
	At time.Time
}

func (a *App) restoreCommand() *cobra.Command {
	var from, at string
	cmd := &cobra.Command{
		Use: "restore", Short: "Restore the server's database", Args: noArgs,
		Long: "Restore the server's database from a replica or a backup, where there is none. The encryption key is in neither: " +
			"put encryption.key back first, or set DSTACK_SERVER_ENCRYPTION_KEY.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := RestoreOptions{From: from}
			if at != "" {
				var err error
				if o.At, err = parseMoment(at); err != nil {
					return err
				}
			}
			return a.env.Restore(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "The URL of a replica, or a file that dstack server backup made (LITESTREAM_REPLICA_URL)")
	cmd.Flags().StringVar(&at, "at", "", "The time whose state is wanted, such as 2026-01-31T15:04:05Z; the last state by default")
	return quietly(cmd)
}

// parseMoment reads a time; one without a zone is local.
func parseMoment(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", time.DateTime, "2006-01-02 15:04"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil { //nolint:gosmopolitan // the user's
			return t, nil
		}
	}
	return time.Time{}, sentence("--at %q is no time: write it like 2026-01-31T15:04:05Z", text)
}

func (a *App) backupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "backup file", Short: "Copy the server's database to a file", Args: names(1, 1, "file"),
		Long: "Copy the server's database to a new file; the server may run meanwhile. The file does not hold the encryption key, " +
			"config.yml, logs and uploaded files.",
		RunE: func(cmd *cobra.Command, args []string) error { return a.env.Backup(cmd.Context(), args[0]) },
	}
	return quietly(cmd)
}
