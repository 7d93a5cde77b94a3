package rdmanet_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
)

// A rereader is a Writer that looks at its bytes again after the peer has written to the ring.
type rereader struct {
	rewrite func()
	first   string
	again   string
}

var errSeen = errors.New("seen enough")

func (w *rereader) Write(p []byte) (int, error) {
	w.first = string(p)
	w.rewrite()
	w.again = string(p)
	return len(p), errSeen
}

// What a peer writes to the ring out of turn does not change what was delivered: neither where
// software places and finds it wrong, nor where a device does, which may write to all of the ring
// at any time.
func TestPeerCannotChangeWhatIsDelivered(t *testing.T) {
	for _, tt := range []struct {
		name   string
		s      setting
		detect bool
	}{
		{"placed by software", setting{}, true},
		{"memory", setting{restricted: true}, false},
		{"memory of a device", setting{device: true}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, c, _ := dialRawTo(t, tt.s, nil, nil)
			p.data([]byte("good"))
			b := make([]byte, 4)
			w := &rereader{rewrite: func() {
				p.place(0, []byte("evil"))
				p.data([]byte("next"))
				_, err := c.Read(b) // which lets the transport place
				if tt.detect {
					require.ErrorIs(t, err, rdmanet.ErrProtocol)
				} else {
					require.NoError(t, err)
					require.Equal(t, "next", string(b))
				}
			}}
			_, err := c.WriteTo(w)
			require.ErrorIs(t, err, errSeen)
			require.Equal(t, "good", w.first)
			require.Equal(t, "good", w.again)
		})
	}
}

// The same for bytes that have come and are not read yet: software keeps them as they came.
func TestPeerCannotChangeWhatHasCome(t *testing.T) {
	p, c, _ := dialRaw(t, nil, nil)
	p.data([]byte("good"))
	b := make([]byte, 1)
	_, err := c.Read(b)
	require.NoError(t, err)
	p.place(1, []byte("vil"))
	p.data([]byte("next"))
	rest := make([]byte, 16)
	n, err := c.Read(rest)
	require.NoError(t, err)
	require.Equal(t, "ood", string(rest[:n]))
	_, err = c.Read(rest)
	require.ErrorIs(t, err, rdmanet.ErrProtocol)
}
