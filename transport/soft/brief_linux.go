//go:build !race

package soft

import (
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	briefPeriod = 10 * time.Millisecond // for which the scheduler lets a goroutine run
	briefBusy   = 8                     // connections for each processor
	briefSize   = 8 << 10               // bytes that a call moves at most
)

// A brevity says whether calls that do not block and move little are made without telling the
// scheduler. It is told of calls so that it can lend the processor to other goroutines meanwhile.
// In a process that waits most of the time that costs more than such a call, as it wakes the thread
// that watches over the others.
//
// So calls are brief as long as few connections are busy. That thread must still look whether a
// goroutine keeps a processor to itself, so a timer wakes it as often as it would look. Where many
// connections are busy it is awake in any case, and a thread that the kernel stops in a call should
// not keep the others from going on.
type brevity struct {
	few    atomic.Bool   // connections were busy in the period before this one
	period atomic.Uint32 // number of the present one
	busy   atomic.Int32  // connections in it
	timed  atomic.Bool   // the timer runs
	timer  *time.Timer
}

var brief brevity

// The timer is made here, as one that is made in a bubble of testing/synctest belongs to that.
func init() {
	brief.timer = time.AfterFunc(time.Hour, brief.next)
	brief.timer.Stop()
}

// A briefUser is a connection that is counted.
type briefUser struct{ seen uint32 }

func (u *briefUser) count() { brief.count(u) }

// count counts u in the period.
func (b *brevity) count(u *briefUser) {
	now := b.period.Load()
	if u.seen == now && b.timed.Load() {
		return
	}
	u.seen = now
	b.busy.Add(1)
	if b.timed.CompareAndSwap(false, true) {
		b.timer.Reset(briefPeriod)
	}
}

// next begins a period. There are none while nobody is busy.
func (b *brevity) next() {
	n := int(b.busy.Swap(0))
	b.few.Store(n > 0 && n <= briefBusy*runtime.GOMAXPROCS(0))
	b.period.Add(1)
	if n > 0 {
		b.timer.Reset(briefPeriod)
	} else {
		b.timed.Store(false)
	}
}

// dontWait holds even if somebody has taken O_NONBLOCK from the socket, which others may share: a
// call that waits without the scheduler's knowing would hold up the whole process.
const dontWait = unix.MSG_DONTWAIT

func read(fd int, b []byte) (int, error) {
	if len(b) > briefSize || !brief.few.Load() {
		return unix.Read(fd, b)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), dontWait, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func write(fd int, b []byte) (int, error) {
	if len(b) > briefSize || !brief.few.Load() {
		return unix.Write(fd, b)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), dontWait|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
