package iwarp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/neterr"
	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/transport"
)

// Reason says why a connection is plain TCP.
type Reason uint8

const (
	ReasonNone             Reason = iota // it is not plain TCP
	ReasonPolicy                         // the policy allows nothing else
	ReasonNoDevice                       // there is no RDMA device that the policy takes, and it does not ask for iWARP in software
	ReasonNoRoute                        // no RDMA device reaches the peer
	ReasonNotIWARP                       // the peer speaks plain TCP, or hung up on the MPA request
	ReasonDeclined                       // the peer refused the iWARP connection
	ReasonHandshakeTimeout               // the peer did not answer the MPA request within HandshakeTimeout
	ReasonSilent                         // the client sent nothing within FirstByteTimeout, like clients whose server speaks first
	ReasonPortConflict                   // the port is taken in the port space of the device
	ReasonLimit                          // a limit was reached: queue pairs, memory that may be locked (RLIMIT_MEMLOCK), descriptors, half-open connections, those of one peer
	ReasonFailed                         // the set-up failed in another way, for example because nobody listens there for a device
	ReasonAsking                         // another dial is asking the peer for the first time, and has no answer yet
)

var reasonNames = [...]string{"none", "policy", "no rdma device", "no route through an rdma device", "peer does not speak iwarp",
	"peer declined", "handshake timed out", "client was silent", "port conflict", "limit reached", "set-up failed",
	"another dial is asking the peer"}

// String returns the reason in words.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown reason"
}

// MarshalText returns what String does, for encoders.
func (r Reason) MarshalText() ([]byte, error) {
	if int(r) >= len(reasonNames) {
		return nil, fmt.Errorf("unknown reason %d", uint8(r))
	}
	return []byte(reasonNames[r]), nil
}

// UnmarshalText sets the reason from what MarshalText has returned.
func (r *Reason) UnmarshalText(text []byte) error {
	i := slices.Index(reasonNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("unknown reason %q", text)
	}
	*r = Reason(i)
	return nil
}

// An OffloadError says why OffloadRequire or OffloadDevice could not be met. It is found in the
// *net.OpError of a dial by errors.As.
type OffloadError struct {
	Reason Reason
	Err    error // what happened, nil if the reason says it all
}

func (e *OffloadError) Error() string {
	return "offload required: " + e.text()
}

// text is the reason and what happened, without what the two have in common.
func (e *OffloadError) text() string {
	if what := e.Reason.beyond(e.Err); what != "" {
		return e.Reason.String() + ": " + what
	}
	return e.Reason.String()
}

// beyond is what err says that the reason does not.
func (r Reason) beyond(err error) string {
	if err == nil {
		return ""
	}
	what := err.Error()
	for _, known := range saidBy(r, err) {
		if rest, ok := strings.CutPrefix(what, known); ok {
			what = strings.TrimLeft(rest, ": ")
		}
	}
	return what
}

// saidBy returns how the text of an error with that reason begins if that is no more than the
// reason says.
func saidBy(r Reason, err error) []string {
	said := []string{r.String()}
	var rejected *transport.RejectedError
	var refused *redirect.Refused
	switch {
	case r == ReasonNoRoute:
		said = append(said, transport.ErrNoRoute.Error())
	case r == ReasonHandshakeTimeout:
		said = append(said, transport.ErrHandshakeTimeout.Error())
	case r == ReasonDeclined && (errors.As(err, &refused) || errors.Is(err, errNoPeerDevice)):
		said = append(said, "peer")
	case r == ReasonDeclined && errors.As(err, &rejected):
		said = append(said, rejected.Error())
	}
	return said
}

// Unwrap returns Err.
func (e *OffloadError) Unwrap() error { return e.Err }

// Timeout reports whether the peer did not answer in time.
func (e *OffloadError) Timeout() bool { return e.Reason == ReasonHandshakeTimeout }

// Temporary is the same as Timeout.
func (e *OffloadError) Temporary() bool { return e.Timeout() }

// reasonOf classifies the failure of a connection set-up.
func reasonOf(err error) Reason {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	var known *OffloadError
	var rejected *transport.RejectedError
	var redirected *redirect.To
	switch {
	case err == nil:
		return ReasonNone
	case errors.As(err, &known):
		return known.Reason
	case errors.As(err, &rejected), errors.As(err, &redirected):
		return ReasonDeclined
	case is(transport.ErrNoDevice):
		return ReasonNoDevice
	case is(transport.ErrNoRoute, syscall.ENETUNREACH, syscall.EHOSTUNREACH):
		return ReasonNoRoute
	case is(transport.ErrHandshakeTimeout, context.DeadlineExceeded, os.ErrDeadlineExceeded, syscall.ETIMEDOUT):
		return ReasonHandshakeTimeout
	case is(transport.ErrNotIWARP, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE):
		return ReasonNotIWARP
	case is(syscall.EADDRINUSE):
		return ReasonPortConflict
	case is(syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, transport.ErrQueueFull):
		return ReasonLimit
	case is(syscall.EPERM): // memory may not be locked at all (RLIMIT_MEMLOCK)
		return ReasonLimit
	}
	return ReasonFailed
}

// whyRefused is what a client that is refused for err is told.
func whyRefused(err error) redirect.Why {
	if errors.Is(err, errNoSoftware) {
		return redirect.WhyPolicy
	}
	switch reasonOf(err) {
	case ReasonNoDevice:
		return redirect.WhyNoDevice
	case ReasonLimit:
		return redirect.WhyLimit
	}
	return redirect.WhyFailed
}

// whyNot is the failure of a connection set-up as an OffloadError.
func whyNot(err error) OffloadError {
	var known *OffloadError
	if errors.As(err, &known) {
		return *known
	}
	return OffloadError{reasonOf(err), neterr.Bare(err)}
}

// tells reports whether the reason is about an attempt, and not that there was none.
func (e *OffloadError) tells() bool { return e.Reason != ReasonNoDevice && e.Reason != ReasonNoRoute }

// noDevice classifies an error that came instead of a list of devices.
func noDevice(err error) Reason {
	if r := reasonOf(err); r == ReasonLimit {
		return r
	}
	return ReasonNoDevice
}

const (
	refusalTTL  = 5 * time.Second // in which a client that was refused comes back
	maxRefusals = 64
)

// refusals holds why a listener has lately refused clients of iWARP, for what it says about the
// plain connections that they make next.
type refusals struct {
	any atomic.Bool // there may be some
	mu  sync.Mutex
	m   map[netip.Addr][]refused
}

type refused struct {
	why OffloadError
	at  time.Time
}

// add records that a client at host was refused for err.
func (r *refusals) add(host netip.Addr, err error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m == nil {
		r.m = make(map[netip.Addr][]refused)
	}
	r.expire(now)
	if n := len(r.m[host]); n < maxRefusals && (n > 0 || len(r.m) < maxRefusals) {
		r.m[host] = append(r.m[host], refused{whyNot(err), now})
		r.any.Store(true)
	}
}

// take returns why a client of the host of c was refused, once for each.
func (r *refusals) take(c *net.TCPConn) (why OffloadError, ok bool) {
	if !r.any.Load() {
		return why, false
	}
	host := netaddr.Of(c.RemoteAddr()).Addr()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(time.Now())
	list := r.m[host]
	if len(list) == 0 {
		return why, false
	}
	if r.m[host] = list[1:]; len(list) == 1 {
		delete(r.m, host)
	}
	r.any.Store(len(r.m) > 0)
	return list[0].why, true
}

// expire drops what is too old. Its caller holds r.mu.
func (r *refusals) expire(now time.Time) {
	for host, list := range r.m {
		for len(list) > 0 && now.Sub(list[0].at) >= refusalTTL {
			list = list[1:]
		}
		if r.m[host] = list; len(list) == 0 {
			delete(r.m, host)
		}
	}
}
