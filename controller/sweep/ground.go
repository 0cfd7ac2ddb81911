package sweep

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dstack/durable"
)

// groundFile lies beside the database and belongs to the place, not to what is
// backed up: a database that comes to another place finds another one.
const groundFile = "ground"

// Ground names the place where a database lies. It makes the file that does so
// if there is none. A copy of the folder is another ground.
func Ground(dir string, newID func() string) (string, error) {
	path := filepath.Join(dir, groundFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text = []byte(newID() + "\n")
		err = durable.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("read the name of this place: %w", err)
	}
	m, err := mark(path)
	if err != nil {
		return "", fmt.Errorf("tell this place from its copies: %w", err)
	}
	return strings.TrimSpace(string(text)) + "/" + m, nil
}
