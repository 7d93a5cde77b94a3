package main

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
)

const (
	headLines = 3 // numbers, filter, heading
	footLines = 3 // two about the row, keys

	invert, dim, bold, normal = "\x1b[7m", "\x1b[2m", "\x1b[1m", "\x1b[m"
)

// page is how many rows there is room for.
func (m *live) page() int { return max(1, m.height-headLines-footLines) }

// widths are of the columns. What is left goes to why and process, then to addresses.
func (m *live) widths() (path, state, addr, why, who int) {
	path, state, addr = 9, 11, 21
	left := m.width - (path + state + 2*addr + 2*7 + 4)
	if grow := min(left-70, 2*26) / 2; grow > 0 { // for IPv6
		addr += grow
		left -= 2 * grow
	}
	if left >= 20 {
		who = min(left/2, 24)
		why = left - who - 4 // with what is between
	}
	return path, state, addr, why, who
}

// View draws the screen.
func (m *live) View() tea.View {
	lines := make([]string, 0, m.height)
	filter := "filter: " + m.filter + "_"
	if m.filter == "" {
		filter = dim + "type to filter: words, or conditions such as \"path soft\", \"fallback\"" + normal
	}
	lines = append(lines, bold+m.numbers()+normal, filter, invert+pad(m.heading(), m.width)+normal)
	for i := m.top; i < min(m.top+m.page(), len(m.shown)); i++ {
		line := m.line(&m.rows[m.shown[i]])
		if i == m.at {
			line = bold + pad("> "+strings.TrimPrefix(line, "  "), m.width) + normal
		}
		lines = append(lines, line)
	}
	if len(m.shown) == 0 && m.report != nil {
		lines = append(lines, m.empty())
	}
	for len(lines) < m.height-footLines {
		lines = append(lines, "")
	}
	lines = append(lines, m.about()...)
	lines = append(lines, dim+"arrows: row, sort by "+columns[m.sorted].name+"  tab: other way round  esc, q: leave"+normal)
	for i := range lines {
		lines[i] = ansi.Truncate(lines[i], m.width, "")
	}
	v := tea.NewView(strings.Join(lines[max(0, len(lines)-m.height):], "\n"))
	v.AltScreen = true
	return v
}

// empty says why there are no rows.
func (m *live) empty() string {
	if len(m.rows) > 0 {
		return "  nothing of what there is goes with the filter"
	}
	return "  there are no connections"
}

func (m *live) heading() string {
	return m.cells("PATH", "STATE", "LOCAL", "PEER", "IN/S", "OUT/S", "WHY", "PROCESS")
}

func (m *live) line(r *liveRow) string {
	in, out := "-", "-"
	if r.v == nil {
		in, out = size(uint64(r.in)), size(uint64(r.out))
	}
	return m.cells(r.path(), r.state(), address(r.local()), address(r.peer()), in, out, r.why(), r.who())
}

func (m *live) cells(path, state, local, peer, in, out, why, who string) string {
	p, s, a, y, w := m.widths()
	line := "  " + pad(path, p) + " " + pad(state, s) + " " + pad(local, a) + " " + pad(peer, a) + fmt.Sprintf("%6s %6s", in, out)
	if y > 0 {
		line += "  " + pad(why, y) + "  " + pad(who, w)
	}
	return line
}

// pad makes a text as wide as that.
func pad(s string, width int) string {
	s = ansi.Truncate(s, width, "~")
	return s + strings.Repeat(" ", max(0, width-ansi.StringWidth(s)))
}

// about says more of the row at which the user is.
func (m *live) about() []string {
	if m.at >= len(m.shown) {
		return []string{"", ""}
	}
	r := &m.rows[m.shown[m.at]]
	first := r.who()
	if r.v != nil {
		return []string{first + "  queue pair " + r.v.queuePair() + ", " + r.v.QPState, "it does not use this module, so no more is known"}
	}
	c := r.c
	first += fmt.Sprintf("  in %s, out %s", size(c.BytesIn), size(c.BytesOut))
	if c.Stream != nil {
		first += fmt.Sprintf("; unread %s of %s, peer takes %s", size(c.Stream.Unread), size(c.Stream.Ring), size(c.Stream.Space))
	}
	if c.TCP != nil {
		first += fmt.Sprintf("; rtt %s, %d sent again", span(c.TCP.RoundTrip), c.TCP.Retransmitted)
	}
	why := r.why()
	if why == "-" {
		why = "offloaded: no, " + notOffloaded(c)
		if c.Offloaded {
			why = "offloaded by " + c.Device
		}
	}
	return []string{first, why}
}
