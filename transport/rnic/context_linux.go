//go:build amd64 || arm64

package rnic

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport/rnic/internal/abi"
)

// contexts are the devices that librdmacm has open (struct ibv_context) and that IDs of this
// process use, of all Transports. It closes one only when it next looks for a device and there
// still is one, so the removal of a device whose driver waits for its users, as those of siw and
// rxe do, would wait for the end of this process.
var contexts = struct {
	sync.Mutex
	m map[uintptr]*deviceContext
}{m: make(map[uintptr]*deviceContext)}

type deviceContext struct {
	ids     int
	removed bool
	watch   *watch // nil if its events cannot be had
}

// attach has the ID count as a user of its device, if it belongs to one by now.
func (id *cmID) attach() {
	contexts.Lock()
	defer contexts.Unlock()
	if id.context != 0 || id.c().Verbs == 0 {
		return
	}
	id.context = id.c().Verbs
	c := contexts.m[id.context]
	if c == nil {
		c = &deviceContext{watch: startWatch(id.ch.lib, id.context)}
		contexts.m[id.context] = c
	}
	c.ids++
}

// lost records the removal of the ID's device.
func (id *cmID) lost() {
	contexts.Lock()
	defer contexts.Unlock()
	if c := contexts.m[id.context]; c != nil {
		c.removed = true
	}
}

// watch returns what reads the events of the ID's device, which may be nil.
func (id *cmID) watch() *watch {
	contexts.Lock()
	defer contexts.Unlock()
	if c := contexts.m[id.context]; c != nil {
		return c.watch
	}
	return nil
}

// detach is called before the ID is destroyed, while librdmacm keeps the context for its sake. With
// the last user of a device that was removed, the device's files are closed below the library,
// which is left with others to close.
func (id *cmID) detach() {
	contexts.Lock()
	defer contexts.Unlock()
	c := contexts.m[id.context]
	if c == nil {
		return
	}
	if c.ids--; c.ids > 0 {
		return
	}
	delete(contexts.m, id.context)
	c.watch.stop()
	if c.removed {
		release(at[abi.Context](id.context))
	}
}

// release puts /dev/null in the place of a device's files.
func release(c *abi.Context) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(null)
	for _, fd := range []int32{c.CmdFd, c.AsyncFd} {
		if fd >= 0 {
			_ = unix.Dup3(null, int(fd), unix.O_CLOEXEC)
		}
	}
}
