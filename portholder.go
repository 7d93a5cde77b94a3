package iwarp

import "github.com/rdmanet/iwarp/transport"

// portHolder is a queue pair of a device. As long as it lives, a socket holds its port in the kernel's port space.
type portHolder struct {
	transport.QueuePair
	port *endpoint
}

// holdPort makes the port part of the queue pair's life.
func holdPort(qp transport.QueuePair, port *endpoint) *portHolder { return &portHolder{qp, port} }

// Unwrap implements transport.Wrapper.
func (h *portHolder) Unwrap() transport.QueuePair { return h.QueuePair }

func (h *portHolder) Close() error {
	defer h.leave()
	return h.QueuePair.Close()
}

func (h *portHolder) Abort() error {
	defer h.leave()
	return h.QueuePair.Abort()
}

// leave gives the port back once the device has done with it.
func (h *portHolder) leave() {
	if d, ok := transport.As[transport.Leaver](h.QueuePair); ok {
		d.OnGone(h.port.leave)
		return
	}
	h.port.leave()
}
