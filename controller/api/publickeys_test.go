package api

import (
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/api"
)

// blob is a public key as it is encoded: a type and more fields.
func blob(fields ...string) string {
	var b []byte
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return base64.StdEncoding.EncodeToString(b)
}

// TestParsePublicKey has what the real 0.22.5 said to the same keys.
func TestParsePublicKey(t *testing.T) {
	t.Parallel()
	const invalid = "Invalid public key, must be in OpenSSH public key format"
	ed := blob("ssh-ed25519", strings.Repeat("k", 32))
	tests := []struct{ name, key, wantName, wantErr string }{
		{"comment", "ssh-ed25519 " + ed + " me@host\n", "me@host", ""},
		{"no comment", "ssh-ed25519 " + ed, "6a6433c81d7d367b6dd2e9fa0804b3c1", ""},
		{"blank comment", "ssh-ed25519 " + ed + "   \n", "6a6433c81d7d367b6dd2e9fa0804b3c1", ""},
		{"spaces around and inside", "  ssh-ed25519  " + ed + "  two  words ", "two  words", ""},
		{"tabs", "ssh-ed25519\t" + ed + "\tcc", "cc", ""},
		{"security key", "sk-ssh-ed25519@openssh.com " + blob("sk-ssh-ed25519@openssh.com", strings.Repeat("q", 32), "ssh:"), "67b2ff7e629953273ad3aece3866e5c3", ""},
		{"empty", "", "", invalid},
		{"one word", "x", "", invalid},
		{"no blob", "ssh-ed25519", "", invalid},
		{"blob only", ed, "", invalid},
		{"not base64", "ssh-ed25519 !!!", "", invalid},
		{"short blob", "ssh-ed25519 AAAA", "", invalid},
		{"another type", "ssh-rsa " + ed, "", invalid},
		{"short key", "ssh-ed25519 " + blob("ssh-ed25519", strings.Repeat("x", 31)), "", invalid},
		{"rest", "ssh-ed25519 " + blob("ssh-ed25519", strings.Repeat("x", 32), "y"), "", invalid},
		{"small RSA", "ssh-rsa " + blob("ssh-rsa", "\x01\x00\x01", "\x00"+strings.Repeat("\xff", 64)), "", invalid},
		{"DSA", "ssh-dss " + blob("ssh-dss", "x"), "", "Unsupported key type: ssh-dss"},
		{"certificate", "ssh-ed25519-cert-v01@openssh.com " + blob("ssh-ed25519-cert-v01@openssh.com", "x"), "", "Unsupported key type: ssh-ed25519-cert-v01@openssh.com"},
		{"unknown", "ssh-foo " + blob("ssh-foo"), "", "Unsupported key type: ssh-foo"},
		{"options", "no-pty ssh-ed25519 " + ed, "", invalid},
		{"private key", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "", invalid},
	}
	for _, tt := range tests {
		k, err := parsePublicKey(tt.key)
		msg := ""
		if err != nil {
			msg = err.Error()
		}
		if msg != tt.wantErr || k.Name != tt.wantName && err == nil {
			t.Errorf("%s: name %q, error %q; want %q, %q", tt.name, k.Name, msg, tt.wantName, tt.wantErr)
		}
	}
}

// FuzzParsePublicKey never crashes, and what it takes it takes again.
func FuzzParsePublicKey(f *testing.F) {
	f.Add("ssh-ed25519 " + blob("ssh-ed25519", strings.Repeat("k", 32)) + " me@host")
	f.Add("ecdsa-sha2-nistp256 AAAA")
	f.Add("ssh-rsa \xff")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := parsePublicKey(text)
		if err != nil {
			return
		}
		again, err := parsePublicKey(k.Key)
		if err != nil || again.Fingerprint != k.Fingerprint || k.Name == "" {
			t.Errorf("%q: %+v, then %+v, %v", text, k, again, err)
		}
	})
}

func TestPublicKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	key := func(letter string) string { return "ssh-ed25519 " + blob("ssh-ed25519", strings.Repeat(letter, 32)) }
	add := func(as, body string) string {
		a := r.request(http.MethodPost, "/api/users/public_keys/add", r.tokenOf(as), body)
		if a.status != http.StatusOK {
			return a.body
		}
		return plainAnswer(a.body)
	}
	const fingerprint = "SHA256:sArVyTbDlP2ByuRNM59Xf/iwOUmdy69sxylyNl3iUQQ"
	want := `{"id":"*","added_at":"*","name":"me","type":"ssh-ed25519","fingerprint":"` + fingerprint + `"}`
	if got := add("member", `{"key":"`+key("k")+` me\n"}`); got != want {
		t.Errorf("added: %s", got)
	}
	for _, again := range []string{`{"key":"` + key("k") + ` me\n"}`, `{"key":"` + key("k") + `","name":"other"}`} {
		if got := add("member", again); got != resourceExists {
			t.Errorf("again: %s", got)
		}
	}
	if got := add("outsider", `{"key":"`+key("k")+`","name":"mine"}`); !strings.Contains(got, `"name":"mine"`) {
		t.Errorf("the same key of another user: %s", got)
	}
	if got := add("member", `{"key":"`+key("x")+` c","name":""}`); !strings.Contains(got, `"name":"c"`) {
		t.Errorf("an empty name: %s", got)
	}
	list := func(as string) []string {
		return names(t, r.request(http.MethodPost, "/api/users/public_keys/list", r.tokenOf(as), "").body, "name")
	}
	if diff := cmp.Diff([]string{"c", "me"}, list("member")); diff != "" {
		t.Errorf("newest first (-want +got):\n%s", diff)
	}
	all := r.request(http.MethodPost, "/api/users/public_keys/list", r.tokenOf("member"), "").body
	ids := strings.Join(names(t, all, "id"), `","`)
	r.run([]exchange{
		{"outsider", "users/public_keys/delete", `{"ids":["` + ids + `"]}`, 200, `null`},
		{"member", "users/public_keys/list", ``, 200, `…"name":"me"`},
		{"member", "users/public_keys/delete", `{"ids":["nope"]}`, 422, `…"type":"uuid_parsing","loc":["body","ids",0]`},
		{"member", "users/public_keys/delete", `{"ids":["` + strings.ReplaceAll(ids, "-", "") + `","a0eb9f8d-af1f-454c-8b5d-e4ca8814bedc"]}`, 200, `null`},
		{"member", "users/public_keys/list", ``, 200, `[]`},
		{"outsider", "users/public_keys/list", ``, 200, `…"name":"mine"`},
	})
	var own []string
	for _, e := range post[[]api.Event](r, "/api/events/list", `{"ascending":true}`) {
		if *e.ActorUser == "member" && e.Targets[0].Name == "member" {
			own = append(own, strings.TrimSuffix(e.Message, fingerprint))
		}
	}
	if len(own) != 4 || own[0] != "Public key added. Fingerprint: " || own[2] != "Public key deleted. Fingerprint: " {
		t.Errorf("events %q", own)
	}
}

func TestNextRedirect(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const invalid = `{"detail":[{"msg":"Invalid state token","code":"error"}]}`
	state := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	to := func(port, state string) string {
		return `{"redirect_url":"http://localhost:` + port + `/auth/callback?code=c+%261\u0026state=` + strings.ReplaceAll(state, "=", "%3D") + `"}`
	}
	for text, want := range map[string]string{
		``:                                  invalid,
		`{}`:                                invalid,
		`[1]`:                               invalid,
		`{"value":"a","local_port":null}`:   `{"redirect_url":null}`,
		`{"value":"a"}`:                     `{"redirect_url":null}`,
		`{"value":"a","local_port":8080}`:   to("8080", state(`{"value":"a","local_port":8080}`)),
		`{"value":"a","local_port":"8080"}`: to("8080", state(`{"value":"a","local_port":"8080"}`)),
		`{"value":"a","local_port":0}`:      invalid,
		`{"value":"a","local_port":65536}`:  invalid,
		`{"value":"a","x":1}`:               invalid,
	} {
		a := r.request(http.MethodPost, "/api/auth/get_next_redirect", "", `{"code":"c &1","state":"`+state(text)+`"}`)
		if a.body != want {
			t.Errorf("%s: %s, want %s", text, a.body, want)
		}
	}
	r.run([]exchange{
		{"", "auth/get_next_redirect", `{"code":"c","state":"!!!"}`, 400, invalid},
		{"", "auth/list_providers", ``, 200, `[]`},
	})
}
