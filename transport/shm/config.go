package shm

import (
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// Config sets what all connections of a Transport have in common. The zero value means the
// defaults.
type Config struct {
	// Allow says whether a client that runs as the user and the group may connect to listeners of
	// the Transport. It may be called by several goroutines at once. nil means that all may, as
	// with TCP on loopback.
	//
	// It is no access control: a client that is refused goes on with plain TCP, unless its policy or
	// the server's is OffloadRequire. A server that must know its clients checks PeerCredentials of
	// the rdmanet.Conn, and takes no other connections.
	Allow func(uid, gid uint32) bool
	// Poll is how long a call that waits looks for news before it sleeps, where waits are that short
	// and this turns out to be faster than to sleep at once. It takes a processor for that time, and
	// saves the time that it takes to wake a sleeper, where both ends have processors to spare. With
	// less than 10 µs it is 10 µs, as it is for a server's connections to clients of another user
	// than its own and root.
	Poll time.Duration
	// RequestTimeout bounds how long a client may take to send its request once it has connected.
	// 0 means 5 s.
	RequestTimeout time.Duration
	// ReplyTimeout bounds the wait for the answer to a request. 0 means 10 s.
	ReplyTimeout time.Duration
	// MaxHalfOpen bounds the clients of one listener whose request is still to come or is waiting for
	// Accept. One more makes the oldest whose request is still to come give way; where all wait for
	// Accept, further ones stay with the kernel. 0 means 256.
	MaxHalfOpen int
	// MaxMemory bounds the memory in bytes that all connections of the Transport together receive in,
	// 256 KiB each, or down to 64 KiB once half of it is taken. Most of that is there only while a
	// connection is busy, unless the two ends are of different users. Where none is left, dials and
	// listeners of the Transport go on with plain TCP as their policy says. Neither what peers receive
	// in counts nor what they keep after the end. 0 means 1 GiB.
	MaxMemory int64
}

const transportName = "shm"

func (c *Config) withDefaults() Config {
	var d Config
	if c != nil {
		d = *c
	}
	if d.RequestTimeout == 0 {
		d.RequestTimeout = 5 * time.Second
	}
	if d.ReplyTimeout == 0 {
		d.ReplyTimeout = 10 * time.Second
	}
	if d.MaxHalfOpen <= 0 {
		d.MaxHalfOpen = 256
	}
	if d.MaxMemory == 0 {
		d.MaxMemory = 1 << 30
	}
	return d
}

func init() { transport.Register(New(nil)) }
