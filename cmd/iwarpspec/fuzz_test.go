package main

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/testkit"
)

// FuzzCase has a peer answer a case with whatever it likes, and leave. The case has to come to an
// end, and to say what is wrong in a line.
func FuzzCase(f *testing.F) {
	quiet = time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, l.Close()) })
	cases := [][]testCase{allCases(false), allCases(true)}
	terminate := fpdu(untagged(lastUntagged, opTerminate, 2, 1, 0, 0x20, 2, 0, 0))
	for i := range 60 {
		for _, seed := range [][]byte{
			nil, startup(replyKey, flagCRC, 1, make([]byte, 40)), startup(replyKey, flagCRC|flagEnhanced, 2, append(words(1, 1), rsocketData()...)),
			append(startup(replyKey, flagCRC, 1, nil), terminate...), append(startup(requestKey, flagCRC, 1, rsocketData()), terminate...),
			append(startup(requestKey, flagCRC|flagEnhanced, 2, words(0xc010, 0x8010)), fpdu(tagged(lastTagged, opReadResponse, 1, 0))...),
			startup(replyKey, flagReject, 1, nil), startup(replyKey, flagCRC, 1, make([]byte, 513)),
		} {
			f.Add(i%2 == 0, uint16(i*7), seed)
		}
	}
	f.Fuzz(func(t *testing.T, responder bool, which uint16, in []byte) {
		of := cases[0]
		if responder {
			of = cases[1]
		}
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		a, err := l.Accept()
		require.NoError(t, err)
		defer a.Close()
		other := a.(*net.TCPConn)
		_, err = other.Write(in[:min(len(in), 32<<10)])
		require.NoError(t, err)
		require.NoError(t, other.CloseWrite())
		go func() { _, _ = io.Copy(io.Discard, other) }()
		end := time.Now().Add(testkit.Patience)
		require.NoError(t, c.SetDeadline(end))
		k := &of[int(which)%len(of)]
		p := &peer{TCPConn: c.(*net.TCPConn), end: end, private: rsocketData(), rsocket: which%2 == 0}
		if err := k.run(p); err != nil {
			require.NotEmpty(t, err.Error(), k.title())
		}
		require.True(t, time.Now().Before(end), "%s waits for a peer that has left", k.title())
	})
}
