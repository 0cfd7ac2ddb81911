package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
)

// ValidateSubmit checks what 0.22.5 checks when a task is planned or
// submitted and that needs nothing but the task (spec: configuration.md 10.1).
// params are the effective parameters; maxWindow is how long the server keeps
// metrics, in seconds. The error is a sentence for a 400 answer.
func ValidateSubmit(t Task, params ProfileParams, maxWindow int) error {
	if p := params.Retry; p != nil && p.Duration != nil && *p.Duration < 0 {
		return fmt.Errorf("retry.duration must not be negative, got %d", *p.Duration)
	}
	if p := params.UtilizationPolicy; p != nil && p.TimeWindow > maxWindow {
		return fmt.Errorf("utilization_policy.time_window must be at most %d seconds, for which this server keeps metrics, got %d", maxWindow, p.TimeWindow)
	}
	if unset := t.Env.Sentinels(); len(unset) > 0 {
		return fmt.Errorf("env: %s has no value: the client has to fill it in", unset[0])
	}
	for _, name := range slices.Sorted(maps.Keys(t.Env)) {
		if groupMention.MatchString(t.Env[name].Value) {
			return fmt.Errorf("env.%s: addresses of other nodes can be used in commands only", name)
		}
	}
	if err := t.checkGroupReferences("commands", t.Commands); err != nil {
		return err
	}
	for i, g := range t.Groups {
		if err := t.checkGroupReferences(fmt.Sprintf("groups.%d.commands", i), g.Commands); err != nil {
			return err
		}
	}
	return nil
}

var groupMention = regexp.MustCompile(`\$\{\{\s*(groups\[.*?)\s*\}\}`)

// checkGroupReferences checks that every ${{ groups[I].nodes[J].IP_ADDRESS }}
// names a node of this task.
func (t Task) checkGroupReferences(field string, commands []string) error {
	for i, command := range commands {
		for _, mention := range groupMention.FindAllStringSubmatch(command, -1) {
			if err := t.checkGroupReference(mention[1]); err != nil {
				return fmt.Errorf("%s.%d: ${{ %s }}: %w", field, i, mention[1], err)
			}
		}
	}
	return nil
}

func (t Task) checkGroupReference(name string) error {
	m := groupReference.FindStringSubmatch(name)
	switch {
	case m == nil:
		return errors.New("must be groups[I].nodes[J].IP_ADDRESS")
	case m[2] != "nodes":
		return fmt.Errorf("a task has nodes, not %s", m[2])
	}
	group, groupErr := strconv.Atoi(m[1])
	node, nodeErr := strconv.Atoi(m[3])
	if groupErr != nil || nodeErr != nil {
		return errors.New("index is too large")
	}
	sizes := []int{1}
	if t.Nodes != nil {
		sizes[0] = *t.Nodes
	}
	if t.Groups != nil {
		sizes = sizes[:0]
		for _, g := range t.Groups {
			sizes = append(sizes, g.Nodes)
		}
	}
	switch {
	case group >= len(sizes):
		return fmt.Errorf("there is no group %d", group)
	case node >= sizes[group]:
		return fmt.Errorf("group %d has no node %d", group, node)
	}
	return nil
}
