package hostkeys

import (
	"net"
	"strconv"
	"testing"
)

// Nobody may listen on a port that is reserved, and nobody finds anything there.
func TestReserve(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	release, err := reserve(port)
	if err != nil {
		t.Fatal(err)
	}
	again, err := reserve(port)
	if err != nil {
		t.Fatalf("a second time: %v", err)
	}
	again()
	for _, host := range []string{"127.0.0.1", "::1"} {
		addr := net.JoinHostPort(host, strconv.Itoa(port))
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			t.Errorf("could listen on %s", addr)
		}
		if conn, err := net.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			t.Errorf("something answers on %s", addr)
		}
	}
	release()
	if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err != nil {
		t.Fatalf("after its release: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
