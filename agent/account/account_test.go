package account_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/agent/account"
)

const (
	passwd = `root:x:0:0:root:/root:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
broken:x:one:1:x:/:/
short:x:5
ml:x:1000:1001:,,,:/home/ml:/bin/zsh
bare:x:1002:1002:::
`
	group = `root:x:0:
video:x:44:ml,other
render:x:110:other,ml
ml:x:1001:ml
odd:x:y:ml
`
)

func TestResolve(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, spec, passwd, group string
		want                      account.User
		wantErr                   string
	}{
		{"name with supplementary groups", "ml", passwd, group,
			account.User{Name: "ml", UID: 1000, GID: 1001, Groups: []uint32{44, 110}, Home: "/home/ml", Shell: "/bin/zsh"}, ""},
		{"number of a known user", "1000", passwd, group,
			account.User{Name: "ml", UID: 1000, GID: 1001, Groups: []uint32{44, 110}, Home: "/home/ml", Shell: "/bin/zsh"}, ""},
		{"explicit group: that one only", "ml:video", passwd, group,
			account.User{Name: "ml", UID: 1000, GID: 44, Home: "/home/ml", Shell: "/bin/zsh"}, ""},
		{"unknown numbers", "4242:4343", passwd, group,
			account.User{Name: "4242", UID: 4242, GID: 4343, Home: "/"}, ""},
		{"unknown number alone: group 0", "4242", passwd, group,
			account.User{Name: "4242", UID: 4242, Home: "/"}, ""},
		{"nonexistent home", "nobody", passwd, group,
			account.User{Name: "nobody", UID: 65534, GID: 65534, Home: "/"}, ""},
		{"empty home", "bare", passwd, group,
			account.User{Name: "bare", UID: 1002, GID: 1002, Home: "/"}, ""},
		{"root without files", "root", "", "", account.User{Name: "root", Home: "/"}, ""},
		{"root group without files", "7:root", "", "", account.User{Name: "7", UID: 7, Home: "/"}, ""},
		{"unknown name", "ghost", passwd, group, account.User{}, `no user "ghost" in /etc/passwd of the image`},
		{"malformed entry is not found", "broken", passwd, group, account.User{}, `no user "broken" in /etc/passwd of the image`},
		{"unknown group", "ml:ghosts", passwd, group, account.User{}, `no group "ghosts" in /etc/group of the image`},
		{"too large", "4294967296", passwd, group, account.User{}, `no user "4294967296" in /etc/passwd of the image`},
		{"negative", "-1", passwd, group, account.User{}, `no user "-1" in /etc/passwd of the image`},
		{"empty group", "ml:", passwd, group, account.User{}, `no group "" in /etc/group of the image`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := account.Resolve(tt.spec, tt.passwd, tt.group)
			if tt.wantErr != "" {
				if err == nil || err.Error() != tt.wantErr {
					t.Fatalf("error %v, want %s", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzResolve(f *testing.F) {
	f.Add("ml:video", passwd, group)
	f.Fuzz(func(t *testing.T, spec, passwd, group string) {
		u, err := account.Resolve(spec, passwd, group)
		if err == nil && (u.Name == "" || u.Home == "" || u.Home[0] != '/') {
			t.Errorf("Resolve(%q) = %+v", spec, u)
		}
	})
}
