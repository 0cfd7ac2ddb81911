package api

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"dstack/controller/auth"
	"dstack/controller/engine/jobspec"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// sshPort is the SSH port of a job in its container.
const sshPort = 10022

// SSHProxy is the service through which users reach jobs over SSH, if there
// is one (spec: server-operations.md 13).
type SSHProxy struct {
	// Token is what the service authenticates with.
	Token string
	// Host and Port are where users reach it.
	Host string
	Port int
}

// Active says whether users can go that way.
func (p SSHProxy) Active() bool { return p.Token != "" && p.Host != "" }

// getUpstream tells the service how to reach a job.
func getUpstream(a *API, g *gin.Context, _ call) error {
	token := a.deps.SSHProxy.Token
	scheme, given, _ := strings.Cut(g.GetHeader("Authorization"), " ")
	if token != "" && !strings.EqualFold(scheme, "bearer") {
		return &Error{Status: http.StatusUnauthorized, Msg: "Not authenticated"}
	}
	right := subtle.ConstantTimeCompare([]byte(strings.TrimSpace(given)), []byte(token)) == 1
	if token == "" || !right {
		return forbidden(msgAccessDenied)
	}
	in, err := input[api.GetUpstreamRequest](g)
	if err != nil {
		return err
	}
	var out api.Upstream
	err = a.deps.Store.Read(g.Request.Context(), func(tx *store.Tx) (err error) {
		out, err = upstream(tx, in.ID)
		return err
	})
	if err != nil {
		return err //nolint:wrapcheck // says what it was doing
	}
	return a.answer(g, http.StatusOK, out)
}

func upstream(tx *store.Tx, text string) (api.Upstream, error) {
	none := api.Upstream{}
	id, err := uuid.Parse(text)
	if err != nil {
		return none, notExists(msgNotFound)
	}
	job, err := tx.Job(id.String())
	if isNotFound(err) || err == nil && (job.Status != api.JobRunning || job.InstanceID == nil) {
		return none, notExists(msgNotFound)
	}
	if err != nil {
		return none, fmt.Errorf("find job: %w", err)
	}
	in, err := tx.Instance(*job.InstanceID)
	if err != nil {
		return none, fmt.Errorf("find instance: %w", err)
	}
	project, err := tx.Project(job.ProjectID)
	if err != nil {
		return none, fmt.Errorf("find project: %w", err)
	}
	keys, err := keysOf(tx, job.RunID, project.ID)
	if err != nil {
		return none, err
	}
	return api.Upstream{Hosts: hops(&job, &in, project.PrivateKey), AuthorizedKeys: keys}, nil
}

// hops lead to a job: jump host, host, container. The key of the project
// opens the container, those of the fleet the rest.
func hops(job *store.Job, in *store.Instance, projectKey string) []api.UpstreamHost {
	var out []api.UpstreamHost
	if j := in.Access.Jump; j != nil {
		out = append(out, api.UpstreamHost{Host: j.Host, Port: j.Port, User: j.User, PrivateKey: strings.Join(j.Keys, "\n")})
	}
	if !in.Access.Local {
		host := api.UpstreamHost{Host: in.Access.Host, Port: in.Access.Port, User: in.Access.User}
		if len(in.Access.Keys) > 0 {
			host.PrivateKey = in.Access.Keys[0]
		}
		out = append(out, host)
	}
	user := "root"
	if u := job.Spec.User; u != nil && u.Username != nil {
		user = *u.Username
	}
	if rt := job.Runtime; rt != nil {
		user = deref(rt.Username, user)
	}
	return append(out, api.UpstreamHost{Host: "localhost", Port: sshPortOf(job), User: user, PrivateKey: projectKey})
}

// sshPortOf is where a job's SSH server listens on the loopback interface of
// its host.
func sshPortOf(job *store.Job) int {
	if job.Runtime != nil {
		if p, ok := job.Runtime.Ports[strconv.Itoa(sshPort)]; ok {
			return p
		}
	}
	return sshPort
}

// keysOf are the public keys that may log in to the jobs of a run: those of
// its user, as long as that one may use the project.
func keysOf(tx *store.Tx, runID, projectID string) ([]string, error) {
	run, err := tx.Run(runID)
	if err != nil {
		return nil, fmt.Errorf("find run: %w", err)
	}
	user, err := tx.User(run.UserID)
	if err != nil {
		return nil, fmt.Errorf("find user: %w", err)
	}
	_, err = tx.Member(projectID, user.ID)
	if err != nil && !isNotFound(err) {
		return nil, fmt.Errorf("find member: %w", err)
	}
	if !user.Active || user.Deleted || err != nil && user.GlobalRole != auth.RoleAdmin {
		return []string{}, nil
	}
	uploaded, err := tx.PublicKeys(user.ID)
	if err != nil {
		return nil, fmt.Errorf("list keys of user: %w", err)
	}
	var out []string
	for _, k := range uploaded {
		out = append(out, k.Key)
	}
	for _, k := range []string{deref(run.Spec.SSHKeyPub, ""), user.PublicKey} {
		if k = strings.TrimSpace(k); k != "" {
			out = append(out, k)
		}
	}
	return distinct(out), nil
}

// proxied adds to the way to a running job the one through the service.
func (p SSHProxy) proxied(info *api.JobConnectionInfo, r *store.Run, job *store.Job) {
	if info == nil || !p.Active() {
		return
	}
	id := strings.ReplaceAll(job.ID, "-", "")
	login := id + "@" + p.Host
	info.SSHProxyHostname, info.SSHProxyUpstreamID = &p.Host, &id
	info.ProxiedSSHCommand = []string{"ssh", login}
	if p.Port != 0 && p.Port != 22 {
		info.SSHProxyPort = &p.Port
		info.ProxiedSSHCommand = append(info.ProxiedSSHCommand, "-p", strconv.Itoa(p.Port))
		login += ":" + strconv.Itoa(p.Port)
	}
	if d := r.Spec.Configuration.DevEnvironment; d != nil && d.IDE != nil {
		folder := ""
		if job.Runtime != nil {
			folder = deref(job.Runtime.WorkingDir, "")
		}
		_, link := jobspec.IDE(*d.IDE, login, folder)
		info.ProxiedIDEURL = &link
	}
}
