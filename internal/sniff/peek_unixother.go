//go:build unix && !linux

package sniff

// pollPeerClosed is not available everywhere: a FIN after a few bytes of the MPA key is noticed by
// time-out.
const pollPeerClosed = 0

func unread(uintptr) (n int, known bool) { return 0, false }
