//go:build !unix && !windows

package sniff

// CanPeek reports whether the system lets bytes be looked at. Otherwise a listener serves plain TCP
// only.
const CanPeek = false

type peeker struct {
	buf      [headerLen]byte
	n, there int
	errs     Errors
}

func (p *peeker) peek(uintptr) (ended bool, err error) { return true, nil }
