package config

import (
	"fmt"
	"strconv"
	"strings"

	"dstack/protocol/internal/decode"
)

const portForms = "PORT, LOCAL:PORT or *:PORT"

// readPort reads one entry of `ports` (spec: configuration.md 2.7).
func readPort(v decode.Value) PortMapping {
	n := v.Node()
	switch n.Kind {
	case decode.Int, decode.Bool, decode.String:
		return readPortText(v)
	case decode.Map:
		o := v.Object()
		defer o.Done()
		return PortMapping{
			LocalPort:     decode.Field(o, "local_port", decode.Optional(decode.PositiveInt(maxPort))),
			ContainerPort: decode.Required(o, "container_port", decode.PositiveInt(maxPort)),
		}
	}
	v.Fail("model_attributes_type", "must be a port mapping", portForms)
	return PortMapping{}
}

const maxPort = 65535

func readPortText(v decode.Value) PortMapping {
	text := v.Node().Text
	if v.Kind() != decode.String {
		text = strconv.Itoa(decode.Integer(v))
	}
	if v.Node().Sexagesimal() {
		checkSexagesimal(v, v.At(v.Node(), "local_port"))
		return PortMapping{LocalPort: new(int(v.Node().Int)), ContainerPort: int(v.Node().Int)}
	}
	p, err := ParsePort(text)
	if err != nil {
		v.FailValue("must be a port mapping", text, portForms)
		return PortMapping{}
	}
	for _, f := range []struct {
		name string
		port *int
	}{{"local_port", p.LocalPort}, {"container_port", &p.ContainerPort}} {
		if f.port != nil {
			decode.CheckPositive(v.At(v.Node(), f.name), *f.port, maxPort)
		}
	}
	return p
}

// checkSexagesimal says what YAML 1.1 made of a mapping without quotes. It is
// taken like that if it gives a port, as in 0.22.5; if not, the fault is at place.
func checkSexagesimal(v, place decode.Value) {
	n := v.Node()
	message, hint := fmt.Sprintf("YAML takes the unquoted %s for the number %d", n.Text, n.Int), `write "`+n.Text+`" in quotes`
	if n.Int >= 1 && n.Int <= maxPort {
		v.Warn(message, hint)
		return
	}
	place.FailBare("less_than_equal", message, hint)
}

// ParsePort parses PORT, LOCAL:PORT or *:PORT. The numbers are not checked
// against the range of ports.
func ParsePort(s string) (PortMapping, error) {
	local, container, both := strings.Cut(s, ":")
	if !both {
		container = local
	}
	bad := fmt.Errorf("not a port mapping: %q", s)
	port, ok := decimal(container)
	if !ok {
		return PortMapping{}, bad
	}
	if both && local == "*" {
		return PortMapping{ContainerPort: port}, nil
	}
	localPort, ok := decimal(local)
	if !ok {
		return PortMapping{}, bad
	}
	return PortMapping{LocalPort: &localPort, ContainerPort: port}, nil
}

// decimal parses plain digits, with a sign so that the range is what is
// complained about.
func decimal(s string) (int, bool) {
	i, err := strconv.Atoi(s)
	return i, err == nil
}
