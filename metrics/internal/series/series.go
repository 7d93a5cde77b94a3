// Package series says which metrics there are of package iwarp, for those that bring them to a
// monitoring system: names, labels, and the values of the moment.
package series

import (
	"time"

	"github.com/rdmanet/iwarp"
)

// A Metric is a name with labels. There are few values of each label, and none comes from a peer.
type Metric struct {
	Prometheus    string // name without "iwarp_"
	OpenTelemetry string // name without "iwarp."
	Unit          string // of UCUM, as OpenTelemetry has it
	Help          string
	Counter       bool // its values never fall; or else they are those of the moment
	Labels        []string
}

func gauge(prometheus, otel, unit, help string, labels ...string) *Metric {
	return &Metric{prometheus, otel, unit, help, false, labels}
}

func counter(prometheus, otel, unit, help string, labels ...string) *Metric {
	return &Metric{prometheus, otel, unit, help, true, labels}
}

var (
	connections = gauge("connections", "connection.count", "{connection}", "Open connections.", "path", "state")
	offloaded   = gauge("connections_offloaded", "connection.offloaded", "{connection}", "Open connections that bypass the kernel's TCP.", "path")
	fallback    = gauge("connections_fallback", "connection.fallback", "{connection}", "Open connections of plain TCP, by why they are.", "reason")
	blocked     = gauge("connections_blocked", "connection.blocked", "{connection}",
		"Open connections on which a Write waits for the peer to read.", "path")

	setups = counter("setups_total", "setup.count", "{connection}",
		"Connections that were set up; those of plain TCP have the reason why they are.", "direction", "path", "reason")
	setupFailures = counter("setup_failures_total", "setup.failures", "{attempt}",
		"Dials, and handshakes of clients, that gave no connection; with reason none for errors as of package net.", "direction", "reason")

	bytes        = counter("stream_bytes_total", "stream.io", "By", "Bytes on connections other than plain TCP.", "path", "direction")
	messages     = counter("stream_messages_total", "stream.messages", "{message}", "Messages in which the bytes went.", "path", "direction")
	blockedTime  = counter("write_blocked_seconds_total", "write.blocked.time", "s", "Time in which Writes waited for the peer to read.", "path")
	blockedTimes = counter("write_blocked_total", "write.blocked.count", "{wait}", "How often Writes waited for the peer to read.", "path")
	failures     = counter("connection_failures_total", "connection.failures", "{connection}",
		"Connections other than plain TCP that ended by a fault.", "path")
	terminates = counter("terminates_total", "terminate.count", "{message}", "RDMAP Terminates that ended a connection.", "path", "direction")

	listeners  = gauge("listeners", "listener.count", "{listener}", "Listeners.", "state")
	clients    = counter("listener_clients_total", "listener.clients", "{client}", "Clients of listeners, by what became of them.", "outcome")
	silent     = counter("listener_silent_clients_total", "listener.silent", "{client}", "Clients that were taken for plain TCP as they said nothing.")
	overflowed = counter("listener_overflows_total", "listener.overflows", "{connection}",
		"Half-open connections that were cut short because there were too many.")
	ports = gauge("port_reservations", "port.count", "{port}", "Ports that the process reserves; those in conflict it does not hold.", "state")
)

// All has every metric but the times of set-ups.
var All = []*Metric{
	connections, offloaded, fallback, blocked, setups, setupFailures, bytes, messages, blockedTime, blockedTimes, failures, terminates,
	listeners, clients, silent, overflowed, ports,
}

// Of set-ups that have taken a known time.
var (
	SetupHelp   = "How long set-ups took: dials, and accepts from when the listener has taken the client."
	SetupLabels = []string{"direction", "kind"} // plain TCP, or all else
)

// SetupValues are the values of SetupLabels.
func SetupValues(t *iwarp.SetupTimes) []string {
	if t.PlainTCP {
		return []string{direction(t.Accepted), "tcp"}
	}
	return []string{direction(t.Accepted), "rdma"}
}

// Values of labels that have a value at any time, so that no series comes and goes.
var (
	paths          = []string{"tcp", "soft", "rnic", "shm", other}
	states         = []string{"established", "write-closed", "peer-finished", "closing", "failed"}
	listenerStates = []string{"listening", "draining"}
	portStates     = []iwarp.PortState{iwarp.PortIdle, iwarp.PortListening, iwarp.PortConnected, iwarp.PortConflict}
)

const other = "other"

// reasons are those that a connection can have.
var reasons = func() (all []iwarp.Reason) {
	for r := iwarp.ReasonNone; ; r++ {
		if _, err := r.MarshalText(); err != nil {
			return all
		}
		all = append(all, r)
	}
}()

func direction(accepted bool) string {
	if accepted {
		return "accept"
	}
	return "dial"
}

// pathOf keeps the names that transports of others have out of the labels.
func pathOf(c *iwarp.ConnStats) string {
	name := c.Transport
	if name == "" { // made by package rdmanet alone; in software the device has the name of the transport
		name = c.Device
	}
	for _, path := range paths {
		if name == path {
			return path
		}
	}
	return other
}

// Emit is called with a value of m, and with those of its labels, in their order.
type Emit func(m *Metric, v float64, labels ...string)

// Values calls emit with all values of a snapshot. Each set of labels comes once.
func Values(s *iwarp.ProcessStats, emit Emit) {
	open(s.Conns, emit)
	attempts(s, emit)
	for i := range s.Traffic {
		traffic(&s.Traffic[i], emit)
	}
	listening(s, emit)
}

// A sum has the value of each set of labels.
type sum map[[3]string]float64

func (s sum) emit(m *Metric, emit Emit) {
	for labels, v := range s {
		emit(m, v, labels[:len(m.Labels)]...)
	}
}

func open(conns []iwarp.ConnStats, emit Emit) {
	all, direct, waiting, plain := make(sum), make(sum), make(sum), make(sum)
	for _, path := range paths {
		direct[[3]string{path}], waiting[[3]string{path}] = 0, 0
		for _, state := range states {
			all[[3]string{path, state}] = 0
		}
	}
	for _, r := range reasons {
		if r != iwarp.ReasonNone {
			plain[[3]string{r.String()}] = 0
		}
	}
	for i := range conns {
		c := &conns[i]
		path := pathOf(c)
		all[[3]string{path, c.State}]++
		if c.Offloaded {
			direct[[3]string{path}]++
		}
		if !c.BlockedSince.IsZero() {
			waiting[[3]string{path}]++
		}
		if c.Reason != iwarp.ReasonNone {
			plain[[3]string{c.Reason.String()}]++
		}
	}
	all.emit(connections, emit)
	direct.emit(offloaded, emit)
	waiting.emit(blocked, emit)
	plain.emit(fallback, emit)
}

func attempts(s *iwarp.ProcessStats, emit Emit) {
	made, failed := make(sum), make(sum)
	for _, accepted := range []bool{false, true} {
		for _, r := range reasons {
			failed[[3]string{direction(accepted), r.String()}] = 0
			for _, path := range paths {
				if (path == "tcp") == (r != iwarp.ReasonNone) {
					made[[3]string{direction(accepted), path, r.String()}] = 0
				}
			}
		}
	}
	for _, n := range s.Setups {
		made[[3]string{direction(n.Accepted), n.Transport, n.Reason.String()}] += float64(n.Count)
	}
	for _, n := range s.Failures {
		failed[[3]string{direction(n.Accepted), n.Reason.String()}] += float64(n.Count)
	}
	made.emit(setups, emit)
	failed.emit(setupFailures, emit)
}

func traffic(t *iwarp.Traffic, emit Emit) {
	const in, out = "receive", "transmit"
	emit(bytes, float64(t.BytesIn), t.Transport, in)
	emit(bytes, float64(t.BytesOut), t.Transport, out)
	emit(messages, float64(t.MessagesIn), t.Transport, in)
	emit(messages, float64(t.MessagesOut), t.Transport, out)
	emit(blockedTime, t.Blocked.Seconds(), t.Transport)
	emit(blockedTimes, float64(t.BlockedTimes), t.Transport)
	emit(failures, float64(t.Failed), t.Transport)
	emit(terminates, float64(t.TerminatesReceived), t.Transport, in)
	emit(terminates, float64(t.TerminatesSent), t.Transport, out)
}

func listening(s *iwarp.ProcessStats, emit Emit) {
	byState, held := make(sum), make(sum)
	for _, state := range listenerStates {
		byState[[3]string{state}] = 0
	}
	for _, state := range portStates {
		held[[3]string{state.String()}] = 0
	}
	for i := range s.Listeners {
		byState[[3]string{s.Listeners[i].State}]++
	}
	for i := range s.Ports {
		held[[3]string{s.Ports[i].State.String()}]++
	}
	byState.emit(listeners, emit)
	held.emit(ports, emit)
	c := &s.Clients
	emit(clients, float64(c.PlainTCP), "plain tcp")
	emit(clients, float64(c.IWARP), "iwarp")
	emit(clients, float64(c.Redirected), "redirected")
	emit(clients, float64(c.Refused), "refused")
	emit(clients, float64(c.HandshakeFailed), "handshake failed")
	emit(clients, float64(c.Limited), "over a limit")
	emit(silent, float64(c.Silent))
	emit(overflowed, float64(c.Overflowed))
}

// SetupLimit is the upper limit of an entry of iwarp.SetupTimes.Counts. The last entry has none.
func SetupLimit(i int) time.Duration { return time.Microsecond << i }
