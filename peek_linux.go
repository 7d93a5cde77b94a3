package iwarp

import "golang.org/x/sys/unix"

// pollPeerClosed tells of the peer's FIN while bytes are still to be read.
const pollPeerClosed = unix.POLLRDHUP
