package rdmanet_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

var errDeadline = os.ErrDeadlineExceeded

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// lateness is how long after its deadline a call may return on a busy machine.
const lateness = limit / 2

func requireTimeout(t testing.TB, err error, op string) {
	t.Helper()
	var oe *net.OpError
	require.ErrorAs(t, err, &oe)
	require.Equal(t, err, oe)
	require.Equal(t, op, oe.Op)
	require.Equal(t, os.ErrDeadlineExceeded, oe.Err)
	require.True(t, oe.Timeout())
	require.True(t, oe.Temporary())
}

// fill writes until the peer has no more room. One Write that times out does not show that, as the
// machine may have been busy meanwhile.
func fill(t testing.TB, c *rdmanet.Conn) (n int) {
	t.Helper()
	// A device may have room for what it takes inline when it has none for more.
	for _, p := range [][]byte{make([]byte, 10000), make([]byte, 10)} {
		for blocked := 0; blocked < 3; {
			require.NoError(t, c.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
			k, err := c.Write(p)
			n += k
			if err != nil {
				requireTimeout(t, err, "write")
			}
			if blocked++; k > 0 {
				blocked = 0
			}
		}
	}
	require.NoError(t, c.SetWriteDeadline(time.Time{}))
	return n
}

func TestDeadlines(t *testing.T) {
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		b := make([]byte, 10)
		for _, d := range []time.Duration{-time.Hour, 0, time.Millisecond, 50 * time.Millisecond} {
			start := time.Now()
			require.NoError(t, y.SetReadDeadline(start.Add(d)))
			_, err := y.Read(b)
			requireTimeout(t, err, "read")
			took := time.Since(start)
			require.GreaterOrEqual(t, took, d)
			require.Less(t, took, max(d, 0)+lateness)
		}
		n := fill(t, x)
		require.NoError(t, x.SetWriteDeadline(time.Unix(1, 0)))
		k, err := x.Write(b)
		require.Zero(t, k)
		requireTimeout(t, err, "write")

		// The connection goes on, and no byte was lost or counted wrongly.
		require.NoError(t, x.SetDeadline(time.Time{}))
		require.NoError(t, y.SetDeadline(time.Time{}))
		wait := background(t, func() {
			if _, err := x.Write([]byte("end")); err != nil {
				t.Error(err)
			}
			x.CloseWrite()
		})
		got, err := io.ReadAll(y)
		require.NoError(t, err)
		wait()
		require.Len(t, got, n+3)
		require.True(t, bytes.HasSuffix(got, []byte("end")))
	})
}

// A deadline that is set while a call is blocked ends it, whoever of the two drives.
func TestDeadlineOfBlockedCalls(t *testing.T) {
	for _, c := range []struct {
		name         string
		writerDrives bool
		set          func(c *rdmanet.Conn, t time.Time) error
		read, write  bool // which calls it ends
	}{
		{"reader drives/read", false, (*rdmanet.Conn).SetReadDeadline, true, false},
		{"reader drives/write", false, (*rdmanet.Conn).SetWriteDeadline, false, true},
		{"reader drives/both", false, (*rdmanet.Conn).SetDeadline, true, true},
		{"writer drives/read", true, (*rdmanet.Conn).SetReadDeadline, true, false},
		{"writer drives/write", true, (*rdmanet.Conn).SetWriteDeadline, false, true},
		{"writer drives/both", true, (*rdmanet.Conn).SetDeadline, true, true},
	} {
		for _, ahead := range []time.Duration{-time.Second, 20 * time.Millisecond} {
			t.Run(c.name+"/"+ahead.String(), func(t *testing.T) {
				e := connect(t, setting{})
				full := fill(t, e.a)
				read, write := make(chan error, 1), make(chan error, 1)
				reader := func() {
					_, err := e.a.Read(make([]byte, 10))
					read <- err
				}
				writer := func() {
					_, err := e.a.Write(make([]byte, 10))
					write <- err
				}
				first, second := reader, writer
				if c.writerDrives {
					first, second = writer, reader
				}
				go first()
				time.Sleep(5 * time.Millisecond) // makes it likely that the first one drives; correct without
				go second()
				time.Sleep(5 * time.Millisecond)
				start := time.Now()
				require.NoError(t, c.set(e.a, start.Add(ahead)))
				for _, call := range []struct {
					ends bool
					err  chan error
					op   string
				}{{c.read, read, "read"}, {c.write, write, "write"}} {
					if call.ends {
						requireTimeout(t, <-call.err, call.op)
						require.Less(t, time.Since(start), max(ahead, 0)+lateness)
					}
				}
				// The other one still waits, and can go on.
				require.NoError(t, e.a.SetDeadline(time.Time{}))
				if !c.read {
					require.Empty(t, read)
					_, err := e.b.Write([]byte("x"))
					require.NoError(t, err)
					require.NoError(t, within(t, func() error { return <-read }))
				}
				if !c.write {
					require.Empty(t, write)
					_, err := io.ReadFull(e.b, make([]byte, full))
					require.NoError(t, err)
					require.NoError(t, within(t, func() error { return <-write }))
				}
			})
		}
	}
}

// A reader that waits while a writer drives gets its bytes from the writer, and becomes the driver
// when the writer leaves.
func TestDriverHandsOn(t *testing.T) {
	e := connect(t, setting{})
	fill(t, e.a)
	write := make(chan error, 1)
	go func() {
		_, err := e.a.Write(make([]byte, 10))
		write <- err
	}()
	time.Sleep(5 * time.Millisecond)
	b := make([]byte, 3)
	read := background(t, func() {
		if _, err := io.ReadFull(e.a, b); err != nil || string(b) != "abc" {
			t.Errorf("Read: %q, %v", b, err)
		}
	})
	_, err := e.b.Write([]byte("abc"))
	require.NoError(t, err)
	read()
	read = background(t, func() {
		if _, err := io.ReadFull(e.a, b); err != nil || string(b) != "def" {
			t.Errorf("Read: %q, %v", b, err)
		}
	})
	require.NoError(t, e.a.SetWriteDeadline(time.Unix(1, 0)))
	requireTimeout(t, <-write, "write")
	_, err = e.b.Write([]byte("def"))
	require.NoError(t, err)
	read()
}

// A reader that drives and gets nothing lets a waiting writer go on.
func TestReaderDrivesForWriter(t *testing.T) {
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			e := connect(t, s)
			read := make(chan error, 1)
			go func() {
				_, err := e.a.Read(make([]byte, 1))
				read <- err
			}()
			n := fill(t, e.a)
			write := make(chan error, 1)
			go func() {
				_, err := e.a.Write(make([]byte, 1000))
				write <- err
			}()
			time.Sleep(5 * time.Millisecond) // makes it likely that it waits; correct without
			_, err := io.ReadFull(e.b, make([]byte, n))
			require.NoError(t, err)
			require.NoError(t, within(t, func() error { return <-write }))
			require.Empty(t, read)
			_, err = e.b.Write([]byte("x"))
			require.NoError(t, err)
			require.NoError(t, within(t, func() error { return <-read }))
		})
	}
}

// Deadlines hold even when the host takes nothing and the send queue is short.
func TestDeadlinesOfSmallWrites(t *testing.T) {
	n := prepare(t, setting{}, &transport.Options{SendDepth: 32})
	e := connectBelow(t, n, setting{})
	require.NoError(t, e.a.SetWriteBuffer(4<<10))
	p := make([]byte, 20000)
	timeouts := 0
	for range 60 {
		start := time.Now()
		require.NoError(t, e.a.SetWriteDeadline(start.Add(time.Millisecond)))
		if _, err := e.a.Write(p); err != nil {
			requireTimeout(t, err, "write")
			timeouts++
		}
		require.Less(t, time.Since(start), lateness)
	}
	require.Positive(t, timeouts)
}

// A Write whose deadline passes while the host has not taken all says how much is on its way.
func TestDeadlineWhileSending(t *testing.T) {
	for _, s := range []setting{{name: "extended"}, {name: "plain", server: rdmanet.Config{Plain: true}},
		{name: "large ring", client: rdmanet.Config{}, server: rdmanet.Config{RingSize: 64 << 20}}} {
		t.Run(s.name, func(t *testing.T) {
			e := connect(t, s)
			require.NoError(t, e.a.SetWriteBuffer(8<<10))
			want := pattern(8 << 20)
			sent := 0
			for round := 0; round < 5; round++ {
				require.NoError(t, e.a.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
				n, err := e.a.Write(want[sent:])
				requireTimeout(t, err, "write")
				sent += n
			}
			require.NoError(t, e.a.SetWriteDeadline(time.Time{}))
			wait := background(t, func() {
				n, err := e.a.Write(want[sent:])
				if n != len(want)-sent || err != nil {
					t.Errorf("Write: %d, %v", n, err)
				}
				e.a.Close()
			})
			got, err := io.ReadAll(e.b)
			require.NoError(t, err)
			wait()
			require.True(t, bytes.Equal(want, got), "%d bytes of %d, or others", len(got), len(want))
		})
	}
}
