// Package addrrules chooses a value for an address by rules for hosts, prefixes and ports.
package addrrules

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Rules choose a value of type T: the first rule that matches counts. A Rules is never changed, so
// it is safe for concurrent use.
type Rules[T any] []rule[T]

// A rule has a value for the addresses of a pattern. What the pattern does not name matches all.
type rule[T any] struct {
	pattern string
	prefix  netip.Prefix // valid if the pattern names addresses
	host    string       // a name in lower case, or empty
	below   bool         // host stands for the names that end in it
	port    uint16       // or 0
	value   T
}

var (
	errEmpty   = errors.New("empty rule")
	errHost    = errors.New("not a host name")
	errTwice   = errors.New("there is a rule for the same addresses before it")
	errBits    = errors.New("has bits beyond the prefix")
	errPort    = errors.New("nobody is connected to port 0")
	errZone    = errors.New("a rule cannot have a zone")
	errBracket = errors.New("address in brackets is not closed")
)

// mappedBits is how long the part is that IPv4-mapped addresses have in common.
const mappedBits = 96

// Parse reads rules that are separated by commas, with spaces around them or not. A rule is a value
// for all addresses, or PATTERN=VALUE, where the pattern is HOST, HOST:PORT or :PORT, and the host
// a prefix (10.0.0.0/8), an address, a name, or "*." and a name for all names that end in it. IPv6
// with a port is in brackets, a prefix with its length inside. The order does not matter for the
// value for all addresses, which applies where no rule with a pattern does.
func Parse[T any](s string, value func(string) (T, error)) (Rules[T], error) {
	var rules Rules[T]
	var rest *rule[T]
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		r, err := parseRule(part, value)
		switch {
		case err != nil:
			return nil, fmt.Errorf("rule %q: %w", part, err)
		case r.pattern == "" && rest != nil, r.pattern != "" && rules.has(&r):
			return nil, fmt.Errorf("rule %q: %w", part, errTwice)
		case r.pattern == "":
			rest = &r
		default:
			rules = append(rules, r)
		}
	}
	if rest != nil {
		rules = append(rules, *rest)
	}
	return rules, nil
}

// All returns the rules that have the value for all addresses.
func All[T any](value T) Rules[T] { return Rules[T]{{value: value}} }

// Only returns the value if there is one for all addresses.
func (rules Rules[T]) Only() (value T, ok bool) {
	if len(rules) == 1 && rules[0].pattern == "" {
		return rules[0].value, true
	}
	return value, false
}

func (rules Rules[T]) has(r *rule[T]) bool {
	for _, o := range rules {
		if o.prefix == r.prefix && o.host == r.host && o.below == r.below && o.port == r.port {
			return true
		}
	}
	return false
}

func parseRule[T any](s string, value func(string) (T, error)) (rule[T], error) {
	var r rule[T]
	if s == "" {
		return r, errEmpty
	}
	pattern, name, ok := strings.Cut(s, "=")
	if !ok {
		pattern, name = "", s
	}
	r.pattern = strings.TrimSpace(pattern)
	if ok && r.pattern == "" {
		return r, errHost
	}
	var err error
	if r.value, err = value(strings.TrimSpace(name)); err != nil || !ok {
		return r, err
	}
	return r, r.parsePattern()
}

func (r *rule[T]) parsePattern() error {
	host, port, err := splitPort(r.pattern)
	if err != nil {
		return err
	}
	if port != "" {
		n, err := net.LookupPort("tcp", port)
		if err == nil && n == 0 {
			err = errPort
		}
		if err != nil {
			return err
		}
		r.port = uint16(n)
	}
	if host == "" {
		return nil
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" {
			return errZone
		}
		a = a.Unmap()
		r.prefix = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	if strings.Contains(host, "/") {
		if r.prefix, err = netip.ParsePrefix(host); err == nil && r.prefix != r.prefix.Masked() {
			err = fmt.Errorf("%s %w, as in %v", host, errBits, r.prefix.Masked())
		}
		if a := r.prefix.Addr(); a.Is4In6() && r.prefix.Bits() >= mappedBits {
			r.prefix = netip.PrefixFrom(a.Unmap(), r.prefix.Bits()-mappedBits)
		}
		return err
	}
	r.host, r.below = strings.CutPrefix(canonical(host), "*.")
	if !isName(r.host) {
		return fmt.Errorf("%q: %w", host, errHost)
	}
	return nil
}

// splitPort divides a pattern in which IPv6 without brackets has no port.
func splitPort(s string) (host, port string, err error) {
	if rest, ok := strings.CutPrefix(s, "["); ok {
		host, after, ok := strings.Cut(rest, "]")
		if ok && host == "" {
			return "", "", errHost
		}
		if !ok || after != "" && !strings.HasPrefix(after, ":") || after == ":" {
			return "", "", errBracket
		}
		return host, strings.TrimPrefix(after, ":"), nil
	}
	if strings.Count(s, ":") != 1 {
		return s, "", nil
	}
	host, port, _ = strings.Cut(s, ":")
	if port == "" {
		return "", "", &net.AddrError{Err: "missing port in address", Addr: s}
	}
	return host, port, nil
}

// isName tells names from what was meant to be something else: an address, a prefix, or a pattern
// of another kind.
func isName(s string) bool {
	return s != "" && !strings.ContainsAny(s, "*?/[]:=% \t\n\"'\\") && !isNumeric(s)
}

func isNumeric(s string) bool { return strings.Trim(s, "0123456789.") == "" }

// canonical is a name in lower case without the dot at its end.
func canonical(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// Find returns the value for a host, the name or the text of an address that was asked for, with
// its port. Without an address of the host, which addr has if it is valid, that may be unknown:
// then resolve is true, and the address must be looked up.
func (rules Rules[T]) Find(host string, addr netip.Addr, port uint16) (value T, found, resolve bool) {
	if a, err := netip.ParseAddr(host); err == nil {
		host, addr = "", a
	}
	host, addr = canonical(host), addr.Unmap().WithZone("")
	for i := range rules {
		r := &rules[i]
		switch {
		case r.port != 0 && r.port != port, r.host != "" && !r.matchesName(host):
			continue
		case !r.prefix.IsValid():
			return r.value, true, false
		case addr.IsValid():
			if r.prefix.Contains(addr) {
				return r.value, true, false
			}
		case host != "":
			return value, false, true
		}
	}
	return value, false, false
}

func (r *rule[T]) matchesName(host string) bool {
	if r.below {
		name, ok := strings.CutSuffix(host, r.host)
		return ok && strings.HasSuffix(name, ".")
	}
	return host == r.host
}
