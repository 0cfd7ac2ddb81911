package shim

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"dstack/shim/hostkeys"
)

// reconcileKeys makes the keys of a host user those of the live tasks that
// name the user. Other users' keys are not looked at.
func (m *Manager) reconcileKeys(name string) error {
	if name == "" {
		return nil
	}
	m.keys.Lock()
	defer m.keys.Unlock()
	var grants []hostkeys.Grant
	for _, t := range m.all() {
		rec := t.record()
		if rec.ended() || rec.Spec.HostUser != name {
			continue
		}
		grants = append(grants, hostkeys.Grant{
			Keys: rec.Spec.HostKeys, WholeHost: rec.Spec.WholeHost, Port: rec.Task.Ports[sshPort],
		})
	}
	return applyKeys(name, hostkeys.Lines(grants))
}

func applyKeys(name string, lines []string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("find user %s: %w", name, err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return fmt.Errorf("find user %s: %w", name, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return fmt.Errorf("find user %s: %w", name, err)
	}
	if err := hostkeys.Apply(u.HomeDir, uid, gid, lines); err != nil {
		return fmt.Errorf("change keys of user %s: %w", name, err)
	}
	return nil
}

// reconcileKeysLogged is for where a fault must not disturb the task.
func (m *Manager) reconcileKeysLogged(name string) {
	if err := m.reconcileKeys(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		m.cfg.Log.Error().Err(err).Str("user", name).Msg("keys not reconciled")
	}
}
