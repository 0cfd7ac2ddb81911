package api

import (
	"context"
	"fmt"

	"dstack/controller/engine/jobspec"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// checkSecrets refuses jobs whose registry_auth cannot be filled in. env is
// filled in when the job is sent to its host (spec: configuration.md 2.14).
func (a *API) checkSecrets(ctx context.Context, c call, jobs []api.JobSpec) error {
	return a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		_, err := secretWarnings(tx, c, jobs)
		return err
	})
}

// secretWarnings say what of env could not be filled in now. It fails for
// registry_auth, unless the image is never pulled.
func secretWarnings(tx *store.Tx, c call, jobs []api.JobSpec) ([]string, error) {
	out := []string{}
	for _, job := range jobs {
		values := map[string]string{}
		if names := jobspec.SecretNames(job); len(names) > 0 {
			rows, err := tx.SecretsByName(c.Project.ID, names)
			if err != nil {
				return nil, fmt.Errorf("find secrets: %w", err)
			}
			for _, s := range rows {
				values[s.Name] = s.Value
			}
		}
		auth := api.JobSpec{RegistryAuth: job.RegistryAuth}
		if _, err := jobspec.WithSecrets(auth, values); err != nil && job.ImageName != noImage {
			return nil, refuse("%v", err)
		}
		if _, err := jobspec.WithSecrets(job, values); err != nil {
			out = append(out, fmt.Sprintf("The job %s cannot start: %v", job.JobName, err))
		}
	}
	return out, nil
}
