package shm_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/shm"
)

// TestPortOfAConnectionThatIsLeft at the server is not that of the next one.
func TestPortOfAConnectionThatIsLeft(t *testing.T) {
	for _, policy := range []iwarp.Offload{iwarp.OffloadNever, iwarp.OffloadRequire} {
		t.Run(policy.String(), func(t *testing.T) {
			own := []transport.Transport{shm.New(nil)} // and not software iWARP
			l := listenTCP(t, iwarp.ListenConfig{Offload: policy, Transports: own}, "tcp", "127.0.0.1:0")
			d := patient
			d.Offload, d.Transports = policy, own
			c, s := meet(t, l, &d, l.Addr().String())
			defer s.Close()
			require.NoError(t, c.Close())
			shm.CloseLinksOf(own[0].(*shm.Transport))
			for range 20 {
				next, other := meet(t, l, &d, l.Addr().String())
				require.NotEqual(t, c.LocalAddr(), next.LocalAddr())
				require.NotEqual(t, s.RemoteAddr(), other.RemoteAddr())
			}
			d.LocalAddr = c.LocalAddr()
			_, err := d.Dial("tcp", l.Addr().String())
			require.True(t, errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL), err)
		})
	}
}
