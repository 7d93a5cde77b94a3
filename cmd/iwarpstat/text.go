package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rdmanet/iwarp/internal/statpage"
)

// A printer writes a report for people.
type printer struct {
	out       io.Writer
	processes bool // say whose each row is
	details   bool
	all       bool // listeners and ports, too
	listening bool // nothing but those
	now       time.Time
	printed   bool // a table was
}

func (p *printer) print(r *report) error {
	p.now = r.Time
	if !p.listening {
		if err := p.connections(r.Connections); err != nil {
			return err
		}
		if err := p.others(r.RDMA); err != nil {
			return err
		}
	}
	if p.all || p.listening {
		if err := p.listeners(r.Listeners); err != nil {
			return err
		}
		if err := p.ports(r.Ports); err != nil {
			return err
		}
		if err := p.rdma(r.RDMA, true); err != nil {
			return err
		}
	}
	return nil
}

// table writes rows below their heading, if there are any.
func (p *printer) table(heading []string, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	p.gap()
	if !p.processes {
		heading = heading[:len(heading)-1]
	}
	w := tabwriter.NewWriter(p.out, 0, 8, 2, ' ', 0)
	line := func(cells []string) {
		fmt.Fprintln(w, strings.Join(cells[:len(heading)], "\t"))
	}
	line(heading)
	for _, r := range rows {
		line(r)
	}
	return w.Flush()
}

// gap separates from what was printed before.
func (p *printer) gap() {
	if p.printed {
		fmt.Fprintln(p.out)
	}
	p.printed = true
}

func (p *printer) connections(list []connection) error {
	heading := []string{"PATH", "STATE", "LOCAL", "PEER", "IN", "OUT", "WHY", "PROCESS"}
	var rows [][]string
	for i := range list {
		c := &list[i]
		rows = append(rows, []string{pathOf(c), c.State, c.Local.String(), c.Peer.String(), size(c.BytesIn), size(c.BytesOut), p.why(c), whose(c.process)})
	}
	if !p.details {
		return p.table(heading, rows)
	}
	for i := range list {
		p.gap()
		if err := p.detail(&list[i]); err != nil {
			return err
		}
	}
	return nil
}

// others lists connections of programs that do not use this module.
func (p *printer) others(list []verbs) error {
	if !p.details {
		return p.rdma(list, false)
	}
	for i := range list {
		if list[i].State != listening {
			p.gap()
			p.rdmaDetail(&list[i])
		}
	}
	return nil
}

// pathOf names the path as briefly as the difference matters.
func pathOf(c *connection) string {
	switch {
	case c.Path == plainTCP || c.Device == "" || c.Device == c.Path || !c.Offloaded:
		return c.Path
	}
	return c.Path + "/" + c.Device
}

// why is what somebody should know who looks at the row.
func (p *printer) why(c *connection) string {
	switch {
	case c.Stream != nil && c.Stream.BlockedSince != nil && p.now.Sub(*c.Stream.BlockedSince) >= time.Second:
		return "blocked for " + span(p.now.Sub(*c.Stream.BlockedSince)) + ": the peer does not read"
	case c.Reason != "":
		return said(c.Reason, c.Detail)
	case c.Detail != "":
		return c.Detail
	}
	return "-"
}

func said(reason, detail string) string {
	if detail == "" {
		return reason
	}
	return reason + ": " + detail
}

func whose(p process) string {
	if p.Stopped {
		return fmt.Sprintf("%s(%d, stopped)", p.Name, p.PID)
	}
	return fmt.Sprintf("%s(%d)", p.Name, p.PID)
}

func (p *printer) listeners(list []listener) error {
	heading := []string{"LISTENER", "STATE", "POLICY", "IWARP", "TCP", "SILENT", "REFUSED", "FAILED", "QUEUE", "PROCESS"}
	var rows [][]string
	for _, l := range list {
		queue := "-"
		if l.Queue != nil && l.Backlog != nil {
			queue = fmt.Sprintf("%d/%d", *l.Queue, *l.Backlog)
		}
		rows = append(rows, []string{
			l.Local.String(), l.State, l.Policy, count(l.IWARP), count(l.PlainTCP), count(l.Silent), count(l.Refused + l.Limited), count(l.Failed + l.Overflow), queue,
			whose(l.process),
		})
	}
	return p.table(heading, rows)
}

func (p *printer) ports(list []port) error {
	heading := []string{"PORT", "STATE", "USERS", "FOR", "PROCESS"}
	var rows [][]string
	for _, i := range list {
		owner := i.Owner
		if owner == "" {
			owner = "-"
		}
		rows = append(rows, []string{i.Local.String(), i.State, count(i.References), owner, whose(i.process)})
	}
	return p.table(heading, rows)
}

func count(n uint64) string { return strconv.FormatUint(n, 10) }

// size shortens a number of bytes.
func size(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return count(n)
	}
	v, i := float64(n)/1024, 0
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	if v < 10 {
		return fmt.Sprintf("%.1f%c", v, units[i])
	}
	return fmt.Sprintf("%.0f%c", v, units[i])
}

// span shortens a time.
func span(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// detail writes all that is known of a connection.
func (p *printer) detail(c *connection) error {
	fmt.Fprintf(p.out, "%s -> %s  %s, %s\n", c.Local, c.Peer, pathOf(c), c.State)
	w := tabwriter.NewWriter(p.out, 0, 8, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	stopped := ""
	if c.Stopped {
		stopped = ", stopped by a signal or debugger"
	}
	line("process", "%s, pid %d, user %s%s", c.Name, c.PID, userName(c.UID), stopped)
	made := "dialed"
	if c.Accepted {
		made = "accepted"
	}
	line("since", "%s, for %s; %s", c.Since.Format(time.DateTime), span(p.now.Sub(c.Since)), made)
	if c.SetupNanos > 0 {
		line("set-up", "took %s", span(c.SetupNanos))
	}
	if c.QPN != 0 {
		line("queue pair", "%d of device %s", c.QPN, c.Device)
	}
	if c.Offloaded {
		line("offloaded", "yes, by device %s", c.Device)
	} else {
		line("offloaded", "no: %s", notOffloaded(c))
	}
	if c.PeerReason != "" {
		line("the peer says", "%s", c.PeerReason)
	}
	if c.State == statpage.Failed.String() {
		line("ended by", "%s", c.Detail)
	}
	if c.Terminate != "" {
		line("terminate", "%s: layer %d, type %d, code %#02x", c.Terminate, c.Code>>12, c.Code>>8&15, c.Code&0xff)
	}
	line("received", "%d bytes in %d messages", c.BytesIn, c.MessagesIn)
	line("sent", "%d bytes in %d messages", c.BytesOut, c.MessagesOut)
	if c.Stream != nil {
		p.streamDetail(c.Stream, line)
	}
	if t := c.TCP; t != nil {
		line("tcp", "%s, rtt %s, mss %d, cwnd %d, %d retransmitted", t.State, span(t.RoundTrip), t.MSS, t.Window, t.Retransmitted)
		line("tcp queues", "%d bytes to be read, %d to be sent or acknowledged", t.RecvQueue, t.SendQueue)
	}
	return w.Flush()
}

func (p *printer) streamDetail(s *stream, line func(string, string, ...any)) {
	line("ring", "%d of %d bytes unread", s.Unread, s.Ring)
	line("peer takes", "%s", takes(s))
	switch {
	case s.BlockedSince != nil:
		line("blocked", "for %s now; %d times, %s before", span(p.now.Sub(*s.BlockedSince)), s.BlockedTimes, span(s.BlockedNanos))
	default:
		line("blocked", "%d times, %s in all", s.BlockedTimes, span(s.BlockedNanos))
	}
	if s.Revision > 0 { // it has FPDUs
		crc := "off"
		if s.CRC {
			crc = "on"
		}
		line("fpdu", "up to %d bytes, crc %s, mpa revision %d", s.Segment, crc, s.Revision)
	}
	line("rdma reads", "%d in, %d out at once", s.IRD, s.ORD)
	peer := "an rsocket, or the like"
	if s.Extended {
		peer = "this module"
	}
	line("peer is of", "%s", peer)
}

func takes(s *stream) string {
	if s.Credits == 0 {
		return fmt.Sprintf("%d bytes more", s.Space)
	}
	return fmt.Sprintf("%d bytes and %d messages more", s.Space, s.Credits)
}

func notOffloaded(c *connection) string {
	switch {
	case c.Reason != "":
		return said(c.Reason, c.Detail)
	case c.Path == "soft":
		return "iwarp in software, over the kernel's tcp"
	}
	return c.Path
}

func userName(uid uint32) string {
	if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		return u.Username
	}
	return strconv.FormatUint(uint64(uid), 10)
}

// summary writes numbers of what there is.
func (p *printer) summary(r *report) error {
	states, paths, why := make(map[string]int), make(map[string]int), make(map[string]int)
	offloaded, blocked := 0, 0
	for i := range r.Connections {
		c := &r.Connections[i]
		states[c.State]++
		paths[pathOf(c)]++
		if c.Reason != "" {
			why[c.Reason]++
		}
		if c.Offloaded {
			offloaded++
		}
		if c.Stream != nil && c.Stream.BlockedSince != nil {
			blocked++
		}
	}
	fmt.Fprintf(p.out, "%s of %s: %d offloaded, %d blocked\n", several(len(r.Connections), "connection", "connections"),
		several(len(r.Processes), "process", "processes"), offloaded, blocked)
	w := tabwriter.NewWriter(p.out, 0, 8, 2, ' ', 0)
	group := func(name string, m map[string]int) {
		for _, k := range slices.SortedFunc(maps.Keys(m), func(a, b string) int {
			if m[a] != m[b] {
				return m[b] - m[a]
			}
			return strings.Compare(a, b)
		}) {
			fmt.Fprintf(w, "%s\t%d\t%s\n", name, m[k], k)
			name = ""
		}
	}
	group("by path", paths)
	group("by state", states)
	group("plain tcp because", why)
	for d, name := range []string{"dials since start", "accepts since start"} {
		tallyLines(w, name, &r.Tally, d)
	}
	for d, name := range []string{"dials took", "accepts took"} {
		timeLines(w, name, &r.Tally, d)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var sum listener
	for _, l := range r.Listeners {
		sum.IWARP += l.IWARP
		sum.PlainTCP += l.PlainTCP
		sum.Silent += l.Silent
		sum.Refused += l.Refused
		sum.Failed += l.Failed
		sum.Overflow += l.Overflow
		sum.Limited += l.Limited
	}
	fmt.Fprint(p.out, several(len(r.Listeners), "listener", "listeners"))
	if len(r.Listeners) > 0 {
		fmt.Fprintf(p.out, ": iwarp clients %d, plain tcp %d (silent %d), refused %d, handshakes failed %d, cut short for want of room %d",
			sum.IWARP, sum.PlainTCP, sum.Silent, sum.Refused, sum.Failed, sum.Overflow)
		if sum.Limited > 0 {
			fmt.Fprintf(p.out, ", over the limit of a peer %d", sum.Limited)
		}
	}
	fmt.Fprintln(p.out)
	if len(r.RDMA) > 0 {
		fmt.Fprintln(p.out, several(len(r.RDMA), "connection or listener by rdma", "connections and listeners by rdma"), "of programs that do not use this module")
	}
	fmt.Fprintln(p.out, several(len(r.Ports), "other reservation of a port", "other reservations of ports"))
	return nil
}

// tallyLines writes what became of the dials, or accepts, of all processes.
func tallyLines(w io.Writer, name string, t *statpage.Tally, d int) {
	for path := range t.Setups[d] {
		n := uint64(0)
		for _, k := range t.Setups[d][path] {
			n += k
		}
		if n == 0 {
			continue
		}
		fmt.Fprintf(w, "%s\t%d\t%s\n", name, n, statpage.PathName(path))
		name = ""
	}
	failed := uint64(0)
	for _, n := range t.Failures[d] {
		failed += n
	}
	if failed > 0 {
		fmt.Fprintf(w, "%s\t%d\tfailed\n", name, failed)
	}
}

// timeLines writes within what time half of the dials, or accepts, were done, and 99 of 100, in
// powers of two.
func timeLines(w io.Writer, name string, t *statpage.Tally, d int) {
	for kind, path := range []string{plainTCP, "not tcp"} {
		h := &t.Times[d][kind]
		all := uint64(0)
		for _, n := range h {
			all += n
		}
		if all == 0 {
			continue
		}
		fmt.Fprintf(w, "%s\t\t%s: half %s, 99 %% %s\n", name, path, quantile(h, all, 50), quantile(h, all, 99))
		name = ""
	}
}

// quantile says what part of all is below, in hundredths.
func quantile(h *[statpage.NumBuckets]uint64, all, part uint64) string {
	sum := uint64(0)
	for i, n := range h {
		if sum += n; sum*100 >= all*part && i < len(h)-1 {
			return "< " + span(statpage.BucketLimit(i))
		}
	}
	return "> " + span(statpage.BucketLimit(len(h)-2))
}

// several is a number of things.
func several(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + more
}

// explain says why nothing was listed.
func (o *options) explain(r *report, filtered bool, w io.Writer) {
	v := &r.unfiltered
	rest := v.listeners + v.ports
	what, n := "connections", v.connections
	switch {
	case o.all:
		what, n = "connections, listeners or reserved ports", n+rest
	case o.listening:
		what, n = "listeners or reserved ports", rest
	}
	for _, p := range r.without {
		fmt.Fprintf(w, "iwarpstat: %s has no statistics page: it does not use the module, or started with IWARP_STATS=off\n", whose(p))
	}
	switch {
	case len(r.without) > 0:
	case len(r.Processes) == 0 && len(r.RDMA) == 0:
		fmt.Fprintln(w, "iwarpstat: no program was found that uses the module")
	case filtered && n > 0:
		fmt.Fprintf(w, "iwarpstat: none of %d %s meets the conditions", n, what)
		if !o.listening && !o.all {
			fmt.Fprintf(w, "; there are paths %s and states %s", listed(v.paths), listed(v.states))
		}
		fmt.Fprintln(w)
	default:
		fmt.Fprintf(w, "iwarpstat: no %s; %s found", what, several(len(r.Processes), "program that uses the module was", "programs that use the module were"))
		if rest > 0 && !o.listening && !o.all {
			fmt.Fprintf(w, ", with %s (-l)", several(rest, "listener or reserved port", "listeners and reserved ports"))
		}
		fmt.Fprintln(w)
	}
}

// listed are the names with their numbers.
func listed(m map[string]int) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, fmt.Sprintf("%s (%d)", k, m[k]))
	}
	return strings.Join(list, ", ")
}

// remarks says what was not seen, and why.
func (r *report) remarks(w io.Writer) {
	for _, p := range r.Problems {
		fmt.Fprintf(w, "iwarpstat: %s: %s\n", whose(p.process), p.Error)
	}
	if r.RDMAError != "" {
		fmt.Fprintln(w, "iwarpstat: the kernel cannot be asked about all of rdma:", r.RDMAError)
	}
	if r.Hidden > 0 {
		advice := "; run it as root to see theirs"
		if os.Geteuid() == 0 {
			advice = ", not even by root here"
		}
		fmt.Fprintf(w, "iwarpstat: %s may not be looked into%s\n", several(r.Hidden, "process", "processes"), advice)
	}
	if r.Unverified > 0 {
		fmt.Fprintf(w, "iwarpstat: %s of plain tcp may be closed: the kernel cannot be asked about the network namespace\n",
			several(r.Unverified, "connection", "connections"))
	}
	if r.Lost > 0 {
		fmt.Fprintf(w, "iwarpstat: %s found no room on a page, and cannot be listed\n", several(int(r.Lost), "record", "records"))
	}
}
