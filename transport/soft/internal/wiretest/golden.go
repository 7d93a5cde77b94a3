// Package wiretest holds what the tests of the wire packages share: bytes known to
// be right, written out from the standards or recorded from other implementations,
// and a splitter that decodes a stream handed over in arbitrary pieces.
package wiretest

import (
	"bufio"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// FPDU is one known FPDU, from ULPDU_Length to the CRC.
type FPDU struct {
	Name  string
	Bytes []byte
	CRC   bool // whether the CRC field holds one
}

// FPDUs returns all known FPDUs, in an order without meaning.
func FPDUs() []FPDU {
	fpdus := make([]FPDU, len(goldenFPDUs))
	for i, g := range goldenFPDUs {
		fpdus[i] = FPDU{Name: g.name, Bytes: Hex(g.hex), CRC: !strings.HasSuffix(g.name, ", no CRC")}
	}
	return fpdus
}

var goldenFPDUs = []struct{ name, hex string }{
	{"write hello", "0013 c1 40 12345600 0000000000001000 68656c6c6f 000000 e800bc31"},
	{"send ping", "0016 41 43 00000000 00000000 00000001 00000000 70696e67 a5487fa7"},
	{"send se invalidate", "0014 41 46 12345600 00000000 00000002 00000000 6f6b 0000 2ee9b3cc"},
	{"read request", `002e 41 41 00000000 00000001 00000001 00000000
		0000a100 0000000000000020 00001000 12345600 0000000000001000 ad8dc059`},
	{"read response", "0012 c1 42 0000a100 0000000000000020 64617461 1b9ec799"},
	{"rtr write", "000e c1 40 00000001 0000000000000000 ebd34c5f"},
	{"rtr read", `002e 41 41 00000000 00000001 00000001 00000000
		00000000 0000000000000000 00000000 00000001 0000000000000000 ba10e3c9`},
	{"rtr read response", "000e c1 42 00000000 0000000000000000 6975d6ca"},
	{"terminate base or bounds", `0026 41 47 00000000 00000002 00000001 00000000
		11 01 c0 00 0013 c140 12345600 0000000000001000 38b65f68`},
	{"terminate crc", "0016 41 47 00000000 00000002 00000001 00000000 20020000 7fe42585"},
	{"terminate access rights", `0046 41 47 00000000 00000002 00000001 00000000
		01 02 e0 00 002e 4141 00000000 00000001 00000001 00000000
		0000a100 0000000000000020 00001000 12345600 0000000000001000 58e91d32`},

	{"rsocket write hello", "0013 c140 00001700 00007e0000200000 68656c6c6f 000000 38696f18"},
	{"rsocket write hello, no CRC", "0013 c140 00001700 00007e0000200000 68656c6c6f 000000 00000000"},
	{"rsocket send data", "0016 4143 00000000 00000000 00000001 00000000 05000000 ccbe85ee"},
	{"rsocket send data, no CRC", "0016 4143 00000000 00000000 00000001 00000000 05000000 00000000"},
	{"rsocket write sge", "001e c140 00001300 0000560000001010 00002100007e0000 00170000 00000100 dc8768bb"},
	{"rsocket write sge, no CRC", "001e c140 00001300 0000560000001010 00002100007e0000 00170000 00000100 00000000"},
	{"rsocket send sgl", "0016 4143 00000000 00000000 00000001 00000000 80010080 be45f53d"},
	{"rsocket send sgl, no CRC", "0016 4143 00000000 00000000 00000001 00000000 80010080 00000000"},
	{"rsocket keepalive", "000e c140 00000000 0000000000000000 a30572ab"},
	{"rsocket keepalive, no CRC", "000e c140 00000000 0000000000000000 00000000"},
}

// Session is one recorded connection: all bytes of either direction, the MPA frame first.
type Session struct {
	Name                 string
	Initiator, Responder []byte
}

//go:embed testdata/*.hex
var recorded embed.FS

// Sessions returns the recorded connections. It panics if a file is malformed.
func Sessions() []Session {
	files, err := fs.Glob(recorded, "testdata/*.hex")
	if err != nil {
		panic(err)
	}
	sessions := make([]Session, 0, len(files))
	for _, file := range files {
		text, err := recorded.ReadFile(file)
		if err != nil {
			panic(err)
		}
		sessions = append(sessions, parseSession(strings.TrimSuffix(path.Base(file), ".hex"), string(text)))
	}
	return sessions
}

func parseSession(name, text string) Session {
	s := Session{Name: name}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		switch side, bytes, _ := strings.Cut(lines.Text(), " "); side {
		case "#":
		case "initiator":
			s.Initiator = Hex(bytes)
		case "responder":
			s.Responder = Hex(bytes)
		default:
			panic(fmt.Sprintf("%s: unknown line %q", name, side))
		}
	}
	if err := lines.Err(); err != nil {
		panic(err)
	}
	return s
}

// Hex decodes s, in which white space has no meaning, and panics if it is not hex.
func Hex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}
