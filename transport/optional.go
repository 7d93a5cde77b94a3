package transport

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// This file has what not every queue pair, connector or transport offers. Its users find it by As,
// and do without where it is missing. A queue pair around another one keeps the inner one's by
// being a Wrapper; where it must know of the end, it has to implement itself what ends the
// connection, which is LastCloser besides the methods of QueuePair.

// A Wrapper is a QueuePair around another one, whose optional interfaces As finds.
type Wrapper interface {
	Unwrap() QueuePair
}

// As returns the first of qp and the queue pairs that it wraps that is a T, an interface that not
// every QueuePair implements.
func As[T any](qp QueuePair) (T, bool) {
	for {
		if t, ok := qp.(T); ok {
			return t, true
		}
		w, ok := qp.(Wrapper)
		if !ok {
			var none T
			return none, false
		}
		qp = w.Unwrap()
	}
}

// A PlacerRegistrar is a QueuePair that can place through a Placer.
type PlacerRegistrar interface {
	// RegisterPlacer makes p reachable for RDMA Writes as a region of length bytes. CallerDriven is
	// implied.
	RegisterPlacer(length uint64, p Placer) (MemoryRegion, error)
}

// A WordReceiver is a QueuePair that can hand over short Sends in their completions.
type WordReceiver interface {
	// PostWords posts n receives for Sends of up to 4 bytes, as PostRecv does. They have the IDs from
	// id on, and no memory: the bytes come in Completion.Word.
	PostWords(id uint64, n int) (int, error)
}

// A MemoryAllocator is a QueuePair that brings the memory of its regions itself, because a device
// needs memory that stays in place and is not shared with a child process. Such a queue pair
// refuses memory that is not its own in RegisterMemory.
type MemoryAllocator interface {
	// AllocateMemory registers n bytes of new memory, all zero, with the rights of access. Its content
	// lasts until the region's Deregister, which may also be called after the queue pair's Close;
	// after that the bytes may still be touched, though they mean nothing, for as long as the region
	// is not garbage. Neither loses what the queue pair still has to send.
	AllocateMemory(n int, access Access) ([]byte, MemoryRegion, error)
}

// A NowWriter is a QueuePair with a short way for data that can be sent at once.
type NowWriter interface {
	// WriteNow posts an RDMA Write of data, as with Inline, WillDrain and Lent, to offset in the
	// peer's region stag. posted is false, and nothing has been done, if PostSend must be used: where
	// something is to be sent before, or data is too long. Drain must be called only if left is true.
	WriteNow(stag STag, offset uint64, data []byte) (posted, left bool)
}

// A CompletionTeller is a QueuePair that can tell, for less than a call of Poll costs, that a call
// of Wait has returned for what was placed alone.
type CompletionTeller interface {
	// HasCompletions reports whether Poll may return some.
	HasCompletions() bool
}

// A DrainTeller is a QueuePair in which a call of Drain that finds something left waits for nothing
// but the peer.
type DrainTeller interface {
	// Drained reports whether the host has taken everything that was posted.
	Drained() bool
}

// A Looker is a QueuePair that finds out what has arrived only when somebody waits or makes it
// look.
type Looker interface {
	// Look handles once what has arrived, for the next call of Poll, unless a call of Wait is doing
	// so. It does not block, and returns false if there was nothing.
	Look() bool
}

// An EarlySender is a QueuePair that knows whether the responder is free to send. By RFC 5044 §7.1
// the responder must wait for the first FPDU of the initiator, which is part of the connection
// set-up only with RFC 6581.
type EarlySender interface {
	// PeerMaySend reports whether the responder can send, or soon will be able to, without anything
	// being posted on the initiator's side.
	PeerMaySend() bool
}

// A HostProver is a QueuePair that can leave its CRC out where its peer has proved to be on the
// same host. The users of both ends exchange the proofs in the private data of the set-up.
type HostProver interface {
	// HostProof returns what this end of the connection says to prove that it is on the host of the
	// other end, and what only a peer there says. ok is false where the peer may be elsewhere, where
	// the system does not tell, and where CRC is asked for in any case.
	HostProof(initiator bool) (own, peer [16]byte, ok bool)
	// WaiveCRC leaves the CRC out in both directions. The responder calls it before Accept, if the
	// peer has given its proof, and gives its own. The initiator calls it after Connect, before
	// anything else, if the peer has answered by its proof.
	WaiveCRC()
}

// A Terminator is a QueuePair that can tell the peer of a fault that was found above it.
type Terminator interface {
	// Terminate ends the connection by an RDMAP Terminate for an unspecified remote operation error
	// (RFC 5040 §4.8). Close must still be called.
	Terminate()
}

// A LastCloser is a QueuePair that can be closed without regard to what the peer may still have to
// take.
type LastCloser interface {
	// CloseLast is Close for an end that knows that the peer has taken everything that matters, or
	// will do so without help once what was posted has arrived.
	CloseLast() error
}

// An EndLeaver is a QueuePair that can leave it to the peer to end the connection. An rsocket needs
// that: it may notice the end of the stream sooner than what came before it, and then drops that.
type EndLeaver interface {
	// LeaveEndToPeer makes the Close that follows wait in the background, once everything is sent, for
	// up to a second until the peer has ended the stream.
	LeaveEndToPeer()
}

// A RestLeaver is a QueuePair that can leave what is still to be sent at Close to the system below
// it, and itself needs nothing more for that.
type RestLeaver interface {
	// LeaveRest makes the Close that follows do so as soon as the system has everything, even if the
	// peer does not take it or has something to say meanwhile. What the peer sends from then on is
	// neither taken nor refused until it has everything, so its reading must not depend on that. Where
	// AwaitClosed follows, that takes precedence.
	LeaveRest()
}

// A CloseAwaiter is a QueuePair that knows when the peer's host has acknowledged what was sent
// before Close.
type CloseAwaiter interface {
	// WillAwaitClosed says, before Close, that AwaitClosed follows it.
	WillAwaitClosed()
	// AwaitClosed, called after Close, waits until the peer's host has acknowledged everything, which
	// is nil, or something was lost, which is an error. It returns os.ErrDeadlineExceeded if neither
	// has happened by the deadline. The zero deadline means none.
	AwaitClosed(deadline time.Time) error
}

// A Leaver is a QueuePair of which the device keeps something for a while after Close, such as the
// local port while it sends what was posted.
type Leaver interface {
	// OnGone has f called, once and by any goroutine, when the device has nothing left of the queue
	// pair after Close or Abort: at once if that is already so. It may be called before the connection
	// is up. both says that the peer has nothing left of it either, so that the next connection may
	// have the same addresses.
	OnGone(f func(both bool))
}

// A Forgoer is a QueuePair of which the device keeps something after its end, for the next
// connection.
type Forgoer interface {
	// Forgo gives that back, and with it the local port, unless the peer still has the connection. It
	// reports whether there was something.
	Forgo() bool
}

// A KeepAliver is a QueuePair that can check on a silent peer. It may have the method
// SetKeepAlivePeriod of net.TCPConn, too.
type KeepAliver interface {
	// SetKeepAliveConfig means what it means for a net.TCPConn, as far as the transport has it.
	SetKeepAliveConfig(net.KeepAliveConfig) error
}

// A PeerIdentifier is a QueuePair whose peer runs on the same host, where the kernel knows who it
// is.
type PeerIdentifier interface {
	// PeerCredentials returns the user and the group that the peer's process had when it connected or
	// began to listen, as this process sees them.
	PeerCredentials() (uid, gid uint32)
}

// A NoDelayer is a QueuePair that can delay small messages, as the kernel's TCP can.
type NoDelayer interface {
	// SetNoDelay means what it means for a net.TCPConn. True is the default.
	SetNoDelay(bool) error
}

// A Bufferer is a QueuePair with buffers below it, such as those of a socket.
type Bufferer interface {
	// SetReadBuffer and SetWriteBuffer set sizes in bytes, as they do for a net.TCPConn.
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
}

// A DeviceWatcher is a Transport that notices when devices come and go.
type DeviceWatcher interface {
	// WatchDevices has f called whenever Devices may return something else than before, until stop is
	// called; it may still be under way then. f is called by one goroutine at a time, and now and then
	// for nothing.
	WatchDevices(f func()) (stop func())
}

// A Refuser is a Listener that has room for a bounded number of requests that wait for Accept.
type Refuser interface {
	// SetRefusal has f return the private data of the refusal of a request for which there is no room:
	// remote and request are the address and the private data of the peer. f must not wait for
	// anything, and several goroutines may call it at once.
	SetRefusal(f func(remote netip.AddrPort, request []byte) []byte)
}

// A RequestPusher is a Listener whose own goroutines can hand on requests, which takes less than to
// wake a call of Accept for each.
type RequestPusher interface {
	// PushRequests has f called for each request from now on, instead of Accept. f sees to the
	// request, and reports whether it has taken it: otherwise it is called again once the channel is
	// closed. Several goroutines may call it at once. Close waits for calls that are under way.
	PushRequests(f func(Request) (again <-chan struct{}, taken bool))
}

// A Redialer is a Connector on a connection that existed before it. Connect may want another one to
// the peer, to offer it an older MPA revision (RFC 6581 §8).
type Redialer interface {
	// SetRedial sets, before Connect, how that other connection is made. The connection belongs to the
	// Connector.
	SetRedial(dial func(context.Context) (*net.TCPConn, error))
}

// An Upgrader is a Transport that makes queue pairs of the kernel's TCP connections, which belong
// to what the methods return; on an error they are closed. Nothing must have been sent or received
// on them, though bytes may have been peeked at.
type Upgrader interface {
	Transport
	// Client makes the initiator's end of c. The Connector may be a Redialer.
	Client(c *net.TCPConn, o *Options) (Connector, error)
	// Server makes the responder's end of c. It reads the peer's request.
	Server(ctx context.Context, c *net.TCPConn, o *Options) (Request, error)
}
