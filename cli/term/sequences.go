//go:build !windows

package term

import "os"

// takesSequences says whether a terminal obeys escape sequences.
func takesSequences(*os.File) bool { return true }
