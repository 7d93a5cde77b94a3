package iwarp

import (
	"slices"

	"github.com/rdmanet/iwarp/transport"
)

// watchDevices has the listener look for devices whenever some may have come.
func (l *Listener) watchDevices() {
	self := l.self
	for _, t := range l.transports {
		if w, ok := t.(transport.DeviceWatcher); ok {
			l.unwatch = append(l.unwatch, w.WatchDevices(func() {
				if l := self.Value(); l != nil {
					l.findDevices()
				}
			}))
		}
	}
}

// findDevices makes devices listen that have come since the listener began. Where only devices were
// asked for, and no iWARP device was there then, those stay left out: the kernel's listener has
// nothing to redirect with.
func (l *Listener) findDevices() {
	select {
	case l.finding <- struct{}{}:
		defer func() { <-l.finding }()
	case <-l.ctx.Done():
	}
	if l.ctx.Err() != nil {
		return
	}
	found := false
	for _, t := range l.transports {
		present, err := t.Devices()
		if err != nil {
			continue
		}
		l.noteGone(t, present)
		var came []transport.Device
		for _, d := range present {
			if !l.listensOn(t, d.Name) && (!d.IWARP || l.kernel != nil) {
				came = append(came, d)
			}
		}
		if len(came) > 0 {
			_ = l.listenOn(l.ctx, t, came) // those that cannot listen now are tried again
			found = true
		}
	}
	if !found {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls > 0 && l.state == listens {
		l.serveDevices()
	}
}

// noteGone records which devices of a transport are not there any more: if they come back, they
// have lost what listened on them.
func (h *listening) noteGone(t transport.Transport, present []transport.Device) {
	h.devMu.Lock()
	defer h.devMu.Unlock()
	for _, d := range h.devices {
		if d.transport != t {
			continue
		}
		for _, dev := range d.devices {
			if !slices.ContainsFunc(present, func(p transport.Device) bool { return p.Name == dev.Name }) {
				if d.gone == nil {
					d.gone = make(map[string]bool)
				}
				d.gone[dev.Name] = true
			}
		}
	}
}

// isGone reports whether d has lost what listened on the device.
func (h *listening) isGone(d *deviceListener, name string) bool {
	h.devMu.Lock()
	defer h.devMu.Unlock()
	return d.gone[name]
}

// listensOn reports whether the device of a transport listens.
func (h *listening) listensOn(t transport.Transport, name string) bool {
	for _, d := range h.deviceList() {
		if d.transport != t || d.down.Load() || h.isGone(d, name) {
			continue
		}
		if slices.ContainsFunc(d.devices, func(dev transport.Device) bool { return dev.Name == name }) {
			return true
		}
	}
	return false
}
