package rdmanet

import (
	"errors"

	"github.com/rdmanet/iwarp/transport"
)

// PeerCredentials returns the user and the group that the process at the other end had when it
// connected or began to listen, by the word of the kernel of this host, as with SO_PEERCRED of a
// Unix socket. The error matches errors.ErrUnsupported where the transport does not know, as only
// one between processes of one host can. It may be called at any time, even after Close.
func (c *Conn) PeerCredentials() (uid, gid uint32, err error) {
	p, ok := transport.As[transport.PeerIdentifier](c.qp)
	if !ok {
		return 0, 0, c.opError("get", errors.ErrUnsupported)
	}
	uid, gid = p.PeerCredentials()
	return uid, gid, nil
}
