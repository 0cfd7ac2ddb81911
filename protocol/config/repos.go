package config

import (
	"regexp"
	"strings"

	"dstack/protocol/internal/decode"
)

// readRepos reads `repos`, a list of at most one (spec: configuration.md 2.11).
func readRepos(v decode.Value) List[RepoSpec] {
	repos, ok := decode.Try(v, decode.ListOf(readRepo))
	if ok && len(repos) > 1 {
		v.FailBare("value_error", "A maximum of one repo is currently supported", "")
	}
	return repos
}

// Values of `if_exists` of a repo.
const (
	RepoExistsError = "error"
	RepoExistsSkip  = "skip"
)

func readRepo(v decode.Value) RepoSpec {
	var r RepoSpec
	switch v.Kind() {
	case decode.String:
		var ok bool
		if r, ok = ParseRepo(v.Node().Text); !ok {
			v.FailValue("must be a repo", "Invalid repo: "+v.Node().Text, "PATH, URL, PATH:TARGET or URL:TARGET")
			return r
		}
		checkRepoPath(v.At(v.Node(), "path"), r.Path)
	case decode.Map:
		o := v.Object()
		defer o.Done()
		r = RepoSpec{
			LocalPath: decode.Field(o, "local_path", decode.Optional(decode.Text)),
			URL:       decode.Field(o, "url", decode.Optional(decode.Text)),
			Branch:    decode.Field(o, "branch", decode.Optional(decode.Text)),
			Hash:      decode.Field(o, "hash", decode.Optional(decode.Text)),
			Path: decode.FieldOr(o, "path", ".", func(v decode.Value) string {
				s, ok := decode.Try(v, decode.Text)
				if ok {
					checkRepoPath(v, s)
				}
				return s
			}),
			IfExists: decode.FieldOr(o, "if_exists", RepoExistsError, decode.Enum(RepoExistsError, RepoExistsSkip)),
		}
	default:
		v.Fail("model_attributes_type", "must be a repo", "PATH, URL or a mapping")
		return r
	}
	local := r.LocalPath != nil && *r.LocalPath != ""
	remote := r.URL != nil && *r.URL != ""
	switch {
	case local && remote:
		v.FailBare("value_error", "`local_path` and `url` are mutually exclusive", "")
	case !local && !remote:
		v.FailBare("value_error", "Either `local_path` or `url` must be specified", "")
	}
	return r
}

func checkRepoPath(v decode.Value, s string) {
	if strings.HasPrefix(s, "~") && s != "~" && !strings.HasPrefix(s, "~/") {
		v.FailBare("value_error", "`~username` syntax is not supported", "")
	}
}

var oneLetter = regexp.MustCompile(`^[a-zA-Z]$`)

// ParseRepo parses REPO or REPO:PATH where REPO is a local path, a URL or the
// scp form user@host:path. A URL with a port is misread as in 0.22.5.
func ParseRepo(s string) (RepoSpec, bool) {
	parts := strings.Split(s, ":")
	isURL := false
	if len(parts) > 1 {
		scp := strings.Contains(parts[0], "@")
		url := strings.HasPrefix(parts[1], "//")
		windows := oneLetter.MatchString(parts[0]) && (strings.HasPrefix(parts[1], `\`) || strings.HasPrefix(parts[1], "/"))
		if scp || url || windows {
			parts = append([]string{parts[0] + ":" + parts[1]}, parts[2:]...)
			isURL = scp || url
		}
	}
	if len(parts) > 2 {
		return RepoSpec{}, false
	}
	r := RepoSpec{Path: ".", IfExists: RepoExistsError}
	if len(parts) == 2 {
		r.Path = parts[1]
	}
	if isURL {
		r.URL = &parts[0]
	} else {
		r.LocalPath = &parts[0]
	}
	return r, true
}
