package process

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAJobIsNotProtectedFromTheOOMKillerAsTheShimIs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "oom_score_adj")
	for was, want := range map[string]string{"-900\n": "0", "0\n": "0\n", "300\n": "300\n"} {
		if err := os.WriteFile(file, []byte(was), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := giveUpOOMProtection(file); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%q became %q (%v), want %q", was, got, err, want)
		}
	}
}
