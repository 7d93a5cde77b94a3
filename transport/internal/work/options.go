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
	SendDepth, RecvDepth int32
	IRD, ORD             int16
	NoCRC                bool
}

// normalize returns o with every default in place and out-of-range values clamped to the range.
func normalize(o *transport.Options) Options {
	if o == nil {
		o = new(transport.Options)
	}
	return Options{
		SendDepth: int32(max(1, within(o.SendDepth, defaultDepth, mostDepth))),
		RecvDepth: int32(max(1, within(o.RecvDepth, defaultDepth, mostDepth))),
		IRD:       int16(within(o.IRD, defaultReads, mostReads)),
		ORD:       int16(within(o.ORD, defaultReads, mostReads)),
		NoCRC:     o.NoCRC,
	}
}

// within returns n, from 0 to most, or the default for 0.
func within(n, def, most int) int {
	if n == 0 {
		n = def
	}
	return min(max(n, 0), most)
}
