//go:build e2e

// Package storages runs real programs with the protocols of S3 (moto), Google
// Cloud Storage (fake-gcs-server) and Azure Blob Storage (Azurite) for tests;
// test/ci/python.sh and test/ci/storages.sh install them.
package storages

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"

	"dstack/test/lab"
)

// AzuriteKey is the one that Azurite's only account has, known to everybody.
const AzuriteKey = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

// Storage is an object storage of its own, reached through a proxy that can
// cut the network.
type Storage struct {
	Proxy *Proxy
	// Env is the environment that programs need to use it.
	Env []string
	// URL names a place in the storage.
	URL func(bucket, path string) string
	// Make makes a bucket.
	Make func(t *testing.T, bucket string)
}

// All are the kinds of storages, by the scheme of their URLs.
func All() map[string]func(*testing.T) *Storage {
	return map[string]func(*testing.T) *Storage{"s3": S3, "gcs": GCS, "abs": Azure}
}

// S3 starts one.
func S3(t *testing.T) *Storage {
	t.Helper()
	p := StartBehind(t, func(port string) *exec.Cmd {
		return exec.Command(filepath.Join(lab.Home, "moto", "bin", "moto_server"), "-H", "127.0.0.1", "-p", port)
	})
	return &Storage{
		Proxy: p,
		Env: []string{
			"AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret", "AWS_ENDPOINT_URL_S3=http://" + p.Address,
			"AWS_REGION=us-east-1", "AWS_CA_BUNDLE=", "AWS_SESSION_TOKEN=",
		},
		URL: func(bucket, path string) string { return "s3://" + bucket + "/" + path },
		Make: func(t *testing.T, bucket string) {
			t.Helper()
			Send(t, http.MethodPut, "http://"+p.Address+"/"+bucket, "")
		},
	}
}

// GCS starts one.
func GCS(t *testing.T) *Storage {
	t.Helper()
	p := StartBehind(t, func(port string) *exec.Cmd {
		found, err := filepath.Glob(filepath.Join(lab.Home, "fake-gcs-server-*", "fake-gcs-server"))
		if err != nil || len(found) != 1 {
			t.Fatalf("fake-gcs-server (test/ci/storages.sh): %v, %v", found, err)
		}
		return exec.Command(found[0], "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", port)
	})
	return &Storage{
		Proxy: p,
		Env:   []string{"STORAGE_EMULATOR_HOST=" + p.Address},
		URL:   func(bucket, path string) string { return "gcs://" + bucket + "/" + path },
		Make: func(t *testing.T, bucket string) {
			t.Helper()
			Send(t, http.MethodPost, "http://"+p.Address+"/storage/v1/b", `{"name":"`+bucket+`"}`)
		},
	}
}

// Azure starts one.
func Azure(t *testing.T) *Storage {
	t.Helper()
	p := StartBehind(t, func(port string) *exec.Cmd {
		found, err := filepath.Glob(filepath.Join(lab.Home, "azurite-*", "node_modules", ".bin", "azurite-blob"))
		if err != nil || len(found) != 1 {
			t.Fatalf("azurite (test/ci/storages.sh): %v, %v", found, err)
		}
		return exec.Command(found[0], "--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--blobHost", "127.0.0.1", "--blobPort", port)
	})
	endpoint := "http://" + p.Address + "/devstoreaccount1"
	return &Storage{
		Proxy: p,
		Env:   []string{"LITESTREAM_AZURE_ACCOUNT_KEY=" + AzuriteKey},
		URL: func(bucket, path string) string {
			return "abs://devstoreaccount1@" + bucket + "/" + path + "?endpoint=" + endpoint
		},
		Make: func(t *testing.T, bucket string) {
			t.Helper()
			key, err := azblob.NewSharedKeyCredential("devstoreaccount1", AzuriteKey)
			if err != nil {
				t.Fatal(err)
			}
			client, err := azblob.NewClientWithSharedKeyCredential(endpoint, key, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.CreateContainer(t.Context(), bucket, nil); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// Send makes a request that must succeed.
func Send(t *testing.T, method, url, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(response.Body); response.StatusCode > 299 {
		t.Fatalf("%s %s: %s %s", method, url, response.Status, text)
	}
}

// lastPort is the last one that quietPort gave.
var lastPort atomic.Int64

// quietPort is a free port that nobody else gets meanwhile: it is below those
// that the kernel chooses, and a lock keeps it for this process among those of
// other packages' tests.
func quietPort(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(os.TempDir(), "dstack-test-ports")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	lastPort.CompareAndSwap(0, int64(20000+os.Getpid()%10000))
	for range 1000 {
		port := fmt.Sprint(lastPort.Add(1))
		lock, err := syscall.Open(filepath.Join(dir, port), syscall.O_CREAT|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		// It is never closed: the lock ends with this process.
		if err := syscall.Flock(lock, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			_ = syscall.Close(lock)
			continue
		}
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("there is no free port")
	return ""
}

// StartBehind starts a program on a free port and a proxy before it.
func StartBehind(t *testing.T, program func(port string) *exec.Cmd) *Proxy {
	t.Helper()
	port := quietPort(t)
	behind := "127.0.0.1:" + port
	cmd := program(port)
	cmd.Dir = t.TempDir()
	log, err := os.Create(filepath.Join(cmd.Dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
	Await(t, "the storage answers", func() bool {
		c, err := net.Dial("tcp", behind)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	return NewProxy(t, behind)
}

// Proxy carries connections to a storage, unless the network is cut.
type Proxy struct {
	Address string
	behind  string

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
	// quiet is held while nothing is carried.
	quiet sync.RWMutex
}

// Hang lets the storage answer no more, and mend lets it go on.
func (p *Proxy) Hang() (mend func()) {
	p.quiet.Lock()
	return sync.OnceFunc(p.quiet.Unlock)
}

// patient writes when the storage does not hang.
type patient struct {
	net.Conn

	quiet *sync.RWMutex
}

func (w patient) Write(b []byte) (int, error) {
	w.quiet.RLock()
	defer w.quiet.RUnlock()
	return w.Conn.Write(b)
}

// NewProxy is a way to a program that listens already.
func NewProxy(t *testing.T, behind string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Address: l.Addr().String(), behind: behind}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.carry(c)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		p.SetCut(true)
	})
	return p
}

// Another is a second way to the same storage.
func (p *Proxy) Another(t *testing.T) *Proxy {
	t.Helper()
	return NewProxy(t, p.behind)
}

// SetCut cuts the network, or mends it: connections there are end.
func (p *Proxy) SetCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if cut {
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.conns = nil
	}
}

func (p *Proxy) carry(c net.Conn) {
	defer c.Close()
	p.mu.Lock()
	cut := p.cut
	p.mu.Unlock()
	if cut {
		return
	}
	b, err := net.Dial("tcp", p.behind)
	if err != nil {
		return
	}
	defer b.Close()
	p.mu.Lock()
	p.conns = append(p.conns, c, b)
	p.mu.Unlock()
	go func() {
		_, _ = io.Copy(patient{b, &p.quiet}, c)
		_ = b.Close()
	}()
	_, _ = io.Copy(patient{c, &p.quiet}, b)
	p.mu.Lock()
	p.conns = slices.DeleteFunc(p.conns, func(x net.Conn) bool { return x == c || x == b })
	p.mu.Unlock()
}

// Await waits for a condition.
func Await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	const limit = time.Minute
	for end := time.Now().Add(limit); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s in vain: %s", limit, what)
		}
	}
}
