package store

import "testing"

func TestNoEvents(t *testing.T) {
	t.Parallel()
	s := openTest(t, Options{Memory: true, NoEvents: true})
	write(t, s, func(tx *Tx) error {
		return tx.InsertEvents(Event{ID: "1", Message: "Run submitted", RecordedAt: at(1), Targets: []EventTarget{{Type: "run", ID: "r1"}}})
	})
	read(t, s, func(tx *Tx) error { return same(t, "events", []Event{})(tx.Events(EventFilter{Page: Page{Limit: 9}})) })
}
