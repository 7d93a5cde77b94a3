package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/rdmanet/iwarp/cmd/internal/proc"
	"github.com/rdmanet/iwarp/internal/nldev"
	"github.com/rdmanet/iwarp/internal/statpage"
)

// A verbs is an id of the connection manager, with its queue pair as far as the kernel knows which
// that is, or a queue pair alone, of a program that does not use this module, or of the kernel.
type verbs struct {
	process
	Device    string         `json:"device"`
	Offloaded bool           `json:"offloaded"` // by a device that is not in software
	State     string         `json:"state"`
	Local     netip.AddrPort `json:"local,omitzero"`
	Peer      netip.AddrPort `json:"peer,omitzero"`
	PortSpace string         `json:"port_space,omitempty"`
	CMState   string         `json:"cm_state,omitempty"`
	QPN       uint32         `json:"qpn,omitempty"`
	PeerQPN   uint32         `json:"peer_qpn,omitempty"`
	QPType    string         `json:"qp_type,omitempty"`
	QPState   string         `json:"qp_state,omitempty"`
}

const (
	pathRDMA  = "rdma"
	listening = "listening"
)

// makers remember whose threads are.
type makers map[uint32]process

func (m makers) of(o nldev.Owner) process {
	if o.PID == 0 {
		name := "[kernel]"
		if o.Kernel != "" {
			name = "[" + o.Kernel + "]"
		}
		return process{Name: name}
	}
	p, known := m[o.PID]
	if !known {
		p.PID = proc.Leader(o.PID)
		p.Name = proc.Name(p.PID)
		p.UID, _ = proc.User(p.PID)
		p.Netns = proc.Netns(p.PID)
		p.Stopped = proc.Stopped(p.PID)
		m[o.PID] = p
	}
	return p
}

// askRDMA adds what the kernel has of RDMA, for the programs that are asked for. Those that use
// this module tell more by themselves.
func (r *report) askRDMA(pids []int) {
	devices, err := nldev.Devices()
	if err != nil {
		if !errors.Is(err, errors.ErrUnsupported) {
			r.RDMAError = err.Error()
		}
		return
	}
	whose, ours := make(makers), r.ours()
	for _, l := range devices {
		ids, err := nldev.CMIDs(l.Index)
		qps, qerr := nldev.QueuePairs(l.Index)
		if err := cmp.Or(err, qerr); err != nil {
			r.RDMAError = fmt.Sprintf("device %s: %v", l.Device, err)
		}
		r.addDevice(&l, ids, qps, ours, whose, pids)
	}
	slices.SortStableFunc(r.RDMA, func(a, b verbs) int {
		return cmp.Or(cmp.Compare(a.PID, b.PID), a.Local.Compare(b.Local), a.Peer.Compare(b.Peer), cmp.Compare(a.QPN, b.QPN))
	})
}

func (r *report) addDevice(l *nldev.Link, ids []nldev.CMID, qps []nldev.QP, ours map[int]*conns, whose makers, pids []int) {
	wanted := func(p process) bool { return len(pids) == 0 || slices.Contains(pids, p.PID) }
	numbered := make(map[uint32]*nldev.QP, len(qps))
	for i := range qps {
		numbered[qps[i].Number] = &qps[i]
	}
	named := make(map[uint32]bool) // queue pairs of ids
	for i := range ids {
		id := &ids[i]
		named[id.QPN] = true
		p := whose.of(id.Owner)
		if list, known := ours[p.PID]; known && p.PID != 0 {
			if c := list.of(id); c != nil {
				c.QPN = id.QPN
			}
			continue
		}
		if wanted(p) {
			r.RDMA = append(r.RDMA, verbsOf(p, l, id, numbered[id.QPN]))
		}
	}
	for i := range qps {
		p := whose.of(qps[i].Owner)
		if _, known := ours[p.PID]; known && p.PID != 0 || named[qps[i].Number] || qps[i].Type.Management() || !wanted(p) {
			continue
		}
		r.RDMA = append(r.RDMA, verbsOf(p, l, nil, &qps[i]))
	}
}

// conns are a process's connections by devices. One to a service that has redirected it has another
// port than its id at the end of the service, so it is found by the other end, if only one has it.
type conns struct {
	exact            map[pair]*connection
	dialed, accepted map[netip.AddrPort]*connection // by local and by peer; nil for more than one
}

func (l *conns) add(c *connection) {
	l.exact[pair{bare(c.Local), bare(c.Peer)}] = c
	ends, at := l.dialed, bare(c.Local)
	if c.Accepted {
		ends, at = l.accepted, bare(c.Peer)
	}
	if _, more := ends[at]; more {
		c = nil
	}
	ends[at] = c
}

func (l *conns) of(id *nldev.CMID) *connection {
	local, peer := bare(id.Local), bare(id.Remote)
	return cmp.Or(l.exact[pair{local, peer}], l.dialed[local], l.accepted[peer])
}

// ours are the connections of the processes that use this module.
func (r *report) ours() map[int]*conns {
	m := make(map[int]*conns)
	add := func(pid int) {
		m[pid] = &conns{make(map[pair]*connection), make(map[netip.AddrPort]*connection), make(map[netip.AddrPort]*connection)}
	}
	for _, p := range r.Processes {
		add(p.PID)
	}
	for _, p := range r.Problems { // those that this program is too old for, among others
		add(p.PID)
	}
	for i := range r.Connections {
		if c := &r.Connections[i]; c.Path == "rnic" {
			m[c.PID].add(c)
		}
	}
	return m
}

func verbsOf(p process, l *nldev.Link, id *nldev.CMID, q *nldev.QP) verbs {
	v := verbs{process: p, Device: l.Device, Offloaded: !l.Traits().InSoftware}
	if q != nil {
		v.QPN, v.PeerQPN, v.QPType, v.QPState = q.Number, q.Remote, q.Type.String(), q.State.String()
		v.State = strings.ToLower(v.QPState)
	}
	if id == nil {
		return v
	}
	v.QPN = cmp.Or(v.QPN, id.QPN)
	v.Local, v.CMState, v.PortSpace = id.Local, id.State.String(), id.Space.String()
	if id.Remote.Port() != 0 {
		v.Peer = id.Remote
	}
	switch id.State {
	case nldev.CMListen:
		v.State = listening
	case nldev.CMConnect: // also while it is being connected
		v.State = statpage.Established.String()
		if v.QPState == "INIT" || v.QPState == "RTR" { // siw does not tell, which is RESET
			v.State = "connecting"
		}
	case nldev.CMBound:
		v.State = "bound"
	default:
		v.State = strings.ReplaceAll(strings.ToLower(v.CMState), "_", "-")
	}
	return v
}

// rdma writes the list of those that listen, or of the others.
func (p *printer) rdma(list []verbs, listeners bool) error {
	heading := []string{"OTHER RDMA", "STATE", "LOCAL", "PEER", "QP", "PROCESS"}
	if listeners {
		heading = []string{"RDMA LISTENER", "STATE", "DEVICE", "PROCESS"}
	}
	var rows [][]string
	for i := range list {
		v := &list[i]
		switch {
		case (v.State == listening) != listeners:
		case listeners:
			rows = append(rows, []string{address(v.Local), v.State, v.Device, whose(v.process)})
		default:
			rows = append(rows, []string{pathRDMA + "/" + v.Device, v.State, address(v.Local), address(v.Peer), v.queuePair(), whose(v.process)})
		}
	}
	return p.table(heading, rows)
}

func address(a netip.AddrPort) string {
	if !a.IsValid() {
		return "-"
	}
	return a.String()
}

// queuePair is its type with both numbers.
func (v *verbs) queuePair() string {
	if v.QPN == 0 {
		return "-"
	}
	s := fmt.Sprintf("%s %d", v.QPType, v.QPN)
	if v.PeerQPN != 0 {
		s += fmt.Sprintf(" to %d", v.PeerQPN)
	}
	return strings.TrimSpace(s)
}

// rdmaDetail writes all that is known of one.
func (p *printer) rdmaDetail(v *verbs) {
	fmt.Fprintf(p.out, "%s -> %s  %s/%s, %s\n", address(v.Local), address(v.Peer), pathRDMA, v.Device, v.State)
	if v.PID != 0 {
		fmt.Fprintf(p.out, "  process     %s, pid %d, user %s\n", v.Name, v.PID, userName(v.UID))
	} else {
		fmt.Fprintf(p.out, "  process     %s\n", v.Name)
	}
	if v.CMState != "" {
		fmt.Fprintf(p.out, "  rdma_cm     %s, port space %s\n", v.CMState, v.PortSpace)
	}
	if v.QPN != 0 {
		fmt.Fprintf(p.out, "  queue pair  %s, %s\n", v.queuePair(), cmp.Or(v.QPState, "state unknown"))
	}
}
