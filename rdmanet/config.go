package rdmanet

import pkgerrors "github.com/pkg/errors"

// Config tunes connections. The zero value means the defaults.
type Config struct {
	// RingSize is the size in bytes of the receive ring: the most that the peer may send ahead of the
	// calls of Read. It is rounded up to a multiple of 16. 0 means 4 MiB, or 256 KiB with a transport
	// that needs memory for it from the start; any other value must be from 4 KiB to 512 MiB.
	RingSize int
	// Budget is what the connection shares with others; it says how much of the ring is used. nil
	// means the one of the process: a quarter of the memory that it may have, by GOMEMLIMIT, its
	// cgroup or the machine.
	Budget *Budget
	// Credits is how many messages a peer that must announce its data in words may send while no call
	// that waits is under way here; each of its Writes is at least one, and blocks beyond that number.
	// 0 means 128, and 384 once a connection has turned out to carry many small messages; any other
	// value must be from 16 to 32767. The depth of the transport's receive queue limits it too.
	Credits int
	// MaxSegment is the size in bytes of the largest FPDU sent to a peer that takes more than one TCP
	// segment. 0 means 65535; any other value must be from 1024 to 65535. A peer that takes less gets
	// less.
	MaxSegment int
	// Plain makes the connection a pure rsocket, even with a peer that could do more.
	Plain bool
}

const (
	defaultRing    = 4 << 20
	defaultMemRing = 256 << 10
	defaultCredits = 384
	defaultSegment = maxSegment

	minRing, maxRing       = 4 << 10, 512 << 20
	minCredits, maxCredits = 16, 1<<15 - 1
	minSegment, maxSegment = 1 << 10, 1<<16 - 1
)

// withDefaults returns c with every default in place. virtual says whether the ring costs no
// memory.
func (c *Config) withDefaults(virtual bool) (Config, error) {
	var d Config
	if c != nil {
		d = *c
	}
	switch {
	case d.RingSize == 0 && virtual:
		d.RingSize = defaultRing
	case d.RingSize == 0:
		d.RingSize = defaultMemRing
	case d.RingSize < minRing || d.RingSize > maxRing:
		return d, pkgerrors.Errorf("ring size %d is out of range; use %d to %d bytes", d.RingSize, minRing, maxRing)
	}
	d.RingSize = (d.RingSize + 15) &^ 15
	if d.Budget == nil {
		d.Budget = processBudget()
	}
	if d.Credits == 0 {
		d.Credits = defaultCredits
	}
	if d.Credits < minCredits || d.Credits > maxCredits {
		return d, pkgerrors.Errorf("credits %d are out of range; use %d to %d", d.Credits, minCredits, maxCredits)
	}
	if d.MaxSegment == 0 {
		d.MaxSegment = defaultSegment
	}
	if d.MaxSegment < minSegment || d.MaxSegment > maxSegment {
		return d, pkgerrors.Errorf("segment size %d is out of range; use %d to %d bytes", d.MaxSegment, minSegment, maxSegment)
	}
	return d, nil
}
