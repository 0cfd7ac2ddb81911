package agent

import (
	"context"
	"errors"
	"testing"
)

// TestOrderedBefore is an order whose waking went to an earlier step.
func TestOrderedBefore(t *testing.T) {
	j := &job{orders: newMailbox()}
	j.orders.update(func(*order) *order { return &order{} })
	<-j.orders.wake
	ctx, cancel := j.untilOrdered(t.Context())
	defer cancel()
	if !errors.Is(context.Cause(ctx), errOrdered) {
		t.Errorf("the context's end is %v", context.Cause(ctx))
	}
}
