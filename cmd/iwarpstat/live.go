package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/term"

	"github.com/rdmanet/iwarp/cmd/internal/proc"
)

// share is the part of a processor that the live view takes at most: it looks less often where
// looks take long.
const share = 20

// interactive reports whether the live view can be a table to walk about in, which has connections
// alone.
func (o *options) interactive(out *os.File) bool {
	return term.IsTerminal(out.Fd()) && os.Getenv("TERM") != "dumb" && !o.all && !o.listening && !o.details && !o.summary
}

// browse shows the table until the user leaves.
func (o *options) browse(look func() (*report, error), out *os.File) error {
	debug.SetGCPercent(400) // a look leaves much behind, and little of it is kept
	final, err := tea.NewProgram(newLive(look, time.Duration(o.watch)), tea.WithOutput(out), tea.WithFPS(10)).Run()
	if m, ok := final.(*live); ok && err == nil {
		err = m.failed
	}
	return err
}

// live is the table.
type live struct {
	look  func() (*report, error)
	every time.Duration

	report  *report
	rows    []liveRow // all
	shown   []int     // those that the filter lets through, in order
	before  map[liveKey]sample
	took    time.Duration // of processors, for the last look
	failed  error
	filter  string
	sorted  int // column
	reverse bool

	width, height int
	top, at       int // first row on the screen, and the one that the user is at
	here          liveKey
}

// A liveRow is a connection, or what another program has by RDMA.
type liveRow struct {
	c       *connection
	v       *verbs
	in, out float64 // bytes a second
}

// liveKey tells what a row is about, from one look to the next.
type liveKey struct {
	pid         int
	local, peer netip.AddrPort
	qpn         uint32
}

// A sample is what the counters of a row were.
type sample struct{ in, out uint64 }

// looked is the message that there is a report.
type looked struct {
	*report
	err  error
	cost time.Duration
}

func newLive(look func() (*report, error), every time.Duration) *live {
	return &live{look: look, every: every, width: 80, height: 24}
}

// Init looks for the first time.
func (m *live) Init() tea.Cmd { return m.lookNow }

func (m *live) lookNow() tea.Msg {
	used := proc.ProcessorTime()
	r, err := m.look()
	return looked{r, err, proc.ProcessorTime() - used}
}

// Update takes note of what has happened.
func (m *live) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		return m, m.press(msg)
	case looked:
		if msg.err != nil {
			m.failed = msg.err
			return m, tea.Quit
		}
		m.add(msg)
		return m, tea.Tick(max(m.every, share*m.took), func(time.Time) tea.Msg { return m.lookNow() })
	}
	return m, nil
}

// add takes over a report, and works out the rates since the one before.
func (m *live) add(l looked) {
	var passed float64
	if m.report != nil {
		passed = l.Time.Sub(m.report.Time).Seconds()
	}
	m.report, m.took = l.report, l.cost
	before := m.before
	m.before = make(map[liveKey]sample, len(l.Connections))
	m.rows = m.rows[:0]
	for i := range l.Connections {
		c := &l.Connections[i]
		r := liveRow{c: c}
		now := sample{c.BytesIn, c.BytesOut}
		if last, known := before[r.key()]; known && passed > 0 {
			r.in, r.out = rate(last.in, now.in, passed), rate(last.out, now.out, passed)
		}
		m.before[r.key()] = now
		m.rows = append(m.rows, r)
	}
	for i := range l.RDMA {
		if v := &l.RDMA[i]; v.State != listening {
			m.rows = append(m.rows, liveRow{v: v})
		}
	}
	m.arrange()
}

func rate(before, now uint64, seconds float64) float64 {
	if now < before { // another connection by the same addresses
		return 0
	}
	return float64(now-before) / seconds
}

func (r *liveRow) key() liveKey {
	if r.v != nil {
		return liveKey{r.v.PID, r.v.Local, r.v.Peer, r.v.QPN}
	}
	return liveKey{r.c.PID, r.c.Local, r.c.Peer, 0}
}

// arrange filters and sorts, and stays at the row at which the user is.
func (m *live) arrange() {
	wants := liveFilter(m.filter)
	m.shown = m.shown[:0]
	for i := range m.rows {
		if wants(&m.rows[i]) {
			m.shown = append(m.shown, i)
		}
	}
	order := columns[m.sorted].order
	slices.SortStableFunc(m.shown, func(a, b int) int {
		n := 0
		if order != nil {
			n = order(&m.rows[a], &m.rows[b])
		}
		if m.reverse {
			n = -n
			if order == nil {
				n = b - a
			}
		}
		return n
	})
	if i := slices.IndexFunc(m.shown, func(i int) bool { return m.rows[i].key() == m.here }); i >= 0 {
		m.at = i
	}
	m.move(0)
}

// liveFilter is by conditions as on the command line, and as long as it is none yet, by words of
// which a row must have all.
func liveFilter(text string) func(*liveRow) bool {
	words := strings.Fields(strings.ToLower(text))
	if len(words) == 0 {
		return func(*liveRow) bool { return true }
	}
	if f, err := parseFilter(words); err == nil {
		return func(r *liveRow) bool {
			if r.v != nil {
				return f.wants(r.v.row())
			}
			return f.wants(r.c.row())
		}
	}
	return func(r *liveRow) bool {
		all := strings.ToLower(r.path() + " " + r.state() + " " + r.local().String() + " " + r.peer().String() + " " + r.why() + " " + r.who())
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(all, w) })
	}
}

// move goes by n rows.
func (m *live) move(n int) {
	m.at = max(0, min(m.at+n, len(m.shown)-1))
	m.top = max(0, min(m.top, m.at, len(m.shown)-m.page()))
	m.top = max(m.top, m.at-m.page()+1)
	m.here = liveKey{}
	if m.at < len(m.shown) {
		m.here = m.rows[m.shown[m.at]].key()
	}
}

// press does what a key is for.
func (m *live) press(k tea.KeyPressMsg) tea.Cmd {
	switch k.String() {
	case "ctrl+c":
		return tea.Quit
	case "q":
		if m.filter == "" {
			return tea.Quit
		}
		m.filter += "q"
		m.arrange()
	case "esc":
		if m.filter == "" {
			return tea.Quit
		}
		m.filter = ""
	case "up":
		m.move(-1)
	case "down":
		m.move(1)
	case "pgup":
		m.move(-m.page())
	case "pgdown":
		m.move(m.page())
	case "home":
		m.move(-len(m.shown))
	case "end":
		m.move(len(m.shown))
	case "left", "right":
		step := map[string]int{"left": len(columns) - 1, "right": 1}[k.String()]
		m.sorted, m.reverse = (m.sorted+step)%len(columns), false
		m.arrange()
	case "tab":
		m.reverse = !m.reverse
		m.arrange()
	case "backspace":
		if text := []rune(m.filter); len(text) > 0 {
			m.filter = string(text[:len(text)-1])
		}
		m.arrange()
	case "ctrl+u":
		m.filter = ""
		m.arrange()
	default:
		if text := k.Key().Text; text != "" && len(m.filter) < 200 {
			m.filter += text
			m.arrange()
		}
	}
	if k.String() == "esc" {
		m.arrange()
	}
	return nil
}

// A column is something to sort by.
type column struct {
	name  string
	order func(a, b *liveRow) int // nil for that of the report
}

var columns = []column{
	{"process", nil},
	{"path", func(a, b *liveRow) int { return strings.Compare(a.path(), b.path()) }},
	{"state", func(a, b *liveRow) int { return strings.Compare(a.state(), b.state()) }},
	{"local", func(a, b *liveRow) int { return a.local().Compare(b.local()) }},
	{"peer", func(a, b *liveRow) int { return a.peer().Compare(b.peer()) }},
	{"in/s", func(a, b *liveRow) int { return cmp.Compare(b.in, a.in) }},
	{"out/s", func(a, b *liveRow) int { return cmp.Compare(b.out, a.out) }},
	{"why", func(a, b *liveRow) int { return strings.Compare(b.why(), a.why()) }},
}

func (r *liveRow) path() string {
	if r.v != nil {
		return pathRDMA + "/" + r.v.Device
	}
	return pathOf(r.c)
}

func (r *liveRow) state() string {
	if r.v != nil {
		return r.v.State
	}
	return r.c.State
}

func (r *liveRow) local() netip.AddrPort {
	if r.v != nil {
		return r.v.Local
	}
	return r.c.Local
}

func (r *liveRow) peer() netip.AddrPort {
	if r.v != nil {
		return r.v.Peer
	}
	return r.c.Peer
}

func (r *liveRow) who() string {
	if r.v != nil {
		return whose(r.v.process)
	}
	return whose(r.c.process)
}

func (r *liveRow) why() string {
	if r.v != nil {
		return "-"
	}
	p := printer{now: time.Now()}
	return p.why(r.c)
}

// numbers is the first line of the screen.
func (m *live) numbers() string {
	if m.report == nil {
		return "iwarpstat"
	}
	offloaded, plain, blocked := 0, 0, 0
	for i := range m.report.Connections {
		c := &m.report.Connections[i]
		switch {
		case c.Offloaded:
			offloaded++
		case c.Path == plainTCP:
			plain++
		}
		if c.Stream != nil && c.Stream.BlockedSince != nil {
			blocked++
		}
	}
	s := fmt.Sprintf("%s  %s: %d offloaded, %d plain tcp, %d blocked", m.report.Time.Format(time.TimeOnly),
		several(len(m.report.Connections), "connection", "connections"), offloaded, plain, blocked)
	if n := len(m.rows) - len(m.report.Connections); n > 0 {
		s += fmt.Sprintf("; other rdma %d", n)
	}
	if m.report.Hidden > 0 {
		s += fmt.Sprintf("; %s hidden", several(m.report.Hidden, "process", "processes"))
	}
	return s
}
