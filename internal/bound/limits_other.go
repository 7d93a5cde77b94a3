//go:build !linux

package bound

func Limits() []string {
	return []string{
		"a port is held by listening on it, so clients wait in the backlog of an idle reservation",
		"a reservation cannot dial",
		"a conflict does not name its holder",
		"the addresses of the host cannot be followed",
		"the port of a listener that is closed is not held for the connections of devices",
	}
}
