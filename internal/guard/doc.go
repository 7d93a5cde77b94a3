// Package guard makes the kernel keep segments from TCP sockets: requests that come too late to be
// told from what an application reads, and new clients.
//
// A client that is silent is handed out as plain TCP, for services that speak first. Should its
// first bytes be an MPA request after all, they come too late, and the application must not read
// them as its own protocol. It owns the socket by then, so this is up to the kernel: a filter drops
// the one segment that starts with the first byte of the connection and is an MPA request, or the
// beginning of one. The filter knows the segment by its sequence number, and leaves all others
// alone.
//
// Nothing can be read after what was dropped, not even the end of the connection. So the reading
// side is checked now and then while the client is silent, and shut once a request has been
// dropped: the application reads io.EOF, and a client that waits for a reply is told when the
// application hangs up. Then it falls back, or fails.
package guard

// A Start is the sequence number of the first byte that a peer sends. The zero value means unknown.
type Start struct {
	known bool
	seq   uint32
}
