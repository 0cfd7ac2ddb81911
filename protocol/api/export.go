package api

import "dstack/protocol/config"

// Export shares fleets and gateways of a project with the projects that
// import it, or with all if it is global.
type Export struct {
	ID               string                      `json:"id"`
	Name             string                      `json:"name"`
	IsGlobal         bool                        `json:"is_global"`
	Imports          config.List[ExportImport]   `json:"imports"`
	ExportedFleets   config.List[ExportedObject] `json:"exported_fleets"`
	ExportedGateways config.List[ExportedObject] `json:"exported_gateways"`
}

// ExportImport is a project that imports an export.
type ExportImport struct {
	ProjectName string `json:"project_name"`
}

// ExportedObject is a fleet or gateway that is shared.
type ExportedObject struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// ListExportsResponse is the answer of exports/list; clients before 0.22.0
// get the bare list.
type ListExportsResponse struct {
	Exports  config.List[Export] `json:"exports"`
	Warnings config.List[string] `json:"warnings"`
}

// CreateExportRequest is the body of exports/create.
type CreateExportRequest struct {
	Name             string   `json:"name"`
	IsGlobal         bool     `json:"is_global,omitempty"`
	ImporterProjects []string `json:"importer_projects,omitempty"`
	ExportedFleets   []string `json:"exported_fleets,omitempty"`
	ExportedGateways []string `json:"exported_gateways,omitempty"`
}

// UpdateExportRequest changes an export; SetGlobal and UnsetGlobal exclude
// each other.
type UpdateExportRequest struct {
	Name                   string   `json:"name"`
	SetGlobal              bool     `json:"set_global,omitempty"`
	UnsetGlobal            bool     `json:"unset_global,omitempty"`
	AddImporterProjects    []string `json:"add_importer_projects,omitempty"`
	RemoveImporterProjects []string `json:"remove_importer_projects,omitempty"`
	AddExportedFleets      []string `json:"add_exported_fleets,omitempty"`
	RemoveExportedFleets   []string `json:"remove_exported_fleets,omitempty"`
	AddExportedGateways    []string `json:"add_exported_gateways,omitempty"`
	RemoveExportedGateways []string `json:"remove_exported_gateways,omitempty"`
}

// DeleteExportRequest names the export to delete.
type DeleteExportRequest struct {
	Name string `json:"name"`
}

// Import is an export of another project that this project uses.
type Import struct {
	ID     string       `json:"id"`
	Export ImportExport `json:"export"`
}

// ImportExport is what is imported, and from which project.
type ImportExport struct {
	ID               string                      `json:"id"`
	Name             string                      `json:"name"`
	ProjectName      string                      `json:"project_name"`
	ExportedFleets   config.List[ExportedObject] `json:"exported_fleets"`
	ExportedGateways config.List[ExportedObject] `json:"exported_gateways"`
}

// ListImportsResponse is the answer of imports/list; clients before 0.22.0
// get the bare list.
type ListImportsResponse struct {
	Imports  config.List[Import] `json:"imports"`
	Warnings config.List[string] `json:"warnings"`
}

// DeleteImportRequest names the import to give up.
type DeleteImportRequest struct {
	ExportName        string `json:"export_name"`
	ExportProjectName string `json:"export_project_name"`
}
