package lab

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
)

// readSize is what the peer asks of one Read. It is no less than what io.Copy would ask.
const readSize = 64 << 10

// buffers spares the set-up of connections an allocation that is not theirs.
var buffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// serve answers requests on c until its end. Whatever goes wrong shows at the client.
func (s *server) serve(c net.Conn) {
	var head [requestLen]byte
	for {
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		if err := s.obey(c, parseRequest(head[:])); err != nil {
			return
		}
	}
}

// obey has a buffer only as long as it takes: an idle connection has none.
func (s *server) obey(c net.Conn, r request) error {
	if r.size > MaxMessage {
		return errors.New("message too large")
	}
	pooled := buffers.Get().(*[readSize]byte)
	defer buffers.Put(pooled)
	buf := pooled[:]
	switch r.op {
	case opEcho:
		if int(r.size) > len(buf) {
			buf = make([]byte, r.size)
		}
		return echo(c, buf[:r.size], r.count)
	case opSink:
		total, err := sink(c, buf, uint64(r.size)*r.count)
		if err != nil {
			return err
		}
		return answer(c, total)
	case opUsage, opMemory:
		return s.tellUsage(c, r.op == opMemory)
	}
	return errors.New("unknown request")
}

// tellUsage has a frame of its own, which connections that only echo do not have on their stacks.
//
//go:noinline
func (s *server) tellUsage(c net.Conn, memory bool) error {
	u := OwnUsage(memory)
	s.mu.Lock()
	u.Conns = uint64(len(s.conns))
	s.mu.Unlock()
	var b [usageLen]byte
	u.put(b[:])
	_, err := c.Write(b[:])
	return err
}

func answer(c net.Conn, v uint64) error {
	_, err := c.Write(binary.BigEndian.AppendUint64(nil, v))
	return err
}

func echo(c net.Conn, buf []byte, count uint64) error {
	for n := uint64(0); count == 0 || n < count; n++ {
		if _, err := io.ReadFull(c, buf); err != nil {
			return err
		}
		if _, err := c.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

// sink reads want bytes, or to the end of the stream if want is 0.
func sink(c net.Conn, buf []byte, want uint64) (got uint64, err error) {
	for want == 0 || got < want {
		b := buf
		if want != 0 {
			b = b[:min(uint64(len(b)), want-got)]
		}
		n, err := c.Read(b)
		got += uint64(n)
		if err == io.EOF && want == 0 {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
	return got, nil
}
