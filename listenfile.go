package iwarp

import (
	"os"
	"syscall"
)

// File returns a copy of the kernel's listening socket, for a process that takes over: there Adopt and Listen go on with the
// port and with the clients that wait, and none is refused between the two. Devices' clients are not handed
// over: the other process listens for them once this Listener is closed. Close does not stop the copy.
// On Windows the error matches errors.ErrUnsupported.
func (l *Listener) File() (*os.File, error) {
	if !l.ok() {
		return nil, syscall.EINVAL
	}
	f, err := listenerFile(l.tcp)
	if err != nil {
		return nil, l.fail("file", bare(err))
	}
	l.handed.Store(true)
	return f, nil
}
