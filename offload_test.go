package iwarp_test

import (
	"flag"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

func TestParseOffload(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want iwarp.Offload
		bad  bool
	}{
		{in: "auto", want: iwarp.OffloadAuto},
		{in: "never", want: iwarp.OffloadNever},
		{in: "prefer", want: iwarp.OffloadPrefer},
		{in: "require", want: iwarp.OffloadRequire},
		{in: "Require", want: iwarp.OffloadRequire},
		{in: "", bad: true},
		{in: "yes", bad: true},
		{in: "auto ", bad: true},
	} {
		got, err := iwarp.ParseOffload(tt.in)
		if tt.bad {
			require.ErrorContains(t, err, "use auto, never, prefer or require", "%q", tt.in)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, tt.want, got)
		text, err := got.MarshalText()
		require.NoError(t, err)
		require.Equal(t, got.String(), string(text))
	}
	require.Equal(t, "offload(9)", iwarp.Offload(9).String())
	_, err := iwarp.Offload(9).MarshalText()
	require.Error(t, err)
}

func TestOffloadAsFlag(t *testing.T) {
	var o iwarp.Offload
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.TextVar(&o, "offload", iwarp.OffloadAuto, "")
	require.NoError(t, fs.Parse([]string{"-offload=prefer"}))
	require.Equal(t, iwarp.OffloadPrefer, o)
	require.Error(t, fs.Parse([]string{"-offload=maybe"}))
	require.Equal(t, iwarp.OffloadPrefer, o)
}

func TestBadPolicy(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer plain.Close()

	check := func(t *testing.T, err error, op, text string) {
		e := opError(t, err)
		require.Equal(t, op, e.Op)
		require.Equal(t, "tcp", e.Net)
		require.ErrorContains(t, err, text)
		require.ErrorContains(t, err, "use auto, never, prefer or require")
	}
	t.Run("field", func(t *testing.T) {
		_, err := (&iwarp.Dialer{Offload: 77}).Dial("tcp", plain.Addr().String())
		check(t, err, "dial", "offload(77)")
		_, err = (&iwarp.ListenConfig{Offload: 77}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		check(t, err, "listen", "offload(77)")
	})
	t.Run("environment", func(t *testing.T) {
		t.Setenv("IWARP_OFFLOAD", "sometimes")
		_, err := iwarp.Dial("tcp", plain.Addr().String())
		check(t, err, "dial", `environment variable IWARP_OFFLOAD: "sometimes"`)
		_, err = iwarp.Listen("tcp", "127.0.0.1:0")
		check(t, err, "listen", `environment variable IWARP_OFFLOAD: "sometimes"`)

		// Neither a policy of its own nor another network asks the environment.
		c, err := (&iwarp.Dialer{Offload: iwarp.OffloadNever}).Dial("tcp", plain.Addr().String())
		require.NoError(t, err)
		require.NoError(t, c.Close())
		u, err := iwarp.Dial("udp", "127.0.0.1:9")
		require.NoError(t, err)
		require.NoError(t, u.Close())
	})
}

func TestEnvironmentSetsPolicy(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{})
	acceptEach(t, l)
	for _, tt := range []struct {
		env   string
		field iwarp.Offload
		want  string
	}{
		{env: "", want: "tcp"},
		{env: "never", want: "tcp"},
		{env: "auto", want: "tcp"},
		{env: "prefer", want: "soft"},
		{env: "require", want: "soft"},
		{env: " Prefer\n", want: "soft"},
		{env: " ", want: "tcp"},
		{env: "never", field: iwarp.OffloadRequire, want: "soft"},
		{env: "require", field: iwarp.OffloadNever, want: "tcp"},
	} {
		t.Setenv("IWARP_OFFLOAD", tt.env)
		require.Equal(t, tt.want, describe(t, dial(t, l, tt.field)).Transport, "%+v", tt)
	}
}

// TestEnvironmentOfListeners has a variable of their own, so that clients that must use iWARP do
// not shut others out.
func TestEnvironmentOfListeners(t *testing.T) {
	for _, tt := range []struct {
		both, listeners string
		field           iwarp.Offload
		refuses         bool // plain TCP clients
	}{
		{both: "", refuses: false},
		{both: "require", refuses: true},
		{both: "require", listeners: "auto", refuses: false},
		{both: "require", listeners: " auto\n", refuses: false},
		{both: "require", listeners: "never", refuses: false},
		{both: "require", listeners: " ", refuses: true},
		{both: "never", listeners: "require", refuses: true},
		{both: "never", listeners: "require", field: iwarp.OffloadPrefer, refuses: false},
		{both: "nonsense", listeners: "require", refuses: true},
	} {
		t.Setenv("IWARP_OFFLOAD", tt.both)
		t.Setenv("IWARP_LISTEN_OFFLOAD", tt.listeners)
		l := listen(t, iwarp.ListenConfig{Offload: tt.field})
		go echo(l)
		c := dialTCP(t, l)
		_, err := io.WriteString(c, "these bytes are no MPA request")
		require.NoError(t, err)
		_, err = io.ReadFull(c, make([]byte, 1))
		require.Equal(t, tt.refuses, err != nil, "%+v: %v", tt, err)
	}
	t.Setenv("IWARP_OFFLOAD", "never")
	t.Setenv("IWARP_LISTEN_OFFLOAD", "require")
	require.Equal(t, "tcp", describe(t, dial(t, listen(t, iwarp.ListenConfig{Offload: iwarp.OffloadNever}), iwarp.OffloadAuto)).Transport, "not for clients")
	t.Setenv("IWARP_LISTEN_OFFLOAD", "sometimes")
	_, err := iwarp.Listen("tcp", "127.0.0.1:0")
	require.ErrorContains(t, err, `environment variable IWARP_LISTEN_OFFLOAD: "sometimes"`)
}
