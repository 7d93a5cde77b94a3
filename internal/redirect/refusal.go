package redirect

import (
	"fmt"

	"github.com/rdmanet/iwarp/transport"
)

// Why says why a listener has refused a client. It is a number on the wire: existing ones keep
// their meaning.
type Why uint8

const (
	WhyUnsaid   Why = iota
	WhyPolicy       // the settings of the listener
	WhyNoDevice     // it has no device for the client
	WhyLimit        // a limit was reached
	WhyFailed       // the set-up failed in another way
)

var whyNames = [...]string{"no reason", "policy never", "no device", "limit", "set-up failed"}

// String returns why in words, even for an unknown number.
func (w Why) String() string {
	if int(w) < len(whyNames) {
		return whyNames[w]
	}
	return fmt.Sprintf("reason %d", uint8(w))
}

// Refused is a refusal that says why. errors.Is and errors.As find in it what they find in a
// *transport.RejectedError.
type Refused struct {
	Why      Why
	Rejected *transport.RejectedError
}

func (r *Refused) Error() string { return "peer: " + r.Why.String() }

// Unwrap returns Rejected.
func (r *Refused) Unwrap() error { return r.Rejected }

// Refusal returns the private data of a refusal that says why, for the client that has sent the
// private data of a request; nil if that would not understand it. Package rdmanet sets it.
var Refusal func(request []byte, why Why) []byte
