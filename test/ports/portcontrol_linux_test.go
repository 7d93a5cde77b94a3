package ports_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/netaddr"
)

// option is a Control function that sets one.
func option(level, name, value int) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) (err error) {
		if cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, name, value) }); cerr != nil {
			return cerr
		}
		return err
	}
}

// portTakers are the ways to a port that the kernel chooses. Each returns its number, and what
// gives it back.
func portTakers() map[string]func(context.Context, string, func(string, string, syscall.RawConn) error) (uint16, func() error, error) {
	type control = func(string, string, syscall.RawConn) error
	m := map[string]func(context.Context, string, control) (uint16, func() error, error){
		"package net": func(ctx context.Context, network string, c control) (uint16, func() error, error) {
			lc := net.ListenConfig{Control: c}
			lc.SetMultipathTCP(false)
			l, err := lc.Listen(ctx, network, "127.0.0.1:0")
			if err != nil {
				return 0, nil, err
			}
			return netaddr.Of(l.Addr()).Port(), l.Close, nil
		},
		"reserve": func(ctx context.Context, network string, c control) (uint16, func() error, error) {
			r, err := (&iwarp.PortSpace{Control: c}).Reserve(ctx, network, "127.0.0.1:0")
			if err != nil {
				return 0, nil, err
			}
			return uint16(r.Addr().(*net.TCPAddr).Port), r.Release, nil
		},
		"reserve and listen": func(ctx context.Context, network string, c control) (uint16, func() error, error) {
			r, err := (&iwarp.PortSpace{Control: c}).Reserve(ctx, network, "127.0.0.1:0")
			if err != nil {
				return 0, nil, err
			}
			l, err := r.Listen()
			if err != nil {
				return 0, nil, errors.Join(err, r.Release())
			}
			return netaddr.Of(l.Addr()).Port(), l.Close, nil
		},
		"reserve each": func(ctx context.Context, _ string, c control) (uint16, func() error, error) {
			s, err := (&iwarp.PortSpace{Control: c}).ReserveEach(ctx, 0, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"))
			if err != nil {
				return 0, nil, err
			}
			for _, r := range s.Members() {
				if uint16(r.Addr().(*net.TCPAddr).Port) != s.Port() {
					return 0, nil, errors.Join(errTest, s.Release())
				}
			}
			return s.Port(), s.Release, nil
		},
	}
	for _, policy := range policies {
		m["listen "+policy.String()] = func(ctx context.Context, network string, c control) (uint16, func() error, error) {
			l, err := (&iwarp.ListenConfig{Control: c, Offload: policy, PortSpace: &iwarp.PortSpace{}}).Listen(ctx, network, "127.0.0.1:0")
			if err != nil {
				return 0, nil, err
			}
			return netaddr.Of(l.Addr()).Port(), l.Close, nil
		}
	}
	return m
}

// TestControlledPort has a Control function set what matters to the choice of a port: there always
// is one, of those that it allows.
func TestControlledPort(t *testing.T) {
	const first, last = 41000, 41003
	for how, take := range portTakers() {
		for name, c := range map[string]func(string, string, syscall.RawConn) error{
			"no control":                 nil,
			"IP_BIND_ADDRESS_NO_PORT":    option(unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
			"SO_REUSEADDR":               option(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			"SO_REUSEPORT":               option(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
			"IP_LOCAL_PORT_RANGE":        option(unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, last<<16|first),
			"IP_LOCAL_PORT_RANGE, below": option(unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, 33000<<16),
		} {
			t.Run(how+"/"+name, func(t *testing.T) {
				port, give, err := take(t.Context(), "tcp4", c)
				if errors.Is(err, syscall.ENOPROTOOPT) {
					t.Skip("not on this kernel: ", err)
				}
				require.NoError(t, err)
				require.NotZero(t, port)
				switch name {
				case "IP_LOCAL_PORT_RANGE":
					require.GreaterOrEqual(t, port, uint16(first))
					require.LessOrEqual(t, port, uint16(last))
				case "IP_LOCAL_PORT_RANGE, below":
					require.LessOrEqual(t, port, uint16(33000))
				}
				require.NoError(t, give())
			})
		}
	}
}

// TestControlledPortsUsedUp takes all ports that a Control function leaves, and no other.
func TestControlledPortsUsedUp(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := option(unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, 41003<<16|41000)
	for how, take := range portTakers() {
		t.Run(how, func(t *testing.T) {
			had := make(map[uint16]bool)
			for range 4 {
				port, give, err := take(t.Context(), "tcp4", c)
				if errors.Is(err, syscall.ENOPROTOOPT) {
					t.Skip("not on this kernel: ", err)
				}
				require.NoError(t, err)
				require.False(t, had[port])
				had[port] = true
				defer give()
			}
			_, _, err := take(t.Context(), "tcp4", c)
			require.ErrorIs(t, err, syscall.EADDRINUSE)
		})
	}
}

// TestControlledReservationCannotBeStolen has a Control function set the options by which sockets
// share a port.
func TestControlledReservationCannotBeStolen(t *testing.T) {
	for name, c := range map[string]func(string, string, syscall.RawConn) error{
		"SO_REUSEADDR": option(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		"SO_REUSEPORT": option(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
	} {
		for _, left := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/TIME_WAIT %v", name, left), func(t *testing.T) {
				address := "127.0.0.1:0"
				if left {
					address = fmt.Sprintf("127.0.0.1:%d", timeWait(t, ""))
				}
				r := reserve(t, &iwarp.PortSpace{Control: c}, "tcp4", address)
				thieves := func(when string) {
					require.ErrorIs(t, thief(t, r.Addr()), syscall.EADDRINUSE, when)
					port := r.Addr().(*net.TCPAddr).Port
					_, _, err := order{Addr: "127.0.0.1", Port: port, ReuseAddr: true, ReusePort: name == "SO_REUSEPORT" && when == "idle", Listen: true}.Do()
					require.ErrorIs(t, err, syscall.EADDRINUSE, when)
				}
				thieves("idle")
				l, err := r.Listen()
				require.NoError(t, err)
				require.NoError(t, l.Close())
			})
		}
	}
}

// TestReusePort has two listeners share a port, as SO_REUSEPORT lets them with package net.
func TestReusePort(t *testing.T) {
	c := option(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	for _, policy := range policies {
		for _, left := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/TIME_WAIT %v", policy, left), func(t *testing.T) {
				address := "127.0.0.1:0"
				if left {
					address = fmt.Sprintf("127.0.0.1:%d", timeWait(t, ""))
				}
				for range 2 {
					lc := iwarp.ListenConfig{Control: c, Offload: policy, PortSpace: &iwarp.PortSpace{}}
					l, err := lc.Listen(t.Context(), "tcp4", address)
					require.NoError(t, err)
					defer l.Close()
					address = l.Addr().String()
				}
				plain, err := (&net.ListenConfig{Control: c}).Listen(t.Context(), "tcp4", address)
				require.NoError(t, err)
				require.NoError(t, plain.Close())
			})
		}
	}
}

// TestDialFromReservationSharesTime looks how much time each address of a name has, by the deadline
// that its ControlContext is given. Package net says what is right.
func TestDialFromReservationSharesTime(t *testing.T) {
	resolver := nameServer([4]byte{127, 0, 0, 7}, [4]byte{127, 0, 0, 8}, [4]byte{127, 0, 0, 9})
	free := reserve(t, nil, "tcp4", "127.0.0.1:0") // nobody listens there
	target := fmt.Sprintf("service.example.:%d", free.Addr().(*net.TCPAddr).Port)
	type dial = func(ctx context.Context, limit time.Duration, control func(context.Context, string, string, syscall.RawConn) error) error
	dials := map[string]dial{
		"package net": func(ctx context.Context, limit time.Duration, c func(context.Context, string, string, syscall.RawConn) error) error {
			_, err := (&net.Dialer{Timeout: limit, Resolver: resolver, ControlContext: c}).DialContext(ctx, "tcp4", target)
			return err
		},
	}
	for _, policy := range policies {
		dials[policy.String()] = func(ctx context.Context, limit time.Duration, c func(context.Context, string, string, syscall.RawConn) error) error {
			r := reserve(t, nil, "tcp4", "127.0.0.1:0")
			d := iwarp.Dialer{Timeout: limit, Resolver: resolver, ControlContext: c, LocalAddr: r.Addr(), Offload: policy}
			_, err := d.DialContext(ctx, "tcp4", target)
			return err
		}
	}
	for how, dial := range dials {
		for limit, want := range map[time.Duration][]int{
			60 * time.Second: {20, 30, 60},
			3 * time.Second:  {2, 2, 3},
			1 * time.Second:  {1, 1, 1},
			0:                {0, 0, 0},
		} {
			t.Run(how+"/"+limit.String(), func(t *testing.T) {
				var shares []int
				err := dial(t.Context(), limit, func(ctx context.Context, _, address string, _ syscall.RawConn) error {
					share := 0
					if at, ok := ctx.Deadline(); ok {
						share = int(time.Until(at).Round(time.Second).Seconds())
					}
					if strings.HasPrefix(address, "127.0.0.") && len(shares) < 3 {
						shares = append(shares, share)
					}
					return nil
				})
				require.ErrorIs(t, err, syscall.ECONNREFUSED)
				require.Equal(t, want, shares)
			})
		}
	}
}
