package catalog

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const table = `instance_name,location,price,cpu,spot,provider
m5.large,eu-west-1,0.107,2,False,aws
m5.large,eu-west-1,0.04,2,True,aws
m5.large,eu-west-1,0.03,2,true,aws
m5.large,eu-west-2,,2,False,aws
m5.large,eu-west-3,0,2,False,aws
n1,eu-west-1,0.1,2,False,gcp
c5.large,eu-west-1,0.09,2,False,
`

var want = map[Key]float64{
	{"m5.large", "eu-west-1", false}: 0.107, {"m5.large", "eu-west-1", true}: 0.03, {"c5.large", "eu-west-1", false}: 0.09,
}

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := Parse(strings.NewReader(table), "aws")
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for text, fault := range map[string]string{
		"":                      "read the line of titles: EOF",
		"instance_name,price\n": "it has no column location",
		"instance_name,location,price\na,b,1\na,b,x\n":   `line 3: the price "x" is no number of USD an hour`,
		"instance_name,location,price\na,b,-1\n":         `line 2: the price "-1" is no number of USD an hour`,
		"instance_name,location,price\na,b,NaN\n":        `line 2: the price "NaN" is no number of USD an hour`,
		"instance_name,location,price\na,b,Inf\n":        `line 2: the price "Inf" is no number of USD an hour`,
		"instance_name,location,price\na,b\n":            "record on line 2: wrong number of fields",
		"instance_name,location,price\na,b,1\"\na,b,1\n": `parse error on line 2, column 6: bare " in non-quoted-field`,
	} {
		if _, err := Parse(strings.NewReader(text), "aws"); err == nil || err.Error() != fault {
			t.Errorf("%q: %v, want %s", text, err, fault)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(table)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Parse(strings.NewReader(text), "aws")
		if err != nil && got != nil {
			t.Error("an error with prices")
		}
		for key, price := range got {
			if !(price > 0) || price > maxPrice {
				t.Errorf("%+v costs %g", key, price)
			}
		}
	})
}

func TestFile(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	written := now.Add(-40 * 24 * time.Hour)
	path := filepath.Join(dir, "aws.csv")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, written, written); err != nil {
			t.Fatal(err)
		}
	}
	write(table)
	c := New(filepath.Join(dir, "{backend}.csv"), nil, func() time.Time { return now })
	got, err := c.Prices(t.Context(), "aws")
	if diff := cmp.Diff(List{Prices: want, At: written, Source: path}, got); diff != "" || err != nil {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := c.Prices(t.Context(), "gcp"); err == nil || !strings.Contains(err.Error(), "gcp.csv cannot be read") {
		t.Errorf("no such file: %v", err)
	}
	write("broken")
	if _, err := c.Prices(t.Context(), "aws"); err != nil {
		t.Errorf("read again too early: %v", err)
	}
	now = now.Add(fresh)
	if got, err := c.Prices(t.Context(), "aws"); err == nil || len(got.Prices) != len(want) {
		t.Errorf("a file that broke: %v, %d prices", err, len(got.Prices))
	}
	write(table)
	now = now.Add(retryAfter)
	if _, err := c.Prices(t.Context(), "aws"); err != nil {
		t.Errorf("a file that was put right: %v", err)
	}
	if got, err := New("", nil, time.Now).Prices(t.Context(), "aws"); err != nil || got.Prices != nil {
		t.Errorf("no catalogue: %v, %v", got, err)
	}
}

func TestURL(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/aws.csv":
			w.Header().Set("Last-Modified", at.Format(http.TimeFormat))
			if _, err := w.Write([]byte(table)); err != nil {
				t.Error(err)
			}
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	c := New(server.URL+"/{backend}.csv?token=secret", server.Client(), time.Now)
	got, err := c.Prices(t.Context(), "aws")
	if diff := cmp.Diff(List{Prices: want, At: at, Source: server.URL + "/aws.csv"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	_, err = c.Prices(t.Context(), "gcp")
	if err == nil || !strings.HasSuffix(err.Error(), "/gcp.csv cannot be read: the server answered 404 Not Found") {
		t.Errorf("not found: %v", err)
	}
	server.Close()
	_, err = New(server.URL+"/{backend}.csv?token=secret", server.Client(), time.Now).Prices(t.Context(), "aws")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("no server: %v", err)
	}
}
