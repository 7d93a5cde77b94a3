package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/cmd/internal/proc"
	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/internal/sockdiag"
	"github.com/rdmanet/iwarp/internal/statpage"
)

// A process has a statistics page.
type process struct {
	PID   int    `json:"pid"`
	Name  string `json:"process"`
	UID   uint32 `json:"uid"`
	Netns uint64 `json:"netns,omitempty"`

	Stopped bool `json:"stopped,omitempty"` // by a signal, or a debugger
}

// A connection is one row of the list.
type connection struct {
	process
	Local       netip.AddrPort `json:"local"`
	Peer        netip.AddrPort `json:"peer"`
	State       string         `json:"state"`
	Path        string         `json:"path"` // transport
	Device      string         `json:"device,omitempty"`
	Offloaded   bool           `json:"offloaded"`
	Accepted    bool           `json:"accepted"`
	Reason      string         `json:"reason,omitempty"`      // why it is plain TCP
	Detail      string         `json:"detail,omitempty"`      // what led to that, or to the end
	PeerReason  string         `json:"peer_reason,omitempty"` // what the peer has said
	Terminate   string         `json:"terminate,omitempty"`   // "sent" or "received"
	Code        uint16         `json:"terminate_code,omitempty"`
	Since       time.Time      `json:"since"`
	SetupNanos  time.Duration  `json:"setup_ns,omitempty"`
	BytesIn     uint64         `json:"bytes_in"`
	BytesOut    uint64         `json:"bytes_out"`
	MessagesIn  uint64         `json:"messages_in"`
	MessagesOut uint64         `json:"messages_out"`
	QPN         uint32         `json:"qpn,omitempty"`    // of the device's queue pair
	Stream      *stream        `json:"stream,omitempty"` // of iWARP
	TCP         *tcp           `json:"tcp,omitempty"`    // the kernel's connection beneath
}

// A stream is what only iWARP connections have.
type stream struct {
	Unread       uint64        `json:"unread"`
	Ring         uint64        `json:"ring"`
	Space        uint64        `json:"space"`
	Credits      uint64        `json:"credits"`
	BlockedNanos time.Duration `json:"blocked_ns"`
	BlockedTimes uint64        `json:"blocked_times"`
	BlockedSince *time.Time    `json:"blocked_since,omitempty"`
	Segment      uint64        `json:"segment"`
	CRC          bool          `json:"crc"`
	Revision     uint8         `json:"mpa_revision"`
	IRD          uint8         `json:"ird"`
	ORD          uint8         `json:"ord"`
	Extended     bool          `json:"extended"`
}

// tcp is what the kernel says of a connection.
type tcp struct {
	State         string        `json:"state"`
	RecvQueue     uint32        `json:"recv_queue"`
	SendQueue     uint32        `json:"send_queue"`
	RoundTrip     time.Duration `json:"rtt_ns"`
	Retransmitted uint32        `json:"retransmitted"`
	MSS           uint32        `json:"mss"`
	Window        uint32        `json:"cwnd"`
	Inode         uint32        `json:"inode"`
}

// A listener is one row of the list of listeners.
type listener struct {
	process
	Local    netip.AddrPort `json:"local"`
	State    string         `json:"state"`
	Policy   string         `json:"policy"`
	Since    time.Time      `json:"since"`
	PlainTCP uint64         `json:"plain_tcp"`
	IWARP    uint64         `json:"iwarp"`
	Silent   uint64         `json:"silent"`
	Redirect uint64         `json:"redirected"`
	Refused  uint64         `json:"refused"`
	Failed   uint64         `json:"handshake_failed"`
	Overflow uint64         `json:"overflowed"`
	Limited  uint64         `json:"limited"`
	Queue    *uint32        `json:"queue,omitempty"` // clients that wait for Accept in the kernel
	Backlog  *uint32        `json:"backlog,omitempty"`
}

// A port is one row of the list of reservations.
type port struct {
	process
	Local      netip.AddrPort `json:"local"`
	State      string         `json:"state"`
	Owner      string         `json:"owner,omitempty"`
	References uint64         `json:"references"`
}

// A problem is a page that could not be read.
type problem struct {
	process
	Error string `json:"error"`
}

// A report is all that was found.
type report struct {
	Time        time.Time      `json:"time"`
	Connections []connection   `json:"connections"`
	Listeners   []listener     `json:"listeners"`
	Ports       []port         `json:"ports"`
	RDMA        []verbs        `json:"rdma"` // of programs that do not use this module
	RDMAError   string         `json:"rdma_error,omitempty"`
	Processes   []process      `json:"processes"`
	Problems    []problem      `json:"problems,omitempty"`
	Hidden      int            `json:"hidden_processes"` // that may not be looked into
	Lost        uint64         `json:"lost_records,omitempty"`
	Unverified  int            `json:"unverified,omitempty"` // plain connections of which the kernel could not be asked
	Tally       statpage.Tally `json:"-"`
	Setups      []setups       `json:"setups"`
	Times       []times        `json:"setup_times"`

	unfiltered inventory
	without    []process // that were asked for, and have no page
}

// setups counts connections that were made in the same way, in all processes.
type setups struct {
	Accepted bool   `json:"accepted"`
	Path     string `json:"path,omitempty"` // empty for those that failed
	Reason   string `json:"reason,omitempty"`
	Count    uint64 `json:"count"`
}

// times counts how long set-ups took: so many, from one time to another.
type times struct {
	Accepted bool          `json:"accepted"`
	IWARP    bool          `json:"iwarp"` // and not plain TCP
	From     time.Duration `json:"from_ns"`
	To       time.Duration `json:"to_ns,omitempty"` // 0 for no limit
	Count    uint64        `json:"count"`
}

// collect looks into the processes, or into all of them, of a network namespace, or of all.
func collect(pids []int, netns uint64) (*report, error) {
	census, err := statpage.Scan(pids...)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("no such process: %w", err)
	case err != nil:
		return nil, err
	}
	r := &report{Time: time.Now(), Hidden: census.Hidden, Connections: []connection{}, Listeners: []listener{}, Ports: []port{}, RDMA: []verbs{}, Processes: []process{}}
	kernels := make(map[uint64]*kernel)
	for i := range census.Processes {
		p := &census.Processes[i]
		who := process{p.PID, p.Name, p.UID, p.Netns, proc.Stopped(p.PID)}
		switch {
		case netns != 0 && p.Netns != netns, p.PID == os.Getpid() && p.Err == nil && len(p.Page.Entries) == 0: // this very program
			continue
		case p.Err != nil:
			r.Problems = append(r.Problems, problem{who, p.Err.Error()})
			continue
		}
		r.Processes = append(r.Processes, who)
		if kernels[p.Netns] == nil {
			kernels[p.Netns] = askKernel(p.PID, p.Netns)
		}
		r.add(who, p.Page, kernels[p.Netns])
	}
	r.askRDMA(pids)
	if netns != 0 {
		r.RDMA = slices.DeleteFunc(r.RDMA, func(v verbs) bool { return v.Netns != netns })
	}
	r.Setups, r.Times = setupsOf(&r.Tally), timesOf(&r.Tally)
	r.without = pageless(pids, &census)
	slices.SortStableFunc(r.Connections, func(a, b connection) int {
		return cmp.Or(cmp.Compare(a.PID, b.PID), a.Local.Compare(b.Local), a.Peer.Compare(b.Peer))
	})
	slices.SortStableFunc(r.Listeners, func(a, b listener) int { return cmp.Or(cmp.Compare(a.PID, b.PID), a.Local.Compare(b.Local)) })
	slices.SortStableFunc(r.Ports, func(a, b port) int { return cmp.Or(cmp.Compare(a.PID, b.PID), a.Local.Compare(b.Local)) })
	return r, nil
}

// add adds what a process has. What the kernel does not confirm is over: a process cannot tell when
// its connections of plain TCP are closed.
func (r *report) add(who process, page *statpage.Page, k *kernel) {
	r.Lost += page.Lost
	addTally(&r.Tally, &page.Tally)
	listens := make(map[netip.AddrPort]bool)
	for i := range page.Entries {
		e := &page.Entries[i]
		switch {
		case e.Kind == statpage.KindConn && e.State != statpage.Closed:
			r.addConn(who, e, k)
		case e.Kind == statpage.KindListener && e.State != statpage.ListenerClosed:
			s, ok := k.listening[e.Local]
			if k.err == nil && !ok {
				continue
			}
			listens[e.Local] = true
			r.Listeners = append(r.Listeners, listenerOf(who, e, s))
		}
	}
	for i := range page.Entries {
		e := &page.Entries[i]
		if e.Kind != statpage.KindPort || listens[e.Local] || !k.holds(e.Local) {
			continue
		}
		r.Ports = append(r.Ports, port{who, e.Local, e.State.OfPort(), e.Device, e.References()})
	}
}

func (r *report) addConn(who process, e *statpage.Entry, k *kernel) {
	s, found := k.connected[pair{bare(e.Local), bare(e.Remote)}]
	plain := e.Transport == plainTCP
	switch {
	case plain && k.err != nil:
		r.Unverified++
	case plain && (!found || s.Inode == 0):
		return
	}
	c := connectionOf(who, e)
	if found {
		c.joins(&s, plain)
	}
	r.Connections = append(r.Connections, c)
}

const plainTCP = "tcp"

func connectionOf(who process, e *statpage.Entry) connection {
	f := e.Flow()
	c := connection{
		process: who, Local: e.Local, Peer: e.Remote, State: e.State.String(), Path: e.Transport, Device: e.Device,
		Offloaded: e.Flags&statpage.FlagOffloaded != 0, Accepted: e.Flags&statpage.FlagAccepted != 0, Detail: e.Text,
		Code: e.Terminate, Since: e.Since, SetupNanos: e.Setup,
		BytesIn: f.BytesIn, BytesOut: f.BytesOut, MessagesIn: f.MessagesIn, MessagesOut: f.MessagesOut,
	}
	if c.Path == "" { // made by package rdmanet alone
		c.Path = "rdmanet"
	}
	if e.Reason != 0 {
		c.Reason = iwarp.Reason(e.Reason).String()
	}
	if e.PeerReason != 0 {
		c.PeerReason = redirect.Why(e.PeerReason - 1).String()
	}
	switch {
	case e.Flags&statpage.FlagTermSent != 0:
		c.Terminate = "sent"
	case e.Flags&statpage.FlagTermReceived != 0:
		c.Terminate = "received"
	}
	if e.Transport == plainTCP {
		return c
	}
	c.Stream = &stream{
		Unread: f.Unread, Ring: f.Ring, Space: f.Space, Credits: f.Credits, BlockedNanos: f.Blocked, BlockedTimes: f.BlockedTimes,
		Segment: f.Segment, CRC: e.Flags&statpage.FlagCRC != 0, Revision: e.Revision, IRD: e.IRD, ORD: e.ORD,
		Extended: e.Flags&statpage.FlagExtended != 0,
	}
	if !f.BlockedSince.IsZero() {
		c.Stream.BlockedSince = &f.BlockedSince
	}
	return c
}

// joins adds what the kernel says.
func (c *connection) joins(s *sockdiag.Socket, plain bool) {
	c.TCP = &tcp{State: s.State.String(), RecvQueue: s.RecvQueue, SendQueue: s.SendQueue, Inode: s.Inode}
	if t := s.TCP; t != nil {
		c.TCP.RoundTrip, c.TCP.Retransmitted, c.TCP.MSS, c.TCP.Window = t.RoundTrip, t.Retransmitted, t.MSS, t.Window
		if plain {
			c.BytesIn, c.BytesOut, c.MessagesIn, c.MessagesOut = t.BytesIn, t.BytesOut, uint64(t.SegmentsIn), uint64(t.SegmentsOut)
		}
	}
	if plain {
		c.State = stateOf(s.State)
	}
}

// stateOf is the state of plain TCP in the words that iWARP connections have.
func stateOf(s sockdiag.State) string {
	switch name := s.String(); name {
	case "fin-wait-1", "fin-wait-2":
		return statpage.WriteClosed.String()
	case "close-wait":
		return statpage.PeerFinished.String()
	case "last-ack", "closing":
		return statpage.BothFinished.String()
	default:
		return name
	}
}

func listenerOf(who process, e *statpage.Entry, s *sockdiag.Socket) listener {
	n := e.Clients()
	l := listener{
		process: who, Local: e.Local, State: e.State.OfListener(), Policy: iwarp.Offload(e.Policy).String(), Since: e.Since,
		PlainTCP: n[statpage.PlainTCP], IWARP: n[statpage.IWARP], Silent: n[statpage.Silent], Redirect: n[statpage.Redirected],
		Refused: n[statpage.Refused], Failed: n[statpage.HandshakeFailed], Overflow: n[statpage.Overflowed],
		Limited: n[statpage.Limited],
	}
	if s != nil {
		l.Queue, l.Backlog = &s.RecvQueue, &s.SendQueue
	}
	return l
}

// A pair has the addresses of a connection.
type pair struct{ local, peer netip.AddrPort }

// A kernel is what the kernel has in a network namespace.
type kernel struct {
	err       error // why it could not be asked
	connected map[pair]sockdiag.Socket
	listening map[netip.AddrPort]*sockdiag.Socket
	bound     map[uint16]bool // ports that a socket has that neither listens nor is connected
	boundSeen bool            // the kernel tells of those
}

// bare is an address as the kernel's list has it.
func bare(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

func kernelOf(sockets []sockdiag.Socket, boundSeen bool, err error) *kernel {
	k := &kernel{
		err: err, boundSeen: boundSeen,
		connected: make(map[pair]sockdiag.Socket, len(sockets)), listening: make(map[netip.AddrPort]*sockdiag.Socket), bound: make(map[uint16]bool),
	}
	for i := range sockets {
		s := &sockets[i]
		switch s.State {
		case sockdiag.Listening:
			k.listening[bare(s.Local)] = s
		case sockdiag.Closed:
			k.bound[s.Local.Port()] = true
		case sockdiag.TimeWait:
		default:
			k.connected[pair{bare(s.Local), bare(s.Remote)}] = *s
		}
	}
	return k
}

// holds reports whether a socket may have the port that is not connected.
func (k *kernel) holds(a netip.AddrPort) bool {
	return k.err != nil || !k.boundSeen || k.bound[a.Port()] || k.listening[bare(a)] != nil
}

func addTally(sum, t *statpage.Tally) {
	for d := range t.Setups {
		for p := range t.Setups[d] {
			for r, n := range t.Setups[d][p] {
				sum.Setups[d][p][r] += n
			}
		}
		for r, n := range t.Failures[d] {
			sum.Failures[d][r] += n
		}
		for k := range t.Times[d] {
			for b, n := range t.Times[d][k] {
				sum.Times[d][k][b] += n
			}
		}
	}
}

func setupsOf(t *statpage.Tally) []setups {
	list := []setups{}
	t.Each(func(accepted bool, path string, reason uint8, n uint64) {
		name := ""
		if r := iwarp.Reason(reason); r != iwarp.ReasonNone {
			name = r.String()
		}
		list = append(list, setups{accepted, path, name, n})
	})
	return list
}

func timesOf(t *statpage.Tally) []times {
	list := []times{}
	for d := range t.Times {
		for kind := range t.Times[d] {
			from := time.Duration(0)
			for b, n := range t.Times[d][kind] {
				to := statpage.BucketLimit(b)
				if n > 0 {
					list = append(list, times{statpage.Direction(d) == statpage.Accepted, kind > 0, from, to, n})
				}
				from = to
			}
		}
	}
	return list
}

// pageless returns the processes of those that were asked for that may be looked into, and have no
// page.
func pageless(pids []int, c *statpage.Census) (list []process) {
	for _, pid := range pids {
		if slices.ContainsFunc(c.Processes, func(p statpage.Process) bool { return p.PID == pid }) {
			continue
		}
		if d, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
			_ = d.Close()
			list = append(list, process{PID: pid, Name: proc.Name(pid)})
		}
	}
	return list
}

// An inventory is how much there is before anything is filtered.
type inventory struct {
	connections, listeners, ports int
	states, paths                 map[string]int // of connections
}

func inventoryOf(r *report) inventory {
	v := inventory{len(r.Connections), len(r.Listeners), len(r.Ports), make(map[string]int), make(map[string]int)}
	for i := range r.Connections {
		v.states[r.Connections[i].State]++
		v.paths[r.Connections[i].Path]++
	}
	for i := range r.RDMA {
		if r.RDMA[i].State == listening {
			v.listeners++
			continue
		}
		v.connections++
		v.states[r.RDMA[i].State]++
		v.paths[pathRDMA]++
	}
	return v
}
