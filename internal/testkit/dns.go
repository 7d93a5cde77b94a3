package testkit

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// NameServer answers every question for an IPv4 address with addrs, in a net.Resolver.
func NameServer(addrs ...[4]byte) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		c, s := net.Pipe() // not a net.PacketConn, so that each message has its length in front (RFC 1035 §4.2.2)
		go func() {
			defer s.Close()
			for {
				var length [2]byte
				if _, err := io.ReadFull(s, length[:]); err != nil {
					return
				}
				msg := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(s, msg); err != nil {
					return
				}
				reply := answer(msg, addrs)
				_, _ = s.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
			}
		}()
		return c, nil
	}}
}

// answer makes the reply to a DNS message with one question.
func answer(msg []byte, addrs [][4]byte) []byte {
	end := 12
	for msg[end] != 0 {
		end += 1 + int(msg[end])
	}
	kind := binary.BigEndian.Uint16(msg[end+1:])
	if kind != 1 {
		addrs = nil
	}
	reply := append([]byte{msg[0], msg[1], 0x81, 0x80, 0, 1, 0, byte(len(addrs)), 0, 0, 0, 0}, msg[12:end+5]...)
	for _, a := range addrs {
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
		reply = append(reply, a[:]...)
	}
	return reply
}

// NeedLocalhost skips a test where the name localhost has no address: package net takes it from the
// hosts file, which a bare container lacks.
func NeedLocalhost(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := net.DefaultResolver.LookupHost(ctx, "localhost"); err != nil {
		t.Skip(err)
	}
}
