package lab

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
)

// readSize is what the peer asks of one Read. It is no less than what io.Copy would ask.
const readSize = 64 << 10

// buffers spares the set-up of connections an allocation that is not theirs.
var buffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// serve answers requests on c until its end. Whatever goes wrong shows at the client.
func serve(c net.Conn) {
	var head [requestLen]byte
	pooled := buffers.Get().(*[readSize]byte)
	defer buffers.Put(pooled)
	buf := pooled[:]
	for {
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		r := parseRequest(head[:])
		var err error
		switch r.op {
		case opEcho:
			if int(r.size) > len(buf) {
				buf = make([]byte, r.size)
			}
			err = echo(c, buf[:r.size], r.count)
		case opSink:
			var total uint64
			if total, err = sink(c, buf, uint64(r.size)*r.count); err == nil {
				err = answer(c, total)
			}
		case opUsage:
			err = answer(c, uint64(CPUTime()))
		default:
			return
		}
		if err != nil {
			return
		}
	}
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
