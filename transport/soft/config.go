package soft

import (
	"time"

	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
)

// Config sets what all connections of a Transport have in common. The zero value means the
// defaults.
type Config struct {
	// Revision is the MPA revision that Dial and Client offer, and the newest that a listener
	// accepts: 1 (RFC 5044) or 2 (RFC 6581). 0 means 2.
	Revision int
	// RequestTimeout bounds how long an accepted TCP connection may take to send its MPA request. 0
	// means 5 s.
	RequestTimeout time.Duration
	// ReplyTimeout bounds the wait for the MPA reply. 0 means 10 s.
	ReplyTimeout time.Duration
	// StallTimeout ends a connection with syscall.ETIMEDOUT if its peer stops in the middle of an FPDU
	// for that long while somebody waits for it. 0 or a negative value means never, which is what TCP
	// does: a peer may be suspended and go on later, and the kernel's keepalives find out about a host
	// that is gone.
	StallTimeout time.Duration
	// MaxHalfOpen bounds the TCP connections of one listener whose MPA request is still to come or is
	// waiting for Accept. One more makes the oldest whose request is still to come give way, by a
	// reset; where all are waiting for Accept, further ones stay with the kernel. 0 means 256.
	MaxHalfOpen int
	// Poll is how long a call that waits for the peer looks for bytes before it sleeps. It takes a
	// processor for that time, and saves the time that it takes to wake a sleeper, which is often
	// longer than the answer takes. It is for peers that answer within that time, as on one host,
	// where both ends have processors to spare: otherwise it makes them slower. Half as many calls as
	// GOMAXPROCS was at the start look at once. 0 or less means none, as does anything on Windows.
	Poll time.Duration
	// NoCRC makes every connection behave as with transport.Options.NoCRC.
	NoCRC bool
	// AlwaysCRC asks for CRC32C also where package rdmanet would leave it out: between two ends of
	// this module on one host that have proved to each other that nothing but the memory of its kernel
	// is between them, which takes Linux 5.14. One end that asks is enough. It takes precedence over
	// NoCRC. Captures of the loopback interface need it, as their readers find a CRC wrong that was
	// left out.
	AlwaysCRC bool
}

const (
	// maxReads is how far IRD is raised when a peer asks for more reads than we offered; siw stops
	// there too.
	maxReads uint16 = 128

	// stallDelay is how long Drain is blocked before it makes sure that somebody reads.
	stallDelay = 2 * time.Millisecond
)

func (c *Config) withDefaults() Config {
	var d Config
	if c != nil {
		d = *c
	}
	if d.Revision == 0 {
		d.Revision = int(mpa.Rev2)
	}
	for _, f := range []struct {
		v *time.Duration
		d time.Duration
	}{{&d.RequestTimeout, 5 * time.Second}, {&d.ReplyTimeout, 10 * time.Second}} {
		if *f.v == 0 {
			*f.v = f.d
		}
	}
	if d.MaxHalfOpen <= 0 {
		d.MaxHalfOpen = 256
	}
	return d
}
