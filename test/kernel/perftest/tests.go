package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// A test is what a program of perftest does, once both ends are there.
type test struct {
	access transport.Access // what the peer may do to our memory
	steps  int              // between the second connection and the test
	run    func(s *session) (string, error)
}

var tests = map[string]*test{
	"ib_send_lat": {steps: 4, run: (*session).sendLatency},
	"ib_write_bw": {access: transport.RemoteWrite, steps: 3, run: (*session).writeBandwidth},
	"ib_read_lat": {access: transport.RemoteRead, steps: 4, run: (*session).readLatency},
}

// sendLatency sends a message to and fro. The time of half a round trip is what perftest tells.
func (s *session) sendLatency() (string, error) {
	b := make([]byte, s.size)
	took := make([]time.Duration, s.count)
	for i := range took {
		begin := time.Now()
		if s.dial != "" {
			if err := s.data.send(b); err != nil {
				return "", err
			}
		}
		if err := s.data.hear(b); err != nil {
			return "", err
		}
		if s.dial == "" {
			if err := s.data.send(b); err != nil {
				return "", err
			}
		}
		took[i] = time.Since(begin) / 2
	}
	return typical(took), nil
}

// readLatency has the client fetch the peer's memory.
func (s *session) readLatency() (string, error) {
	if s.dial == "" {
		return "all by the peer", nil
	}
	took := make([]time.Duration, s.count)
	for i := range took {
		begin := time.Now()
		if err := s.data.post(s.request(transport.OpRead)); err != nil {
			return "", err
		}
		if _, err := s.data.await(transport.OpRead); err != nil {
			return "", err
		}
		took[i] = time.Since(begin)
	}
	return typical(took), nil
}

// writeBandwidth makes the client write into the peer's memory, and say how fast that went.
func (s *session) writeBandwidth() (string, error) {
	if s.dial == "" {
		return s.written()
	}
	const outstanding = 100
	for i := range s.data.memory {
		s.data.memory[i] = 0xa5
	}
	begin := time.Now()
	ended := func() error { _, err := s.data.await(transport.OpWrite); return err }
	for i := range s.count {
		if i >= outstanding {
			if err := ended(); err != nil {
				return "", err
			}
		}
		if err := s.data.post(s.request(transport.OpWrite)); err != nil {
			return "", err
		}
	}
	for range min(outstanding, s.count) {
		if err := ended(); err != nil {
			return "", err
		}
	}
	took := time.Since(begin).Seconds()
	if err := s.step(); err != nil {
		return "", err
	}
	mb := float64(s.size) * float64(s.count) / took / (1 << 20)
	_, err := s.report(mb, float64(s.count)/took/1e6)
	return fmt.Sprintf("%.2f MB/s", mb), err
}

// written waits for the peer's Writes, which are of random bytes.
func (s *session) written() (string, error) {
	if err := s.step(); err != nil {
		return "", err
	}
	got, err := s.report(0, 0)
	if err != nil {
		return "", err
	}
	if bytes.Equal(s.data.memory, make([]byte, len(s.data.memory))) {
		return "", errors.New("nothing was written")
	}
	if got.size != uint64(s.size) || got.count != uint64(s.count) {
		return "", fmt.Errorf("the peer tells of %d messages of %d bytes", got.count, got.size)
	}
	return fmt.Sprintf("%.2f MB/s", got.average), nil
}

// report is what the end that writes says about it.
type report struct {
	size, count uint64
	average     float64 // MB/s
}

// report exchanges the reports of both ends.
func (s *session) report(mb, rate float64) (r report, err error) {
	for i, v := range []uint64{uint64(s.size), uint64(s.count), math.Float64bits(mb), math.Float64bits(mb), math.Float64bits(rate)} {
		b, err := s.exchange(binary.BigEndian.AppendUint64(nil, v))
		if err != nil {
			return r, err
		}
		switch v := binary.BigEndian.Uint64(b); i {
		case 0:
			r.size = v
		case 1:
			r.count = v
		case 3:
			r.average = math.Float64frombits(v)
		}
	}
	return r, nil
}

// request is one message of the test, between the beginnings of both memories.
func (s *session) request(op transport.Opcode) transport.SendWR {
	return transport.SendWR{Opcode: op, Data: s.data.memory[:s.size], Region: s.data.mr,
		RemoteSTag: transport.STag(s.remote.key), RemoteOffset: s.remote.addr}
}

func typical(took []time.Duration) string {
	slices.Sort(took)
	return fmt.Sprintf("p50 %.1f us", float64(took[len(took)/2].Nanoseconds())/1e3)
}
