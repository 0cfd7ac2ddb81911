package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Annotations that the help page and the checks read.
const (
	noteMetavar = "metavar" // name of the value in the help page
	noteGroup   = "group"   // title of the section in the help page
	noteXor     = "xor"     // flags with the same value exclude one another
	noteTypes   = "types"   // configuration types that the flag of `apply` is for
	noteAlias   = "alias"   // older spelling: accepted, not shown
)

func annotate(set *pflag.FlagSet, flag, note string, values ...string) {
	if err := set.SetAnnotation(flag, note, values); err != nil {
		panic(err) // the flag is defined by the line above
	}
}

func note(f *pflag.Flag, name string) string {
	if values := f.Annotations[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// metavar names the value of a flag in the help page.
func metavar(set *pflag.FlagSet, flag, name string) { annotate(set, flag, noteMetavar, name) }

// exclusive says that at most one of the flags may be given.
func exclusive(set *pflag.FlagSet, flags ...string) {
	for _, f := range flags {
		annotate(set, f, noteXor, flags[0])
	}
}

// hide accepts a flag without showing it.
func hide(set *pflag.FlagSet, flags ...string) {
	for _, name := range flags {
		set.Lookup(name).Hidden = true
	}
}

// checkExclusive fails if two flags of one exclusive group were given.
func checkExclusive(cmd *cobra.Command) error {
	seen := map[string]*pflag.Flag{}
	var fault error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		group := note(f, noteXor)
		if group == "" || fault != nil {
			return
		}
		if first := seen[group]; first != nil {
			fault = argumentError(cmd, f.Name, "not allowed with argument %s", flagName(first))
			return
		}
		seen[group] = f
	})
	return fault
}

// require fails if one of the flags was not given.
func require(cmd *cobra.Command, flags ...string) error {
	var missing []string
	for _, name := range flags {
		if f := cmd.Flags().Lookup(name); !f.Changed {
			missing = append(missing, flagName(f))
		}
	}
	if missing == nil {
		return nil
	}
	return usageError{cmd: cmd, msg: "the following arguments are required: " + strings.Join(missing, ", ")}
}

func flagName(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return "-" + f.Shorthand + "/--" + f.Name
	}
	return "--" + f.Name
}

// names takes between least and most positional arguments; most < 0 means
// any number. Each has the name that the usage line shows.
func names(least, most int, metavar string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least {
			return usageError{cmd: cmd, msg: "the following arguments are required: " + metavar}
		}
		if most >= 0 && len(args) > most {
			return unrecognizedError{args[most:]}
		}
		return nil
	}
}

// noArgs takes no positional argument.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unrecognizedError{args}
	}
	return nil
}

// subCommand takes no positional argument but the name of a sub-command.
func subCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	choices := commandNames(cmd)
	for i, c := range choices {
		choices[i] = "'" + c + "'"
	}
	return usageError{cmd: cmd, msg: "argument COMMAND: invalid choice: '" + args[0] + "' (choose from " + strings.Join(choices, ", ") + ")"}
}

func commandNames(cmd *cobra.Command) []string {
	var all []string
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			all = append(all, sub.Name())
			all = append(all, sub.Aliases...)
		}
	}
	return all
}

// expandPrefixes completes unique beginnings of long options ("ps --verb").
// Each belongs to the command that was named before it.
func expandPrefixes(root *cobra.Command, args []string) []string {
	cmd, args := root, slices.Clone(args)
	for i := 0; i < len(args) && args[i] != "--"; i++ {
		if !strings.HasPrefix(args[i], "-") {
			for _, sub := range cmd.Commands() {
				if sub.Name() == args[i] || sub.HasAlias(args[i]) {
					cmd = sub
					break
				}
			}
			continue
		}
		if long, ok := strings.CutPrefix(args[i], "--"); ok {
			name, value, hasValue := strings.Cut(long, "=")
			if full := uniqueFlag(cmd, name); full != "" {
				args[i] = "--" + full
				if hasValue {
					args[i] += "=" + value
				}
			}
		}
		if valueFollows(cmd, args[i]) {
			i++
		}
	}
	return args
}

// valueFollows says whether the value of an option is the next argument.
func valueFollows(cmd *cobra.Command, arg string) bool {
	if long, ok := strings.CutPrefix(arg, "--"); ok {
		f := cmd.Flags().Lookup(long)
		return f != nil && f.NoOptDefVal == ""
	}
	for i, letter := range arg[1:] {
		if letter > 0x7f {
			return false
		}
		f := cmd.Flags().ShorthandLookup(string(letter))
		if f != nil && f.NoOptDefVal == "" {
			return i == len(arg)-2
		}
	}
	return false
}

// uniqueFlag is the only flag of cmd that begins with prefix, or "".
func uniqueFlag(cmd *cobra.Command, prefix string) string {
	if cmd.Flags().Lookup(prefix) != nil {
		return ""
	}
	var found []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if strings.HasPrefix(f.Name, prefix) && !f.Hidden {
			found = append(found, f.Name)
		}
	})
	if len(found) != 1 {
		return ""
	}
	return found[0]
}
