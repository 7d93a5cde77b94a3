package iwarp

import (
	"net"
	"time"

	"github.com/rdmanet/iwarp/internal/keepalive"
	"github.com/rdmanet/iwarp/rdmanet"
)

// ignored are names of fields that are set and that a connection through a device cannot obey.
type ignored []string

func (i *ignored) add(name string, set bool) {
	if set {
		*i = append(*i, name)
	}
}

// keepAlive sets what a device can do of the fields.
func (i *ignored) keepAlive(c *rdmanet.Conn, idle time.Duration, config net.KeepAliveConfig) {
	keepalive.SetDevice(c, idle, config)
	i.add("KeepAliveConfig.Interval", config.Enable && config.Interval > 0)
	i.add("KeepAliveConfig.Count", config.Enable && config.Count > 0)
}

// toDevice sets the fields that are for a connection through a device, and returns the others.
func (d *Dialer) toDevice(c *rdmanet.Conn) []string {
	var i ignored
	i.add("FallbackDelay", d.FallbackDelay > 0)
	i.keepAlive(c, d.KeepAlive, d.KeepAliveConfig)
	i.add("Control", d.Control != nil && d.ControlContext == nil)
	i.add("ControlContext", d.ControlContext != nil)
	i.add("ReadBudget", d.ReadBudget != nil)
	return i
}

func (lc *ListenConfig) toDevice(c *rdmanet.Conn) []string {
	var i ignored
	i.add("Control", lc.Control != nil)
	i.keepAlive(c, lc.KeepAlive, lc.KeepAliveConfig)
	i.add("ReadBudget", lc.ReadBudget != nil)
	return i
}
