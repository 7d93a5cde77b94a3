package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/rdmanet/iwarp"
)

// A mapping says what is carried where.
type mapping struct {
	Listen   endpoint    `toml:"listen"`
	Target   endpoint    `toml:"target"`
	Max      int         `toml:"max"`
	Timeout  duration    `toml:"timeout"`
	ProxyIn  bool        `toml:"proxy-in"`
	ProxyOut bool        `toml:"proxy-out"`
	TLSIn    *tlsOptions `toml:"tls-in"`
	TLSOut   *tlsOptions `toml:"tls-out"`
}

// An endpoint is an address, and the policy for connections from or to it.
type endpoint struct {
	policy iwarp.Offload
	chosen bool // a policy was given
	addr   string
}

var schemes = map[string]iwarp.Offload{
	"tcp": iwarp.OffloadNever, "iwarp": iwarp.OffloadRequire, "prefer": iwarp.OffloadPrefer, "auto": iwarp.OffloadAuto,
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *endpoint) UnmarshalText(text []byte) error {
	s := string(text)
	scheme, addr, found := strings.Cut(s, "://")
	if !found {
		scheme, addr = "", s
	}
	if e.policy, e.chosen = schemes[scheme]; found && !e.chosen {
		return fmt.Errorf("%q has none of the schemes tcp, iwarp, prefer and auto", s)
	}
	if _, port, err := net.SplitHostPort(addr); err != nil {
		return fmt.Errorf("%q: %w", s, err)
	} else if port == "" {
		return fmt.Errorf("%q has no port", s)
	}
	e.addr = addr
	return nil
}

func (e endpoint) String() string {
	for name, p := range schemes {
		if e.chosen && p == e.policy {
			return name + "://" + e.addr
		}
	}
	return e.addr
}

// A duration is a time.Duration in flags and files.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error { return d.Set(string(text)) }

// Set implements pflag.Value.
func (d *duration) Set(s string) error {
	v, err := time.ParseDuration(s)
	if err == nil && v <= 0 {
		err = fmt.Errorf("%q is not above 0", s)
	}
	*d = duration(v)
	return err
}

func (d *duration) String() string { return time.Duration(*d).String() }
func (*duration) Type() string     { return "time" }

// timeout is what a target has to answer.
func (m *mapping) timeout() time.Duration {
	if m.Timeout > 0 {
		return time.Duration(m.Timeout)
	}
	return 10 * time.Second
}

// parse takes LISTEN=TARGET.
func (m *mapping) parse(arg string) error {
	listen, target, found := strings.Cut(arg, "=")
	if !found {
		return fmt.Errorf("mapping %q is not LISTEN=TARGET", arg)
	}
	if err := m.Listen.UnmarshalText([]byte(listen)); err != nil {
		return fmt.Errorf("mapping %q: %w", arg, err)
	}
	if err := m.Target.UnmarshalText([]byte(target)); err != nil {
		return fmt.Errorf("mapping %q: %w", arg, err)
	}
	return nil
}

func readFile(name string) ([]*mapping, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var file struct {
		Mapping []*mapping `toml:"mapping"`
	}
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		var strict *toml.StrictMissingError
		var at *toml.DecodeError
		switch {
		case errors.As(err, &strict):
			return nil, fmt.Errorf("%s has settings that do not exist:\n%s", name, strict.String())
		case errors.As(err, &at):
			return nil, fmt.Errorf("%s:\n%s", name, at.String())
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return file.Mapping, nil
}

// check finds what is wrong with mappings, and loads what their files have.
func check(all []*mapping) error {
	seen := make(map[string]bool)
	for _, m := range all {
		switch {
		case m.Listen.addr == "":
			return fmt.Errorf("mapping to %q has no listen", m.Target.addr)
		case m.Target.addr == "":
			return fmt.Errorf("mapping from %q has no target", m.Listen.addr)
		case m.Max < 0:
			return fmt.Errorf("mapping from %q: max is below 0", m.Listen.addr)
		case seen[m.Listen.addr] && !strings.HasSuffix(m.Listen.addr, ":0"):
			return fmt.Errorf("two mappings listen on %q", m.Listen.addr)
		}
		seen[m.Listen.addr] = true
		if !m.Target.chosen {
			m.Target.policy = iwarp.OffloadPrefer
		}
		if err := m.loadTLS(); err != nil {
			return fmt.Errorf("mapping from %q: %w", m.Listen.addr, err)
		}
	}
	return nil
}
