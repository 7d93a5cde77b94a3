package iwarp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRace has the family of the first address begin, and the other one follow.
func TestRace(t *testing.T) {
	six, four := netip.MustParseAddrPort("[2001:db8::1]:1"), netip.MustParseAddrPort("192.0.2.1:1")
	errFirst, errSecond := errors.New("first"), errors.New("second")
	fails := func(err error) func(context.Context) (net.Conn, error) {
		return func(context.Context) (net.Conn, error) { return nil, err }
	}
	hangs := func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	connects := func(context.Context) (net.Conn, error) {
		c, _ := net.Pipe()
		return c, nil
	}
	type family func(context.Context) (net.Conn, error)
	for _, tt := range []struct {
		name          string
		delay         time.Duration
		network       string
		first, second family
		late          bool // the second is the one that counts
		err           error
		serial        bool
	}{
		{name: "first", delay: time.Hour, network: "tcp", first: connects},
		{name: "first fails", delay: time.Hour, network: "tcp", first: fails(errFirst), second: connects, late: true},
		{name: "first hangs", delay: time.Millisecond, network: "tcp", first: hangs, second: connects, late: true},
		{name: "both fail", delay: time.Hour, network: "tcp", first: fails(errFirst), second: fails(errSecond), err: errFirst},
		{name: "one family", delay: time.Millisecond, network: "tcp6", serial: true, first: fails(errFirst), err: errFirst},
		{name: "no race", delay: -1, network: "tcp", serial: true, first: fails(errFirst), err: errFirst},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &Dialer{FallbackDelay: tt.delay}
			ends := d.race(t.Context(), tt.network, []netip.AddrPort{six, four}, func(ctx context.Context, list []netip.AddrPort) raced {
				by := tt.first
				if list[0] == four {
					by = tt.second
				}
				if tt.serial {
					require.Len(t, list, 2)
				} else {
					require.Len(t, list, 1)
				}
				c, err := by(ctx)
				return raced{c: c, err: err}
			})
			require.Equal(t, tt.err, ends[0].err)
			require.Equal(t, tt.late, ends[0].second)
			if tt.err == nil {
				require.NoError(t, ends[0].c.Close())
			}
		})
	}
}
