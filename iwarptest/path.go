package iwarptest

import (
	"net/netip"
	"testing"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
)

// A Path is what carries a connection: Plain, or the name of a registered RDMA transport. It is the
// Transport of iwarp.Info.
type Path string

const (
	Plain Path = "tcp"  // the kernel's TCP
	Soft  Path = "soft" // iWARP in software
	Shm   Path = "shm"  // shared memory, where the program imports transport/shm
)

var loopback = netip.MustParseAddr("127.0.0.1")

// Paths returns the paths that there are in this program and on this host, Plain first.
func Paths() []Path {
	paths := []Path{Plain}
	for _, t := range transport.Registered() {
		if p := Path(t.Name()); p.host().IsValid() {
			paths = append(paths, p)
		}
	}
	return paths
}

// transport returns the registered transport of the name, or nil.
func (p Path) transport() transport.Transport {
	for _, t := range transport.Registered() {
		if t.Name() == string(p) {
			return t
		}
	}
	return nil
}

// host returns an address of this host that the path reaches. It is invalid if there is none.
func (p Path) host() netip.Addr {
	if p == Plain {
		return loopback
	}
	t := p.transport()
	if t == nil {
		return netip.Addr{}
	}
	devices, _ := t.Devices()
	for _, d := range devices {
		if len(d.Addrs) == 0 {
			return loopback
		}
		for _, a := range d.Addrs {
			if !a.IsLinkLocalUnicast() {
				return a
			}
		}
	}
	return netip.Addr{}
}

// policy returns what has connections take the path or fail.
func (p Path) policy() (iwarp.Offload, []transport.Transport) {
	if p == Plain {
		return iwarp.OffloadNever, nil
	}
	return iwarp.OffloadRequire, []transport.Transport{p.transport()}
}

// Dialer returns a Dialer whose connections take the path or fail.
func (p Path) Dialer() *iwarp.Dialer {
	d := new(iwarp.Dialer)
	d.Offload, d.Transports = p.policy()
	return d
}

// ListenConfig returns a ListenConfig whose listeners take clients of the path only; with Plain
// they take every client for plain TCP.
func (p Path) ListenConfig() *iwarp.ListenConfig {
	lc := new(iwarp.ListenConfig)
	lc.Offload, lc.Transports = p.policy()
	return lc
}

// A Runner is a *testing.T or a *testing.B.
type Runner[T any] interface {
	testing.TB
	Run(name string, f func(T)) bool
}

// Each runs f once for each of Paths, as a subtest or a part of a benchmark of the name path=p.
func Each[T Runner[T]](t T, f func(t T, p Path)) {
	t.Helper()
	for _, p := range Paths() {
		t.Run("path="+string(p), func(t T) { f(t, p) })
	}
}
