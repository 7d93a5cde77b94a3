package soft

import (
	"sync"

	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// A control is FPDUs of the protocol itself that precede all others: an RTR frame or a nudge, or a
// Terminate. Most connections have one once, so it is lent.
type control struct {
	n   int // bytes
	mem [maxControl]byte
}

// maxControl is the size of the largest, a Terminate.
const maxControl = mpa.LengthLen + ddp.UntaggedLen + rdmap.MaxTerminateLen + 3 + mpa.CRCLen

var controls = sync.Pool{New: func() any { return new(control) }}

// putControl has fpdu precede all others, in place of what did so.
func (t *transmitter) putControl(fpdu []byte) {
	if t.control == nil {
		t.control = controls.Get().(*control)
	}
	t.control.n = copy(t.control.mem[:], fpdu)
}

// precede has what is in the batch precede all others, and gives up the batch.
func (t *transmitter) precede() {
	t.putControl((*t.out.buf)[:t.out.used])
	t.out.reset()
}

// take moves the FPDUs to b, which has room for them, and returns how many bytes they are. c must
// not be used after that.
func (c *control) take(b []byte) (n int) {
	n = copy(b, c.mem[:c.n])
	controls.Put(c)
	return n
}
