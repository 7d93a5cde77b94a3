package sockdiag

// A Process has a socket open.
type Process struct {
	PID  int
	Name string // as in /proc/PID/comm
}
