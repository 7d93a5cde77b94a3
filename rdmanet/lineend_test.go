package rdmanet_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/rdmanet"
)

// TestRequestEndsLine ends the request as a line does where there is room: in software.
func TestRequestEndsLine(t *testing.T) {
	const end = "\x7f\x04\r\n\r\n"
	for _, c := range []struct {
		setting
		len  int
		ends bool
	}{
		{setting: setting{name: "software", alwaysCRC: true}, len: 40 + 6 + 6 + 4 + len(end), ends: true},
		{setting: setting{name: "plain", client: rdmanet.Config{Plain: true}}, len: 40},
		{setting: setting{name: "device", device: true}, len: 40 + 6 + 6 + 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := prepare(t, c.setting, nil)
			ctx := testContext(t)
			done := make(chan error, 1)
			go func() {
				a, err := rdmanet.Client(ctx, &redirect.Connector{Connector: n.k, Takes: redirect.StreamOrTo, Service: 80}, &c.client)
				if err == nil {
					a.Close()
				}
				done <- err
			}()
			r, err := n.accept()
			require.NoError(t, err)
			said := string(r.PrivateData())
			require.Len(t, said, c.len)
			require.Equal(t, c.ends, said[len(said)-len(end):] == end, "%q", said)
			b, err := rdmanet.Server(ctx, r, nil)
			require.NoError(t, err)
			require.NoError(t, <-done)
			b.Close()
		})
	}
}
