//go:build unix && !linux

package iwarp

// pollPeerClosed is not to be had everywhere: a FIN after a few bytes of the MPA key is noticed by time-out.
const pollPeerClosed = 0
