package sweep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dstack/controller/backends"
	"dstack/controller/store"
)

// Kinds of strays beside machines, which have none.
const (
	KindVolume  = "volume"
	KindAddress = "address"
)

// hoursMonth turns a price a month into one an hour.
const hoursMonth = 730

// Remain is a volume, or an address whose machine is gone, that carries a tag of
// this server.
type Remain struct {
	Kind, Backend, ProjectID string
	// Server is the value of its tag.
	Server, ID, Token, Region, Zone, Name string
	// Machine is that of an address.
	Machine   string
	CreatedAt time.Time
	// SizeGB is that of a volume, IP that of an address.
	SizeGB int
	IP     string
	// Price is in USD an hour.
	Price float64
}

// DecideRemains finds those that nobody knows. An address is given back, since
// nothing can use it, a volume never without being told to. They say nothing of
// machines: a volume may be waited for as long as somebody likes.
func DecideRemains(l Look) []store.Stray {
	var out []store.Stray
	seen := map[Key]bool{}
	for _, r := range l.Remains {
		key := Key{r.Backend, r.ID}
		if seen[key] || l.has(&r) {
			continue
		}
		seen[key] = true
		hold := HoldNot
		switch {
		case l.Strays[key].Confirmed:
		case r.Server != l.Server:
			hold = HoldFormer
		case r.Kind == KindVolume:
			hold = HoldData
		}
		out = append(out, store.Stray{ProjectID: r.ProjectID, Backend: r.Backend, MachineID: r.ID, Hold: string(hold), Found: store.StrayMachine{
			Kind: r.Kind, Region: r.Region, Zone: r.Zone, Token: r.Token, Server: r.Server, Name: r.Name, Type: r.what(),
			CreatedAt: r.CreatedAt.UTC(), Price: r.Price,
		}})
	}
	slices.SortFunc(out, func(a, b store.Stray) int {
		return cmp.Or(cmp.Compare(a.Backend, b.Backend), cmp.Compare(a.MachineID, b.MachineID))
	})
	return out
}

// has says whether the database has a volume, or the machine of an address.
func (l *Look) has(r *Remain) bool {
	list, id, token := l.Volumes, r.ID, r.Token
	if r.Kind == KindAddress {
		list, id, token = l.Known, r.Machine, ""
	}
	return slices.ContainsFunc(list, func(k Known) bool {
		return k.Backend == r.Backend && (k.ID != "" && k.ID == id || k.Token != "" && k.Token == token)
	})
}

func (r *Remain) what() string {
	if r.Kind == KindVolume {
		return fmt.Sprintf("%d GB", r.SizeGB)
	}
	return r.IP
}

// remains are those of an account, if its cloud tells.
func remains(ctx context.Context, slot store.Slot, cloud backends.Backend, tags []string) ([]Remain, error) {
	power, ok := backends.RemainsOf(cloud)
	if !ok {
		return nil, nil
	}
	var out []Remain
	var errs []error
	for _, tag := range tags {
		volumes, err := power.ListVolumes(ctx, tag)
		errs = append(errs, err)
		for _, v := range volumes {
			out = append(out, Remain{
				Kind: KindVolume, Backend: slot.Backend, ProjectID: slot.ProjectID, Server: tag, ID: v.ID, Token: v.Token, Region: v.Region,
				Zone: v.Zone, Name: v.Name, CreatedAt: v.CreatedAt, SizeGB: v.SizeGB, Price: v.Price / hoursMonth,
			})
		}
		loose, err := power.LooseAddresses(ctx, tag)
		errs = append(errs, err)
		for _, x := range loose {
			out = append(out, Remain{
				Kind: KindAddress, Backend: slot.Backend, ProjectID: slot.ProjectID, Server: tag, ID: x.ID, Region: x.Region,
				Machine: x.Machine, IP: x.IP, Price: x.Price,
			})
		}
	}
	return out, errors.Join(errs...)
}

// volumesOf are those that the database has, or had a moment ago.
func volumesOf(tx *store.Tx, now time.Time) ([]Known, error) {
	rows, err := tx.Volumes(store.VolumeFilter{})
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it was doing
	}
	var out []Known
	for _, v := range rows {
		if v.Deleted && (v.DeletedAt == nil || now.After(v.DeletedAt.Add(MinAge))) {
			continue
		}
		k := Known{v.ProjectID, v.Configuration.Backend, "", v.Token}
		if v.Provisioning != nil {
			k.ID = v.Provisioning.VolumeID
		} else if id := v.Configuration.ExternalID(); id != nil {
			k.ID = *id
		}
		out = append(out, k)
	}
	return out, nil
}
