package cli

import (
	"context"

	"dstack/cli/render"
	"dstack/client"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// applyVolume creates a volume. There is no plan on the server and no update:
// a changed volume is deleted and made anew, without its data.
func (a *App) applyVolume(ctx context.Context, s *session, o applyOptions, conf config.Volume, path string) error {
	if o.run.name != "" {
		conf.Name = &o.run.name
	}
	user, err := s.MyUser(ctx)
	if err != nil {
		return err
	}
	var current *api.Volume
	if conf.Name != nil {
		found, err := s.GetVolume(ctx, *conf.Name)
		if err != nil && !client.IsNotExist(err) {
			return err
		}
		if err == nil {
			current = &found
		}
	}
	a.write(a.Render(render.VolumePlan(s.project, user.Username, path, conf)) + "\n")
	if err := a.agreeOnVolume(ctx, o, conf, current); err != nil {
		return err
	}
	if current != nil {
		if err := a.deleteVolume(ctx, s, current.Name); err != nil {
			return err
		}
	}
	volume, err := s.CreateVolume(ctx, api.CreateVolumeRequest{Configuration: conf})
	if err != nil {
		return err
	}
	if o.detach {
		a.Print("Volume configuration submitted. Exiting...")
		return nil
	}
	return a.awaitVolume(ctx, s, volume, o.yes)
}

// agreeOnVolume says what applying would do and asks.
func (a *App) agreeOnVolume(ctx context.Context, o applyOptions, conf config.Volume, current *api.Volume) error {
	if current == nil {
		if conf.Name == nil {
			a.Print("The volume gets a generated name.")
		} else {
			a.Printf("Volume %s does not exist yet.", *conf.Name)
		}
		return a.askUnless(ctx, o.yes, "Create the volume?")
	}
	changes := render.ConfigurationChanges(current.Configuration, conf)
	if changes == nil && o.yes && !o.force {
		a.Print("No configuration changes detected. Use --force to apply anyway.")
		return exitError{exitOK}
	}
	if changes == nil {
		a.Printf("Found volume %s. No configuration changes detected.", current.Name)
	} else {
		a.Printf("Found volume %s. Configuration changes detected.", current.Name)
	}
	for _, line := range changes {
		a.Print(line)
	}
	if !current.External {
		a.warn("The data of the volume " + current.Name + " is lost when it is re-created.")
	}
	return a.askUnless(ctx, o.yes, "Re-create the volume?")
}

// deleteVolume deletes a volume and waits until it is gone.
func (a *App) deleteVolume(ctx context.Context, s *session, name string) error {
	if err := s.DeleteVolumes(ctx, []string{name}); err != nil {
		return err
	}
	return a.awaitGone(ctx, "Deleting volume...", func() error {
		_, err := s.GetVolume(ctx, name)
		return err
	})
}

// awaitGone waits until get says that something does not exist.
func (a *App) awaitGone(ctx context.Context, status string, get func() error) error {
	live := a.Live()
	defer live.Clear()
	pressed, release := a.Interrupts.Capture()
	defer release()
	return a.poll(ctx, live, pressed, func() (bool, error) {
		err := get()
		if client.IsNotExist(err) {
			return true, nil
		}
		live.Show(status, "")
		return err != nil, err
	}, func() error {
		live.Clear()
		a.Print("Exiting... The deletion goes on in the background.")
		return exitError{exitOK}
	})
}

// awaitVolume shows a volume until it is ready or has failed.
func (a *App) awaitVolume(ctx context.Context, s *session, volume api.Volume, yes bool) error {
	table := func() string {
		return a.Render(render.VolumesTable([]api.Volume{volume}, volume.Status == api.VolumeFailed, render.Clock))
	}
	err := a.awaitResource(ctx, "volume", volume.Name, yes, func() (string, bool, error) {
		latest, err := s.GetVolume(ctx, volume.Name)
		if err != nil {
			return "", true, err
		}
		volume = latest
		return table(), volume.Status == api.VolumeActive || volume.Status == api.VolumeFailed, nil
	}, func() error { return a.deleteVolume(ctx, s, volume.Name) })
	if err != nil {
		return err
	}
	a.write(table())
	if volume.Status == api.VolumeFailed {
		return a.provisioningFailed(volume.StatusMessage)
	}
	return nil
}

// provisioningFailed says why something could not be made.
func (a *App) provisioningFailed(message *string) error {
	if message == nil {
		a.Print("")
		return sentence("Provisioning failed.")
	}
	a.Print("")
	return sentence("Provisioning failed. Error: %s", *message)
}

// awaitResource shows a volume or gateway until look says that it is settled.
// Ctrl-C offers to delete it.
func (a *App) awaitResource(ctx context.Context, kind, name string, yes bool, look func() (string, bool, error), remove func() error) error {
	live := a.Live()
	defer live.Clear()
	pressed, release := a.Interrupts.Capture()
	defer release()
	return a.poll(ctx, live, pressed, func() (bool, error) {
		table, done, err := look()
		if err != nil || done {
			return true, err
		}
		live.Show("Provisioning "+name+"...", table)
		return false, nil
	}, func() error {
		live.Clear()
		if !yes {
			if ok, err := a.confirm(ctx, "Delete the "+kind+" before exiting?"); err != nil {
				return err
			} else if ok {
				if err := remove(); err != nil {
					return err
				}
				return exitError{exitOK}
			}
		}
		a.Printf("Exiting... %s provisioning will continue in the background.", capitalize(kind))
		return exitError{exitOK}
	})
}
