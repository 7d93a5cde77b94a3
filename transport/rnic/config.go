package rnic

import (
	"runtime"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

const transportName = "rnic"

// Config tunes a Transport. The zero value means the defaults.
type Config struct {
	// Poll is how long a call that has to wait looks for completions before it sleeps, at most. It
	// finds them sooner than the kernel could wake it, and takes a processor for that; where it has
	// found nothing lately it looks for a shorter time. 0 means 10 µs with 4 processors or more
	// (runtime.GOMAXPROCS), else nothing; negative means nothing.
	Poll time.Duration

	// TOS is the type of service (RFC 2474) of connections, as the device makes use of it
	// (RDMA_OPTION_ID_TOS). 0 means that of the system.
	TOS uint8
}

const (
	defaultPoll   = 10 * time.Microsecond
	minProcessors = 4
)

func (c *Config) withDefaults() Config {
	var d Config
	if c != nil {
		d = *c
	}
	if d.Poll == 0 && runtime.GOMAXPROCS(0) >= minProcessors {
		d.Poll = defaultPoll
	}
	d.Poll = max(d.Poll, 0)
	return d
}

// The import of this package is what switches devices on, as it is with drivers of database/sql.
func init() { transport.Register(New(nil)) }
