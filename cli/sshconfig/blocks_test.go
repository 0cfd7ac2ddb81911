package sshconfig

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func blocksOf(t testing.TB, owner string, hosts ...Host) []block {
	t.Helper()
	all := make([]block, len(hosts))
	for i, h := range hosts {
		b, err := h.block(owner, pathStyle{home: "/home/u", tilde: true})
		if err != nil {
			t.Fatal(err)
		}
		all[i] = b
	}
	return all
}

var run = []Host{
	{Alias: "run1-host", HostName: "1.2.3.4", Port: 22, User: "ubuntu", IdentityFile: "/home/u/.dstack/ssh/abcd1234"},
	{Alias: "run1", HostName: "localhost", Port: 10022, User: "root", IdentityFile: "/home/u/.dstack/ssh/abcd1234", ProxyJump: "run1-host"},
}

// TestBlockIsThatOf0225: the order and the names of cli-transcripts.md 19,
// with a mark, and with ProxyJump said where there is none.
func TestBlockIsThatOf0225(t *testing.T) {
	t.Parallel()
	got := replaceBlocks(nil, "o", blocksOf(t, "o", append(run, Host{Alias: "run1-jump-host", HostName: "jump.example", Port: 2222, User: "me"})...))
	const want = `Host run1-host
    # dstack attach o
    HostName 1.2.3.4
    Port 22
    User ubuntu
    IdentityFile ~/.dstack/ssh/abcd1234
    IdentitiesOnly yes
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    ProxyJump none
Host run1
    # dstack attach o
    HostName localhost
    Port 10022
    User root
    IdentityFile ~/.dstack/ssh/abcd1234
    IdentitiesOnly yes
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    ProxyJump run1-host
Host run1-jump-host
    # dstack attach o
    HostName jump.example
    Port 2222
    User me
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    ProxyJump none
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

var others = []string{
	"",
	"Host a\n    User x\n",
	"# a comment\nServerAliveInterval 5\n\nHost a\n    User x",
	"    User indented\nHost a\n",
	"    # indented comment\nHost a\n",
	"\n\n   \nMatch host q\n  User z\n",
	"Host a\r\n\tUser x\r\nCompression yes\r\n",
	"\xef\xbb\xbfHost a\n\xff\xfe\n\x00",
	"host=a\nUSER=x\n",
	"HostName everywhere",
}

// TestRemoveUndoesAdd: several owners, in any order of removal.
func TestRemoveUndoesAdd(t *testing.T) {
	t.Parallel()
	for _, other := range others {
		file := []byte(other)
		for _, owner := range []string{"p a", "p b", "q c"} {
			file = replaceBlocks(file, owner, blocksOf(t, owner, run...))
			if again := replaceBlocks(file, owner, blocksOf(t, owner, run...)); !bytes.Equal(file, again) {
				t.Errorf("%q: adding again changes\n%s\nto\n%s", other, file, again)
			}
			if !bytes.HasSuffix(file, []byte(other)) {
				t.Errorf("%q is changed in\n%s", other, file)
			}
		}
		for _, owner := range []string{"p b", "q c", "p a"} {
			if file = replaceBlocks(file, owner, nil); strings.Contains(string(file), owner) {
				t.Errorf("%q: %s is left in\n%s", other, owner, file)
			}
		}
		if string(file) != other {
			t.Errorf("left %q of %q", file, other)
		}
	}
}

// TestEditedByOthers: what 0.22.5 and users do to a file with our blocks.
func TestEditedByOthers(t *testing.T) {
	t.Parallel()
	ours := blocksOf(t, "o", run...)
	host, task := ours[0].text, ours[1].text
	tests := []struct{ name, file, want string }{
		{"block added behind", host + task + "Host py\n    User x\n", "Host py\n    User x\n"},
		{"block of ours removed", host + "Host py\n    User x\n", "Host py\n    User x\n"},
		{"line added to ours", host + task + "    Compression yes\n\nHost z\n", "\nHost z\n"},
		{"global option above and below", "User me\n" + host + closing + "Port 1\n" + task, "User me\nPort 1\n"},
		{"line ends of Windows", "Host run1\r\n" + markPrefix + "o\r\n    Port 1\r\nHost z\r\n", "Host z\r\n"},
		{"cut short", "Host run1\n" + markPrefix + "o", ""},
		{"a mark without a host", markPrefix + "o\n", markPrefix + "o\n"},
		{"same name, not ours", "Host run1\n    Port 1\n" + task, "Host run1\n    Port 1\n"},
	}
	for _, tt := range tests {
		if got := string(replaceBlocks([]byte(tt.file), "o", nil)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestKeepBlocks(t *testing.T) {
	t.Parallel()
	file := replaceBlocks([]byte("Port 1\n"), "dead x", blocksOf(t, "dead x", run...))
	file = replaceBlocks(file, "live y", blocksOf(t, "live y", run...))
	file = keepBlocks(file, func(id string) bool { return id == "live" })
	want := replaceBlocks([]byte("Port 1\n"), "live y", blocksOf(t, "live y", run...))
	if diff := cmp.Diff(string(want), string(file)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzBlocks(f *testing.F) {
	for _, other := range others {
		f.Add([]byte(other), "p a")
	}
	f.Add(replaceBlocks(nil, "p a", blocksOf(f, "p a", run...)), "q b")
	f.Fuzz(func(t *testing.T, file []byte, owner string) {
		if strings.ContainsAny(owner, "\r\n") || owner == "" {
			return
		}
		before := replaceBlocks(file, owner, nil)
		if again := replaceBlocks(before, owner, nil); !bytes.Equal(again, before) {
			t.Fatalf("removing twice: %q, then %q", before, again)
		}
		added := replaceBlocks(before, owner, blocksOf(t, owner, run...))
		if again := replaceBlocks(added, owner, blocksOf(t, owner, run...)); !bytes.Equal(again, added) {
			t.Fatalf("adding twice: %q, then %q", added, again)
		}
		if after := replaceBlocks(added, owner, nil); !bytes.Equal(after, before) {
			t.Fatalf("add and remove: %q becomes %q", before, after)
		}
		if ours, _ := split(before); len(ours) == 0 && !bytes.Contains(file, []byte(markPrefix)) && !bytes.Contains(file, []byte("# dstack attach:")) && !bytes.Equal(before, file) {
			t.Fatalf("not ours: %q becomes %q", file, before)
		}
	})
}
