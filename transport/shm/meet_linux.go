package shm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

const (
	unixNetwork = "unix"
	namePrefix  = "@iwarp/shm/1/"
	onlyIPv6    = "/6"
)

// meetingName is the abstract name of the meeting place of a listener on the address and port. A
// wildcard of IPv6 is for IPv4 as well unless only6 says that it is not.
func meetingName(at netip.AddrPort, only6 bool) string {
	name := namePrefix + at.String()
	if only6 && at.Addr() == netip.IPv6Unspecified() {
		name += onlyIPv6
	}
	return name
}

// meetingNames are those where a listener may be found that a connection to remote reaches, the
// more special ones first, as the kernel chooses.
func meetingNames(remote netip.AddrPort) []string {
	port := remote.Port()
	any4, any6 := netip.AddrPortFrom(netip.IPv4Unspecified(), port), netip.AddrPortFrom(netip.IPv6Unspecified(), port)
	names := []string{meetingName(remote, false)}
	if remote.Addr().Is4() {
		names = append(names, meetingName(any4, false))
	} else {
		names = append(names, meetingName(any6, true))
	}
	return append(names, meetingName(any6, false))
}

// A meeting is a connection to the process that has the listener at an address and port.
type meeting struct {
	c      *net.UnixConn
	source netip.Addr // where a connection would come from
	scope  uint32
}

// meet connects to the listener that a TCP connection to remote would reach. The error matches
// transport.ErrNoRoute where there is none that is known and can be trusted.
func meet(ctx context.Context, local netip.Addr, remote netip.AddrPort) (*meeting, error) {
	var c *net.UnixConn
	for _, name := range meetingNames(remote) {
		var err error
		c, err = call(ctx, name)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err
		}
	}
	if c == nil {
		return nil, errNobody
	}
	source, err := known.source(c, remote)
	if err != nil {
		hangUp(c)
		return nil, err
	}
	if local.IsValid() && !local.IsUnspecified() {
		source = local.Unmap()
	}
	return &meeting{c: c, source: source, scope: scopeOf(remote.Addr())}, nil
}

var (
	errNobody = fmt.Errorf("%w: nobody there offers shared memory", transport.ErrNoRoute)
	errAfar   = fmt.Errorf("%w: the address is not of this host", transport.ErrNoRoute)
)

// callAgain is how long call waits where the listener's queue is full.
const callAgain = time.Millisecond

func call(ctx context.Context, name string) (*net.UnixConn, error) {
	for {
		c, err := net.DialUnix(unixNetwork, nil, &net.UnixAddr{Name: name, Net: unixNetwork})
		if err == nil {
			return c, nil
		}
		var sys *os.SyscallError
		if !errors.As(err, &sys) {
			return nil, err
		}
		if !errors.Is(sys, syscall.EAGAIN) {
			return nil, sys
		}
		again := time.NewTimer(callAgain)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return nil, ctx.Err()
		}
	}
}

// sourceFor returns the address that a connection to remote comes from. It is an error if remote is
// not an address of this host.
func sourceFor(remote netip.AddrPort) (netip.Addr, error) {
	to := remote.Addr()
	// The kernel chooses as for TCP; nothing is sent by this.
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, max(remote.Port(), 1))))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w: %w", transport.ErrNoRoute, err)
	}
	source := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	_ = c.Close()
	if !to.IsLoopback() && source != to {
		return netip.Addr{}, errAfar
	}
	return source, nil
}

// scopeOf is the index of the interface that a link-local address belongs to.
func scopeOf(a netip.Addr) uint32 {
	if a.Zone() == "" {
		return 0
	}
	if i, err := net.InterfaceByName(a.Zone()); err == nil {
		return uint32(i.Index)
	}
	return 0
}

// waitingRoom holds the meetings that Route has made until Dial takes them, so that a dial connects
// once. What nobody takes is closed soon.
type waitingRoom struct {
	mu sync.Mutex
	m  map[netip.AddrPort][]*waiting
}

type waiting struct {
	*meeting
	timer *time.Timer
}

const meetingPatience = time.Second

func (w *waitingRoom) put(remote netip.AddrPort, m *meeting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m == nil {
		w.m = make(map[netip.AddrPort][]*waiting)
	}
	p := &waiting{meeting: m}
	p.timer = time.AfterFunc(meetingPatience, func() {
		if w.remove(remote, p) {
			hangUp(m.c)
		}
	})
	w.m[remote] = append(w.m[remote], p)
}

// take returns a meeting with whoever listens at remote, or nil.
func (w *waitingRoom) take(remote netip.AddrPort) *meeting {
	for {
		w.mu.Lock()
		var p *waiting
		if list := w.m[remote]; len(list) > 0 {
			p = list[len(list)-1]
		}
		w.mu.Unlock()
		if p == nil {
			return nil
		}
		if w.remove(remote, p) {
			p.timer.Stop()
			return p.meeting
		}
	}
}

func (w *waitingRoom) remove(remote netip.AddrPort, p *waiting) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.m[remote]
	for i := range list {
		if list[i] == p {
			list = append(list[:i], list[i+1:]...)
			if len(list) == 0 {
				delete(w.m, remote)
			} else {
				w.m[remote] = list
			}
			return true
		}
	}
	return false
}
