package netaddr

import (
	"context"
	"time"
)

// minShare is the least time that one of several addresses has, as for package net.
const minShare = 2 * time.Second

// Share returns ctx limited to what the first of n addresses that are left has of the time.
func Share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || n <= 1 {
		return ctx, func() {}
	}
	left := time.Until(deadline)
	return context.WithTimeout(ctx, max(left/time.Duration(n), min(left, minShare)))
}
