package cli

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dstack/cli/term"
)

const (
	helpColumn   = 24
	defaultGroup = "Options"
)

// usageLine is the line that says how a command is called.
func usageLine(cmd *cobra.Command) string {
	parts := []string{cmd.CommandPath(), "[-h]"}
	done := map[string]bool{}
	for _, f := range shownFlags(cmd, "") {
		if f.Name == "help" || done[f.Name] {
			continue
		}
		group := []*pflag.Flag{f}
		if xor := note(f, noteXor); xor != "" {
			group = slices.DeleteFunc(shownFlags(cmd, ""), func(g *pflag.Flag) bool { return note(g, noteXor) != xor })
		}
		texts := make([]string, len(group))
		for i, g := range group {
			done[g.Name] = true
			texts[i] = shortForm(g)
		}
		parts = append(parts, "["+strings.Join(texts, " | ")+"]")
	}
	if _, positionals, ok := strings.Cut(cmd.Use, " "); ok {
		parts = append(parts, positionals)
	}
	return strings.Join(parts, " ")
}

// shortForm is how the usage line shows a flag ("-f FILE").
func shortForm(f *pflag.Flag) string {
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand
	}
	return strings.TrimSpace(name + " " + valueName(f))
}

func valueName(f *pflag.Flag) string {
	if f.NoOptDefVal != "" {
		return ""
	}
	if m := note(f, noteMetavar); m != "" {
		return m
	}
	return strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}

// shownFlags lists the flags of a command in the order of their definition.
// Those for other configuration types than configType are left out.
func shownFlags(cmd *cobra.Command, configType string) []*pflag.Flag {
	var shown []*pflag.Flag
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		types := f.Annotations[noteTypes]
		if !f.Hidden && (types == nil || slices.Contains(types, configType)) {
			shown = append(shown, f)
		}
	})
	slices.SortStableFunc(shown, func(f, g *pflag.Flag) int { return btoi(g.Name == "help") - btoi(f.Name == "help") })
	return shown
}

// helpPage is the whole help text of a command. ConfigType adds the options
// that `apply` has for this type of configuration.
func (a *App) helpPage(cmd *cobra.Command, configType string) string {
	width := 80
	if a.Size != nil {
		width, _ = a.Size()
	}
	var b strings.Builder
	b.WriteString(a.Paint(term.Heading, "Usage:") + " " + usageLine(cmd) + "\n")
	about := cmd.Long
	if about == "" {
		about = cmd.Short
	}
	for _, paragraph := range strings.Split(about, "\n\n") {
		b.WriteString("\n" + strings.Join(term.Wrap(paragraph, width), "\n") + "\n")
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\n" + a.Paint(term.Heading, "Positional Arguments:") + "\n  COMMAND\n")
		for _, sub := range cmd.Commands() {
			if sub.Hidden {
				continue
			}
			name := sub.Name()
			if len(sub.Aliases) > 0 {
				name += " (" + strings.Join(sub.Aliases, ", ") + ")"
			}
			a.entry(&b, "    "+name, 20, sub.Short, width)
		}
	}
	for _, group := range groups(shownFlags(cmd, configType)) {
		if group.title == ownOptions {
			group.title = titleCase(configType) + " Options"
		}
		b.WriteString("\n" + a.Paint(term.Heading, group.title+":") + "\n")
		for _, f := range group.flags {
			a.entry(&b, "  "+longForm(f), helpColumn, f.Usage, width)
		}
	}
	if example := cmd.Example; example != "" {
		b.WriteString("\n" + example + "\n")
	}
	return b.String()
}

// titleCase writes the first letter of each word large.
func titleCase(text string) string {
	words := strings.Split(text, "-")
	for i, word := range words {
		words[i] = capitalize(word)
	}
	return strings.Join(words, "-")
}

type flagGroup struct {
	title string
	flags []*pflag.Flag
}

// groups sorts flags into sections in the order of their first flag; the
// section "Options" comes first.
func groups(flags []*pflag.Flag) []flagGroup {
	sections := []flagGroup{{title: defaultGroup}}
	for _, f := range flags {
		title := note(f, noteGroup)
		if title == "" {
			title = defaultGroup
		}
		i := slices.IndexFunc(sections, func(g flagGroup) bool { return g.title == title })
		if i < 0 {
			sections = append(sections, flagGroup{title: title})
			i = len(sections) - 1
		}
		sections[i].flags = append(sections[i].flags, f)
	}
	return sections
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// longForm is how the list of options shows a flag ("-f, --file FILE").
func longForm(f *pflag.Flag) string {
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	return strings.TrimSpace(name + " " + valueName(f))
}

// entry writes a name and, from a column on, its explanation.
func (a *App) entry(b *strings.Builder, name string, column int, text string, width int) {
	indent := strings.Repeat(" ", column)
	painted := a.Paint(term.Code, name)
	lines := term.Wrap(text, max(width-column, 20))
	if n := utf8.RuneCountInString(name); n+2 <= column {
		b.WriteString(painted + strings.Repeat(" ", column-n) + lines[0] + "\n")
		lines = lines[1:]
	} else {
		b.WriteString(painted + "\n")
	}
	for _, line := range lines {
		b.WriteString(strings.TrimRight(indent+line, " ") + "\n")
	}
}
