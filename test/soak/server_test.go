package soak

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/testkit"
)

// A server is a service that kills, in a process of its own: one process may not have the
// descriptors of both ends.
type server struct {
	t       *testing.T
	address string
	in      io.WriteCloser
	out     *json.Decoder
	wait    func() error
}

func init() { testkit.Processes["serve"] = serve }

// serve writes its address, then for each line its footprint. At the end of the input it ends the
// service, and fails if something of it is left.
func serve() int {
	before := baseline()
	s, err := listen("127.0.0.1:0", true)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	out := json.NewEncoder(os.Stdout)
	_ = out.Encode(s.address)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		_ = out.Encode(measure())
	}
	s.close()
	now, ok := before.returns()
	_ = out.Encode(now)
	if !ok {
		fmt.Fprintf(os.Stderr, "before: %v; at the end: %v\n", before, now)
		return 1
	}
	return 0
}

func startServer(t *testing.T) *server {
	c := testkit.Command(t, "serve")
	in, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	s := &server{t: t, in: in, out: json.NewDecoder(out), wait: c.Wait}
	require.NoError(t, s.out.Decode(&s.address))
	return s
}

func (s *server) measure() footprint {
	_, err := io.WriteString(s.in, "\n")
	require.NoError(s.t, err)
	var f footprint
	require.NoError(s.t, s.out.Decode(&f))
	return f
}

func (s *server) end() {
	require.NoError(s.t, s.in.Close())
	var f footprint
	require.NoError(s.t, s.out.Decode(&f))
	s.t.Log("server at the end:", f)
	require.NoError(s.t, s.wait())
}
