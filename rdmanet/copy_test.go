package rdmanet_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
)

// onlyReader and onlyWriter hide the other methods, as io.Copy looks for them.
type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }

func TestCopies(t *testing.T) {
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		want := pattern(2 << 20)
		wait := background(t, func() {
			n, err := io.Copy(x, onlyReader{bytes.NewReader(want)}) // ReadFrom
			if n != int64(len(want)) || err != nil {
				t.Errorf("ReadFrom: %d, %v", n, err)
			}
			x.CloseWrite()
		})
		var got bytes.Buffer
		n, err := io.Copy(onlyWriter{&got}, y) // WriteTo
		require.EqualValues(t, len(want), n)
		require.NoError(t, err)
		wait()
		require.True(t, bytes.Equal(want, got.Bytes()))
	})
}

// A Conn copied to another uses the methods of both.
func TestProxy(t *testing.T) {
	in, out := connect(t, setting{}), connect(t, settings[1])
	want := pattern(1 << 20)
	copied := background(t, func() {
		n, err := io.Copy(out.a, in.b)
		if n != int64(len(want)) || err != nil {
			t.Errorf("Copy: %d, %v", n, err)
		}
		out.a.Close()
	})
	wait := background(t, func() {
		if _, err := in.a.Write(want); err != nil {
			t.Error(err)
		}
		in.a.Close()
	})
	got, err := io.ReadAll(out.b)
	require.NoError(t, err)
	copied()
	wait()
	require.True(t, bytes.Equal(want, got))
}

type failingWriter struct {
	n   int
	err error
}

func (w failingWriter) Write(p []byte) (int, error) { return min(w.n, len(p)), w.err }

func TestCopyErrors(t *testing.T) {
	errOther := errors.New("another's error")
	t.Run("reader", func(t *testing.T) {
		e := connect(t, setting{})
		n, err := e.a.ReadFrom(io.MultiReader(bytes.NewReader([]byte("abc")), iotest.ErrReader(errOther)))
		require.EqualValues(t, 3, n)
		requireOpError(t, e.a, err, "readfrom", errOther)
		b := make([]byte, 3)
		_, err = io.ReadFull(e.b, b)
		require.NoError(t, err)
		require.Equal(t, "abc", string(b))
	})
	for name, c := range map[string]struct {
		w    failingWriter
		want error
	}{
		"writer":       {failingWriter{2, errOther}, errOther},
		"short writer": {failingWriter{2, nil}, io.ErrShortWrite},
		"wrong writer": {failingWriter{-1, nil}, io.ErrShortWrite},
	} {
		t.Run(name, func(t *testing.T) {
			e := connect(t, setting{})
			_, err := e.a.Write([]byte("abcdef"))
			require.NoError(t, err)
			n, err := e.b.WriteTo(c.w)
			requireOpError(t, e.b, err, "writeto", c.want)
			require.EqualValues(t, max(c.w.n, 0), n)
			// What the writer did not take is lost, as with package net; what comes later is not.
			_, err = e.a.Write([]byte("next"))
			require.NoError(t, err)
			next := make([]byte, 4)
			_, err = io.ReadFull(e.b, next)
			require.NoError(t, err)
			require.Equal(t, "next", string(next))
		})
	}
	t.Run("closed", func(t *testing.T) {
		e := connect(t, setting{})
		require.NoError(t, e.a.Close())
		_, err := e.a.WriteTo(io.Discard)
		requireOpError(t, e.a, err, "writeto", net.ErrClosed)
		_, err = e.a.ReadFrom(bytes.NewReader([]byte("x")))
		require.ErrorIs(t, err, net.ErrClosed)
		require.Equal(t, "readfrom", err.(*net.OpError).Op)
	})
}

// Close must not wait for a reader or writer of the user's.
func TestCloseDuringCopy(t *testing.T) {
	e := connect(t, setting{})
	pr, pw := io.Pipe()
	copied := background(t, func() { e.a.ReadFrom(pr) })
	_, err := pw.Write([]byte("x")) // ReadFrom is under way
	require.NoError(t, err)

	br, bw := io.Pipe()
	written := background(t, func() { e.a.WriteTo(bw) })
	_, err = e.b.Write([]byte("y"))
	require.NoError(t, err)
	_, err = br.Read(make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, within(t, e.a.Close))
	pw.Close()
	br.Close()
	copied()
	written()
}

// sized is a Reader of n bytes that fills each buffer, and keeps the size of the largest.
type sized struct{ n, largest int }

func (s *sized) Read(p []byte) (int, error) {
	if s.n == 0 {
		return 0, io.EOF
	}
	s.largest = max(s.largest, len(p))
	k := min(len(p), s.n)
	s.n -= k
	return k, nil
}

// TestReadFromMuch reads more at a time from what always has more.
func TestReadFromMuch(t *testing.T) {
	e := connect(t, setting{})
	read := background(t, func() { io.Copy(io.Discard, e.b) })
	few, much := &sized{n: 1000}, &sized{n: 1 << 20}
	for _, s := range []*sized{few, much} {
		_, err := e.a.ReadFrom(s)
		require.NoError(t, err)
	}
	require.Equal(t, 64<<10, few.largest)
	require.Equal(t, 256<<10, much.largest)
	require.NoError(t, e.a.Close())
	read()
}

// TestWriteToMuch ends a WriteTo after much has come, in each way that there is.
func TestWriteToMuch(t *testing.T) {
	want := pattern(1<<20 + 1)
	for name, end := range map[string]struct {
		call func(x, y *rdmanet.Conn) error
		want error
	}{
		"end of the stream": {func(x, _ *rdmanet.Conn) error { return x.CloseWrite() }, nil},
		"deadline":          {func(_, y *rdmanet.Conn) error { return y.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"close":             {func(_, y *rdmanet.Conn) error { return y.Close() }, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
				var got bytes.Buffer
				arrived := make(chan struct{})
				w := writerFunc(func(p []byte) (int, error) {
					if got.Write(p); got.Len() == len(want) {
						close(arrived)
					}
					return len(p), nil
				})
				wait := background(t, func() {
					n, err := y.WriteTo(w)
					if n != int64(len(want)) || !errors.Is(err, end.want) {
						t.Errorf("WriteTo: %d, %v", n, err)
					}
				})
				_, err := x.Write(want)
				require.NoError(t, err)
				<-arrived
				require.NoError(t, end.call(x, y))
				wait()
				require.True(t, bytes.Equal(want, got.Bytes()))
			})
		})
	}
}
