package api

import (
	"net/http"

	"dstack/controller/api/openapi"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

// route is one endpoint.
type route struct {
	method, path string
	endpoint
}

// Routes lists all endpoints as "METHOD /path/:parameter".
func Routes() []string {
	var out []string
	for _, r := range routes() {
		out = append(out, r.method+" "+r.path)
	}
	return out
}

// routes are all endpoints; who may call each is in [auth.LevelOf].
func routes() []route {
	const p = "/api/project/:project_name"
	post := func(path string, e endpoint) route { return route{http.MethodPost, path, e} }
	return append(accountRoutes(), []route{
		{http.MethodGet, "/healthcheck", endpoint{healthcheck, shapeOf[noBody, health]()}},
		{http.MethodGet, "/metrics", endpoint{scrape, openapi.Shape{Type: "text/plain"}}},
		post("/api/server/get_info", handle((*API).getInfo)),
		post("/api/server/sweep", handle((*API).sweep)),

		post("/api/fleets/list", steady((*API).listFleets)),
		post(p+"/fleets/list", steady((*API).listProjectFleets)),
		post(p+"/fleets/get", handle((*API).getFleet)),
		post(p+"/fleets/get_plan", handle((*API).planFleet)),
		post(p+"/fleets/apply", handle((*API).applyFleet)),
		post(p+"/fleets/delete", handle((*API).deleteFleets)),
		post(p+"/fleets/delete_instances", handle((*API).deleteInstances)),
		post("/api/instances/list", steady((*API).listInstances)),
		post(p+"/instances/get", handle((*API).getInstance)),

		post(p+"/instances/get_instance_health_checks", handle((*API).getHealthChecks)),
		post(p+"/templates/list", handle((*API).listTemplates)),
		post("/api/sshproxy/get_upstream", endpoint{getUpstream, shapeOf[api.GetUpstreamRequest, api.Upstream]()}),

		post("/api/backends/list_types", handle((*API).listBackendTypes)),
		post(p+"/backends/create", handle((*API).createBackend)),
		post(p+"/backends/update", handle((*API).updateBackend)),
		post(p+"/backends/delete", handle((*API).deleteBackends)),
		post(p+"/backends/create_yaml", handle((*API).createBackendYAML)),
		post(p+"/backends/update_yaml", handle((*API).updateBackendYAML)),
		post(p+"/backends/:backend_name/config_info", endpoint{backendConfig, shapeOf[noBody, config.Backend]()}),
		post(p+"/backends/:backend_name/get_yaml", endpoint{backendYAML, shapeOf[noBody, api.BackendInfoYAML]()}),
		post(p+"/gateways/list", handle((*API).listGateways)),
		post(p+"/gateways/get", handle((*API).getGateway)),
		post(p+"/gateways/get_plan", handle((*API).planGateway)),
		post(p+"/gateways/apply", handle((*API).applyGateway)),
		post(p+"/gateways/create", handle((*API).createGateway)),
		post(p+"/gateways/delete", handle((*API).deleteGateways)),
		post(p+"/gateways/set_default", handle((*API).setDefaultGateway)),
		post(p+"/gateways/set_wildcard_domain", handle((*API).setWildcardDomain)),
		post("/api/volumes/list", handle((*API).listVolumes)),
		post(p+"/volumes/list", handle((*API).listProjectVolumes)),
		post(p+"/volumes/get", handle((*API).getVolume)),
		post(p+"/volumes/create", handle((*API).createVolume)),
		post(p+"/volumes/delete", handle((*API).deleteVolumes)),

		post("/api/runs/list", steadyReply((*API).listRuns)),
		post(p+"/runs/get", handle((*API).getRun)),
		post(p+"/runs/get_plan", steadyReply((*API).planRun)),
		post(p+"/runs/apply", handle((*API).applyRun)),
		post(p+"/runs/stop", handle((*API).stopRuns)),
		post(p+"/runs/delete", handle((*API).deleteRuns)),
		post(p+"/runs/watch", lines[api.WatchRunRequest, api.Run](watchRun)),
		post(p+"/runs/why", handle((*API).explainRun)),
		{http.MethodGet, p + "/runs/:run_name/relay", relayEndpoint()},
		post(p+"/gpus/list", handle((*API).listGPUs)),

		post(p+"/repos/list", handle((*API).listRepos)),
		post(p+"/repos/get", handle((*API).getRepo)),
		post(p+"/repos/init", handle((*API).initRepo)),
		post(p+"/repos/delete", handle((*API).deleteRepos)),
		post(p+"/secrets/list", handle((*API).listSecrets)),
		post(p+"/secrets/get", handle((*API).getSecret)),
		post(p+"/secrets/create_or_update", handle((*API).setSecret)),
		post(p+"/secrets/delete", handle((*API).deleteSecrets)),
		post(p+"/repos/upload_code", upload[nothing](uploadCode, repoParameter())),
		post("/api/files/upload_archive", upload[api.FileArchive](uploadArchive)),
		post("/api/files/get_archive_by_hash", handle((*API).findArchive)),
		{http.MethodGet, p + "/metrics/job/:run_name", handleQuery("run_name", (*API).jobMetrics)},
		post(p+"/metrics/usage", handle((*API).usage)),
		post(p+"/logs/poll", steadyReply((*API).pollLogs)),
		post(p+"/logs/follow", lines[api.FollowLogsRequest, api.LogChunk](followLogs)),
		post("/api/events/list", handle((*API).listEvents)),
	}...)
}
