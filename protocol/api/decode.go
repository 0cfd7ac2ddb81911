package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"dstack/protocol/config"
	"dstack/protocol/internal/decode"
)

// DecodeRequest reads the body of a call into one of the request types of
// this package, with the coercions of 0.22.5, all shorthands and defaults. Unknown fields are errors at every level but inside
// current_resource, which older and newer clients echo. An empty body and
// null are fine for requests that are optional. The error is [config.Errors],
// whose Details are the body of the 422 answer.
func DecodeRequest[T any](body []byte) (T, error) {
	var zero T
	if _, optional := any(zero).(optionalBody); optional && (len(body) == 0 || string(body) == "null") {
		return zero, nil
	}
	if len(body) == 0 {
		return zero, config.Errors{{Type: "missing", Message: "Field required"}}
	}
	return decodeJSON(body, func(v decode.Value) T {
		var request T
		requestField{}.read(v, reflect.ValueOf(&request).Elem())
		if checked, ok := any(request).(checker); ok && !v.Failed() {
			checked.check(v)
		}
		return request
	})
}

func decodeJSON[T any](data []byte, read decode.Reader[T]) (T, error) {
	root, err := decode.JSON(data)
	if err != nil {
		var zero T
		return zero, err
	}
	return decode.Read("", root, read)
}

// optionalBody marks requests whose body may be missing.
type optionalBody interface{ optionalBody() }

// checker is a request with rules beyond the types of its fields.
type checker interface{ check(v decode.Value) }

// readers are the types with a reader of their own.
var readers = map[reflect.Type]func(decode.Value) any{
	reflect.TypeFor[RunSpec]():         func(v decode.Value) any { return readRunSpec(v) },
	reflect.TypeFor[FleetSpec]():       func(v decode.Value) any { return readFleetSpec(v) },
	reflect.TypeFor[config.Backend]():  func(v decode.Value) any { return config.ReadBackend(v) },
	reflect.TypeFor[BackendType]():     func(v decode.Value) any { return readBackendType(v) },
	reflect.TypeFor[config.Gateway]():  func(v decode.Value) any { return config.ReadGateway(oldRouter(v)) },
	reflect.TypeFor[config.Volume]():   func(v decode.Value) any { return config.ReadVolume(v) },
	reflect.TypeFor[Gateway]():         func(v decode.Value) any { return readEcho[Gateway](v) },
	reflect.TypeFor[Run]():             func(v decode.Value) any { return readEcho[Run](v) },
	reflect.TypeFor[Fleet]():           func(v decode.Value) any { return readEcho[Fleet](v) },
	reflect.TypeFor[Time]():            func(v decode.Value) any { return readTime(v) },
	reflect.TypeFor[json.RawMessage](): func(v decode.Value) any { return json.RawMessage(v.Node().Raw) },
	reflect.TypeFor[GlobalRole]():      func(v decode.Value) any { return GlobalRole(decode.Enum("admin", "user")(v)) },
	reflect.TypeFor[ProjectRole]():     func(v decode.Value) any { return ProjectRole(decode.Enum("admin", "manager", "user")(v)) },
	reflect.TypeFor[string]():          func(v decode.Value) any { return decode.Text(v) },
	reflect.TypeFor[bool]():            func(v decode.Value) any { return decode.Boolean(v) },
	reflect.TypeFor[int]():             func(v decode.Value) any { return decode.Integer(v) },
	reflect.TypeFor[int64]():           func(v decode.Value) any { return int64(decode.Integer(v)) },
}

// readStruct fills the fields of a request by their JSON names. Pointers and
// fields with omitempty are optional.
func readStruct(v decode.Value, target reflect.Value) {
	o := v.Object()
	for i := range target.NumField() {
		tag := target.Type().Field(i).Tag
		name, options, _ := strings.Cut(tag.Get("json"), ",")
		f := requestField{
			optional: options == "omitempty" || target.Field(i).Kind() == reflect.Pointer,
			uuid:     tag.Get("as") == "uuid", notNull: tag.Get("null") == "no",
		}
		read := func(v decode.Value) struct{} {
			f.read(v, target.Field(i))
			return struct{}{}
		}
		if f.optional {
			decode.Field(o, name, read)
		} else {
			decode.Required(o, name, read)
		}
	}
	o.Done()
}

// requestField is what the tags of a field say.
type requestField struct {
	optional, uuid bool
	// notNull refuses an explicit null where the field may be absent.
	notNull bool
}

func (f requestField) read(v decode.Value, target reflect.Value) {
	if f.uuid && target.Kind() == reflect.String {
		target.SetString(readUUID(v))
		return
	}
	if read, ok := readers[target.Type()]; ok {
		target.Set(reflect.ValueOf(read(v)))
		return
	}
	nullable := !f.notNull && (target.Kind() == reflect.Pointer || f.optional && target.Kind() == reflect.Slice)
	switch {
	case nullable && v.Kind() == decode.Null:
	case target.Kind() == reflect.Pointer:
		target.Set(reflect.New(target.Type().Elem()))
		f.read(v, target.Elem())
	case target.Kind() == reflect.Struct:
		readStruct(v, target)
	case target.Kind() == reflect.Slice && v.Kind() == decode.List:
		items := v.Node().Items
		target.Set(reflect.MakeSlice(target.Type(), len(items), len(items)))
		for i, item := range items {
			f.read(v.At(item, i), target.Index(i))
		}
	default:
		v.Fail("list_type", "must be a list", "")
	}
}

// readEcho reads a resource that the client got from us. Unknown fields and
// missing ones do not matter: it is only compared.
func readEcho[T any](v decode.Value) T {
	var resource T
	if v.Kind() != decode.Map {
		v.Fail("model_attributes_type", "must be a mapping", "")
		return resource
	}
	if err := json.Unmarshal(v.Node().Raw, &resource); err != nil {
		v.FailBare("value_error", fmt.Sprintf("cannot be read: %v", err), "")
	}
	return resource
}

func readTime(v decode.Value) Time {
	var t Time
	n := v.Node()
	if n.Kind == decode.String || n.Kind == decode.Int || n.Kind == decode.Float {
		if err := t.UnmarshalJSON([]byte(`"` + n.Text + `"`)); err == nil {
			return t
		}
	}
	typ := "datetime_type"
	if n.Kind == decode.String {
		typ = "datetime_from_date_parsing"
	}
	v.Fail(typ, "must be a date and time", "RFC 3339 such as 2026-01-31T12:00:00Z")
	return t
}

func readRunSpec(v decode.Value) RunSpec {
	o := v.Object()
	defer o.Done()
	spec, ok := decode.Try(v, func(decode.Value) RunSpec { return readRunFields(o) })
	if ok {
		if err := spec.Configuration.CheckRouter(spec.Params()); err != nil {
			v.FailBare("value_error", err.Error(), "")
		}
	}
	return spec
}

func readRunFields(o *decode.Object) RunSpec {
	text := decode.Optional(decode.Text)
	return RunSpec{
		RunName:           decode.Field(o, "run_name", text),
		RepoID:            decode.Field(o, "repo_id", text),
		RepoData:          decode.Field(o, "repo_data", decode.Optional(readRepoData)),
		RepoCodeHash:      decode.Field(o, "repo_code_hash", text),
		RepoDir:           decode.Field(o, "repo_dir", text),
		FileArchives:      decode.Field(o, "file_archives", decode.ListOf(readFileArchive)),
		WorkingDir:        decode.Field(o, "working_dir", text),
		ConfigurationPath: decode.Field(o, "configuration_path", text),
		Configuration:     decode.Required(o, "configuration", config.ReadRun),
		Profile:           decode.Field(o, "profile", decode.Optional(config.ReadProfile)),
		SSHKeyPub:         decode.Field(o, "ssh_key_pub", text),
	}
}

func readFleetSpec(v decode.Value) FleetSpec {
	o := v.Object()
	defer o.Done()
	return FleetSpec{
		Configuration:     decode.Required(o, "configuration", config.ReadFleet),
		ConfigurationPath: decode.Field(o, "configuration_path", decode.Optional(decode.Text)),
		Profile:           decode.Required(o, "profile", config.ReadProfile),
		Autocreated:       decode.Field(o, "autocreated", decode.Boolean),
	}
}

func readFileArchive(v decode.Value) FileArchiveMapping {
	o := v.Object()
	defer o.Done()
	return FileArchiveMapping{
		ID:   decode.Required(o, "id", readUUID),
		Path: decode.Required(o, "path", decode.Text),
	}
}

// readRepoType reads repo_type and gives the object for the fields of that
// type; "" after an error.
func readRepoType(v decode.Value) (string, *decode.Object) {
	if v.Kind() != decode.Map {
		v.Fail("model_attributes_type", "must be a mapping", "")
		return "", nil
	}
	node := v.Node().Lookup("repo_type")
	if node == nil {
		v.FailBare("union_tag_not_found", "repo_type is required: one of remote, local, virtual", "")
		return "", nil
	}
	repoType, ok := decode.Try(v.At(node), decode.Enum(RepoRemote, RepoLocal, RepoVirtual))
	if !ok {
		return "", nil
	}
	o := v.At(v.Node(), decode.Tag(repoType)).Object()
	o.Has("repo_type")
	return repoType, o
}

func readRepoData(v decode.Value) RepoData {
	repoType, o := readRepoType(v)
	data := RepoData{RepoType: repoType}
	text := decode.Optional(decode.Text)
	switch repoType {
	case "":
		return data
	case RepoRemote:
		data.RepoName = decode.Required(o, "repo_name", decode.Text)
		data.RepoBranch = decode.Field(o, "repo_branch", text)
		data.RepoHash = decode.Field(o, "repo_hash", text)
		data.RepoConfigName = decode.Field(o, "repo_config_name", text)
		data.RepoConfigEmail = decode.Field(o, "repo_config_email", text)
		o.Has("repo_diff") // sent by old clients, uploaded on its own since
	case RepoLocal:
		data.RepoDir = decode.Required(o, "repo_dir", decode.Text)
	}
	o.Done()
	return data
}

var uuidText = regexp.MustCompile(`^(?i:[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12})$`)

// readUUID reads a UUID with or without dashes and writes it in lower case
// with dashes.
func readUUID(v decode.Value) string {
	n := v.Node()
	if n.Kind != decode.String || !uuidText.MatchString(n.Text) {
		v.Fail("uuid_parsing", "must be a UUID", "")
		return ""
	}
	s := strings.ToLower(strings.ReplaceAll(n.Text, "-", ""))
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
