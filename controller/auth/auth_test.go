package auth_test

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"dstack/controller/auth"
	"dstack/controller/store"
	"dstack/protocol/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)

func open(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// world has a project "Main" and a public one, and a user for each role, whose
// token is the name of the role.
func world(t *testing.T) *store.Store {
	t.Helper()
	s := open(t)
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		var members []store.Member
		for _, name := range []string{"root", "admin", "manager", "user", "outsider", "inactive"} {
			u := store.User{ID: name, Name: name, GlobalRole: "user", Active: name != "inactive", Token: name}
			if name == "root" {
				u.GlobalRole = "admin"
			}
			if err := tx.InsertUser(&u); err != nil {
				return err
			}
			if name != "root" && name != "outsider" {
				members = append(members, store.Member{UserID: name, Role: strings.Replace(name, "inactive", "admin", 1)})
			}
		}
		for _, p := range []store.Project{{ID: "p1", Name: "Main", OwnerID: "root"}, {ID: "p2", Name: "open", OwnerID: "root", IsPublic: true}} {
			if err := tx.InsertProject(&p); err != nil {
				return err
			}
		}
		return tx.SetMembers("p1", members)
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCheck(t *testing.T) {
	t.Parallel()
	a := auth.New(world(t))
	denied := func(names ...string) map[string]error {
		m := map[string]error{"inactive": auth.ErrInvalidToken, "nobody": auth.ErrInvalidToken}
		for _, n := range names {
			m[n] = auth.ErrDenied
		}
		return m
	}
	tests := []struct {
		level   auth.Level
		project string
		want    map[string]error // missing means that the user passes
	}{
		{auth.Authenticated, "", denied()},
		{auth.GlobalAdmin, "", denied("admin", "manager", "user", "outsider")},
		{auth.Member, "main", denied("outsider")},
		{auth.MemberOrPublic, "main", denied("outsider")},
		{auth.MemberOrPublic, "open", denied()},
		{auth.Member, "open", denied("admin", "manager", "user", "outsider")},
		{auth.Importer, "main", denied()},
		{auth.ManagerOrPublic, "main", denied("user", "outsider")},
		{auth.ManagerOrPublic, "open", denied()},
		{auth.Manager, "MAIN", denied("user", "outsider")},
		{auth.ProjectAdmin, "main", denied("manager", "user", "outsider")},
	}
	for _, tt := range tests {
		for _, name := range []string{"root", "admin", "manager", "user", "outsider", "inactive", "nobody"} {
			c, err := a.Check(t.Context(), auth.Request{Level: tt.level, Authorization: "Bearer " + name, Project: tt.project})
			if !errors.Is(err, tt.want[name]) {
				t.Errorf("level %d in %q as %s: %v, want %v", tt.level, tt.project, name, err, tt.want[name])
			}
			if err == nil && c.User.Name != name {
				t.Errorf("%s is taken for %s", name, c.User.Name)
			}
		}
	}
}

func TestCheckOrder(t *testing.T) {
	t.Parallel()
	a := auth.New(world(t))
	tests := []struct {
		name, header, project string
		level                 auth.Level
		want                  error
	}{
		{"no header", "", "main", auth.Member, auth.ErrNotAuthenticated},
		{"another scheme", "Basic cm9vdA==", "main", auth.Member, auth.ErrNotAuthenticated},
		{"no token", "Bearer ", "main", auth.Member, auth.ErrNotAuthenticated},
		{"any case of the scheme", "bearer root", "main", auth.Member, nil},
		{"the token before the project", "Bearer x", "none", auth.Member, auth.ErrInvalidToken},
		{"the project before the role", "Bearer outsider", "none", auth.GlobalAdmin, auth.ErrNoProject},
		{"nothing is needed", "", "", auth.Open, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := a.Check(t.Context(), auth.Request{Level: tt.level, Authorization: tt.header, Project: tt.project})
			if !errors.Is(err, tt.want) {
				t.Errorf("Check = %v, want %v", err, tt.want)
			}
		})
	}
	c, err := a.Check(t.Context(), auth.Request{Level: auth.Member, Authorization: "Bearer manager", Project: "mAIN"})
	if err != nil || c.Project.ID != "p1" || c.Role != "manager" {
		t.Errorf("caller = %+v, %v", c, err)
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	admin, user := &store.User{GlobalRole: "admin"}, &store.User{GlobalRole: "user"}
	standard := auth.Policy(config.StandardPermissions())
	type row struct{ create, ssh, secrets bool }
	tests := []struct {
		name   string
		policy auth.Policy
		user   *store.User
		role   string
		want   row
	}{
		{"default: global admin", standard, admin, "", row{true, true, true}},
		{"default: project admin", standard, user, "admin", row{true, true, true}},
		{"default: manager", standard, user, "manager", row{true, true, false}},
		{"default: user", standard, user, "user", row{true, true, false}},
		{"default: outsider", standard, user, "", row{true, false, false}},
		{"strict: global admin", auth.Policy{}, admin, "", row{true, true, true}},
		{"strict: project admin", auth.Policy{}, user, "admin", row{false, true, true}},
		{"strict: manager", auth.Policy{}, user, "manager", row{false, false, false}},
		{"secrets for managers", auth.Policy{AllowManagersManageSecrets: true}, user, "manager", row{false, false, true}},
		{"secrets not for users", auth.Policy{AllowManagersManageSecrets: true}, user, "user", row{false, false, false}},
	}
	for _, tt := range tests {
		got := row{
			tt.policy.CanCreateProjects(tt.user), tt.policy.CanManageSSHFleets(tt.user, tt.role),
			tt.policy.CanManageSecrets(tt.user, tt.role),
		}
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestNewKeyPair(t *testing.T) {
	t.Parallel()
	public, private, err := auth.NewKeyPair("main@dstack")
	if err != nil {
		t.Fatal(err)
	}
	key, comment, _, rest, err := ssh.ParseAuthorizedKey([]byte(public))
	if err != nil || comment != "main@dstack" || len(rest) > 0 || !strings.HasSuffix(public, " main@dstack\n") {
		t.Errorf("public key %q: %v", public, err)
	}
	block, _ := pem.Decode([]byte(private))
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil || parsed.(*rsa.PrivateKey).N.BitLen() != 2048 {
		t.Errorf("private key: %v", err)
	}
	signer, err := ssh.ParsePrivateKey([]byte(private))
	if err != nil || !cmp.Equal(signer.PublicKey().Marshal(), key.Marshal()) {
		t.Errorf("the keys are not a pair: %v", err)
	}
}

func TestSeed(t *testing.T) {
	t.Parallel()
	s := open(t)
	first, err := auth.Seed(t.Context(), s, "my-token", now, "main")
	if err != nil || !first.Created || first.Admin.Token != "my-token" || first.Admin.GlobalRole != "admin" {
		t.Fatalf("first start: %+v, %v", first, err)
	}
	again, err := auth.Seed(t.Context(), s, "another-token", now.Add(time.Hour), "main", "lab")
	if err != nil || again.Created {
		t.Fatalf("second start: %v", err)
	}
	if diff := cmp.Diff(first.Admin, again.Admin); diff != "" {
		t.Errorf("the admin changed (-first +second):\n%s", diff)
	}
	for _, name := range []string{"main", "lab"} {
		c, err := auth.New(s).Check(t.Context(), auth.Request{Level: auth.ProjectAdmin, Authorization: "Bearer my-token", Project: name})
		if err != nil || c.Role != "admin" || c.Project.OwnerID != first.Admin.ID || c.Project.PublicKey == "" {
			t.Errorf("project %s: %+v, %v", name, c, err)
		}
	}
}

func TestSeedMakesUpAToken(t *testing.T) {
	t.Parallel()
	seeded, err := auth.Seed(t.Context(), open(t), "", now)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := uuid.Parse(seeded.Admin.Token); err != nil || id.Version() != 4 {
		t.Errorf("token %q", seeded.Admin.Token)
	}
}

// broken is a store that cannot be read.
type broken struct{ err error }

func (broken) Revision() uint64 { return 0 }

func (b broken) Read(context.Context, func(*store.Tx) error) error { return b.err }

func TestCheckPassesFaultsOn(t *testing.T) {
	t.Parallel()
	want := errors.New("disk")
	_, err := auth.New(broken{want}).Check(t.Context(), auth.Request{Level: auth.Authenticated, Authorization: "Bearer x"})
	if !errors.Is(err, want) {
		t.Errorf("Check = %v", err)
	}
}
