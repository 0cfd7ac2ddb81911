package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/store"
	"dstack/protocol/api"
)

const volumes = "/api/project/main/volumes/"

func createVolume(r *rig, more string) api.Volume {
	r.t.Helper()
	return post[api.Volume](r, volumes+"create", `{"configuration":{"type":"volume",`+more+`}}`)
}

func step(r *rig, kind store.Kind, id string) {
	r.t.Helper()
	if err := r.engine.Step(r.t.Context(), store.Key{Kind: kind, ID: id}); err != nil {
		r.t.Fatal(err)
	}
}

func TestVolumeCreate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	got := r.request(http.MethodPost, volumes+"create", memberToken, `{"configuration":{"type":"volume","name":"v1","backend":"aws","region":"us-east-1","size":"10GB"}}`)
	var v api.Volume
	if err := json.Unmarshal([]byte(got.body), &v); err != nil {
		t.Fatalf("%v in %s", err, got.body)
	}
	at := strings.TrimSpace(jsonOf(t, v.CreatedAt))
	want := fmt.Sprintf(`{"id":%q,"name":"v1","user":"member","project_name":"main","configuration":{"auto_cleanup_duration":null,"availability_zone":null,`+
		`"backend":"aws","name":"v1","region":"us-east-1","size":10,"tags":null,"type":"volume","volume_id":null},"external":false,"created_at":%s,`+
		`"last_processed_at":%s,"status":"submitted","status_message":null,"deleted":false,"deleted_at":null,"volume_id":null,"provisioning_data":null,`+
		`"cost":0,"attachments":[],"attachment_data":null}`, v.ID, at, at)
	if diff := cmp.Diff(want, got.body); diff != "" {
		t.Errorf("volume (-want +got):\n%s", diff)
	}
	for name, tt := range map[string]struct{ conf, want, code string }{
		"taken":    {`"name":"v1","backend":"aws","region":"r","size":1`, "Resource exists", "resource_exists"},
		"no size":  {`"name":"v2","backend":"aws","region":"r"`, "Volume must specify either existing identifier or size", "error"},
		"no claim": {`"name":"v2","backend":"kubernetes"`, "Volume must specify either existing identifier or size", "error"},
		"name":     {`"name":"V2","backend":"aws","region":"r","size":1`, "Resource name should match regex", "error"},
		"cleanup":  {`"name":"v2","backend":"lium","volume_id":"x","auto_cleanup_duration":"1h"`, "External volumes do not support auto_cleanup_duration.", "error"},
	} {
		if msg, code := refused(r, volumes+"create", `{"configuration":{"type":"volume",`+tt.conf+`}}`); !strings.HasPrefix(msg, tt.want) || code != tt.code {
			t.Errorf("%s: %s %q", name, code, msg)
		}
	}
	for _, conf := range []string{
		`"backend":"aws","region":"r","volume_id":"vol-1","auto_cleanup_duration":-1`, `"backend":"kubernetes","claim_name":"c"`, `"backend":"daytona","volume_id":"x"`,
	} {
		if v := createVolume(r, conf); !v.External || !strings.Contains(v.Name, "-") || *v.Configuration.Name != v.Name {
			t.Errorf("%s: %+v", conf, v)
		}
	}
	if v := createVolume(r, `"backend":"lium"`); v.External {
		t.Errorf("external without an id: %+v", v)
	}
}

func TestVolumeLists(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	other := store.Project{ID: "other", Name: "other", OwnerID: r.admin.ID, CreatedAt: r.now()}
	r.write(func(tx *store.Tx) error { return tx.InsertProject(&other) })
	var ids []string
	for i := range 3 {
		ids = append(ids, createVolume(r, fmt.Sprintf(`"name":"v%d","backend":"aws","region":"r","size":1`, i)).ID)
	}
	post[any](r, "/api/project/other/volumes/create", `{"configuration":{"type":"volume","name":"o1","backend":"aws","region":"r","size":1}}`)
	post[any](r, volumes+"delete", `{"names":["v0","none"]}`)
	step(r, store.KindVolume, ids[0])
	list := func(path, token, body string) []string {
		t.Helper()
		a := r.request(http.MethodPost, path, token, body)
		var rows []api.Volume
		if err := json.Unmarshal([]byte(a.body), &rows); err != nil {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
		names := []string{}
		for _, v := range rows {
			names = append(names, v.Name)
		}
		return names
	}
	const root = "/api/volumes/list"
	for name, tt := range map[string]struct {
		path, token, body string
		want              []string
	}{
		"all":         {root, adminToken, `{}`, []string{"o1", "v2", "v1", "v0"}},
		"active":      {root, adminToken, `{"only_active":true}`, []string{"o1", "v2", "v1"}},
		"project":     {root, adminToken, `{"project_name":"other"}`, []string{"o1"}},
		"no project":  {root, adminToken, `{"project_name":"none"}`, []string{}},
		"page":        {root, adminToken, `{"limit":1,"ascending":true}`, []string{"v0"}},
		"own only":    {root, memberToken, `{}`, []string{"v2", "v1", "v0"}},
		"not foreign": {root, memberToken, `{"project_name":"other"}`, []string{}},
		"outsider":    {root, outsiderToken, `{}`, []string{}},
		"of project":  {volumes + "list", memberToken, ``, []string{"v1", "v2"}},
	} {
		if diff := cmp.Diff(tt.want, list(tt.path, tt.token, tt.body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for path, body := range map[string]string{"list": "", "get": `{"name":"v1"}`, "create": `{}`, "delete": `{"names":["v1"]}`} {
		if a := r.request(http.MethodPost, volumes+path, outsiderToken, body); a.status != http.StatusForbidden {
			t.Errorf("%s as outsider: %d %s", path, a.status, a.body)
		}
	}
	if _, code := refused(r, volumes+"get", `{"name":"v0"}`); code != "resource_not_exists" {
		t.Errorf("a deleted volume: %s", code)
	}
	if a := r.request(http.MethodPost, root, adminToken, `{"limit":101}`); a.status != http.StatusUnprocessableEntity {
		t.Errorf("limit 101: %d", a.status)
	}
}

func TestVolumeLife(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	withBackend(r, "aws")
	lost := createVolume(r, `"name":"lost","backend":"gcp","region":"r","size":1`)
	v := createVolume(r, `"name":"v1","backend":"aws","region":"r","size":1`)
	step(r, store.KindVolume, lost.ID)
	step(r, store.KindVolume, v.ID)
	for name, want := range map[string]string{"lost": "Backend not available", "v1": "This build of the server has no driver for backend aws yet"} {
		if got := post[api.Volume](r, volumes+"get", `{"name":"`+name+`"}`); got.Status != api.VolumeFailed || deref(got.StatusMessage, "") != want {
			t.Errorf("%s: %s %v", name, got.Status, got.StatusMessage)
		}
	}
	post[any](r, volumes+"delete", `{"names":["v1"]}`)
	post[any](r, volumes+"delete", `{"names":["v1"]}`)
	step(r, store.KindVolume, v.ID)
	gone := post[[]api.Volume](r, "/api/volumes/list", `{"limit":1}`)[0]
	if !gone.Deleted || gone.DeletedAt == nil {
		t.Errorf("deleted volume: %+v", gone)
	}
	want := []string{
		"Volume created. Status: SUBMITTED by admin volume=lost", "Volume created. Status: SUBMITTED by admin volume=v1",
		"Volume status changed SUBMITTED -> FAILED (Backend not available) by system volume=lost",
		"Volume status changed SUBMITTED -> FAILED (This build of the server has no driver for backend aws yet) by system volume=v1",
		"Volume marked for deletion by admin volume=v1", "Volume deleted by system volume=v1",
	}
	if diff := cmp.Diff(want, messages(r, "volume")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestVolumeAttached shows where a volume is and what it costs, and keeps it.
func TestVolumeAttached(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := createVolume(r, `"name":"v1","backend":"aws","region":"r","size":1`)
	fleet := applyFleet(t, r, fleetSpec(t, "lab", "", "10.0.0.1"), nil)
	r.write(func(tx *store.Tx) error {
		row, err := tx.Volume(v.ID)
		if err != nil {
			return err
		}
		row.Status, row.Provisioning = api.VolumeActive, &api.VolumeProvisioningData{VolumeID: "vol-9", Price: new(72.0)}
		row.DeletedAt = new(row.CreatedAt.Add(240 * time.Hour))
		if err := tx.UpdateVolume(&row); err != nil {
			return err
		}
		return tx.PutAttachment(&store.VolumeAttachment{VolumeID: v.ID, InstanceID: fleet.Instances[0].ID, Device: new("/dev/sdf")})
	})
	got := post[api.Volume](r, volumes+"get", `{"name":"v1"}`)
	want := []api.VolumeAttachment{{
		Instance:       api.VolumeInstance{Name: "lab-0", FleetName: new("lab"), InstanceID: new("lab-0")},
		AttachmentData: &api.VolumeAttachmentData{DeviceName: new("/dev/sdf")},
	}}
	if diff := cmp.Diff(want, []api.VolumeAttachment(got.Attachments)); diff != "" {
		t.Errorf("attachments (-want +got):\n%s", diff)
	}
	if got.Cost != 24 || *got.VolumeID != "vol-9" {
		t.Errorf("cost %v, id %v", got.Cost, got.VolumeID)
	}
	if msg, _ := refused(r, volumes+"delete", `{"names":["v1"]}`); msg != "Failed to delete volume v1. Volume is in use." {
		t.Errorf("delete: %s", msg)
	}
}
