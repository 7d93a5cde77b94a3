package addrrules

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var errValue = errors.New("not a value")

// upper takes words in upper case for values.
func upper(s string) (string, error) {
	if s == "" || strings.ToUpper(s) != s {
		return "", errValue
	}
	return s, nil
}

const unknown = "?"

func find(r Rules[string], host, addr string, port uint16) string {
	a, _ := netip.ParseAddr(addr)
	v, found, resolve := r.Find(host, a, port)
	switch {
	case resolve:
		return unknown
	case !found:
		return ""
	}
	return v
}

func TestFind(t *testing.T) {
	r, err := Parse("REST, 10.1.0.0/16=A, 10.0.0.0/8:5432=B ,10.0.0.0/8=C,fd00::/8=D,[fe80::/10]:80=E,[2001:db8::1]:http=F,"+
		"2001:db8::2=G,192.0.2.1=H,192.0.2.2:81=I,DB.internal.:5432=J,*.internal=K,:8081=L,db=M", upper)
	require.NoError(t, err)
	for _, tt := range []struct {
		host, addr string
		port       uint16
		want       string
	}{
		{host: "10.1.2.3", port: 5432, want: "A"},
		{host: "10.2.2.3", port: 5432, want: "B"},
		{host: "10.2.2.3", port: 80, want: "C"},
		{host: "::ffff:10.2.2.3", port: 80, want: "C"},
		{host: "11.2.2.3", port: 80, want: "REST"},
		{host: "fd12::1", port: 1, want: "D"},
		{host: "fe80::1%eth0", port: 80, want: "E"},
		{host: "fe80::1%eth0", port: 81, want: "REST"},
		{host: "2001:db8::1", port: 80, want: "F"},
		{host: "2001:db8::1", port: 443, want: "REST"},
		{host: "2001:db8::2", port: 443, want: "G"},
		{host: "192.0.2.1", port: 1, want: "H"},
		{host: "192.0.2.2", port: 81, want: "I"},
		{host: "192.0.2.2", port: 82, want: "REST"},
		{host: "192.0.2.3", port: 8081, want: "L"},
		{host: "", port: 8081, want: "L"},
		{host: "", port: 80, want: "REST"},
		{host: "db.internal", port: 5432, want: unknown},
		{host: "db.internal", addr: "192.0.2.9", port: 5432, want: "J"},
		{host: "Db.Internal.", addr: "192.0.2.9", port: 5432, want: "J"},
		{host: "db.internal", addr: "10.1.1.1", port: 5432, want: "A"},
		{host: "db.internal", addr: "192.0.2.9", port: 80, want: "K"},
		{host: "a.b.internal", addr: "192.0.2.9", port: 80, want: "K"},
		{host: "internal", addr: "192.0.2.9", port: 80, want: "REST"},
		{host: "xinternal", addr: "192.0.2.9", port: 80, want: "REST"},
		{host: "db", addr: "::ffff:192.0.2.9", port: 80, want: "M"},
	} {
		require.Equal(t, tt.want, find(r, tt.host, tt.addr, tt.port), "%+v", tt)
	}
}

// TestFindName looks nothing up that a rule for the name decides, nor for a port that no rule with
// a prefix has.
func TestFindName(t *testing.T) {
	r, err := Parse("db=A,10.0.0.0/8:5432=B,*.example=C", upper)
	require.NoError(t, err)
	require.Equal(t, "A", find(r, "db", "", 5432))
	require.Equal(t, unknown, find(r, "www.example", "", 5432))
	require.Equal(t, "C", find(r, "www.example", "", 80))
	require.Equal(t, "", find(r, "other", "", 80))
}

// TestFindMapped has rules for IPv4-mapped addresses be for those of IPv4.
func TestFindMapped(t *testing.T) {
	r, err := Parse("::ffff:10.0.0.0/104=A,::ffff:192.0.2.1=B", upper)
	require.NoError(t, err)
	require.Equal(t, "A", find(r, "10.1.2.3", "", 80))
	require.Equal(t, "B", find(r, "::ffff:192.0.2.1", "", 80))
}

func TestParseErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                          `rule "": empty rule`,
		"A,,B":                      `rule "": empty rule`,
		"A,":                        `rule "": empty rule`,
		"a":                         `rule "a": not a value`,
		"A,B":                       `rule "B": there is a rule for the same addresses before it`,
		"db=A,DB.=B":                `rule "DB.=B": there is a rule for the same addresses before it`,
		"db=":                       `rule "db=": not a value`,
		"=A":                        `rule "=A": not a host name`,
		"db=A=B":                    `rule "db=A=B": `,
		"10.0.0.0/33=A":             `rule "10.0.0.0/33=A": netip.ParsePrefix("10.0.0.0/33")`,
		"10.1.0.0/8=A":              `rule "10.1.0.0/8=A": 10.1.0.0/8 has bits beyond the prefix, as in 10.0.0.0/8`,
		"10.0.0=A":                  `rule "10.0.0=A": "10.0.0": not a host name`,
		"10.*=A":                    `rule "10.*=A": "10.*": not a host name`,
		"*=A":                       `rule "*=A": "*": not a host name`,
		"*.=A":                      `rule "*.=A": "*.": not a host name`,
		"db:99999=A":                `rule "db:99999=A": `,
		":0=A":                      `rule ":0=A": nobody is connected to port 0`,
		"db:=A":                     `rule "db:=A": address db:: missing port in address`,
		"[fd00::1=A":                `rule "[fd00::1=A": address in brackets is not closed`,
		"[fd00::1]80=A":             `rule "[fd00::1]80=A": address in brackets is not closed`,
		"[]=A":                      `rule "[]=A": not a host name`,
		"fe80::1%eth0=A":            `rule "fe80::1%eth0=A": a rule cannot have a zone`,
		"fd00::/8:80=A":             `rule "fd00::/8:80=A": `,
		"http://db=A":               `rule "http://db=A": `,
		"10.0.0.0/8=A,10.0.0.0/8=B": `rule "10.0.0.0/8=B": there is a rule for the same addresses before it`,
	} {
		_, err := Parse(in, func(s string) (string, error) {
			if strings.Contains(s, "=") {
				return "", errValue
			}
			return upper(s)
		})
		require.ErrorContains(t, err, want, "%q", in)
	}
}

// FuzzParse reads rules as an environment variable has them, and asks them for what they name.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "A", "A,B", "=A", "10.0.0.0/8=A,B", "10.0.0.1/8=A", ":80=A,[::1]:80=B", "[fe80::/10]:http=A", "fe80::1%eth0=A", "[::1=A", "[]:1=A", "[::1]x=A",
		"*.internal:5432=A,*.=B", "*=A", "::ffff:10.0.0.0/104=A,10.0.0.0/8=B", "::ffff:0.0.0.0/90=A", "host:=A", "host:0=A", "1.2.3=A", "DB.=A,db=B", "0.0.0.0/0=A", " x = A , y = B ",
	} {
		f.Add(seed, "db.internal", uint16(5432))
		f.Add(seed, "::ffff:10.0.0.1", uint16(80))
	}
	f.Fuzz(func(t *testing.T, text, host string, port uint16) {
		r, err := Parse(text, upper)
		if err != nil {
			require.Empty(t, r)
			return
		}
		require.NotEmpty(t, r)
		again, err := Parse(text, upper)
		require.NoError(t, err)
		require.Equal(t, r, again)
		v, found, resolve := r.Find(host, netip.Addr{}, port)
		require.False(t, found && resolve)
		if found {
			require.NotEmpty(t, v)
		}
		_, _, resolve = r.Find(host, ownAddr, port)
		require.False(t, resolve, "the address is known")
		for i := range r {
			if p := r[i].prefix; p.IsValid() {
				_, found, _ := r.Find(p.Addr().String(), netip.Addr{}, max(r[i].port, 1))
				require.True(t, found, "rule %q does not match its own address", r[i].pattern)
			}
		}
		all, ok := r.Only()
		require.Equal(t, ok, len(r) == 1 && r[0].pattern == "")
		if ok {
			require.Equal(t, v, all)
		}
	})
}

var ownAddr = netip.MustParseAddr("192.0.2.1")
