package iwarp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/rdmanet/iwarp/internal/addrrules"
	"github.com/rdmanet/iwarp/internal/netaddr"
)

// Offload is the policy that says which paths a connection may take.
type Offload uint8

const (
	// OffloadAuto dials through an RDMA device that bypasses the kernel, reaches the peer and gets an
	// answer there, otherwise plain TCP; it does not use siw and rxe, which are in the kernel. Without
	// an iWARP device it never sends an MPA frame to a peer. A listener serves plain TCP, iWARP in
	// software and devices. It is the zero value, which the environment can replace by another: the
	// variable IWARP_OFFLOAD for Dialers and listeners, and for listeners alone IWARP_LISTEN_OFFLOAD,
	// which takes precedence. Each has the name of a policy, or rules with one for some addresses, as
	// in "prefer,10.0.0.0/8=require,db.internal:5432=never": see the documentation of the package.
	OffloadAuto Offload = iota
	// OffloadNever uses plain TCP. A listener does not look at the bytes of a connection.
	OffloadNever
	// OffloadPrefer dials through any device, else iWARP in software, else plain TCP on a new
	// connection. For a listener it is the same as OffloadAuto.
	OffloadPrefer
	// OffloadRequire dials through a device or iWARP in software, or fails with an *OffloadError. A
	// listener closes the connections of plain TCP clients.
	OffloadRequire
	// OffloadDevice dials through a device, siw, rxe and shared memory included, or fails with an
	// *OffloadError. A listener takes the clients of devices alone; without a device Listen fails.
	OffloadDevice
)

var (
	offloadNames = [...]string{"auto", "never", "prefer", "require", "device"}

	errUnknownOffload = errors.New("unknown offload policy; use auto, never, prefer, require or device")
)

// String returns "auto", "never", "prefer", "require" or "device".
func (o Offload) String() string {
	if int(o) < len(offloadNames) {
		return offloadNames[o]
	}
	return fmt.Sprintf("offload(%d)", uint8(o))
}

// ParseOffload returns the policy of that name, ignoring case.
func ParseOffload(s string) (Offload, error) {
	for i, name := range offloadNames {
		if strings.EqualFold(s, name) {
			return Offload(i), nil
		}
	}
	return 0, fmt.Errorf("%q: %w", s, errUnknownOffload)
}

// MarshalText returns the name of the policy, so that flag.TextVar and encoders can use it.
func (o Offload) MarshalText() ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	return []byte(o.String()), nil
}

// UnmarshalText sets the policy as ParseOffload does.
func (o *Offload) UnmarshalText(text []byte) error {
	p, err := ParseOffload(string(text))
	if err == nil {
		*o = p
	}
	return err
}

// check returns an error for what is no policy.
func (o Offload) check() error {
	if int(o) >= len(offloadNames) {
		return fmt.Errorf("%v: %w", o, errUnknownOffload)
	}
	return nil
}

// policyRules are the policies for addresses.
type policyRules = addrrules.Rules[Offload]

// An environment remembers the rules that a variable of the environment has, which a program may
// change.
type environment struct {
	name string
	last atomic.Pointer[environmentValue]
}

type environmentValue struct {
	text  string
	rules policyRules
	err   error
}

var (
	dialEnvironment   = environment{name: "IWARP_OFFLOAD"}
	listenEnvironment = environment{name: "IWARP_LISTEN_OFFLOAD"}
)

// rules returns nil for a variable that is not set, or is empty.
func (e *environment) rules() (policyRules, error) {
	text := strings.TrimSpace(os.Getenv(e.name))
	if text == "" {
		return nil, nil
	}
	v := e.last.Load()
	if v == nil || v.text != text {
		v = &environmentValue{text: text}
		if v.rules, v.err = parsePolicies(text); v.err != nil {
			v.err = fmt.Errorf("environment variable %s: %w", e.name, v.err)
		}
		e.last.Store(v)
	}
	return v.rules, v.err
}

func parsePolicies(text string) (policyRules, error) {
	if !strings.ContainsAny(text, ",=") {
		p, err := ParseOffload(text)
		return addrrules.All(p), err
	}
	return addrrules.Parse(text, ParseOffload)
}

// choose returns the policy for an address, or the rules that have to tell, once it is resolved.
func (d *Dialer) choose(network, address string) (Offload, policyRules, error) {
	policy := d.Offload
	if d.Policy != nil {
		if p := d.Policy(address); p != OffloadAuto {
			policy = p
		}
	}
	if policy != OffloadAuto {
		return policy, nil, policy.check()
	}
	rules, err := dialEnvironment.rules()
	if rules == nil || err != nil {
		return policy, nil, err
	}
	if p, ok := rules.Only(); ok {
		return p, nil, nil
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return OffloadNever, nil, nil // package net says what is wrong, and dials nothing
	}
	port, err := net.LookupPort(network, service)
	if err != nil {
		return 0, nil, err
	}
	policy, _, resolve := rules.Find(peerOf(network, host), netip.Addr{}, uint16(port))
	if !resolve {
		rules = nil
	}
	return policy, rules, nil
}

// peerOf is what a host means in an address that is dialed: none is this one.
func peerOf(network, host string) string {
	switch a, err := netip.ParseAddr(host); {
	case host == "" && network == "tcp6":
		return "::1"
	case host == "", err == nil && a.Unmap() == netip.IPv4Unspecified():
		return "127.0.0.1"
	case err == nil && a.IsUnspecified():
		return "::1"
	}
	return host
}

// byRules dials a name whose addresses have to be known for the policy. Where they do not agree on
// it, one is tried after the other, as package net divides the time.
func (d *Dialer) byRules(ctx context.Context, rules policyRules, network, address string) (net.Conn, error) {
	ctx, cancel := d.limit(ctx)
	defer cancel()
	remotes, err := netaddr.Resolve(lookingUp{ctx}, d.Resolver, network, address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err} // another lookup might find what has a rule
	}
	host, _, _ := net.SplitHostPort(address)
	policies := make([]Offload, len(remotes))
	for i, r := range remotes {
		policies[i], _, _ = rules.Find(host, r.Addr().Unmap(), r.Port())
	}
	if len(slices.Compact(slices.Clone(policies))) == 1 && !hasPort(d.LocalAddr) {
		return d.by(ctx, policies[0], network, address, complete(remotes))
	}
	return inTurn(ctx, len(remotes), func(ctx context.Context, i int) (net.Conn, error) {
		return d.by(ctx, policies[i], network, netaddr.Unmap(remotes[i]).String(), nil)
	})
}

// choose returns the policy for what listens on an address.
func (lc *ListenConfig) choose(ctx context.Context, network, address string) (Offload, error) {
	if lc.Offload != OffloadAuto {
		return lc.Offload, lc.Offload.check()
	}
	rules, err := listenEnvironment.rules()
	if rules != nil && err == nil {
		return onAddress(ctx, rules, network, address)
	}
	if err == nil {
		rules, err = dialEnvironment.rules()
	}
	// The rules of that variable are for who is dialed.
	policy, _, _ := rules.Find("", netip.Addr{}, 0)
	return policy, err
}

func onAddress(ctx context.Context, rules policyRules, network, address string) (Offload, error) {
	if p, ok := rules.Only(); ok {
		return p, nil
	}
	host, service, _ := net.SplitHostPort(address)
	port, _ := net.LookupPort(network, service) // if that fails, Listen fails as well
	policy, _, resolve := rules.Find(host, netip.Addr{}, uint16(port))
	if resolve {
		local, err := netaddr.LookupLocal(ctx, network, address)
		if err != nil {
			return 0, err // another lookup might find what has a rule
		}
		policy, _, _ = rules.Find(host, netaddr.Of(local).Addr(), uint16(port))
	}
	return policy, nil
}
