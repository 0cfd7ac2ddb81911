package sweep

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"dstack/controller/store"
)

// setting is the name under which the database keeps the memory.
const setting = "sweep"

// Memory is what the database knows of itself.
type Memory struct {
	// Tag is the value of backends.TagServer that machines get now.
	Tag string `json:"tag"`
	// Former are those that they got before the database was restored or copied
	// to another place, the newest last.
	Former []Former `json:"former,omitempty"`
	// Ground is the place where the database was at the last start.
	Ground string `json:"ground"`
	// Moved is when it came to another place last; zero if it never did.
	Moved time.Time `json:"moved,omitzero"`
	// Blind are times that the database may know nothing about.
	Blind []Blind `json:"blind,omitempty"`
}

// Former is a tag that is not given any more.
type Former struct {
	Tag   string    `json:"tag"`
	Since time.Time `json:"since"`
}

func load(tx *store.Tx) (m Memory, found bool, err error) {
	text, err := tx.Setting(setting)
	if err != nil || text == "" {
		return Memory{}, false, err //nolint:wrapcheck // says what it was doing
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return Memory{}, false, fmt.Errorf("read setting %s: %w", setting, err)
	}
	return m, true, nil
}

func save(tx *store.Tx, m Memory) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write setting %s: %w", setting, err)
	}
	return tx.PutSetting(setting, string(text)) //nolint:wrapcheck // says what it was doing
}

// Begin is called at a server's start, before anything else changes the
// database: it says which tag machines get, and whether the database came here
// from elsewhere. The first tag of a database is its server id.
func Begin(ctx context.Context, st *store.Store, serverID, ground string, now time.Time, newID func() string) (m Memory, moved bool, err error) {
	err = st.Write(ctx, func(tx *store.Tx) error {
		old, known, err := load(tx)
		if err != nil {
			return err
		}
		last, err := tx.LastInstanceChange()
		if err != nil {
			return err //nolint:wrapcheck // says what it was doing
		}
		m, moved = next(old, known, serverID, ground, last, now, newID)
		return save(tx, m)
	})
	if err != nil {
		return Memory{}, false, fmt.Errorf("find out where the database was before: %w", err)
	}
	return m, moved, nil
}

// next is the memory after a start.
func next(old Memory, known bool, serverID, ground string, last, now time.Time, newID func() string) (m Memory, moved bool) {
	if !known {
		return Memory{Tag: serverID, Ground: ground}, false
	}
	m = old
	if moved = old.Ground != ground; moved {
		m.Former = append(m.Former, Former{old.Tag, now})
		m.Tag, m.Ground, m.Moved = newID(), ground, now
	}
	m.Blind = append(m.Blind, Blind{last, now})
	return m, moved
}

// keptFor is how long a tag or a blind time is kept in mind at least.
const keptFor = 2 * MinAge

// pruned is the memory after a sweep that saw everything; tags are those that
// machines still carry. What is of a blind time is among the strays by then.
func (m Memory) pruned(now time.Time, tags map[string]bool) Memory {
	out := Memory{Tag: m.Tag, Ground: m.Ground, Moved: m.Moved}
	for _, f := range m.Former {
		if tags[f.Tag] || now.Before(f.Since.Add(keptFor)) {
			out.Former = append(out.Former, f)
		}
	}
	for _, b := range m.Blind {
		if now.Before(b.To.Add(keptFor)) {
			out.Blind = append(out.Blind, b)
		}
	}
	return out
}
