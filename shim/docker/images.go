package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"

	"dstack/durable"
)

// When images go: see [Runtime.Prune].
const (
	keepImages  = 7 * 24 * time.Hour
	fullPercent = 85
)

// images remembers when the shim used each image last. Images that it never
// used are the owner's of the host and not touched.
type images struct {
	path string
	mu   sync.Mutex
	used map[string]time.Time // image id → last use
}

func loadImages(path string) (*images, error) {
	im := &images{path: path, used: map[string]time.Time{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return im, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read use of images: %w", err)
	}
	if err := json.Unmarshal(data, &im.used); err != nil {
		// What is forgotten here is only that an image may go one day.
		im.used = map[string]time.Time{}
	}
	return im, nil
}

// useEvery is how exact the last use is kept.
const useEvery = time.Hour

func (im *images) use(id string, now time.Time) error {
	im.mu.Lock()
	defer im.mu.Unlock()
	if last, ok := im.used[id]; ok && now.Sub(last) < useEvery {
		return nil
	}
	im.used[id] = now
	return im.save()
}

func (im *images) save() error {
	data, err := json.Marshal(im.used)
	if err != nil {
		return fmt.Errorf("encode use of images: %w", err)
	}
	if err := durable.WriteFile(im.path, data, 0o600); err != nil {
		return fmt.Errorf("keep use of images: %w", err)
	}
	return nil
}

func (im *images) forget(id string) error {
	im.mu.Lock()
	defer im.mu.Unlock()
	delete(im.used, id)
	return im.save()
}

// stale are the images to remove, the longest unused first.
func stale(used map[string]time.Time, size, free int64, now time.Time) []string {
	if size == 0 || (size-free)*100 <= fullPercent*size {
		return nil
	}
	var ids []string
	for id, last := range used {
		if now.Sub(last) >= keepImages {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int { return used[a].Compare(used[b]) })
	return ids
}

// Prune removes images that no task used for 7 days while the disk, whose
// size and free bytes are given, is more than 85 % full. An image that any
// container uses stays.
func (r *Runtime) Prune(ctx context.Context, disk func() (size, free int64), now time.Time) error {
	size, free := disk()
	r.images.mu.Lock()
	used := maps.Clone(r.images.used)
	r.images.mu.Unlock()
	candidates := stale(used, size, free, now)
	if len(candidates) == 0 {
		return nil
	}
	busy, err := r.imagesInUse(ctx)
	if err != nil {
		return err
	}
	for _, id := range candidates {
		if size, free = disk(); len(stale(used, size, free, now)) == 0 {
			return nil
		}
		if busy[id] {
			continue
		}
		if err := r.removeImage(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (r *Runtime) imagesInUse(ctx context.Context) (map[string]bool, error) {
	all, err := r.cli.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	busy := map[string]bool{}
	for _, c := range all {
		busy[c.ImageID] = true
	}
	return busy, nil
}

func (r *Runtime) removeImage(ctx context.Context, id string) error {
	// By its names first: an image with several cannot be removed by id.
	found, err := r.cli.ImageInspect(ctx, id)
	if err == nil {
		for _, tag := range found.RepoTags {
			if _, err := r.cli.ImageRemove(ctx, tag, image.RemoveOptions{PruneChildren: true}); err != nil && !errdefs.IsNotFound(err) {
				return fmt.Errorf("remove image %s: %w", tag, err)
			}
		}
		_, err = r.cli.ImageRemove(ctx, id, image.RemoveOptions{PruneChildren: true})
	}
	switch {
	case err == nil || errdefs.IsNotFound(err):
		r.cfg.Log.Info().Str("image", id).Msg("unused image removed")
		return r.images.forget(id)
	case errdefs.IsConflict(err): // a container took it meanwhile
		return nil
	default:
		return fmt.Errorf("remove image %s: %w", id, err)
	}
}
