package iwarp

import "github.com/rdmanet/iwarp/transport"

// portHolder is a queue pair of a device with a port space of its own. As long as it lives, a socket holds its port
// in that of the kernel.
type portHolder struct {
	transport.QueuePair
	port *endpoint
}

// holdPort makes the port part of the queue pair's life.
func holdPort(qp transport.QueuePair, port *endpoint) transport.QueuePair {
	h := &portHolder{qp, port}
	if p, ok := qp.(transport.PlacerRegistrar); ok {
		return struct {
			*portHolder
			transport.PlacerRegistrar
		}{h, p}
	}
	return h
}

func (h *portHolder) Close() error {
	err := h.QueuePair.Close()
	h.port.leave()
	return err
}

func (h *portHolder) Abort() error {
	err := h.QueuePair.Abort()
	h.port.leave()
	return err
}
