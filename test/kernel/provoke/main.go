// Provoke has a peer end the connection by a Terminate, with requests that package transport takes
// or with a Send that is altered on the way, and tells what the queue pair makes of that: the
// report as its error, and how the request ended.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// A target is memory of the peer's, if it is an rsocket: those of the others are not told.
type target struct {
	addr uint64
	key  uint32
}

// requests are what is posted, by the name of the fault.
var requests = map[string]func(to target) []transport.SendWR{
	"wrong stag": func(target) []transport.SendWR {
		return []transport.SendWR{{Opcode: transport.OpWrite, Data: []byte("x"), RemoteSTag: 0xdeadbeef}}
	},
	"bounds": func(to target) []transport.SendWR {
		return []transport.SendWR{{Opcode: transport.OpWrite, Data: []byte("x"), RemoteSTag: transport.STag(to.key), RemoteOffset: to.addr + 1<<30}}
	},
	"read of a wrong stag": func(target) []transport.SendWR {
		return []transport.SendWR{{Opcode: transport.OpRead, RemoteSTag: 0xdeadbeef}}
	},
	"send too long": func(target) []transport.SendWR {
		return []transport.SendWR{{Opcode: transport.OpSend, Data: make([]byte, 64)}}
	},
	"no receive": func(target) []transport.SendWR {
		wrs := make([]transport.SendWR, 8)
		for i := range wrs {
			wrs[i] = transport.SendWR{Opcode: transport.OpSend, Data: make([]byte, 16)}
		}
		return wrs
	},
}

func send(target) []transport.SendWR {
	return []transport.SendWR{{Opcode: transport.OpSend, Data: make([]byte, 4)}}
}

// acceptTime is longer than the peer's kernel takes from its answer to the end of rdma_accept.
const acceptTime = 600 * time.Millisecond

func main() {
	log.SetFlags(0)
	log.SetPrefix("provoke: ")
	addr := flag.String("to", "", "`address` and port of the peer")
	name := flag.String("case", "", "`fault` to make")
	rsocket := flag.Bool("rsocket", false, "the peer is an rsocket")
	flag.Parse()
	request := requests[*name]
	if alter := alterations[*name]; alter != nil {
		through, err := proxy(*addr, alter)
		if err != nil {
			log.Fatal(err)
		}
		*addr, request = through, send
	}
	if request == nil {
		log.Fatalf("no such case: %q", *name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	if err := provoke(ctx, *addr, request, *rsocket); err != nil {
		log.Fatal(err)
	}
}

func provoke(ctx context.Context, addr string, request func(target) []transport.SendWR, rsocket bool) error {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	c, err := soft.New(nil).Dial(ctx, netip.AddrPort{}, to, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	qp := c.QueuePair()
	buf := make([]byte, 8)
	sink, err := qp.RegisterMemory(buf, transport.LocalWrite)
	if err != nil {
		return err
	}
	var private []byte
	if rsocket { // it may have a word to say, and space to tell of
		words := make([]transport.RecvWR, 8)
		for i := range words {
			words[i] = transport.RecvWR{Data: buf, Region: sink}
		}
		if _, err := qp.PostRecv(words); err != nil {
			return err
		}
		ring, err := qp.RegisterMemory(make([]byte, 256), transport.LocalWrite|transport.RemoteWrite)
		if err != nil {
			return err
		}
		private = make([]byte, 40)
		copy(private, []byte{1, 2, 1, 0x80})
		for _, at := range []int{8, 24} { // where the peer tells of space, and its stream
			binary.BigEndian.PutUint64(private[at:], ring.Base())
			binary.BigEndian.PutUint32(private[at+8:], uint32(ring.STag()))
		}
		private[23], private[38] = 2, 1
	}
	said, err := c.Connect(ctx, private)
	if err != nil {
		return err
	}
	var t target
	if rsocket {
		if len(said) < 40 {
			return fmt.Errorf("the peer answers with %d bytes of private data; it is no rsocket", len(said))
		}
		t = target{addr: binary.BigEndian.Uint64(said[24:]), key: binary.BigEndian.Uint32(said[32:])}
	}
	if !rsocket {
		// A connection that breaks while the other kernel still accepts it can stop that (iwcm.c of
		// Linux 6.1), which nothing tells.
		time.Sleep(acceptTime)
	}
	wrs := request(t)
	for i := range wrs {
		wrs[i].Flags |= transport.Signaled
		if wrs[i].Opcode == transport.OpRead {
			wrs[i].Data, wrs[i].Region = buf, sink
		} else {
			wrs[i].Flags |= transport.Inline
		}
	}
	if _, err := qp.PostSend(wrs); err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	for qp.Err() == nil {
		if err := qp.Wait(deadline); err != nil && qp.Err() == nil {
			return err
		}
		qp.Poll(make([]transport.Completion, 16))
	}
	var te *transport.TerminateError
	if !errors.As(qp.Err(), &te) {
		return fmt.Errorf("the queue pair ends with %w, not a Terminate", qp.Err())
	}
	fmt.Printf("terminate %d/%d/%#02x: %s (%v)\n", te.Layer, te.Type, te.Code, te.Text, qp.State())
	return nil
}
