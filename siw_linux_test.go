package iwarp_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport"
)

// The two drivers of Linux that take kernel ports are alike in that, and differ in what carries the
// connections.
var (
	siwDevice   = transport.Device{Name: "siw0", Transport: "rnic", Addrs: loopback(), IWARP: true, KernelPorts: true, InSoftware: true}
	erdmaDevice = transport.Device{Name: "erdma_0", Transport: "rnic", Addrs: loopback(), IWARP: true, KernelPorts: true}
)

func init() {
	rnicKinds["kernel ports"] = rnicKind{device: erdmaDevice, over: func(n *rnic) transport.Transport { return siw{n} }}
}

// siw takes ports as the kernel's siw and erdma do: by sockets of its own that set SO_REUSEADDR,
// one that listens at once, and one that binds and connects within Connect.
type siw struct{ *rnic }

func (n siw) Listen(ctx context.Context, local netip.AddrPort, o *transport.Options) (transport.Listener, error) {
	if slices.Contains(o.Devices, roce.Name) {
		return n.rnic.Listen(ctx, local, o)
	}
	if err := n.listening(local, o); err != nil {
		return nil, err
	}
	l, err := n.soft.Listen(ctx, local, o) // package net sets SO_REUSEADDR
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.started(l, local), nil
}

func (n siw) Dial(_ context.Context, local, remote netip.AddrPort, o *transport.Options) (transport.Connector, error) {
	n.dialed(local, remote)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "siw")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	k, err := n.soft.Client(c.(*net.TCPConn), o)
	if err != nil {
		return nil, err
	}
	return &siwConnector{Connector: k, n: n, c: c.(*net.TCPConn), local: local, remote: remote}, nil
}

type siwConnector struct {
	transport.Connector
	n             siw
	c             *net.TCPConn
	local, remote netip.AddrPort
}

func (k *siwConnector) QueuePair() transport.QueuePair {
	return siwQP{k.Connector.QueuePair(), k.local, k.remote}
}

func (k *siwConnector) Connect(ctx context.Context, private []byte) ([]byte, error) {
	k.reached(beforeBind)
	if err := k.bindAndConnect(ctx); err != nil {
		_ = k.Close()
		return nil, err
	}
	k.reached(afterConnect)
	return k.Connector.Connect(ctx, private)
}

func (k *siwConnector) reached(s step) {
	if k.n.onConnect != nil {
		k.n.onConnect(k.local, s)
	}
}

func (k *siwConnector) bindAndConnect(ctx context.Context) error {
	rc, err := k.c.SyscallConn()
	if err != nil {
		return err
	}
	call := ""
	cerr := rc.Control(func(fd uintptr) {
		call = "bind"
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return
		}
		if err = unix.Bind(int(fd), sockaddr(k.local)); err != nil {
			return
		}
		call = "connect"
		err = unix.Connect(int(fd), sockaddr(k.remote))
	})
	if cerr != nil {
		return cerr
	}
	if err != unix.EINPROGRESS {
		return os.NewSyscallError(call, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = k.c.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	var code int
	cerr = rc.Write(func(fd uintptr) bool {
		if code, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); code != 0 {
			return true
		}
		_, gone := unix.Getpeername(int(fd))
		return gone == nil
	})
	switch {
	case cerr != nil:
		return cerr
	case code != 0:
		return os.NewSyscallError(call, syscall.Errno(code))
	}
	return nil
}

// siwQP has the addresses that the socket had not when the queue pair was made.
type siwQP struct {
	transport.QueuePair
	local, remote netip.AddrPort
}

func (q siwQP) Unwrap() transport.QueuePair { return q.QueuePair }
func (q siwQP) LocalAddr() netip.AddrPort   { return q.local }
func (q siwQP) RemoteAddr() netip.AddrPort  { return q.remote }
