package cli

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"dstack/protocol/api"
)

// fakeLimit is how large an upload may be.
const fakeLimit = 64 << 10

// upload keeps what is uploaded under its hash.
func (f *fakeServer) upload(w http.ResponseWriter, r *http.Request) {
	file, header, err := r.FormFile("file")
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if len(data) > fakeLimit {
		http.Error(w, failure("error", "Archive size is large").Error(), http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.uploads[header.Filename] = data
	f.uploaded++
	id := fmt.Sprintf("00000000-0000-4000-9000-%012d", len(f.uploads))
	if r.URL.Query().Has("repo_id") {
		sendLine(w, nil)
		return
	}
	f.archives = append(f.archives, api.FileArchive{ID: id, Hash: header.Filename})
	sendLine(w, f.archives[len(f.archives)-1])
}

// answerFiles answers calls about repos and archives.
func (f *fakeServer) answerFiles(call string, body *json.Decoder) (any, error) {
	switch call {
	case "repos/get":
		if repo, ok := f.repos[in[api.GetRepoRequest](body).RepoID]; ok {
			return repo, nil
		}
	case "repos/init":
		req := in[api.SaveRepoCredsRequest](body)
		f.repos[req.RepoID] = api.RepoHeadWithCreds(req)
		f.inits++
		return nil, nil
	case "files/get_archive_by_hash":
		hash := in[api.GetFileArchiveByHashRequest](body).Hash
		if i := slices.IndexFunc(f.archives, func(a api.FileArchive) bool { return a.Hash == hash }); i >= 0 {
			return f.archives[i], nil
		}
	default:
		return nil, fakeError{404, `{"detail":"Not Found"}`}
	}
	return nil, errNotThere
}

// sources is what a run got from the user's machine, for its log.
func (f *fakeServer) sources(spec api.RunSpec) string {
	var b strings.Builder
	fmt.Fprintf(&b, "inits %d, uploads %d\n", f.inits, f.uploaded)
	if d := spec.RepoData; d != nil && d.RepoType == api.RepoRemote {
		fmt.Fprintf(&b, "repo %s branch %s hash %t to %s\n", d.RepoName, deref(d.RepoBranch), d.RepoHash != nil, deref(spec.RepoDir))
		creds := f.repos[*spec.RepoID].RepoCreds
		fmt.Fprintf(&b, "token %s\n", deref(creds.OAuthToken))
	}
	if spec.RepoCodeHash != nil {
		b.Write(f.uploads[*spec.RepoCodeHash])
	}
	for _, mapping := range spec.FileArchives {
		i := slices.IndexFunc(f.archives, func(a api.FileArchive) bool { return a.ID == mapping.ID })
		fmt.Fprintf(&b, "files at %s:", mapping.Path)
		for r := tar.NewReader(bytes.NewReader(f.uploads[f.archives[i].Hash])); ; {
			h, err := r.Next()
			if err != nil {
				break
			}
			b.WriteString(" " + h.Name)
		}
		b.WriteString("\n")
	}
	return b.String()
}
