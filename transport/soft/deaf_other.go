//go:build !linux

package soft

// deafen would make the kernel take nothing more of what the peer sends, which only Linux can do.
func (s *sock) deafen() bool { return false }

// unsent is not known here.
func (s *sock) unsent() int { return 0 }

// widen would make the kernel take more that it cannot send yet, which is of use only if it can
// then be deafened.
func (s *sock) widen() {}
