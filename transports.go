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

var ownSoft = soft.New(nil)

// split divides transports, or the registered ones for nil, by what their connections run over, and
// keeps their order. Of those over the kernel's TCP only the first is of use.
func split(list []transport.Transport) (devices []transport.Transport, kernel kernelTransport) {
	if list == nil {
		list = transport.Registered()
	}
	for _, t := range list {
		if k, ok := t.(kernelTransport); ok {
			if kernel == nil {
				kernel = k
			}
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
