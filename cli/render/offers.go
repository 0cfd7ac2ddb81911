package render

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"dstack/cli/term"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// Wanted are the requirements of a request for offers.
type Wanted struct {
	Resources   config.Resources `json:"resources"`
	MaxPrice    *float64         `json:"max_price"`
	Spot        *bool            `json:"spot"`
	Reservation *string          `json:"reservation"`
}

// OfferHeader says which offers are listed.
func OfferHeader(project string, r api.Requirements) term.Table {
	f := newFields()
	f.add("Project", project)
	f.add("Resources", Requirements(r.Resources))
	f.add("Spot policy", spotPolicy(r.Spot))
	f.add("Max price", maxPrice(r.MaxPrice))
	return f.t
}

// GPUsHeader says which offers are grouped, and how.
func GPUsHeader(project string, w Wanted, groupBy []string) term.Table {
	price, reservation := "-", "-"
	if w.MaxPrice != nil {
		price = maxPrice(w.MaxPrice)
	}
	if w.Reservation != nil {
		reservation = *w.Reservation
	}
	f := newFields()
	f.add("Project", project)
	f.add("Resources", Requirements(w.Resources))
	f.add("Spot policy", spotPolicy(w.Spot))
	f.add("Max price", price)
	f.add("Reservation", reservation)
	f.add("Group by", strings.Join(groupBy, ", "))
	return f.t
}

// GPUsTable is the table of `offer --group-by`.
func GPUsTable(groups []api.GPUGroup) term.Table {
	byBackend := len(groups) > 0 && groups[0].Backend != nil
	byRegion := byBackend && groups[0].Region != nil
	t := term.Table{Columns: []term.Column{{Title: "#"}, {Title: "GPU"}, {Title: "SPOT", Wrap: true}, {Title: "$/GPU"}}}
	switch {
	case byRegion:
		t.Columns = append(t.Columns, term.Column{Title: "BACKEND"}, term.Column{Title: "REGION"})
	case byBackend:
		t.Columns = append(t.Columns, term.Column{Title: "BACKEND"}, term.Column{Title: "REGIONS", Wrap: true})
	default:
		t.Columns = append(t.Columns, term.Column{Title: "BACKENDS", Wrap: true})
	}
	t.Columns = append(t.Columns, term.Column{})
	for i, g := range groups {
		texts := []string{
			strconv.Itoa(i + 1), g.Name + ":" + gigabytes(g.MemoryMiB) + ":" + span(g.Count, ""), strings.Join(g.Spot, ", "), prices(g.Price),
		}
		switch {
		case byRegion:
			texts = append(texts, Place(deref(g.Backend), ""), deref(g.Region))
		case byBackend:
			texts = append(texts, Place(deref(g.Backend), ""), regions(g.Regions))
		default:
			backends := make([]string, len(g.Backends))
			for n, b := range g.Backends {
				backends[n] = Place(b, "")
			}
			texts = append(texts, strings.TrimSpace(strings.Join(backends, ", ")+" "+inParentheses(regions(g.Regions))))
		}
		style := term.Secondary
		if i == 0 {
			style = term.Plain
		}
		t.Rows = append(t.Rows, term.Row{Cells: styled(style, append(texts, groupAvailability(g.Availability))...)})
	}
	return t
}

// maxRegions is how many regions are named; more are counted.
const maxRegions = 3

func regions(names []string) string {
	if len(names) > maxRegions {
		return fmt.Sprintf("%d regions", len(names))
	}
	return strings.Join(names, ", ")
}

func inParentheses(text string) string {
	if text == "" {
		return ""
	}
	return "(" + text + ")"
}

func prices(r config.Range[float64]) string {
	low, high := number(deref(r.Min), 4), number(deref(r.Max), 4)
	if low == high {
		return low
	}
	return low + ".." + high
}

// groupAvailability is empty if one of a group's offers can be had.
func groupAvailability(all []string) string {
	var texts []string
	for _, a := range all {
		text := availability(a)
		if text == "" || a == "idle" {
			return ""
		}
		texts = append(texts, text)
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}
