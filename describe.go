package iwarp

import (
	"net"
	"runtime"
	"sync"
	"weak"

	"github.com/rdmanet/iwarp/rdmanet"
)

// Info describes the path that a connection took.
type Info struct {
	Transport string // "tcp" for plain TCP, else the name of the transport, such as "soft"
	Device    string // verbs name of the device, empty for plain TCP
	Offloaded bool   // true if the connection bypasses the kernel's TCP, as with all devices but siw
	Reason    Reason // why it is plain TCP; ReasonNone if it is not
	Err       error  // what led to Reason, nil if the reason says it all

	// RedirectPort is the server's port on the wire, where an iWARP device listens beside the port of the service and clients are redirected;
	// LocalAddr and RemoteAddr have the port of the service all the same. 0 means that the ports are those of the addresses.
	RedirectPort uint16
}

// Describe tells which path c took, and why. It knows the connections that a Dialer or Listener of this package has
// returned, also below a *tls.Conn, and any *rdmanet.Conn; for others it returns false. It may be called
// at any time, also after Close.
func Describe(c net.Conn) (Info, bool) {
	for {
		switch t := c.(type) {
		case *net.TCPConn:
			return recall(t)
		case *rdmanet.Conn:
			if t == nil {
				return Info{}, false
			}
			info, _ := recall(t)
			if info.Device == "" {
				info.Device = t.Attributes().Device
			}
			return info, true
		case interface{ NetConn() net.Conn }:
			c = t.NetConn()
		default:
			return Info{}, false
		}
	}
}

// paths remembers the Info of connections without keeping them: by weak pointer, until the connection is garbage.
var paths sync.Map

// remember notes the path that c took. It must be called before c is handed out, and once.
func remember[T any](c *T, info Info) *T {
	key := weak.Make(c)
	paths.Store(key, info)
	runtime.AddCleanup(c, func(key weak.Pointer[T]) { paths.Delete(key) }, key)
	return c
}

func recall[T any](c *T) (Info, bool) {
	if c == nil {
		return Info{}, false
	}
	v, ok := paths.Load(weak.Make(c))
	if !ok {
		return Info{}, false
	}
	return v.(Info), true
}

func plainInfo(reason Reason, err error) Info {
	return Info{Transport: "tcp", Reason: reason, Err: err}
}
