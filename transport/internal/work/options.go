package work

import "github.com/rdmanet/iwarp/transport"

const (
	defaultDepth = 512
	defaultReads = 16
	mostDepth    = 1 << 20
	mostReads    = 16382 // one less than what stands for no limit in an MPA frame (RFC 6581 §9.1)
)

// Options are the transport.Options that a queue pair needs for as long as it lives.
type Options struct {
	SendDepth, RecvDepth, IRD, ORD int

	NoCRC bool
}

// normalize returns o with every default in place and out-of-range values clamped to the range.
func normalize(o *transport.Options) Options {
	var n Options
	if o != nil {
		n = Options{o.SendDepth, o.RecvDepth, o.IRD, o.ORD, o.NoCRC}
	}
	for _, f := range []struct {
		v         *int
		def, most int
	}{{&n.SendDepth, defaultDepth, mostDepth}, {&n.RecvDepth, defaultDepth, mostDepth}, {&n.IRD, defaultReads, mostReads}, {&n.ORD, defaultReads, mostReads}} {
		switch {
		case *f.v == 0:
			*f.v = f.def
		case *f.v < 0:
			*f.v = 0
		}
		*f.v = min(*f.v, f.most)
	}
	n.SendDepth, n.RecvDepth = max(n.SendDepth, 1), max(n.RecvDepth, 1)
	return n
}
