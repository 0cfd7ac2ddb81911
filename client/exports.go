package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"dstack/protocol/api"
)

// listed reads a list that old servers give bare, and new ones inside an
// object.
func listed[Item, Answer any](data json.RawMessage, answer *Answer, items *[]Item) error {
	var err error
	if bytes.HasPrefix(data, []byte("[")) {
		err = json.Unmarshal(data, items)
	} else {
		err = json.Unmarshal(data, answer)
	}
	if err != nil {
		return fmt.Errorf("read the server's list: %w", err)
	}
	return nil
}

// ListExports gives the project's exports, and what the server warns of.
func (p *Project) ListExports(ctx context.Context) (api.ListExportsResponse, error) {
	var answer api.ListExportsResponse
	data, err := call[json.RawMessage](ctx, p.Client, read(p.path("exports/list")), nil)
	if err != nil {
		return answer, err
	}
	err = listed(data, &answer, (*[]api.Export)(&answer.Exports))
	return answer, err
}

// CreateExport creates an export.
func (p *Project) CreateExport(ctx context.Context, req api.CreateExportRequest) (api.Export, error) {
	return call[api.Export](ctx, p.Client, write(p.path("exports/create")), req)
}

// UpdateExport changes an export.
func (p *Project) UpdateExport(ctx context.Context, req api.UpdateExportRequest) (api.Export, error) {
	return call[api.Export](ctx, p.Client, write(p.path("exports/update")), req)
}

// DeleteExport deletes an export; projects that import it lose it.
func (p *Project) DeleteExport(ctx context.Context, name string) error {
	return p.do(ctx, write(p.path("exports/delete")), api.DeleteExportRequest{Name: name})
}

// ListImports gives the exports that the project imports, and what the server
// warns of.
func (p *Project) ListImports(ctx context.Context) (api.ListImportsResponse, error) {
	var answer api.ListImportsResponse
	data, err := call[json.RawMessage](ctx, p.Client, read(p.path("imports/list")), nil)
	if err != nil {
		return answer, err
	}
	err = listed(data, &answer, (*[]api.Import)(&answer.Imports))
	return answer, err
}

// DeleteImport gives an import up.
func (p *Project) DeleteImport(ctx context.Context, exportProject, exportName string) error {
	return p.do(ctx, write(p.path("imports/delete")), api.DeleteImportRequest{ExportName: exportName, ExportProjectName: exportProject})
}
