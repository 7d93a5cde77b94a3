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
		{in: "device", want: iwarp.OffloadDevice},
		{in: "Require", want: iwarp.OffloadRequire},
		{in: "", bad: true},
		{in: "yes", bad: true},
		{in: "auto ", bad: true},
	} {
		got, err := iwarp.ParseOffload(tt.in)
		if tt.bad {
			require.ErrorContains(t, err, "use auto, never, prefer, require or device", "%q", tt.in)
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
		require.ErrorContains(t, err, "use auto, never, prefer, require or device")
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

// TestPolicyByAddress has a function choose, which leaves to the field what it says nothing of.
func TestPolicyByAddress(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{})
	acceptEach(t, l)
	address := l.Addr().String()
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	byName := "server.test:" + port
	for _, tt := range []struct {
		name, address  string
		offload        iwarp.Offload
		policies       map[string]iwarp.Offload
		env, transport string
	}{
		{name: "function", address: address, policies: map[string]iwarp.Offload{address: iwarp.OffloadRequire}, transport: "soft"},
		{name: "over the field", address: address, offload: iwarp.OffloadRequire, policies: map[string]iwarp.Offload{address: iwarp.OffloadNever}, transport: "tcp"},
		{name: "over the environment", address: address, env: "never", policies: map[string]iwarp.Offload{address: iwarp.OffloadPrefer}, transport: "soft"},
		{name: "a name as dialed", address: byName, policies: map[string]iwarp.Offload{byName: iwarp.OffloadRequire}, transport: "soft"},
		{name: "the field", address: address, offload: iwarp.OffloadRequire, transport: "soft"},
		{name: "the environment", address: address, env: "require", transport: "soft"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("IWARP_OFFLOAD", tt.env)
			d := iwarp.Dialer{Offload: tt.offload, Policy: func(a string) iwarp.Offload { return tt.policies[a] }, Resolver: nameServer([4]byte{127, 0, 0, 1})}
			require.Equal(t, tt.transport, describe(t, dialBy(t, &d, "tcp", tt.address)).Transport)
		})
	}
	_, err = (&iwarp.Dialer{Policy: func(string) iwarp.Offload { return 77 }}).Dial("tcp", address)
	require.ErrorContains(t, err, "offload(77)")
	u, err := (&iwarp.Dialer{Policy: func(string) iwarp.Offload { panic("not for UDP") }}).Dial("udp", "127.0.0.1:9")
	require.NoError(t, err)
	require.NoError(t, u.Close())
}

// TestRulesOfEnvironment dials by rules for hosts, prefixes and ports.
func TestRulesOfEnvironment(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{})
	acceptEach(t, l)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	for _, tt := range []struct {
		env, host, want string
	}{
		{env: "never,127.0.0.0/8=require", want: "soft"},
		{env: "127.0.0.0/8=require", want: "soft"},
		{env: "10.0.0.0/8=require", want: "tcp"},
		{env: "require,127.0.0.1:" + port + "=never", want: "tcp"},
		{env: "require,:" + port + "=never", want: "tcp"},
		{env: "require,:1=never", want: "soft"},
		{env: " never , 127.0.0.1 = Prefer ", want: "soft"},
		{env: "require,127.0.0.0/8=never", host: "server.test", want: "tcp"},
		{env: "never,127.0.0.0/8=require", host: "server.test", want: "soft"},
		{env: "never,server.test=require,127.0.0.0/8=never", host: "server.test", want: "soft"},
		{env: "never,*.test:" + port + "=require", host: "Server.test", want: "soft"},
		{env: "never,127.0.0.0/8=require", host: "0.0.0.0", want: "soft"},
	} {
		t.Setenv("IWARP_OFFLOAD", tt.env)
		if tt.host == "" {
			tt.host = "127.0.0.1"
		}
		d := iwarp.Dialer{Resolver: nameServer([4]byte{127, 0, 0, 1})}
		require.Equal(t, tt.want, describe(t, dialBy(t, &d, "tcp", net.JoinHostPort(tt.host, port))).Transport, "%+v", tt)
	}
}

// TestRulesForAddressesOfName tries each address of a name by the policy that is the address's own.
func TestRulesForAddressesOfName(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{})
	acceptEach(t, l)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	address := "server.test:" + port
	t.Setenv("IWARP_OFFLOAD", "never,127.0.0.9=require,127.0.0.1=require")
	for _, tt := range []struct {
		addrs [][4]byte
		want  string
	}{
		{[][4]byte{{127, 0, 0, 1}, {127, 0, 0, 9}}, "soft"}, // of one mind
		{[][4]byte{{127, 0, 0, 1}, {127, 0, 0, 8}}, "soft"},
		{[][4]byte{{127, 0, 0, 8}, {127, 0, 0, 1}}, "soft"}, // where nobody listens at the first
	} {
		d := iwarp.Dialer{Resolver: nameServer(tt.addrs...), Timeout: patience}
		require.Equal(t, tt.want, describe(t, dialBy(t, &d, "tcp", address)).Transport, "%v", tt.addrs)
	}
	want, err := (&net.Dialer{Resolver: nameServer([4]byte{127, 0, 0, 8}, [4]byte{127, 0, 0, 9})}).Dial("tcp", address)
	require.Nil(t, want)
	refused := err
	_, err = (&iwarp.Dialer{Resolver: nameServer([4]byte{127, 0, 0, 8}, [4]byte{127, 0, 0, 9})}).Dial("tcp", address)
	require.Equal(t, refused.Error(), err.Error(), "the first error, as of package net")
}

// TestBadRules has both variables say what is wrong with them, to whoever needs them.
func TestBadRules(t *testing.T) {
	for _, tt := range []struct{ env, want string }{
		{"prefer,10.0.0.0/33=require", `environment variable IWARP_OFFLOAD: rule "10.0.0.0/33=require": `},
		{"prefer,db=sometimes", `environment variable IWARP_OFFLOAD: rule "db=sometimes": "sometimes": unknown offload policy; use auto, never, prefer, require or device`},
		{"prefer,never", `environment variable IWARP_OFFLOAD: rule "never": `},
		{"prefer,", `environment variable IWARP_OFFLOAD: rule "": empty rule`},
		{"db:5432", `environment variable IWARP_OFFLOAD: "db:5432": unknown offload policy`},
	} {
		t.Setenv("IWARP_OFFLOAD", tt.env)
		for range 2 { // also when it is known
			_, err := iwarp.Dial("tcp", "127.0.0.1:1")
			require.Equal(t, "dial", opError(t, err).Op)
			require.ErrorContains(t, err, tt.want)
			_, err = iwarp.Listen("tcp", "127.0.0.1:0")
			require.Equal(t, "listen", opError(t, err).Op)
			require.ErrorContains(t, err, tt.want)
		}
	}
	t.Setenv("IWARP_LISTEN_OFFLOAD", "auto")
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

// TestRulesOfListeners has the rules of their own variable for what they listen on, and of the
// other one only what it says for all.
func TestRulesOfListeners(t *testing.T) {
	for _, tt := range []struct {
		both, listeners string
		want            iwarp.Offload
	}{
		{both: "require,127.0.0.0/8=never", want: iwarp.OffloadRequire},
		{both: "127.0.0.0/8=require", want: iwarp.OffloadAuto},
		{listeners: "require,127.0.0.0/8=never", want: iwarp.OffloadNever},
		{listeners: "require,10.0.0.0/8=never", want: iwarp.OffloadRequire},
		{listeners: "require,localhost=prefer", want: iwarp.OffloadRequire},
		{both: "require", listeners: "10.0.0.0/8=never", want: iwarp.OffloadAuto},
	} {
		t.Setenv("IWARP_OFFLOAD", tt.both)
		t.Setenv("IWARP_LISTEN_OFFLOAD", tt.listeners)
		require.Equal(t, tt.want, policyOf(t, "127.0.0.1:0"), "%+v", tt)
	}
	t.Setenv("IWARP_LISTEN_OFFLOAD", "require,:1=auto")
	require.Equal(t, iwarp.OffloadRequire, policyOf(t, ":0"))
	t.Setenv("IWARP_LISTEN_OFFLOAD", "auto,127.0.0.1=require")
	require.Equal(t, iwarp.OffloadAuto, policyOf(t, ":0"))
	needLocalhost(t)
	require.Equal(t, iwarp.OffloadRequire, policyOf(t, "localhost:0"))
}

// policyOf returns the policy of a listener on the address.
func policyOf(t *testing.T, address string) iwarp.Offload {
	l, err := iwarp.Listen("tcp", address)
	require.NoError(t, err)
	defer l.Close()
	for _, s := range iwarp.Snapshot().Listeners {
		if s.Addr.Port() == uint16(l.Addr().(*net.TCPAddr).Port) {
			return s.Policy
		}
	}
	t.Fatal("not in the snapshot")
	return 0
}

// TestOffloadDevice takes nothing but a device, on both ends.
func TestOffloadDevice(t *testing.T) {
	n := newNIC()
	both := listen(t, iwarp.ListenConfig{Transports: n.transports()})
	acceptEach(t, both)
	devices := listen(t, iwarp.ListenConfig{Transports: n.transports(), Offload: iwarp.OffloadDevice})
	acceptEach(t, devices)
	for _, l := range []net.Listener{both, devices} {
		d := iwarp.Dialer{Offload: iwarp.OffloadDevice, Transports: n.transports(), Timeout: patience}
		require.Equal(t, "nic", describe(t, dialBy(t, &d, "tcp", l.Addr().String())).Transport)
	}
	why := func(d *iwarp.Dialer, l net.Listener) *iwarp.OffloadError {
		d.Timeout = patience
		_, err := d.Dial("tcp", l.Addr().String())
		var why *iwarp.OffloadError
		require.ErrorAs(t, err, &why)
		return why
	}
	require.Equal(t, iwarp.ReasonNoDevice, why(&iwarp.Dialer{Offload: iwarp.OffloadDevice, Transports: n.transports()[1:]}, both).Reason)
	require.Equal(t, iwarp.ReasonNoDevice, why(&iwarp.Dialer{Offload: iwarp.OffloadDevice}, both).Reason, "those that are registered: software")
	require.Equal(t, iwarp.ReasonNotIWARP, why(&iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: n.transports()[1:]}, devices).Reason)
	n.unroutable = true
	require.Equal(t, iwarp.ReasonNoRoute, why(&iwarp.Dialer{Offload: iwarp.OffloadDevice, Transports: n.transports()}, both).Reason)

	lc := iwarp.ListenConfig{Offload: iwarp.OffloadDevice}
	_, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	var failed *iwarp.OffloadError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, iwarp.ReasonNoDevice, failed.Reason)
}
