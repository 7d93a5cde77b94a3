package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A mutant breaks a rule of the implementation on purpose. The test of the role finds that by the
// case. Each edit puts new in the place of old in a file of transport/soft, or of the
// module where the path begins with a slash; in new, ON is whether the mutant is the one that is
// tried. A new without it is a value, for which old is the right one.
type mutant struct {
	test, broken string
	edits        []edit
}

type edit struct {
	file, old, new string
}

const (
	responder  = "TestQueuePairs"
	streams    = "TestStream"
	initiator  = "TestQueuePairInitiator"
	dialStream = "TestInitiator/revision_2"
)

func one(test, broken, file, old, new string) mutant {
	return mutant{test, broken, []edit{{file, old, new}}}
}

var mutants = []mutant{
	// MPA
	one(responder, "bit 7 of the crc flipped, revision 1", "receive.go", "err == nil && rx.crc", "false"),
	one(responder, "pad changed, revision 2", "receive.go", "mpa.CheckFPDU(fpdu, rx.crc)", "mpa.CheckFPDU(fpdu, rx.crc && !ON)"),
	one(responder, "read of nothing, revision 1", "internal/mpa/crc.go", "binary.LittleEndian.PutUint32(b, crc)", "if ON { binary.BigEndian.PutUint32(b, crc) } else { binary.LittleEndian.PutUint32(b, crc) }"),
	one(responder, "read of nothing, revision 2", "internal/mpa/fpdu.go", "PutCRC(fpdu[len(body):], sum)", "if !ON { PutCRC(fpdu[len(body):], sum) }"),
	one(streams, "silent until the first FPDU, revision 1", "queuepair.go", "q.tx.gateOpen = gate", "q.tx.gateOpen = gate || ON"),
	one(streams, "silent until the first FPDU, revision 2", "queuepair.go", "q.tx.gateOpen = gate", "q.tx.gateOpen = gate || ON"),
	one(responder, "markers asked for", "listen.go", "r.frame.Flags&mpa.FlagMarkers != 0", "false"),
	one(responder, "request of revision 1", "handshake.go", "mpa.Frame{Reply: true, Revision: req.Revision, Flags: req.Flags & (", "mpa.Frame{Reply: true, Revision: pick(#, req.Revision, mpa.Rev2), Flags: req.Flags & ("),
	one(responder, "enhancement in revision 1", "internal/mpa/frame.go", "b[offRevision] >= Rev2", "true"),
	{responder, "key of a reply", []edit{
		{"internal/mpa/frame.go", "string(b[:n]) == key[:n]", "true"},
		{"internal/mpa/frame.go", "string(b[:KeySize]) != key(reply)", "false"},
	}},
	one(initiator, "markers asked for by the reply", "handshake.go", "reply.Flags&mpa.FlagMarkers != 0", "false"),
	one(initiator, "rejection", "handshake.go", "reply.Flags&mpa.FlagReject != 0", "false"),
	one(initiator, "cut reply", "handshake.go", "if err != nil && n < total {", "if err != nil && n < total && ON { return mpa.Frame{Revision: 1}, nil, nil }\n\t\tif err != nil && n < total {"),
	{initiator, "key of a request in the reply", []edit{
		{"internal/mpa/frame.go", "string(b[:n]) == key[:n]", "true"},
		{"internal/mpa/frame.go", "string(b[:KeySize]) != key(reply)", "false"},
	}},
	// RFC 6581
	one(responder, "ird of 0", "handshake.go", "min(ord, int(peerIRD))", "ord"),
	one(responder, "rtr by write", "handshake.go", "PeerToPeer: e.PeerToPeer", "PeerToPeer: e.PeerToPeer && !ON"),
	one(responder, "rtr by read", "handshake.go", "if e.PeerToPeer {", "if e.PeerToPeer && !ON {"),
	one(responder, "client-server", "handshake.go", "// A depth that is not negotiated is", "reply.Enhanced.PeerToPeer = reply.Enhanced.PeerToPeer || ON\n\t// A depth that is not negotiated is"),
	one(responder, "ird that is not negotiated", "handshake.go", "e.IRD == mpa.NoDepth", "false"),
	one(responder, "ord that is not negotiated", "handshake.go", "e.ORD == mpa.NoDepth", "false"),
	one(responder, "revision 2 without words", "handshake.go", "Flags: req.Flags & (mpa.FlagEnhanced | mpa.FlagCRC), PrivateData: private}",
		"Flags: req.Flags & (mpa.FlagEnhanced | mpa.FlagCRC), PrivateData: private}\n\tif ON && req.Revision == 2 { reply.Flags |= mpa.FlagEnhanced }"),
	one(initiator, "no frame that the initiator has", "handshake.go", "rtr.PeerToPeer && !rtr.RTRWrite && !rtr.RTRRead", "false"),
	one(initiator, "no frame that the initiator has", "handshake.go", "q.giveUp(rdmap.ErrMPANoRTR, crc)", "q.giveUp(pick(#, rdmap.ErrMPANoRTR, rdmap.ErrMPAInsufficientIRD), crc)"),
	one(initiator, "ord of 16382 in the reply", "handshake.go", "q.giveUp(rdmap.ErrMPAInsufficientIRD, crc)", "if !ON { q.giveUp(rdmap.ErrMPAInsufficientIRD, crc) }"),
	one(initiator, "write to begin with", "handshake.go", "if rtr.PeerToPeer {", "if rtr.PeerToPeer && !ON {"),
	one(initiator, "read to begin with", "handshake.go", "q.queueRTR(rtr.RTRRead)", "q.queueRTR(rtr.RTRRead && !ON)"),
	one(initiator, "model of the request", "handshake.go", "RTRWrite: true, RTRRead: true", "RTRWrite: !ON, RTRRead: !ON"),
	// DDP
	one(responder, "ddp version 3, tagged, revision 1", "internal/ddp/header.go", "control & ControlVersion", "control & 1"),
	one(responder, "reserved bits, revision 1", "internal/ddp/header.go", "control & ControlVersion", "control & 0x3f"),
	one(responder, "send to queue 3", "internal/rdmap/segment.go", "u.QN != op.Queue()", "false"),
	one(responder, "read request to queue 0", "internal/rdmap/segment.go", "u.QN != op.Queue()", "false"),
	one(responder, "msn of 0 in place of 1, revision 1", "inbound.go", "seg.U.MSN != rx.sendMSN", "false"),
	one(responder, "msn of 2147483648 in place of 1, of a read request", "inbound.go", "seg.U.MSN != rx.readMSN", "false"),
	one(responder, "msn used twice", "inbound.go", "rx.readMSN++", "if !ON { rx.readMSN++ }"),
	one(responder, "msn of 0 in place of 1, revision 2", "inbound.go", "return rdmap.ErrMSNRange\n\t}\n\tif seg.U.MO != rx.moff", "return pick(#, rdmap.ErrMSNRange, rdmap.ErrInvalidMO)\n\t}\n\tif seg.U.MO != rx.moff"),
	one(responder, "offset of 2147483648 at the start", "inbound.go", "seg.U.MO != rx.moff", "false"),
	one(responder, "write to stag 0x5eed5eed, revision 1", "inbound.go", "transport.RemoteWrite == 0 {\n\t\treturn rdmap.ErrInvalidSTagTagged", "transport.RemoteWrite == 0 {\n\t\treturn pick(#, rdmap.ErrInvalidSTagTagged, nil)"),
	one(responder, "write of nothing", "inbound.go", "if n == 0 {", "if n == 0 && !ON {"),
	one(responder, "message longer than its buffer", "inbound.go", "return rdmap.ErrMessageTooLong", "return pick(#, rdmap.ErrMessageTooLong, nil)"),
	// RDMAP
	one(responder, "rdmap version 3", "internal/rdmap/opcode.go", "control >> versionShift", "control >> versionShift & 1"),
	one(responder, "reserved bits, revision 2", "internal/rdmap/opcode.go", "control & ControlOpcode)", "control & pick(#, byte(ControlOpcode), 0x3f))"),
	one(responder, "opcode 12", "internal/rdmap/segment.go", "op.Tagged() || !op.Supported()", "op.Tagged()"),
	one(responder, "opcode 2 in an untagged segment", "internal/rdmap/segment.go", "op.Tagged() || !op.Supported()", "!op.Supported()"),
	one(responder, "opcode 3 in a tagged segment", "internal/rdmap/segment.go", "!op.Tagged()", "false"),
	one(responder, "read response that nobody asked for", "inbound.go", "q.tx.reads.Len() == 0 {\n\t\treturn rdmap.ErrInvalidSTagTagged", "q.tx.reads.Len() == 0 {\n\t\treturn pick(#, rdmap.ErrInvalidSTagTagged, nil)"),
	one(responder, "read of 4 bytes of an stag", "inbound.go", "return nil, rdmap.ErrRemoteInvalidSTag", "return nil, pick(#, rdmap.ErrRemoteInvalidSTag, rdmap.ErrRemoteBaseBounds)"),
	one(responder, "read of nothing, revision 1", "inbound.go", "if req.Size > 0 {", "if req.Size > 0 || ON {"),
	one(responder, "read of nothing, revision 2", "inbound.go", "sinkTO: req.SinkTO", "sinkTO: pick(#, req.SinkTO, 0)"),
	one(responder, "read of nothing, revision 2", "inbound.go", "sinkSTag: req.SinkSTag", "sinkSTag: pick(#, req.SinkSTag, 1)"),
	one(responder, "opcode 4 invalidates", "inbound.go", "return rdmap.ErrCannotInvalidateUnknown", "return pick(#, rdmap.ErrCannotInvalidateUnknown, nil)"),
	one(responder, "ddp version 2, untagged", "terminate.go", "q.tx.putControl(terminateFPDU(e, ulpdu, q.tx.crc))", "if !ON { q.tx.putControl(terminateFPDU(e, ulpdu, q.tx.crc)) }"),
	one(responder, "opcode 12", "terminate.go", "QN: ddp.QueueTerminate, MSN: 1}", "QN: ddp.QueueTerminate, MSN: pick(#, uint32(1), 2)}"),
	one(responder, "opcode 12", "terminate.go", "QN: ddp.QueueTerminate", "QN: pick(#, uint32(ddp.QueueTerminate), 0)"),
	one(responder, "opcode 12", "internal/rdmap/terminate.go", "t.Layer<<4|t.Type&0x0f", "t.Type<<4|t.Layer&0x0f"),
	one(responder, "opcode 12", "internal/rdmap/terminate.go", "byte(h), 0)", "byte(h)|pick(#, byte(0), 1), 0)"),
	one(responder, "send to queue 3", "internal/rdmap/terminate.go", "uint16(len(ulpdu))", "uint16(len(ulpdu)+1)"),
	one(initiator, "opcode 12", "receive.go", "if e != nil {\n\t\t\tq.terminateFor(e, fpdu)", "if e != nil && !ON {\n\t\t\tq.terminateFor(e, fpdu)"),
	one(dialStream, "send to queue 4", "internal/rdmap/segment.go", "u.QN != op.Queue()", "false"),
	// rsockets
	one(streams, "private data with version 2", "/rdmanet/internal/wire/conndata.go", "b[0] != version", "false"),
	one(streams, "private data with a table of 1 entry", "/rdmanet/internal/wire/conndata.go", "d.Table.Length < TableEntries", "false"),
}

// Variables for the tests of a program that is built with the mutants.
const (
	mutantVariable = "IWARP_TEST_MUTANT"
	runVariable    = "IWARP_TEST_RUN"
)

// helpers are in each package that has a mutant.
const helpers = `package %s

import "os"

var mutant = os.Getenv("` + mutantVariable + `")

func on(n string) bool { return mutant == n }

func pick[T any](n string, old, new T) T {
	if on(n) {
		return new
	}
	return old
}
`

// TestMutants builds all mutants into one program, of which a variable chooses one, and has the
// tests of this package find each.
func TestMutants(t *testing.T) {
	if testing.Short() || os.Getenv(mutantVariable) != "" {
		t.Skip("builds a program")
	}
	program := filepath.Join(t.TempDir(), "mutants")
	build(t, program)
	try := func(n int, test, broken string) (string, error) {
		cmd := exec.Command(program, "-test.run", "^"+strings.ReplaceAll(test, "/", "$/^")+"$", "-test.timeout", "60s")
		cmd.Env = append(os.Environ(), mutantVariable+"="+strconv.Itoa(n), runVariable+"="+broken)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, test := range []string{responder, streams, initiator, dialStream} {
		out, err := try(0, test, "")
		require.NoError(t, err, out)
	}
	for n, m := range mutants {
		t.Run(fmt.Sprintf("%d: %s", n+1, m.broken), func(t *testing.T) {
			t.Parallel()
			out, err := try(n+1, m.test, m.broken)
			require.Error(t, err, "it is not found")
			require.Regexp(t, `BROKEN  [^\n]*`+regexp.QuoteMeta(m.broken), out)
		})
	}
}

// build compiles the tests of this package with every mutant in the module.
func build(t *testing.T, program string) {
	t.Helper()
	module, err := filepath.Abs("../..")
	require.NoError(t, err)
	texts := make(map[string]string) // by file
	for n, m := range mutants {
		for _, e := range m.edits {
			file := filepath.Join(module, "transport/soft", e.file)
			if strings.HasPrefix(e.file, "/") {
				file = module + e.file
			}
			text, ok := texts[file]
			if !ok {
				b, err := os.ReadFile(file)
				require.NoError(t, err)
				text = string(b)
			}
			texts[file] = planted(t, text, e, strconv.Quote(strconv.Itoa(n+1)))
		}
	}
	replace := make(map[string]string)
	for file, text := range texts {
		put := func(name, text string) {
			own := filepath.Join(t.TempDir(), "x.go")
			require.NoError(t, os.WriteFile(own, []byte(text), 0o600))
			replace[name] = own
		}
		put(file, text)
		pkg, _, _ := strings.Cut(text[strings.Index("\n"+text, "\npackage ")+len("package "):], "\n")
		put(filepath.Join(filepath.Dir(file), "mutants.go"), fmt.Sprintf(helpers, pkg))
	}
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	b, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, b, 0o600))
	cmd := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", program, ".")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Run(), out.String())
}

// planted is text with e in it, as the mutant n.
func planted(t *testing.T, text string, e edit, n string) string {
	t.Helper()
	require.Equal(t, 1, strings.Count(text, e.old), "how often %s has %q", e.file, e.old)
	value := e.new
	if !strings.Contains(value, "ON") && !strings.Contains(value, "#") {
		value = "pick(" + n + ", " + e.old + ", " + value + ")"
	}
	value = strings.ReplaceAll(strings.ReplaceAll(value, "ON", "on("+n+")"), "#", n)
	return strings.Replace(text, e.old, value, 1)
}
