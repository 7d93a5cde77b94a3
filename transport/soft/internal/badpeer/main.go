// Badpeer breaks the protocols below a stream in a way that can be chosen, and reports what the
// peer makes of it, for tests against other implementations. With -replay it sends the bytes of a
// fuzz corpus.
package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// A peer is the connection to the implementation under test.
type peer struct {
	*net.TCPConn
	crc  bool
	ring struct { // what an rsocket says about its memory
		addr uint64
		key  uint32
		size uint32
	}
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("badpeer: ")
	addr := flag.String("to", "", "`address` and port of the peer")
	name := flag.String("case", "", "`fault` to make")
	stream := flag.Bool("rsocket", false, "the peer is an rsocket")
	replay := flag.String("replay", "", "`folder` of a fuzz corpus to send")
	handshake := flag.Bool("fpdus", false, "the corpus is for a connection that is open")
	flag.Parse()
	if *replay != "" {
		if err := replayCorpus(*addr, *replay, *handshake); err != nil {
			log.Fatal(err)
		}
		return
	}
	fault := faults[*name]
	if fault == nil {
		log.Fatalf("no such case: %q", *name)
	}
	p, err := dial(*addr, true)
	if err == nil {
		err = p.handshake(*stream)
	}
	if err != nil {
		log.Fatal(err)
	}
	if err := fault(p); err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.outcome())
}

const patience = 5 * time.Second

func dial(addr string, crc bool) (*peer, error) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	return &peer{TCPConn: c.(*net.TCPConn), crc: crc}, c.SetDeadline(time.Now().Add(patience))
}

// handshake opens the connection. An rsocket is told of memory that it has no reason to write to.
func (p *peer) handshake(rsocket bool) error {
	f := mpa.Frame{Revision: mpa.Rev2, Flags: mpa.FlagEnhanced, Enhanced: mpa.Enhanced{IRD: 1, ORD: 1}}
	if p.crc {
		f.Flags |= mpa.FlagCRC
	}
	if rsocket {
		f.PrivateData = make([]byte, 40)
		copy(f.PrivateData, []byte{1, 2, 1, 0x80})
		f.PrivateData[23], f.PrivateData[38] = 2, 1
	}
	b, err := f.Append(nil)
	if err != nil {
		return err
	}
	if _, err := p.Write(b); err != nil {
		return err
	}
	reply := make([]byte, mpa.FrameHeaderLen)
	if _, err := io.ReadFull(p, reply); err != nil {
		return err
	}
	total, err := mpa.ParseHeader(reply, true)
	if err != nil {
		return err
	}
	reply = append(reply, make([]byte, total-len(reply))...)
	if _, err := io.ReadFull(p, reply[mpa.FrameHeaderLen:]); err != nil {
		return err
	}
	if f, err = mpa.Parse(reply, true); err != nil {
		return err
	}
	if rsocket {
		if len(f.PrivateData) < 40 {
			return fmt.Errorf("the peer answers with %d bytes of private data; it is no rsocket", len(f.PrivateData))
		}
		d := f.PrivateData[24:]
		p.ring.addr, p.ring.key, p.ring.size = binary.BigEndian.Uint64(d), binary.BigEndian.Uint32(d[8:]), binary.BigEndian.Uint32(d[12:])
	}
	return nil
}

// outcome says how the peer ends the connection, and what it has sent before that, if anything.
func (p *peer) outcome() string {
	for {
		fpdu := make([]byte, mpa.LengthLen)
		if _, err := io.ReadFull(p, fpdu); err != nil {
			return ending(err)
		}
		n := int(binary.BigEndian.Uint16(fpdu))
		fpdu = append(fpdu, make([]byte, mpa.FPDULen(n)-mpa.LengthLen)...)
		if _, err := io.ReadFull(p, fpdu[mpa.LengthLen:]); err != nil {
			return ending(err)
		}
		ulpdu, err := mpa.CheckFPDU(fpdu, p.crc)
		if err != nil {
			return fmt.Sprintf("an FPDU that is wrong itself: %v", err)
		}
		h, payload, err := ddp.ParseUntagged(ulpdu)
		if err != nil || h.QN != ddp.QueueTerminate {
			continue
		}
		t, err := rdmap.ParseTerminate(payload)
		if err != nil {
			return fmt.Sprintf("a Terminate that cannot be read: %v", err)
		}
		s := fmt.Sprintf("terminate %d/%d/%#02x", t.Layer, t.Type, t.Code)
		if o := t.Swapped(); o.Layer != t.Layer || o.Type != t.Type {
			s += fmt.Sprintf(", with the halves of the first byte in order %d/%d/%#02x", o.Layer, o.Type, o.Code)
			t = o
		}
		if e := rdmap.Lookup(t.Layer, t.Type, t.Code); e != nil {
			s += ": " + e.Text()
		}
		return s
	}
}

func ending(err error) string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "nothing"
	}
	return err.Error()
}
