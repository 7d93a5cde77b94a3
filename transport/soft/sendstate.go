package soft

// A phase is how much may still be sent. It never goes back.
type phase uint8

const (
	phaseOpen    phase = iota
	phaseRefused       // a fault was found in what was to be sent, so no more of it is composed
	phaseClosing       // nothing but FPDUs that precede all others
	phaseEnded         // nothing: a write would fail, and seem to have lost what is on its way
)

// reach goes on to p, unless it is past that.
func (s *phase) reach(p phase) { *s = max(*s, p) }

// composes reports whether work requests and responses are composed.
func (s phase) composes() bool { return s == phaseOpen }

// A floor says whose message is being composed, which no other may interrupt, or whose was the
// last.
type floor uint8

const (
	floorSent      floor = iota // a work request, or nothing yet, was the last
	floorSend                   // a work request is half done
	floorResponded              // a response to a read was the last
	floorResponse               // a response is half done
)

// next returns who has the floor, floorSend or floorResponse, or who had it last if nobody can use
// it. Requests and responses take turns.
func (f floor) next(canSend, canRespond bool) floor {
	switch {
	case f == floorSend, f == floorResponse:
		return f
	case canRespond && !(canSend && f == floorResponded):
		return floorResponse
	case canSend:
		return floorSend
	}
	return f
}

// finish ends a message of f.
func (f floor) finish() floor {
	switch f {
	case floorSend:
		return floorSent
	case floorResponse:
		return floorResponded
	}
	return f
}

// A driver says who is blocked until the kernel takes more.
type driver uint8

const (
	driverNone   driver = iota
	driverStays         // until all of it is composed
	driverDrains        // until the send queue is empty, for Drain
)
