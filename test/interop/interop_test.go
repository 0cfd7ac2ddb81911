//go:build e2e

package interop

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"dstack/test/lab"
)

// TestEmpty is the command line on a fresh server: projects, empty lists, what
// does not exist, what is wrong.
func TestEmpty(t *testing.T) {
	s := lab.ServerFor(t, nil)
	u := newUser(t, s)
	u.write(t, "task.dstack.yml", task)
	u.write(t, "bad.dstack.yml", "type: task\nname: Bad_Name\ncommands: [echo]\n")
	u.write(t, "big.dstack.yml", "type: task\nname: big\nimage: scratch\ncommands: [echo]\nfiles: [./large]\n")
	u.write(t, "large", string(make([]byte, 3<<20)))
	u.write(t, "volume.dstack.yml", "type: volume\nname: v1\nbackend: aws\nregion: eu-west-1\nsize: 50GB\n")
	u.write(t, "gateway.dstack.yml", "type: gateway\nname: g1\nbackend: aws\nregion: eu-west-1\ndomain: example.com\n")
	u.write(t, "cloud.dstack.yml", "type: fleet\nname: f1\nnodes: 0..2\nresources: {cpu: 2.., memory: 8GB.., gpu: 24GB, disk: 100GB..}\n")
	u.run(t, []step{
		{args: "project add --name main --url URL --token bad-token -y", exit: 1, want: []string{`Access to http://\S+/api/projects/main/get is denied.*`}},
		{args: "project add --name nope --url URL --token " + lab.Token + " -y", exit: 1, want: []string{`Status code 404 when requesting http://\S+/api/projects/nope/get`}},
		{args: "project add --name main --url URL --token " + lab.Token + " -y"},
		{args: "project list -v", want: []string{`PROJECT +URL +USER +DEFAULT`, `main +http://\S+ +admin +✓`}},
		{args: "login --url URL", exit: 1, want: []string{`No SSO providers configured on the server\.`}},
		{args: "ps", want: []string{`NAME +BACKEND +GPU +PRICE +STATUS +SUBMITTED`}},
		{args: "ps --json", want: []string{`\{"project":"main","runs":\[\]\}`}},
		{args: "fleet", want: []string{`NAME +NODES +GPU +SPOT +BACKEND +PRICE +STATUS +CREATED`}},
		{args: "volume", want: []string{`NAME +BACKEND +STATUS +CREATED`}},
		{args: "gateway", want: []string{`NAME +BACKEND +HOSTNAME +DOMAIN +DEFAULT +STATUS`}},
		{args: "gateway --json", want: []string{`\{"project":"main","gateways":\[\]\}`}},
		{args: "secret", want: []string{`NAME +VALUE`}},
		{args: "offer", want: []string{`Project +main`, `Resources +cpu=1\.\. mem=0GB\.\. gpu=0\.\.`, `Spot policy +on-demand`, `Max price +off`, `No matching instance offers available\..*`}},
		{args: "offer --json", want: []string{`\{"project":"main","user":"admin","requirements":\{"resources":.*"offers":\[\],"total_offers":0\}`}},
		{args: "offer --group-by gpu", want: []string{`Group by +gpu`, `# +GPU +SPOT +\$/GPU +BACKENDS`}},
		{args: "event", want: []string{`\[.*\] \[👤admin\] \[project main\] Project created`}},
		{args: "export", want: []string{`NAME .*`}},
		{args: "import", want: []string{`NAME .*`}},
		{args: "stop nope -y", exit: 1, want: []string{`Run nope not found`}},
		{args: "attach nope", exit: 1, want: []string{`Run nope not found`}},
		{args: "logs nope", exit: 1, want: []string{`Run nope not found`}},
		{args: "run get nope --json", exit: 1, want: []string{`Run nope not found`}},
		{args: "volume get nope --json", exit: 1, want: []string{`Volume not found`}},
		{args: "gateway get nope --json", exit: 1, want: []string{`Resource not found`}},
		{args: "secret get nope", exit: 1, want: []string{`Resource not found`}},
		{args: "fleet delete nope -y", exit: 1, want: []string{`Fleet nope does not exist`}},
		{args: "fleet get nope --json", exit: 1, want: []string{`Fleet project=None name='nope' not found`}},
		{args: "fleet get other/f1 --json", exit: 1, want: []string{`Status code 404 when requesting http://\S+/api/project/other/fleets/get`}},
		{args: "volume delete nope -y", exit: 1, want: []string{`Volume nope does not exist`}},
		{args: "gateway delete nope -y", exit: 1, want: []string{`Resource not found`}},
		{args: "event --target-run nope", exit: 1, want: []string{`Run (nope )?not found`}},
		{args: "secret delete A -y", exit: 1, want: []string{`Secrets not found: A`}},
		{args: "delete -f task.dstack.yml -y", exit: 1, want: []string{`Run hello does not exist`}},
		{args: "delete -f cloud.dstack.yml -y", exit: 1, want: []string{`Fleet f1 does not exist`}},
		{args: "apply -f bad.dstack.yml -y -d", exit: 1, want: []string{`Resource name should match regex '\^\[a-z\]\[a-z0-9-\]\{1,40\}\$'.*`}},
		{args: "apply -f big.dstack.yml -y -d", exit: 1, want: []string{`Archive size is 3\.0MiB, which exceeds the limit of 2\.0MiB\..*`}},
		{args: "apply -f task.dstack.yml -y -d", want: []string{
			`Project +main`, `User +admin`, `Type +task \(nodes=1\)`, `Resources +cpu=1\.\. mem=0\.1GB\.\. disk=1GB\.\..*`, `Spot policy +on-demand`,
			`Max price +off`, `Retry policy +off`, `Idle duration +5m`, `Max duration +off`,
			`The project has no fleets\. Create one before submitting a run\.`, `Run hello submitted, detaching\.\.\.`,
		}},
		{args: "ps -a", until: true, want: []string{`NAME +BACKEND +GPU +PRICE +STATUS +SUBMITTED`, `hello +- +- +no fleets +.*`}},
		{args: "attach hello", exit: 1, want: []string{`Run hello is failed`}},
		{args: "metrics hello", want: []string{`UTILIZATION +MEMORY`, `job=0 +cpu +no data +no data`}},
		{args: "event --within-run hello", want: []string{
			`\[.*\] \[👤admin\] \[run hello\] Run submitted\. Status: SUBMITTED`, `\[.*\] \[job hello-0-0\] Job created on run submission\. Status: SUBMITTED`,
		}},
		{args: "delete -f task.dstack.yml -y", want: []string{`Run hello deleted`}},
		{args: "apply -f volume.dstack.yml -y", exit: 1, want: []string{`Volume v1 does not exist yet\.`, `NAME +BACKEND +REGION +STATUS +ATTACHED +CREATED +ERROR`, `v1 +aws +eu-west-1 +failed .*`}},
		{args: "volume", want: []string{`v1 +aws .* failed .*`}},
		{args: "delete -f volume.dstack.yml -y", want: []string{`Volume v1 deleted`}},
		{args: "apply -f gateway.dstack.yml -y", exit: 1, want: []string{`Gateway g1 does not exist yet\.`, `Backend not available`}},
		{args: "apply -f cloud.dstack.yml -y", want: []string{`Fleet type +cloud`, `Nodes +min=0 target=0 max=2`, `Fleet f1 does not exist yet\.`, `f1 +0\.\.2 +gpu:24GB:1\.\. +on-demand +\* +active +.*`}},
		{args: "apply -f cloud.dstack.yml -y", want: []string{`No configuration changes detected\. Use --force to apply anyway\.`}},
		{args: "fleet get f1 --json", want: []string{`"name": "f1",`, `"status": "active",`}},
		{args: "fleet delete f1 -y", want: []string{`Fleet f1 deleted`}},
		{args: "secret set A b", want: []string{`OK`}},
		{args: "secret", want: []string{`A +\*{6}`}},
		{args: "secret get A", want: []string{`A +b`}},
		{args: "event --target-secret A", want: []string{`.*\[secret A\] .*`}},
		{args: "secret delete A -y", want: []string{`OK`}},
	})
}

const task = `type: task
name: hello
image: ` + lab.Busybox + `
commands:
  - echo from python
  - sleep 600
resources: {cpu: 1.., memory: 0.1.., disk: 1GB..}
`

// TestHost is the command line and the SDK with a fleet of a lab host.
func TestHost(t *testing.T) {
	l := lab.OpenFor(t)
	machine, err := l.NewMachine(t.Context(), lab.MachineOptions{Images: []string{lab.Busybox}})
	if err != nil {
		t.Fatal(err)
	}
	s := lab.ServerFor(t, nil)
	u := newUser(t, s)
	u.write(t, "fleet.dstack.yml", fmt.Sprintf("type: fleet\nname: lab\nssh_config: {user: ubuntu, identity_file: %s, hosts: [%s]}\n", machine.Key, machine.IP))
	u.write(t, "task.dstack.yml", task)
	u.write(t, "files/data.txt", "carried along\n")
	u.write(t, "files.dstack.yml", "type: task\nname: carry\nimage: "+lab.Busybox+"\nworking_dir: /w\nfiles: ['files:/w/files']\nenv: [WHO=me]\ncommands: ['cat files/data.txt; echo $WHO; exit 3']\nresources: {cpu: 1.., memory: 0.1.., disk: 1GB..}\n")
	u.run(t, []step{
		{args: "project add --name main --url URL --token " + lab.Token + " -y"},
		{args: "apply -f fleet.dstack.yml -y -d", want: []string{`Fleet type +ssh`, `Fleet lab does not exist yet\.`, `Fleet configuration submitted\. Exiting\.\.\.`}},
		{args: "fleet", until: true, want: []string{`lab +1 +.*ssh +active .*`, `instance=0 .*ssh \(remote\) +.*idle .*`}},
		{args: "fleet -v", want: []string{`NAME +NODES +RESOURCES .*STATUS +CREATED +ERROR`}},
		{args: "apply -f fleet.dstack.yml -y", want: []string{`No configuration changes detected\. Use --force to apply anyway\.`}},
		{args: "offer --fleet lab", want: []string{`# +BACKEND +RESOURCES +INSTANCE TYPE +PRICE`, `1 +ssh \(remote\) .*idle`}},
		{args: "apply -f task.dstack.yml -y -d", want: []string{`1 +ssh \(remote\) .*idle`, `Run hello submitted, detaching\.\.\.`}},
		{args: "ps", until: true, want: []string{`hello +ssh \(remote\) .*running .*`}},
		{args: "logs hello", until: true, want: []string{`from python`}},
		{args: "run get hello --json", want: []string{`"status": "running",`}},
		{args: "ps --json", want: []string{`\{"project":"main","runs":\[\{.*`}},
		{args: "metrics hello", want: []string{`UTILIZATION +MEMORY`}},
		{args: "apply -f task.dstack.yml -y -d", want: []string{`.*Active run hello already exists.*`}},
		{args: "ps", until: true, want: []string{`hello +ssh \(remote\) .*running .*`}},
		{args: "delete -f task.dstack.yml -y", exit: 1, want: []string{`Cannot delete active runs: \['hello'\]`}},
		{args: "fleet delete lab -y", exit: 1},
		{args: "stop hello -y", want: []string{`Stopped`}},
		{args: "ps -a", until: true, want: []string{`hello +ssh \(remote\) .*stopped .*`}},
		{args: "apply -f files.dstack.yml -y -d", want: []string{`Run carry submitted, detaching\.\.\.`}},
		{args: "ps -a", until: true, want: []string{`carry +ssh \(remote\) .*exited \(3\) .*`}},
		{args: "logs carry", want: []string{`carried along`, `me`}},
		{args: "logs -d carry"},
		{args: "event --within-run carry", want: []string{`.*\[run carry\] Run submitted.*`, `.*\[run carry\] Run status changed .* -> FAILED.*`}},
		{args: "delete -f files.dstack.yml -y", want: []string{`Run carry deleted`}},
	})
	sdk := exec.CommandContext(t.Context(), filepath.Join(u.venv, "bin", "python"), "sdk.py", s.URL, lab.Token, lab.Busybox)
	sdk.Env = append(sdk.Environ(), "HOME="+u.dir)
	if out, err := sdk.CombinedOutput(); err != nil {
		t.Errorf("sdk.py: %v\n%s", err, out)
	}
	u.run(t, []step{
		{args: "fleet delete lab -i 0 -y", want: []string{`Fleet lab instances deleted`}},
		{args: "fleet delete lab -y", want: []string{`Fleet lab deleted`}},
		{args: "fleet", want: []string{`NAME +NODES .*`}},
	})
	if t.Failed() {
		t.Log(s.Log())
	}
}
