package ports_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
)

var stormTime = flag.Duration("storm", 2*time.Second, "how long TestPortStorm runs")

const (
	stormPorts     = 50
	stormFirst     = 20000
	stormProcesses = 4
	stormEach      = 16 // goroutines in each process
)

// holdersOf maps a file that the processes of the storm share: a word for each port, with the
// number of who holds it.
func holdersOf(f *os.File) (*[stormPorts]atomic.Uint32, error) {
	b, err := unix.Mmap(int(f.Fd()), 0, 4*stormPorts, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*[stormPorts]atomic.Uint32)(unsafe.Pointer(&b[0])), nil
}

func init() { processes["storm"] = runStorm }

// storming is what one process does in the storm, and what it says at the end.
type storming struct {
	Held     [stormPorts]int
	Refused  int
	Failures []string
	Leaked   int // descriptors

	mu      sync.Mutex
	ps      iwarp.PortSpace
	host    string
	sink    string // a listener that takes connections
	holders *[stormPorts]atomic.Uint32
	number  uint32
}

func runStorm() int {
	duration, _ := time.ParseDuration(os.Getenv("IWARP_TEST_STORM"))
	number, _ := strconv.Atoi(os.Getenv("IWARP_TEST_NUMBER"))
	s := &storming{host: os.Getenv("IWARP_TEST_HOST"), sink: os.Getenv("IWARP_TEST_SINK"), number: uint32(number)}
	var err error
	shared := os.NewFile(3, "holders")
	if s.holders, err = holdersOf(shared); err != nil {
		fmt.Println(err)
		return 1
	}
	_ = shared.Close()
	s.once(0, 0) // which opens what the process keeps
	before := descriptors()
	end := time.Now().Add(duration)
	var wg sync.WaitGroup
	for g := range stormEach {
		wg.Go(func() {
			s.once(uint32(g+1), (number*stormEach+g)%stormPorts) // so that each port has somebody
			for time.Now().Before(end) && s.ok() {
				s.once(uint32(g+1), rand.IntN(stormPorts))
			}
		})
	}
	wg.Wait()
	if left := s.ps.Reservations(); len(left) != 0 {
		s.fail(fmt.Errorf("reservations are left: %v", left))
	}
	s.Leaked = descriptors() - before
	if json.NewEncoder(os.Stdout).Encode(s) != nil {
		return 1
	}
	return 0
}

func descriptors() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}

func (s *storming) ok() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.Failures) == 0
}

func (s *storming) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Failures = append(s.Failures, err.Error())
}

// once takes the port with index n, uses it and gives it back.
func (s *storming) once(goroutine uint32, n int) {
	address := net.JoinHostPort(s.host, strconv.Itoa(stormFirst+n))
	r, err := s.ps.Reserve(contextOfProcess, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.Refused++
		return
	}
	if err != nil {
		s.fail(err)
		return
	}
	me := s.number<<8 | goroutine
	mine := func(step string) {
		if other := s.holders[n].Load(); other != me {
			s.fail(fmt.Errorf("port %d is held by %x and %x when %s", stormFirst+n, me, other, step))
		}
	}
	if !s.holders[n].CompareAndSwap(0, me) {
		mine("reserved")
	}
	s.mu.Lock()
	s.Held[n]++
	s.mu.Unlock()
	give := func() { s.holders[n].CompareAndSwap(me, 0) } // before the port is free, so that the next finds 0
	switch rand.IntN(4) {
	case 0:
		mine("released")
		give()
		err = r.Release()
	case 1:
		err = s.connect(r, mine, give)
	default:
		err = s.listen(address, mine, give)
	}
	if err != nil {
		s.fail(err)
	}
}

// connect makes a connection of the reserved socket. It ends with a reset, or TIME_WAIT would keep
// the port.
func (s *storming) connect(r *iwarp.Reservation, mine func(string), give func()) error {
	c, err := r.DialContext(contextOfProcess, "tcp", s.sink)
	mine("connected")
	if err != nil {
		give()
		return errors.Join(err, r.Release())
	}
	give()
	return errors.Join(c.SetLinger(0), c.Close())
}

// listen makes a listener of it and serves a client.
func (s *storming) listen(address string, mine func(string), give func()) error {
	lc := iwarp.ListenConfig{PortSpace: &s.ps, Offload: []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadNever}[rand.IntN(2)]}
	l, err := lc.Listen(contextOfProcess, "tcp", address)
	if err != nil {
		give()
		return err
	}
	mine("listening")
	c, err := net.DialTimeout("tcp", address, patience)
	if err == nil {
		var served net.Conn
		if _, err = c.Write([]byte("hello")); err == nil {
			served, err = l.Accept()
		}
		err = errors.Join(err, c.(*net.TCPConn).SetLinger(0), c.Close())
		if served != nil {
			err = errors.Join(err, served.Close())
		}
	}
	mine("served")
	give()
	return errors.Join(err, l.Close())
}

// TestPortStorm has goroutines of several processes fight for the same ports: no port may have two
// holders at a time, and none may be lost. The flag -storm makes it longer.
func TestPortStorm(t *testing.T) {
	pid := os.Getpid()
	host := fmt.Sprintf("127.%d.%d.%d", 64+pid>>16&63, pid>>8&255, pid&255|1) // nobody else's
	f, err := os.CreateTemp(t.TempDir(), "holders")
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Truncate(4*stormPorts))
	sink, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer sink.Close()
	go func() {
		for {
			c, err := sink.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()

	type running struct {
		out  *bufio.Reader
		wait func() error
	}
	var all []running
	for n := range stormProcesses {
		c := command(t, "storm", "IWARP_TEST_STORM="+stormTime.String(), "IWARP_TEST_NUMBER="+strconv.Itoa(n+1),
			"IWARP_TEST_HOST="+host, "IWARP_TEST_SINK="+sink.Addr().String())
		c.ExtraFiles = []*os.File{f}
		out, err := c.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, c.Start())
		all = append(all, running{bufio.NewReader(out), c.Wait})
	}
	held, refused := [stormPorts]int{}, 0
	for _, r := range all {
		var s storming
		line, err := r.out.ReadBytes('\n')
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(line, &s), "%s", line)
		require.NoError(t, r.wait())
		require.Empty(t, s.Failures)
		require.Zero(t, s.Leaked, "descriptors")
		refused += s.Refused
		for i, n := range s.Held {
			held[i] += n
		}
	}
	total := 0
	for _, n := range held {
		total += n
	}
	require.NotZero(t, total, "nobody had a port") // on a busy machine not each has its turn
	require.NotZero(t, refused, "nobody fought")
	t.Logf("%v: held %d times, refused %d times", *stormTime, total, refused)

	local := netip.MustParseAddr(host)
	for n := range stormPorts {
		list, err := iwarp.DefaultPortSpace.Holders(uint16(stormFirst + n))
		require.NoError(t, err)
		for _, h := range list {
			require.False(t, h.Local.Addr() == local && h.State != "time-wait", "left behind: %v", h)
		}
		r, err := iwarp.DefaultPortSpace.Reserve(t.Context(), "tcp", net.JoinHostPort(host, strconv.Itoa(stormFirst+n)))
		require.NoError(t, err, "the port is lost")
		require.NoError(t, r.Release())
	}
}
