package nldev

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/netlink"
)

var capture = flag.String("capture", "", "write the kernel's answers about its devices into this folder")

const class = "/sys/class/infiniband/"

// names lists a folder of sysfs, which a kernel without RDMA does not have.
func names(t *testing.T, dir string) []string {
	entries, err := os.ReadDir(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// content reads a file of sysfs; it has none where the kernel says that there is nothing to tell.
func content(file string) string {
	b, _ := os.ReadFile(file)
	return strings.TrimSpace(string(b))
}

// TestLinks compares with what sysfs tells: here, in a virtual machine with devices, or on a host
// without RDMA.
func TestLinks(t *testing.T) {
	links, err := Links()
	require.NoError(t, err)
	devices, err := Devices()
	require.NoError(t, err)
	told := make(map[string]Link)
	for _, l := range links {
		l.Port, l.State, l.NetDev, l.NetDevIndex = 0, 0, "", 0
		require.Contains(t, devices, l)
	}
	for _, l := range links {
		t.Logf("%+v", l)
		told[l.Device+"/"+strconv.Itoa(int(l.Port))] = l
	}
	require.Len(t, told, len(links), "a port is there twice")
	n := 0
	for _, device := range names(t, class) {
		for _, port := range names(t, class+device+"/ports") {
			n++
			l, ok := told[device+"/"+port]
			require.True(t, ok, "%s/%s", device, port)
			dir := class + device + "/ports/" + port
			require.Contains(t, content(class+device+"/node_type"), strconv.Itoa(int(l.Node))+":")
			require.Equal(t, content(dir+"/state"), strconv.Itoa(int(l.State))+": "+l.State.String())
			require.Equal(t, device, content("/sys/class/infiniband_verbs/"+l.Chardev+"/ibdev"))
			if netdev := content(dir + "/gid_attrs/ndevs/0"); netdev != "" { // of RoCE only
				require.Equal(t, netdev, l.NetDev)
			}
			if l.NetDev != "" {
				require.Equal(t, content("/sys/class/net/"+l.NetDev+"/ifindex"), strconv.Itoa(int(l.NetDevIndex)))
			}
			switch {
			case strings.HasPrefix(device, "siw"):
				require.Equal(t, []any{DriverSIW, NodeRNIC, "iw"}, []any{l.Driver, l.Node, l.Protocol})
			case strings.HasPrefix(device, "rxe"):
				require.Equal(t, []any{DriverRXE, NodeCA, "roce"}, []any{l.Driver, l.Node, l.Protocol})
			}
		}
	}
	require.Equal(t, n, len(links))
	if n == 0 {
		t.Log("no device here; test/kernel/vm -f nldev.test -- nldev.test -test.v has some")
	}
}

// TestUnprivileged asks from a thread without any privilege, if this process has some.
func TestUnprivileged(t *testing.T) {
	wanted, err := Links()
	require.NoError(t, err)
	var links []Link
	asNobody(t, func() { links, err = Links() })
	require.NoError(t, err)
	require.Equal(t, wanted, links)
}

// TestResources compares with what rdma(8) says in "1: siw1: pd 0 cq 0 qp 0 ...".
func TestResources(t *testing.T) {
	_, err := Resources("no such device")
	require.ErrorIs(t, err, unix.ENODEV)
	require.ErrorContains(t, err, "no such device")
	devices := names(t, class)
	if len(devices) == 0 {
		t.Log("no device here; test/kernel/vm -f nldev.test -- nldev.test -test.v has some")
		return
	}
	out, err := exec.Command("rdma", "resource", "show").Output()
	require.NoError(t, err)
	told := make(map[string]Counts)
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		var c Counts
		for i := 2; i+1 < len(words); i += 2 {
			*c.field(words[i]), err = strconv.ParseUint(words[i+1], 10, 64)
			require.NoError(t, err, line)
		}
		told[strings.TrimSuffix(words[1], ":")] = c
	}
	for _, device := range devices {
		c, err := Resources(device)
		require.NoError(t, err)
		t.Logf("%s: %+v", device, c)
		require.Equal(t, told[device], c, device)
	}
}

// TestObjects lists as many ids and queue pairs as the kernel counts, also without any privilege.
func TestObjects(t *testing.T) {
	links, err := Links()
	require.NoError(t, err)
	ids, err := CMIDs(1 << 30)
	require.NoError(t, err)
	require.Empty(t, ids, "no such device")
	for _, l := range links {
		c, err := Resources(l.Device)
		require.NoError(t, err)
		asNobody(t, func() {
			ids, err = CMIDs(l.Index)
			require.NoError(t, err)
			require.EqualValues(t, c.CMID, len(ids))
			qps, err := QueuePairs(l.Index)
			require.NoError(t, err)
			require.EqualValues(t, c.QP, len(qps))
			t.Logf("%s: %+v %+v", l.Device, ids, qps)
		})
	}
}

// asNobody calls f in a thread without any privilege, if this process has some.
func asNobody(t *testing.T, f func()) {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		const nobody = 65534
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 && os.Geteuid() == 0 {
			done <- errno
			return
		}
		defer close(done)
		f()
	}()
	require.NoError(t, <-done)
}

// TestKernelWithoutRDMA shows the errnos that are taken for a kernel without RDMA.
func TestKernelWithoutRDMA(t *testing.T) {
	s, err := open()
	if err != nil {
		require.ErrorIs(t, err, unix.EPROTONOSUPPORT)
		return
	}
	defer s.Close()
	// What nldev does not know is refused as it would be if nldev were not there.
	require.ErrorIs(t, ask(s, clientNLDev|1023, netlink.Dump, func([]byte) error { return nil }), unix.EINVAL)
}

// TestCapture writes the golden bytes.
func TestCapture(t *testing.T) {
	if *capture == "" {
		t.Skip("writes testdata: go test -c, then test/kernel/vm -o DIR ... -- nldev.test -test.run Capture -capture /out")
	}
	s, err := open()
	require.NoError(t, err)
	defer s.Close()
	save := func(name string, command, flags uint16, attributes ...netlink.Attribute) {
		all, err := s.Record(command, flags, netlink.AppendAttributes(nil, attributes...))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(*capture, name+".bin"), all, 0o644))
	}
	links, err := Links()
	require.NoError(t, err)
	save("get", commandGet, netlink.Dump)
	save("resources", commandResGet, netlink.Dump)
	for _, l := range links {
		index := netlink.Uint32(attributeDeviceIndex, l.Index)
		save("port-"+l.Device, commandPortGet, netlink.Dump, index)
		save("cmid-"+l.Device, commandCMIDGet, netlink.Dump, index)
		save("qp-"+l.Device, commandQPGet, netlink.Dump, index)
		save("chardev-"+l.Device, commandGetChardev, netlink.Ack, index, netlink.Attribute{Kind: attributeChardevType, Value: []byte("uverbs\x00")})
	}
}
