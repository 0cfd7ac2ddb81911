//go:build e2e

package e2ecloud

import (
	"strings"
	"testing"

	"dstack/test/lab"
)

// elastic is a fleet that has machines only while jobs need them.
const elastic = "type: fleet\nname: cloud\nnodes: 0..2\nidle_duration: 1s\nresources: {cpu: 2.., memory: 1GB.., disk: 30GB..}\n"

// task is a configuration of a task without its name.
func task(commands ...string) string {
	text := "type: task\nimage: " + lab.Busybox + "\nresources: {cpu: 2.., memory: 1GB.., disk: 30GB..}\ncommands:\n"
	for _, c := range commands {
		text += "  - " + c + "\n"
	}
	return text
}

// tryMetadata tries the metadata service.
const tryMetadata = "if echo | timeout 3 nc 169.254.169.254 80; then echo metadata reached; else echo metadata kept away; fi"

// TestRun is the whole way of a task on a machine that is rented for it.
func TestRun(t *testing.T) {
	s := newServer(t)
	if out := apply(t, s, "fleet", elastic); out.Exit != 0 {
		t.Fatalf("%+v", out)
	}
	out := apply(t, s, "hello", task("echo from the cloud", tryMetadata, "exit 7"), "-n", "hello")
	if out.Exit != 7 || !strings.Contains(out.Stdout, "from the cloud") || !strings.Contains(out.Stdout, "metadata kept away") {
		t.Errorf("%+v", out)
	}
	for _, part := range []string{"aws (us-east-1)", "t3.small", "$0.02"} {
		if !strings.Contains(out.Stdout, part) {
			t.Errorf("the plan does not have %q: %s", part, out.Stdout)
		}
	}
	empty(t, s)
	list := events(t, s)
	took := between(list, "has the address", "Job status changed PULLING -> RUNNING")
	t.Logf("from the address to the running job: %s\n%s", took, timeline(list))
	if !strings.Contains(timeline(list), "The machine made a host key of its own") {
		t.Error("the machine keeps the host key that came with user-data")
	}
	if took == 0 {
		t.Error("the events do not tell when the job ran")
	}
}
