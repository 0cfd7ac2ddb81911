package controller

import (
	"fmt"
	"net/url"
	"strings"

	"dstack/controller/objects"
)

// ArchiveSettings say where uploaded code and files are kept (spec:
// server-operations.md 3, 7).
type ArchiveSettings struct {
	// Bucket is nil if they stay on the server's disk.
	Bucket *objects.Target
}

// The variables of archives; the last one is ours.
const (
	archivesS3    = "DSTACK_SERVER_S3_BUCKET"
	archivesGCS   = "DSTACK_SERVER_GCS_BUCKET"
	archivesAzure = "DSTACK_SERVER_AZURE_CONTAINER"
)

func archiveSettings(env *environment) ArchiveSettings {
	trimmed := func(name string) string { return strings.TrimSpace(env.text(name, "")) }
	s3, gcs, azure := env.renamed("DSTACK_SERVER_BUCKET", archivesS3), trimmed(archivesGCS), trimmed(archivesAzure)
	region := env.renamed("DSTACK_SERVER_BUCKET_REGION", "DSTACK_SERVER_S3_BUCKET_REGION")
	var set []string
	var target objects.Target
	var err error
	if s3 != "" {
		set = append(set, archivesS3)
		target, err = objects.Parse(objects.SchemeS3 + "://" + s3)
		if region != "" {
			target.Query = url.Values{"region": {region}}
		}
	}
	if gcs != "" {
		set = append(set, archivesGCS)
		target, err = objects.Parse(objects.SchemeGCS + "://" + gcs)
	}
	if azure != "" {
		set = append(set, archivesAzure)
		target, err = objects.ParseContainer(azure)
	}
	if len(set) == 0 {
		return ArchiveSettings{}
	}
	target.Setting = set[0]
	switch {
	case len(set) > 1:
		env.faults = append(env.faults, fmt.Errorf("%s are set: archives go to one storage only, unset the others", strings.Join(set, " and ")))
	case err != nil:
		env.faults = append(env.faults, fmt.Errorf("environment variable %s=%q: %w", target.Setting, s3+gcs+azure, err))
	case target.Path != "":
		env.faults = append(env.faults, fmt.Errorf("environment variable %s=%q: must be a name without a path", target.Setting, s3+gcs+azure))
	}
	return ArchiveSettings{Bucket: &target}
}

// renamed reads a variable that has an old name, too.
func (e *environment) renamed(old, name string) string {
	was, is := strings.TrimSpace(e.get(old)), strings.TrimSpace(e.get(name))
	if was != "" && is != "" && was != is {
		e.faults = append(e.faults, fmt.Errorf("environment variables %s=%q and %s=%q differ: unset %s, which is the old name", old, was, name, is, old))
	}
	if is != "" {
		return is
	}
	return was
}
