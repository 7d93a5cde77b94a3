package rdmanet

import (
	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

// A hostProof leaves the CRC out where both ends of a connection are on one host, see
// transport.HostProver. The zero value never does.
type hostProof struct {
	qp        transport.HostProver
	own, peer wire.Proof
}

func (c *Conn) hostProof(initiator bool) (p hostProof) {
	qp, _ := transport.As[transport.HostProver](c.qp)
	if qp == nil {
		return p
	}
	own, peer, ok := qp.HostProof(initiator)
	if !ok {
		return p
	}
	return hostProof{qp, own, peer}
}

// holds reports whether the peer has proved to be on this host, and leaves the CRC out if so.
func (p *hostProof) holds(peer *wire.ConnData) bool {
	if p.qp == nil || peer.Ext == nil || peer.Ext.Proof != p.peer {
		return false
	}
	p.qp.WaiveCRC()
	return true
}
