package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// infoSize is the length of every message: tagged offset (8 bytes), STag (4) and length (4) of a
// buffer, big-endian.
const infoSize = 16

// info is the advertisement of a buffer. The server's go-ahead is one whose content does not
// matter.
type info struct {
	offset uint64
	stag   transport.STag
	length uint32
}

func (i info) marshal(b []byte) {
	binary.BigEndian.PutUint64(b, i.offset)
	binary.BigEndian.PutUint32(b[8:], uint32(i.stag))
	binary.BigEndian.PutUint32(b[12:], i.length)
}

func (i *info) unmarshal(b []byte) {
	i.offset = binary.BigEndian.Uint64(b)
	i.stag = transport.STag(binary.BigEndian.Uint32(b[8:]))
	i.length = binary.BigEndian.Uint32(b[12:])
}

// Identifiers of the work requests, which the completions bring back.
const (
	recvID = iota
	sendID
	readID
	writeID
)

// errBogus is a message that is not an advertisement.
var errBogus = errors.New("received a message of the wrong size")

// An endpoint is one end of the connection with its buffers. One goroutine uses it.
type endpoint struct {
	qp   transport.QueuePair
	data []byte                 // what is read to and written from, or the client's sink
	mr   transport.MemoryRegion // of data
	in   []byte                 // the one receive buffer
	inMR transport.MemoryRegion

	received    bool           // a message is in peer and was not awaited yet
	peer        info           // the last message
	invalidated transport.STag // the region of ours that it revoked
}

// newEndpoint registers the buffers and posts the receive, which has to be there before the peer is
// told that it may send.
func newEndpoint(qp transport.QueuePair, size int, access transport.Access) (*endpoint, error) {
	e := &endpoint{qp: qp}
	var err error
	if e.data, e.mr, err = register(qp, size, access); err != nil {
		return nil, err
	}
	if e.in, e.inMR, err = register(qp, infoSize, transport.LocalWrite); err != nil {
		return nil, err
	}
	return e, e.postRecv()
}

// register returns n bytes of memory, which a device brings itself.
func register(qp transport.QueuePair, n int, access transport.Access) ([]byte, transport.MemoryRegion, error) {
	var b []byte
	var mr transport.MemoryRegion
	var err error
	if a, ok := transport.As[transport.MemoryAllocator](qp); ok {
		b, mr, err = a.AllocateMemory(n, access)
	} else {
		b = make([]byte, n)
		mr, err = qp.RegisterMemory(b, access)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("register %d bytes: %w", n, err)
	}
	return b, mr, nil
}

func (e *endpoint) postRecv() error {
	_, err := e.qp.PostRecv([]transport.RecvWR{{ID: recvID, Data: e.in, Region: e.inMR}})
	return err
}

// post posts one request. Nobody waits for its completion yet, so it is signaled.
func (e *endpoint) post(wr transport.SendWR) error {
	wr.Flags |= transport.Signaled
	if _, err := e.qp.PostSend([]transport.SendWR{wr}); err != nil {
		return e.cause(err)
	}
	return nil
}

// send sends an advertisement; if revoke is not 0 it revokes that region of the peer.
func (e *endpoint) send(i info, revoke transport.STag) error {
	var b [infoSize]byte
	i.marshal(b[:])
	wr := transport.SendWR{ID: sendID, Opcode: transport.OpSend, Flags: transport.Inline, Data: b[:]}
	if revoke != 0 {
		wr.Opcode, wr.Invalidate = transport.OpSendInvalidate, revoke
	}
	return e.post(wr)
}

// read fetches the peer's buffer into the first bytes of data.
func (e *endpoint) read(from info) error {
	err := e.post(transport.SendWR{
		ID: readID, Opcode: transport.OpRead, Data: e.data[:from.length], Region: e.mr,
		RemoteSTag: from.stag, RemoteOffset: from.offset,
	})
	if err != nil {
		return err
	}
	return e.await(readID)
}

// write puts the first n bytes of data into the peer's buffer.
func (e *endpoint) write(to info, n int) error {
	err := e.post(transport.SendWR{
		ID: writeID, Opcode: transport.OpWrite, Data: e.data[:n], Region: e.mr,
		RemoteSTag: to.stag, RemoteOffset: to.offset,
	})
	if err != nil {
		return err
	}
	return e.await(writeID)
}

// recv waits for the next message.
func (e *endpoint) recv() (info, error) {
	if !e.received {
		if err := e.await(recvID); err != nil {
			return info{}, err
		}
	}
	e.received = false
	return e.peer, nil
}

// await handles completions until one with the ID of want is among them.
func (e *endpoint) await(want uint64) error {
	var wc [4]transport.Completion
	for {
		n := e.qp.Poll(wc[:])
		done := false
		for _, c := range wc[:n] {
			if err := e.complete(c); err != nil {
				return err
			}
			done = done || c.ID == want
		}
		if done {
			return nil
		}
		if n == 0 {
			if err := e.qp.Wait(time.Time{}); err != nil {
				return e.cause(err)
			}
		}
	}
}

func (e *endpoint) complete(c transport.Completion) error {
	if c.Status != transport.StatusSuccess {
		return e.cause(fmt.Errorf("%v failed: %v", c.Opcode, c.Status))
	}
	if c.ID != recvID {
		return nil
	}
	if c.Bytes != infoSize {
		return fmt.Errorf("%w: %d bytes", errBogus, c.Bytes)
	}
	e.peer.unmarshal(e.in)
	e.received, e.invalidated = true, c.Invalidated
	return e.postRecv()
}

// cause returns why the connection is over, if it is, else err.
func (e *endpoint) cause(err error) error {
	if why := e.qp.Err(); why != nil {
		return why
	}
	return err
}

// guard ends the connection when ctx does. The function that it returns takes that back.
func guard(ctx context.Context, qp transport.QueuePair) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = qp.Abort() })
}

// disconnected tells an orderly end of the peer's from a failure.
func disconnected(err error) bool { return errors.Is(err, io.EOF) }
