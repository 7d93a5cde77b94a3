package rdmanet_test

import (
	"io"
	"runtime"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// TestSmallStack has a goroutine read and write little on the stack that it began with, as it does
// with package net: one that waits in Read keeps what it has grown to.
func TestSmallStack(t *testing.T) {
	switch {
	case raceEnabled, testing.CoverMode() != "":
		t.Skip("frames are larger")
	case runtime.GOOS != "linux" || runtime.GOARCH != "amd64":
		t.Skip("frames may be larger")
	}
	const ends = 40
	stayed := 0
	for range ends {
		e := connect(t, setting{})
		client, server := e.a, e.b
		moved := make(chan bool, 1)
		go func() {
			var on byte // the stack
			at := uintptr(unsafe.Pointer(&on))
			b := make([]byte, 16)
			_, _ = io.ReadFull(server, b)
			_, _ = io.ReadFull(server, b[:1])
			_, _ = server.Write(b[:1])
			moved <- uintptr(unsafe.Pointer(&on)) != at
		}()
		_, err := client.Write(make([]byte, 17))
		require.NoError(t, err)
		_, err = client.Read(make([]byte, 1))
		require.NoError(t, err)
		if !<-moved {
			stayed++
		}
	}
	// The allocator and the locks of the runtime have slow paths that now and then need more.
	require.Greater(t, stayed, ends/2)
}
