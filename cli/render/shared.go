package render

import (
	"strings"

	"dstack/cli/term"
	"dstack/protocol/api"
)

// SecretsTable is the table of `secret`. A value that is not known is hidden.
func SecretsTable(secrets []api.Secret) term.Table {
	t := term.Table{Columns: []term.Column{{Title: "NAME"}, {Title: "VALUE", Wrap: true}}}
	for _, s := range secrets {
		value := "******"
		if s.Value != nil {
			value = *s.Value
		}
		t.Rows = append(t.Rows, term.Row{Cells: styled(term.Plain, s.Name, value)})
	}
	return t
}

// ExportsTable is the table of `export`.
func ExportsTable(exports []api.Export) term.Table {
	t := term.Table{Columns: []term.Column{
		{Title: "NAME"}, {Title: "FLEETS", Wrap: true}, {Title: "GATEWAYS", Wrap: true}, {Title: "IMPORTERS", Wrap: true},
	}}
	for _, e := range exports {
		importers := make([]string, len(e.Imports))
		for i, p := range e.Imports {
			importers[i] = p.ProjectName
		}
		who := orDash(importers)
		if e.IsGlobal {
			who = "*"
		}
		t.Rows = append(t.Rows, term.Row{Cells: styled(term.Plain, e.Name, objects(e.ExportedFleets), objects(e.ExportedGateways), who)})
	}
	return t
}

// ImportsTable is the table of `import`.
func ImportsTable(imports []api.Import) term.Table {
	t := term.Table{Columns: []term.Column{{Title: "NAME"}, {Title: "FLEETS", Wrap: true}, {Title: "GATEWAYS", Wrap: true}}}
	for _, i := range imports {
		t.Rows = append(t.Rows, term.Row{Cells: styled(term.Plain, ImportName(i), objects(i.Export.ExportedFleets), objects(i.Export.ExportedGateways))})
	}
	return t
}

// ImportName is how users name an import: PROJECT/EXPORT.
func ImportName(i api.Import) string { return i.Export.ProjectName + "/" + i.Export.Name }

func objects(all []api.ExportedObject) string {
	names := make([]string, len(all))
	for i, o := range all {
		names[i] = o.Name
	}
	return orDash(names)
}

func orDash(names []string) string {
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, ", ")
}
