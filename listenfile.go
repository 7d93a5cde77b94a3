package iwarp

import (
	"net"
	"os"
	"syscall"

	"github.com/rdmanet/iwarp/internal/bound"
	"github.com/rdmanet/iwarp/internal/neterr"
)

// File returns a copy of the kernel's listening socket, for a process that takes over: there Adopt
// and Listen go on with the port and with the clients that wait, and none is refused between the
// two. Devices' clients are not handed over: the other process listens for them once this Listener
// is closed. Close does not stop the copy. It does not block, nor does it after a call of its Fd,
// which is how it differs from that of a *net.TCPListener: a socket that blocks does so in all
// processes, and a call of Accept under way here could neither be closed nor time out.
// After Drain and Close the error matches net.ErrClosed, on Windows errors.ErrUnsupported.
func (l *Listener) File() (*os.File, error) {
	if !l.ok() {
		return nil, syscall.EINVAL
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != listens { // when Drain may have the socket refuse clients
		return nil, l.fail("file", net.ErrClosed)
	}
	f, err := bound.ListenerFile(l.tcp)
	if err != nil {
		return nil, l.fail("file", neterr.Bare(err))
	}
	l.port.MarkShared()
	return f, nil
}
