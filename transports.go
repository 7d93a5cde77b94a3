package iwarp

import (
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// A kernelTransport makes queue pairs of the kernel's TCP connections.
type kernelTransport = transport.Upgrader

// Software iWARP needs nothing but the kernel's TCP, so it is always available.
func init() { transport.Register(ownSoft) }

var (
	ownSoft  = soft.New(nil)
	onlySoft = []kernelTransport{ownSoft}
)

// split divides transports, or the registered ones for nil, by what their connections run over, and
// keeps their order.
func split(list []transport.Transport) (devices []transport.Transport, kernel []kernelTransport) {
	if list == nil {
		list = transport.Registered()
	}
	if len(list) == 1 { // as where there are no devices
		if k, ok := list[0].(*soft.Transport); ok && k == ownSoft {
			return nil, onlySoft
		}
	}
	for _, t := range list {
		if k, ok := t.(kernelTransport); ok {
			kernel = append(kernel, k)
		} else if t != nil {
			devices = append(devices, t)
		}
	}
	return devices, kernel
}

// Range of a stream's buffer, in bytes.
const minReadBuffer, maxReadBuffer = 4 << 10, 512 << 20

// buffered returns what the user has set for what peers send ahead.
func buffered(bytes int, budget *rdmanet.Budget) *rdmanet.Config {
	conf := rdmanet.Config{Budget: budget}
	if bytes > 0 {
		conf.RingSize = min(max(bytes, minReadBuffer), maxReadBuffer)
	}
	return &conf
}
