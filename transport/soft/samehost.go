package soft

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
)

// Two ends on one host leave the CRC out, as the kernel leaves out the checksum of TCP there: their
// bytes never leave its memory. That the addresses are the host's own does not show that the ends
// are on one host: a relay, such as a tunnel of ssh, has such addresses on two hosts. So each end
// computes a proof of
//
//   - the host: the kernel's random number of this boot,
//   - the network namespace: its cookie, a number that the kernel gives only once in a boot,
//   - the addresses and ports of both ends, as its own socket has them.
//
// At any time a namespace has at most one connection of given addresses and ports. So who proves
// the same, with the roles exchanged, has the other end of this very connection. Of a relay each
// leg has ports of its own.
//
// Nothing is proved to an attacker, who gains nothing by a CRC that is missing and could as well
// send damaged bytes with a good one. The proof tells a stranger neither the host nor the
// namespace.

// proofLen is the length in bytes of what one end says.
const proofLen = 16

// HostProof implements transport.HostProver.
func (q *queuePair) HostProof(initiator bool) (own, peer [proofLen]byte, ok bool) {
	if q.cfg.AlwaysCRC {
		return own, peer, false
	}
	local, remote := q.sock.addrs()
	if !ownAddrs(local.Addr(), remote.Addr()) {
		return own, peer, false
	}
	host, ok := bootID()
	if !ok {
		return own, peer, false
	}
	cookie, ok := q.sock.namespace()
	if !ok {
		return own, peer, false
	}
	if !initiator {
		local, remote = remote, local
	}
	b := make([]byte, 0, 128)
	b = append(b, "iwarp same host\x00"...)
	b = append(b, host...)
	b = binary.BigEndian.AppendUint64(b, cookie)
	for _, a := range [...]netip.AddrPort{local, remote} {
		ip := a.Addr().As16()
		b = binary.BigEndian.AppendUint16(append(b, ip[:]...), a.Port())
	}
	// What the responder says is not what it was told, so that no echo is taken for a proof.
	sum := sha256.Sum256(b)
	own, peer = [proofLen]byte(sum[:proofLen]), [proofLen]byte(sum[proofLen:])
	if !initiator {
		own, peer = peer, own
	}
	return own, peer, true
}

// ownAddrs reports whether both addresses of a connection can be those of one host.
func ownAddrs(local, remote netip.Addr) bool {
	local, remote = local.Unmap(), remote.Unmap()
	return local == remote || local.IsLoopback() && remote.IsLoopback()
}

// WaiveCRC implements transport.HostProver.
func (q *queuePair) WaiveCRC() {
	if q.Ready() != nil {
		q.waived = true // for the reply
		return
	}
	q.awaitRx()
	q.rx.crc = false
	q.giveRx()
	q.tx.mu.Lock()
	q.tx.crc = false
	q.tx.mu.Unlock()
	q.Mu.Lock()
	q.crc = false
	q.Mu.Unlock()
}

// bootID returns what tells this boot of this host from all others, if the system says so. That it
// does not may be for want of descriptors, so only what was read is kept.
func bootID() ([]byte, bool) {
	if b := knownBootID.Load(); b != nil {
		return *b, true
	}
	b, ok := readBootID()
	if ok {
		knownBootID.Store(&b)
	}
	return b, ok
}

var knownBootID atomic.Pointer[[]byte]
