package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/stretchr/testify/require"
)

// made is a report of n connections, half of which are plain TCP, and a connection by rping.
func made(n int, at time.Time, bytes uint64) *report {
	r := &report{Time: at}
	for i := range n {
		c := connection{
			process: process{PID: 10 + i%3, Name: "server"}, Local: netip.MustParseAddrPort("10.0.0.1:80"),
			Peer: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), uint16(1000+i)), State: "established", Path: "soft",
			BytesIn: bytes * uint64(i), BytesOut: 7, Stream: &stream{Ring: 1 << 16},
		}
		if i%2 == 0 {
			c.Path, c.Reason, c.Stream = plainTCP, "no rdma device", nil
		}
		r.Connections = append(r.Connections, c)
	}
	r.RDMA = []verbs{
		{process: process{PID: 99, Name: "rping"}, Device: "rxe0", State: "established", Local: netip.MustParseAddrPort("10.9.0.1:7471"), QPN: 17, QPType: "RC", QPState: "RTS"},
		{process: process{PID: 98, Name: "rping"}, Device: "rxe0", State: listening},
	}
	return r
}

// screen is what the user sees, without colours.
func screen(t *testing.T, m *live) []string {
	t.Helper()
	lines := strings.Split(m.View().Content, "\n")
	require.LessOrEqual(t, len(lines), m.height)
	for i, l := range lines {
		require.LessOrEqual(t, ansi.StringWidth(l), m.width, l)
		lines[i] = ansi.Strip(l)
	}
	return lines
}

func keys(m *live, list ...string) {
	for _, k := range list {
		msg := tea.KeyPressMsg{Text: k, Code: []rune(k)[0]}
		if code, ok := map[string]rune{
			"esc": tea.KeyEscape, "up": tea.KeyUp, "down": tea.KeyDown, "pgdown": tea.KeyPgDown, "pgup": tea.KeyPgUp, "home": tea.KeyHome, "end": tea.KeyEnd,
			"left": tea.KeyLeft, "right": tea.KeyRight, "tab": tea.KeyTab, "backspace": tea.KeyBackspace,
		}[k]; ok {
			msg = tea.KeyPressMsg{Code: code}
		}
		m.Update(msg)
	}
}

func typed(m *live, s string) {
	for _, r := range s {
		keys(m, string(r))
	}
}

func TestLive(t *testing.T) {
	m := newLive(nil, time.Second)
	screen(t, m) // before there is anything
	start := time.Unix(1e9, 0)
	m.Update(looked{report: made(40, start, 0)})
	m.Update(looked{report: made(40, start.Add(2*time.Second), 2048)})
	lines := screen(t, m)
	require.Len(t, lines, 24)
	require.Contains(t, lines[0], "40 connections: 0 offloaded, 20 plain tcp, 0 blocked; other rdma 1")
	require.Regexp(t, `^  PATH +STATE +LOCAL +PEER +IN/S +OUT/S`, lines[2])
	require.Regexp(t, `^> tcp +established 10.0.0.1:80 +10.0.0.2:1000 +0 +0$`, strings.TrimRight(lines[3], " "))
	require.Contains(t, lines[22], "no rdma device")
	m.Update(tea.WindowSizeMsg{Width: 110, Height: 24})
	require.NotContains(t, screen(t, m)[2], "~", "the heading has room")
	m.Update(tea.WindowSizeMsg{Width: 80, Height: 24})

	t.Run("sorted", func(t *testing.T) {
		keys(m, "right", "right", "right", "right", "right", "home") // by what comes in
		lines := screen(t, m)
		require.Contains(t, lines[23], "sort by in/s")
		require.Regexp(t, `10.0.0.2:1039 +39K +0`, lines[3])
		keys(m, "tab")
		require.NotContains(t, strings.Join(screen(t, m)[3:12], ""), "39K")
		keys(m, "left", "left", "left", "left", "left")
		require.Contains(t, screen(t, m)[23], "sort by process")
	})
	t.Run("filtered", func(t *testing.T) {
		typed(m, "nobody")
		require.Contains(t, screen(t, m)[3], "nothing of what there is goes with the filter")
		keys(m, "esc")
		typed(m, "rPiNg")
		lines := screen(t, m)
		require.Contains(t, lines[1], "filter: rPiNg_")
		require.Regexp(t, `^> rdma/rxe0 established 10.9.0.1:7471`, lines[3])
		require.Empty(t, lines[4])
		require.Contains(t, lines[21], "RC 17, RTS")
		keys(m, "esc")
		typed(m, "path soft dport :1003")
		require.Contains(t, screen(t, m)[3], "10.0.0.2:1003")
		require.Empty(t, screen(t, m)[4])
		keys(m, "backspace")
		require.Contains(t, screen(t, m)[3], "nothing of what there is", "no port 100 of software")
		keys(m, "esc")
	})
	t.Run("walked", func(t *testing.T) {
		keys(m, "end")
		require.Contains(t, screen(t, m)[20], "> rdma/rxe0")
		keys(m, "up")
		require.Contains(t, screen(t, m)[19], "> soft")
		keys(m, "home", "down", "pgdown", "pgdown", "pgup", "pgup")
		require.Equal(t, 1, m.at)
		keys(m, "down", "down")
		here := m.here
		m.Update(looked{report: made(41, start.Add(3*time.Second), 2048)})
		require.Equal(t, here, m.here)
		m.Update(looked{report: &report{Time: start.Add(4 * time.Second)}})
		screen(t, m)
		m.Update(looked{report: made(3, start.Add(5*time.Second), 0)})
		screen(t, m)
	})
	t.Run("sizes", func(t *testing.T) {
		m.Update(looked{report: made(40, start.Add(6*time.Second), 5)})
		for _, w := range []int{1, 20, 79, 80, 100, 140, 300} {
			for _, h := range []int{1, 5, 6, 7, 24, 100} {
				m.Update(tea.WindowSizeMsg{Width: w, Height: h})
				keys(m, "end", "home")
				lines := screen(t, m)
				if w >= 140 && h >= 24 {
					require.Contains(t, lines[3], "no rdma device")
					require.Contains(t, lines[3], "server(10)")
				}
			}
		}
	})
	typed(m, "xq")
	require.Equal(t, "xq", m.filter)
	keys(m, "esc")
	require.Equal(t, tea.Quit(), m.press(tea.KeyPressMsg{Text: "q", Code: 'q'})())
	_, cmd := m.Update(looked{err: os.ErrPermission})
	require.NotNil(t, cmd)
	require.ErrorIs(t, m.failed, os.ErrPermission)
}

// TestLiveProgram runs it as on a terminal, until ctrl+c comes.
func TestLiveProgram(t *testing.T) {
	in, keyboard := io.Pipe()
	defer keyboard.Close()
	seen := make(chan struct{}, 1)
	looks := 0
	m := newLive(func() (*report, error) {
		if looks++; looks == 3 {
			seen <- struct{}{}
		}
		return made(5, time.Now(), 1), nil
	}, time.Millisecond)
	var out bytes.Buffer
	p := tea.NewProgram(m, tea.WithInput(in), tea.WithOutput(&out), tea.WithWindowSize(80, 24), tea.WithEnvironment([]string{"TERM=xterm"}))
	done := make(chan error, 1)
	go func() {
		_, err := p.Run()
		done <- err
	}()
	<-seen
	_, err := keyboard.Write([]byte{3})
	require.NoError(t, err)
	select {
	case err := <-done:
		if !errors.Is(err, tea.ErrInterrupted) {
			require.NoError(t, err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
	require.Contains(t, out.String(), "10.0.0.2")
}

func TestInteractive(t *testing.T) {
	var o options
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer f.Close()
	require.False(t, o.interactive(f))
}

// BenchmarkLive is a look at 10,000 connections that is made already, and the screen.
func BenchmarkLive(b *testing.B) {
	for _, filter := range []string{"", "established", "path soft"} {
		b.Run(fmt.Sprintf("filter=%q", filter), func(b *testing.B) {
			m := newLive(nil, time.Second)
			m.filter = filter
			r := made(10_000, time.Now(), 1)
			for b.Loop() {
				m.Update(looked{report: r})
				_ = m.View()
			}
		})
	}
}
