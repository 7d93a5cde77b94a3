package iwarp

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Offload is the policy that says which paths a connection may take.
type Offload uint8

const (
	// OffloadAuto dials through an RDMA device that bypasses the kernel, reaches the peer and gets an
	// answer there, otherwise plain TCP; it does not use siw and rxe, which are in the kernel. Without
	// an iWARP device it never sends an MPA frame to a peer. A listener serves plain TCP, iWARP in
	// software and devices. It is the zero value, which the environment can replace by another: the
	// variable IWARP_OFFLOAD for Dialers and listeners, and for listeners alone IWARP_LISTEN_OFFLOAD,
	// which takes precedence. Spaces around the name do not matter.
	OffloadAuto Offload = iota
	// OffloadNever uses plain TCP. A listener does not look at the bytes of a connection.
	OffloadNever
	// OffloadPrefer dials through any device, else iWARP in software, else plain TCP on a new
	// connection. For a listener it is the same as OffloadAuto.
	OffloadPrefer
	// OffloadRequire dials through a device or iWARP in software, or fails with an *OffloadError. A
	// listener closes the connections of plain TCP clients.
	OffloadRequire
)

const (
	offloadEnv       = "IWARP_OFFLOAD"
	listenOffloadEnv = "IWARP_LISTEN_OFFLOAD"
)

var (
	offloadNames = [...]string{"auto", "never", "prefer", "require"}

	errUnknownOffload = errors.New("unknown offload policy; use auto, never, prefer or require")
)

// String returns "auto", "never", "prefer" or "require".
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
	if int(o) >= len(offloadNames) {
		return nil, fmt.Errorf("%v: %w", o, errUnknownOffload)
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

// effective returns the policy that applies; for the zero value that is set by the first of the
// environment variables that is not empty.
func (o Offload) effective(variables ...string) (Offload, error) {
	if int(o) >= len(offloadNames) {
		return 0, fmt.Errorf("%v: %w", o, errUnknownOffload)
	}
	if o != OffloadAuto {
		return o, nil
	}
	for _, v := range variables {
		s := strings.TrimSpace(os.Getenv(v))
		if s == "" {
			continue
		}
		p, err := ParseOffload(s)
		if err != nil {
			return 0, fmt.Errorf("environment variable %s: %w", v, err)
		}
		return p, nil
	}
	return o, nil
}
