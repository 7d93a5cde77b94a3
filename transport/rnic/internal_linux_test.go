//go:build amd64 || arm64

package rnic

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic/internal/abi"
)

func TestLibrariesAreThere(t *testing.T) {
	l, err := load()
	if err != nil {
		t.Skip("apt-get install librdmacm1 libibverbs1: ", err)
	}
	again, err := load()
	require.NoError(t, err)
	require.Same(t, l, again)
	for _, s := range append(l.cm(), l.verbs()...) {
		require.NotZero(t, *s.addr, s.name)
	}
	require.NotZero(t, l.errnoLocation)
}

func TestMissingLibrary(t *testing.T) {
	for _, names := range [][2]string{{"libnone.so.1", cmLibrary}, {verbsLibrary, "libnone.so.1"}} {
		_, err := open(names[0], names[1])
		var u *UnavailableError
		require.ErrorAs(t, err, &u)
		if u.Cause == NoLibrary && !strings.Contains(err.Error(), "libnone.so.1") {
			t.Skip("apt-get install librdmacm1 libibverbs1: ", err)
		}
		require.Equal(t, NoLibrary, u.Cause)
		require.ErrorIs(t, err, transport.ErrNoDevice)
		require.ErrorContains(t, err, "install rdma-core's librdmacm1 and ibverbs-providers")
		require.NotContains(t, err.Error(), "\n")
	}
}

// Any library without the functions is an old one.
func TestMissingSymbol(t *testing.T) {
	_, err := open("libc.so.6", cmLibrary)
	var u *UnavailableError
	require.ErrorAs(t, err, &u)
	require.Equal(t, OldLibrary, u.Cause)
	require.ErrorIs(t, err, transport.ErrNoDevice)
	require.ErrorContains(t, err, "ibv_alloc_pd")
	require.ErrorContains(t, err, "install rdma-core")
}

func TestCausesNameTheFix(t *testing.T) {
	for c, word := range map[Cause]string{
		NoLibrary: "install", OldLibrary: "install", NoSystem: "linux", NoConnection: "rdma_ucm", NoPermission: "/dev/infiniband",
		NoProvider: "ibverbs-providers", NoMemory: "RLIMIT_MEMLOCK",
	} {
		for _, inner := range []error{nil, io.ErrClosedPipe} {
			err := error(&UnavailableError{c, inner})
			require.ErrorContains(t, err, word)
			require.ErrorContains(t, err, c.String())
			require.Equal(t, c != NoMemory, errors.Is(err, transport.ErrNoDevice))
			require.Equal(t, inner != nil, errors.Is(err, io.ErrClosedPipe))
		}
	}
	require.Equal(t, "unknown cause", Cause(99).String())
	require.Equal(t, "unknown cause", (&UnavailableError{Cause: 99}).Error())
}

func TestUnavailable(t *testing.T) {
	for errno, cause := range map[syscall.Errno]Cause{
		syscall.EACCES: NoPermission, syscall.EPERM: NoPermission,
		syscall.ENODEV: NoConnection, syscall.ENOENT: NoConnection, syscall.ENOSYS: NoConnection, syscall.ENXIO: NoConnection,
	} {
		err := unavailable(os.NewSyscallError("open", errno))
		var u *UnavailableError
		require.ErrorAs(t, err, &u)
		require.Equal(t, cause, u.Cause)
		require.ErrorIs(t, err, errno)
	}
	require.Equal(t, error(syscall.EMFILE), unavailable(syscall.EMFILE))

	var u *UnavailableError
	require.ErrorAs(t, registration(syscall.ENOMEM), &u)
	require.Equal(t, NoMemory, u.Cause)
	require.Equal(t, error(syscall.EINVAL), registration(syscall.EINVAL))

	for _, errno := range []syscall.Errno{syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ENOSPC, syscall.EAGAIN, syscall.EIO} {
		var n net.Error
		require.ErrorAs(t, shortage(errno), &n)
		require.False(t, n.Timeout())
		var temporary interface{ Temporary() bool } // for which callers of Accept ask
		require.ErrorAs(t, n, &temporary)
		require.True(t, temporary.Temporary())
		require.ErrorIs(t, n, errno)
	}
	require.Equal(t, error(syscall.EINVAL), shortage(syscall.EINVAL))
}

func TestErrors(t *testing.T) {
	route := error(&routeError{netip.MustParseAddrPort("192.0.2.1:80"), syscall.ENETUNREACH})
	require.ErrorIs(t, route, transport.ErrNoRoute)
	require.ErrorIs(t, route, syscall.ENETUNREACH)
	require.ErrorContains(t, route, "192.0.2.1:80")
	not := error(&transport.NotIWARPError{Cause: syscall.ECONNRESET})
	require.ErrorIs(t, not, transport.ErrNotIWARP)
	require.ErrorIs(t, not, syscall.ECONNRESET)
	require.ErrorIs(t, errRemoved, transport.ErrNoDevice)
	require.ErrorIs(t, errRemoved, syscall.ECONNRESET)
	require.ErrorIs(t, brokenBy(syscall.EIO), syscall.ECONNRESET)
	require.ErrorIs(t, brokenBy(syscall.EIO), syscall.EIO)
	require.ErrorIs(t, errUnanswered, syscall.ECONNRESET)
	late := error(&completionError{abi.WCRetryExcErr, 0, syscall.ETIMEDOUT})
	require.ErrorIs(t, late, syscall.ETIMEDOUT)
	var n net.Error
	require.ErrorAs(t, late, &n)
	require.True(t, n.Timeout())
	iwarp, roce := &queuePair{dev: &device{Device: transport.Device{IWARP: true}}}, &queuePair{dev: &device{}}
	require.Equal(t, transport.ErrHandshakeTimeout, iwarp.connectError(os.NewSyscallError("rdma_connect", syscall.ETIMEDOUT)))
	require.Equal(t, error(syscall.ECONNREFUSED), iwarp.connectError(syscall.ECONNREFUSED))
	require.ErrorIs(t, iwarp.connectError(syscall.ECONNRESET), transport.ErrNotIWARP)
	require.Equal(t, error(syscall.ECONNRESET), roce.connectError(syscall.ECONNRESET))
}

func TestHandshakeEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, context.Canceled, handshakeEnd(ctx))
	ctx, cancel = context.WithTimeout(t.Context(), -1)
	defer cancel()
	require.Equal(t, transport.ErrHandshakeTimeout, handshakeEnd(ctx))
}

func TestSockaddr(t *testing.T) {
	for _, a := range []string{"192.0.2.1:80", "0.0.0.0:0", "255.255.255.255:65535", "[2001:db8::1]:443", "[::]:1", "[fe80::1]:5", "[fe80::1%lo]:5", "[fe80::1%4000000]:5"} {
		want := netip.MustParseAddrPort(a)
		var b [sockaddrLen]byte
		for i := range b {
			b[i] = 0xff // of somebody before
		}
		putSockaddr(&b, want)
		require.Equal(t, want, addrPort(&b), a)
	}
	var b [sockaddrLen]byte
	putSockaddr(&b, netip.MustParseAddrPort("[::ffff:192.0.2.1]:80"))
	require.Equal(t, "192.0.2.1:80", addrPort(&b).String())
	putSockaddr(&b, netip.MustParseAddrPort("[fe80::1%nosuchdevice]:80"))
	require.Equal(t, "[fe80::1]:80", addrPort(&b).String())
	require.False(t, addrPort(new([sockaddrLen]byte)).IsValid())
	require.Equal(t, netip.IPv4Unspecified(), anyAddr(netip.MustParseAddr("::ffff:1.2.3.4")))
	require.Equal(t, netip.IPv6Unspecified(), anyAddr(netip.MustParseAddr("fe80::1")))
}

func TestAnswer(t *testing.T) {
	iwarp := &device{Device: transport.Device{IWARP: true}}
	roce := &device{}
	refused := -int32(syscall.ECONNREFUSED)
	reset := -int32(syscall.ECONNRESET)
	timedOut := -int32(syscall.ETIMEDOUT)
	unreachable := -int32(syscall.EHOSTUNREACH)
	for _, c := range []struct {
		name string
		dev  *device
		ev   cmEvent
		want []error // all of which match; nil means none
	}{
		{"established", iwarp, cmEvent{kind: abi.CMEventEstablished}, nil},
		{"established", roce, cmEvent{kind: abi.CMEventEstablished}, nil},
		{"nobody listens", iwarp, cmEvent{kind: abi.CMEventRejected, status: refused}, []error{syscall.ECONNREFUSED}},
		{"nobody listens", roce, cmEvent{kind: abi.CMEventRejected, status: rejectInvalidService}, []error{syscall.ECONNREFUSED}},
		{"another reason", roce, cmEvent{kind: abi.CMEventRejected, status: 3}, []error{syscall.ECONNREFUSED}},
		{"hung up", iwarp, cmEvent{kind: abi.CMEventRejected, status: reset}, []error{transport.ErrNotIWARP}},
		{"timed out", iwarp, cmEvent{kind: abi.CMEventUnreachable, status: timedOut}, []error{transport.ErrHandshakeTimeout, syscall.ETIMEDOUT}},
		{"timed out", roce, cmEvent{kind: abi.CMEventUnreachable, status: timedOut}, []error{transport.ErrHandshakeTimeout}},
		{"unreachable", iwarp, cmEvent{kind: abi.CMEventUnreachable, status: unreachable}, []error{syscall.EHOSTUNREACH}},
		{"removed", iwarp, cmEvent{kind: abi.CMEventDeviceRemoval}, []error{transport.ErrNoDevice}},
		{"disconnected", iwarp, cmEvent{kind: abi.CMEventDisconnected}, []error{transport.ErrNotIWARP}},
		{"error", iwarp, cmEvent{kind: abi.CMEventConnectError, status: -int32(syscall.EPROTO)}, []error{transport.ErrNotIWARP, syscall.EPROTO}},
		{"error", roce, cmEvent{kind: abi.CMEventConnectError, status: -int32(syscall.EINVAL)}, []error{syscall.EINVAL}},
	} {
		err := (&queuePair{dev: c.dev}).answer(&c.ev)
		if c.want == nil {
			require.NoError(t, err)
		}
		for _, want := range c.want {
			require.ErrorIs(t, err, want, c.name)
		}
	}
	for _, c := range []struct {
		dev *device
		ev  cmEvent
	}{
		{iwarp, cmEvent{kind: abi.CMEventRejected, status: reset, private: []byte("no")}},   // siw
		{iwarp, cmEvent{kind: abi.CMEventRejected, status: refused, private: []byte("no")}}, // the drivers of hardware
		{roce, cmEvent{kind: abi.CMEventRejected, status: rejectConsumer, private: []byte("no")}},
	} {
		var r *transport.RejectedError
		require.ErrorAs(t, (&queuePair{dev: c.dev}).answer(&c.ev), &r)
		require.Equal(t, "no", string(r.PrivateData))
	}
}

func TestStatus(t *testing.T) {
	for s, want := range map[uint32]transport.Status{
		abi.WCSuccess: transport.StatusSuccess, abi.WCWrFlushErr: transport.StatusFlushed, abi.WCLocLenErr: transport.StatusLocalLength,
		abi.WCLocProtErr: transport.StatusLocalProtection, abi.WCLocQPOpErr: transport.StatusLocalProtection, abi.WCLocAccessErr: transport.StatusLocalProtection,
		abi.WCRemAccessErr: transport.StatusRemoteAccess, abi.WCRemInvReqErr: transport.StatusRemoteAccess,
		abi.WCRemOpErr: transport.StatusRemoteOperation, abi.WCRetryExcErr: transport.StatusRemoteOperation, 9999: transport.StatusRemoteOperation,
	} {
		require.Equal(t, want, status(s), s)
	}
}

func TestTaken(t *testing.T) {
	const first, size = 1000, 128
	for _, c := range []struct {
		bad  uintptr
		want int
	}{{first, 0}, {first + size, 1}, {first + 3*size, 3}, {first + 4*size, 4}, {0, 4}, {first - 1, 4}, {math.MaxUint, 4}, {first + size + 1, 1}} {
		require.Equal(t, c.want, taken(c.bad, first, size, 4), c.bad)
	}
}

func TestNumber(t *testing.T) {
	require.NoError(t, number(0))
	require.NoError(t, number(1<<32), "only an int is returned")
	require.Equal(t, syscall.EINVAL, number(uintptr(syscall.EINVAL)))
	minus := -int32(syscall.ENOMEM)
	require.Equal(t, syscall.ENOMEM, number(uintptr(uint32(minus))))
	require.Equal(t, syscall.ECONNRESET, errnoOf(-int32(syscall.ECONNRESET)))
}

func TestRings(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 2, 3: 4, 512: 512, 516: 1024} {
		require.Equal(t, want, ringSize(n))
	}
}

// What is posted without a completion asks for one by the time that a quarter of the queue is such,
// and what the caller will drain does.
func TestSelectiveSignalling(t *testing.T) {
	q := &queuePair{dev: &device{}, sendDepth: 64}
	q.sq.init(64 + spareEntries)
	s := getScratch()
	defer s.release()
	var asked []int
	for i := range 64 {
		wr := transport.SendWR{Opcode: transport.OpWrite}
		if i == 20 {
			wr.Flags = transport.Signaled
		}
		if i == 25 {
			wr.Flags = transport.WillDrain
		}
		require.NoError(t, q.composeOne(s, 0, &wr))
		if s.sends[0].SendFlags&abi.SendSignaled != 0 {
			asked = append(asked, i)
		}
		q.sq.head.Add(1)
		require.Equal(t, i != 20, q.sq.entries[i].silent)
	}
	require.Equal(t, []int{15, 20, 25, 41, 57}, asked)
	require.Equal(t, uint64(58), q.sq.marked.Load())
	require.Equal(t, 64, q.sq.outstanding())
}

func TestFinish(t *testing.T) {
	q := &queuePair{closed: true}
	q.sq.init(4)
	q.rq.init(4)
	q.sq.entries[0] = sendEntry{id: 1, op: transport.OpRead}
	q.sq.entries[1] = sendEntry{id: 2, op: transport.OpWrite, own: true}
	q.sq.head.Store(2)
	q.rq.ids[0] = 3
	q.rq.head.Store(1)
	q.late = []transport.Completion{{ID: 9}}
	q.finish()
	require.Equal(t, []transport.Completion{{ID: 9}, {ID: 1, Opcode: transport.OpRead, Status: transport.StatusFlushed},
		{ID: 3, Opcode: transport.OpRecv, Status: transport.StatusFlushed}}, q.early)
	require.Zero(t, q.sq.outstanding())
	q.finish()
	require.Len(t, q.early, 3)
}

func TestScratchesAreUsedAgain(t *testing.T) {
	s := getScratch()
	s.release()
	require.Same(t, s, getScratch())
	s.release()
}

func TestPoll(t *testing.T) {
	require.Zero(t, (&Config{Poll: -1}).withDefaults().Poll)
	require.EqualValues(t, 5, (&Config{Poll: 5}).withDefaults().Poll)
}

func TestNoDevice(t *testing.T) {
	r := New(nil)
	list, err := r.Devices()
	require.NoError(t, err)
	if len(list) > 0 {
		t.Skip("there are some")
	}
	remote := netip.MustParseAddrPort("192.0.2.1:80")
	_, err = r.Dial(t.Context(), netip.AddrPort{}, remote, nil)
	require.True(t, errors.Is(err, transport.ErrNoDevice) || errors.Is(err, transport.ErrNoRoute), err)
	_, err = r.Route(t.Context(), netip.AddrPort{}, remote)
	require.True(t, errors.Is(err, transport.ErrNoDevice) || errors.Is(err, transport.ErrNoRoute), err)
	_, err = r.Listen(t.Context(), netip.MustParseAddrPort("0.0.0.0:0"), nil)
	require.ErrorIs(t, err, transport.ErrNoDevice)
	require.Equal(t, "rnic", r.Name())
	require.True(t, r.Offloads())
}

// TestSpare leaves three quarters of what may be locked to what nobody can do without, and has
// later connections get something, too.
func TestSpare(t *testing.T) {
	const limit = 8 << 20
	var sizes []int
	for _, ask := range []int{256 << 10, 128 << 10, 64 << 10} {
		for takeSpare(ask, limit) {
			sizes = append(sizes, ask)
		}
	}
	held := int(spare.Load())
	t.Cleanup(func() { spare.Add(int64(-held)) })
	require.LessOrEqual(t, held, limit/4)
	require.Greater(t, held, limit/4*3/4)
	require.Equal(t, []int{256 << 10, 256 << 10, 256 << 10, 256 << 10, 256 << 10}, sizes[:5])
	require.Equal(t, 64<<10, sizes[len(sizes)-1])
	require.True(t, takeSpare(1<<30, math.MaxUint64), "there is no limit")
	spare.Add(-1 << 30)
	require.EqualValues(t, held, spare.Load(), "what was refused is not counted")
	require.False(t, takeSpare(1, 0))
}

// What was sent stays so when the peer ends the connection after it.
func TestDrainedBeforeTheEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		completed []uint32 // statuses of the first of two requests, or of both
		own       bool     // the second is of this package
		closed    bool
		want      error // nil if it is drained
	}{
		"all sent":           {completed: []uint32{abi.WCSuccess, abi.WCSuccess}},
		"all of the user's":  {completed: []uint32{abi.WCSuccess, abi.WCLocQPOpErr}, own: true},
		"one not":            {completed: []uint32{abi.WCSuccess}, want: io.EOF},
		"one given back":     {completed: []uint32{abi.WCSuccess, abi.WCWrFlushErr}, want: io.EOF},
		"all sent and close": {completed: []uint32{abi.WCSuccess, abi.WCSuccess}, closed: true, want: transport.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			q := &queuePair{remains: remainsFalling, closed: tc.closed}
			q.sq.init(4)
			q.sq.head.Store(2)
			q.sq.entries[1].own = tc.own
			for i, status := range tc.completed {
				q.complete(&abi.WC{WrID: uint64(i), Status: status})
			}
			if tc.closed {
				q.noteEnd(transport.StateError, transport.ErrClosed)
			}
			q.noteEnd(transport.StateError, endOfStream)
			ok, err := q.drained()
			require.Equal(t, tc.want == nil, ok)
			require.Equal(t, tc.want, err)
		})
	}
}
