//go:build !linux

package soft

// deafen has the kernel take nothing more of what the peer sends, which only Linux can.
func (s *sock) deafen() bool { return false }

// unsent is not known here.
func (s *sock) unsent() int { return 0 }

// widen has the kernel take more that it cannot send yet, which is of use only if it is deaf then.
func (s *sock) widen() {}
