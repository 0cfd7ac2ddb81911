package agent_test

import (
	"bytes"
	"context"
	"syscall"
	"testing"

	"github.com/coder/websocket"

	"dstack/protocol/jobapi"
)

func (r *run) logReader() *websocket.Conn {
	r.t.Helper()
	//nolint:bodyclose // the library says that it need not be closed
	conn, _, err := websocket.Dial(context.Background(), "ws://localhost/logs_ws", &websocket.DialOptions{HTTPClient: r.client()})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.CloseNow() }) // closed by the agent as a rule
	return conn
}

func (r *run) ended() {
	r.t.Helper()
	r.events(func(e jobapi.Event) bool { return e.Status != nil && e.Status.State.Ended() })
}

func TestTheAgentStaysForReadersOfTheLog(t *testing.T) {
	t.Parallel()
	r := start(t, config(t), script(t, "trap 'seq 1000000; exit 0' INT; echo ready; while :; do sleep 0.02; done"))
	conn := r.logReader()
	r.output("ready")
	r.stop(jobapi.StopRequest{})
	r.ended() // the reader has not read anything yet
	var all bytes.Buffer
	for {
		_, data, err := conn.Read(context.Background())
		if err != nil {
			if code := websocket.CloseStatus(err); code != websocket.StatusNormalClosure {
				t.Errorf("closed with %v", err)
			}
			break
		}
		all.Write(data)
	}
	if r.end(); all.String() != r.file(jobapi.RawLog) {
		t.Errorf("read %d bytes of %d", all.Len(), len(r.file(jobapi.RawLog)))
	}
}

func TestASignalEndsTheWaitForReaders(t *testing.T) {
	t.Parallel()
	r := start(t, config(t), script(t, "trap 'seq 1000000; exit 0' INT; echo ready; while :; do sleep 0.02; done"))
	r.logReader()
	r.output("ready")
	r.stop(jobapi.StopRequest{})
	r.ended()
	r.signal(syscall.SIGTERM)
	check(t, r.end(), jobapi.Status{State: jobapi.Terminated, Reason: "terminated_by_server", ExitStatus: exitOf(0)})
}
