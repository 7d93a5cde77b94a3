package operations

import (
	"bytes"
	"context"
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/debug"
	_ "github.com/rdmanet/iwarp/debug/pcapng"
	"github.com/rdmanet/iwarp/rdmanet"
)

// pictures is docs/img for those that the documents show.
var pictures = flag.String("pictures", "", "`folder` for pictures of the page")

// A lively process has connections of several kinds: with and without traffic, of plain TCP, one
// whose peer does not read, and one that failed.
type lively struct {
	t      *testing.T
	conns  []net.Conn
	wg     sync.WaitGroup
	stream net.Conn // for frames
	peer   net.Conn
}

func (v *lively) connect(network, host string, policy iwarp.Offload) (client, server net.Conn) {
	l, err := iwarp.Listen(network, net.JoinHostPort(host, "0"))
	require.NoError(v.t, err)
	v.t.Cleanup(func() { l.Close() })
	accepted := make(chan net.Conn, 1)
	v.wg.Go(func() {
		c, _ := l.Accept()
		accepted <- c
	})
	// However long the answer takes on a busy machine: it is to be iWARP with OffloadPrefer, too.
	client, err = (&iwarp.Dialer{Offload: policy, HandshakeTimeout: time.Minute}).Dial(network, l.Addr().String())
	require.NoError(v.t, err)
	_, err = io.WriteString(client, "hello")
	require.NoError(v.t, err)
	server = <-accepted
	require.NotNil(v.t, server)
	_, err = io.ReadFull(server, make([]byte, 5))
	require.NoError(v.t, err)
	v.conns = append(v.conns, client, server)
	return client, server
}

// say sends n bytes from one to the other.
func (v *lively) say(from, to net.Conn, n int) {
	v.wg.Go(func() { _, _ = from.Write(bytes.Repeat([]byte{'x'}, n)) })
	_, err := io.ReadFull(to, make([]byte, n))
	require.NoError(v.t, err)
}

func live(t *testing.T) *lively {
	v := &lively{t: t}
	t.Cleanup(func() {
		for _, c := range v.conns {
			_ = c.Close()
		}
		v.wg.Wait()
	})
	v.stream, v.peer = v.connect("tcp4", "127.0.0.1", iwarp.OffloadRequire)
	v.say(v.stream, v.peer, 3<<20)
	v.say(v.peer, v.stream, 40_000)
	network, host := "tcp6", "::1"
	if l, err := net.Listen(network, "[::1]:0"); err != nil {
		network, host = "tcp4", "127.0.0.1"
	} else {
		require.NoError(t, l.Close())
	}
	c, s := v.connect(network, host, iwarp.OffloadPrefer)
	v.say(s, c, 700_000)
	for range 2 {
		c, s := v.connect("tcp4", "127.0.0.1", iwarp.OffloadAuto)
		v.say(c, s, 20_000)
	}
	stuck, _ := v.connect("tcp4", "127.0.0.1", iwarp.OffloadRequire)
	v.wg.Go(func() { _, _ = stuck.Write(make([]byte, 64<<20)) })
	lost, gone := v.connect("tcp4", "127.0.0.1", iwarp.OffloadRequire)
	require.NoError(t, gone.(*rdmanet.Conn).SetLinger(0))
	require.NoError(t, gone.Close())
	_, err := lost.Read(make([]byte, 1))
	require.Error(t, err)
	p, err := iwarp.DefaultPortSpace.Reserve(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { p.Release() })
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, nobody.Close())
	_, err = iwarp.Dial("tcp", nobody.Addr().String())
	require.Error(t, err)
	require.Eventually(t, func() bool {
		for _, c := range iwarp.Snapshot().Conns {
			if !c.BlockedSince.IsZero() {
				return true
			}
		}
		return false
	}, time.Minute, time.Millisecond)
	return v
}

// watch finds what a page should not do.
type watch struct {
	mu   sync.Mutex
	said []string
}

func (w *watch) on(event any) {
	var what string
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		what = "console: " + string(e.Type)
	case *runtime.EventExceptionThrown:
		what = "exception: " + e.ExceptionDetails.Text
	case *log.EventEntryAdded:
		if strings.Contains(e.Entry.URL, "favicon") {
			return
		}
		what = e.Entry.Text + " " + e.Entry.URL
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err == nil && u.Hostname() == "127.0.0.1" && u.Path == "/debug/iwarp" || strings.Contains(e.Request.URL, "favicon") {
			return
		}
		what = "asks for " + e.Request.URL
	default:
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, what)
}

// faint returns the texts that are hard to read against what is behind them (WCAG 2.1, 1.4.3).
const faint = `(() => {
	const parse = c => { const m = c.match(/[\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1] };
	const light = ([r, g, b]) => { const f = [r, g, b].map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 }); return .2126 * f[0] + .7152 * f[1] + .0722 * f[2] };
	const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c } return [...parse(getComputedStyle(document.documentElement).backgroundColor)] };
	const bad = [];
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let n; n = texts.nextNode();) {
		const e = n.parentElement;
		if (!n.data.trim() || ['STYLE', 'SELECT', 'OPTION', 'BUTTON'].includes(e.tagName)) continue;
		let back = behind(e);
		if (back[3] !== 1) back = matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18, 1] : [255, 255, 255, 1];
		const a = light(parse(getComputedStyle(e).color)), b = light(back);
		const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
		if (ratio < 4.5) bad.push(n.data.trim() + ' ' + ratio.toFixed(2));
	}
	return bad;
})()`

// wide returns what is wider than the screen.
const wide = `[...document.body.children].filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName)
	.concat(document.documentElement.scrollWidth > innerWidth ? ['the page: ' + document.documentElement.scrollWidth] : [])`

// value runs an action.
func value[T any](t *testing.T, ctx context.Context, a chromedp.Action[T]) T {
	v, err := chromedp.Run(ctx, a)
	require.NoError(t, err)
	return v
}

// TestPage looks at the page in Chromium, as a phone and as a desktop, light and dark: nothing is
// wider than the screen, all can be read, nothing is said on the console, and nothing is asked of
// others. Then it records frames by what is on the page.
func TestPage(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed")
	}
	v := live(t)
	mux := http.NewServeMux()
	mux.Handle("/debug/iwarp", debug.HandlerWithPayload())
	server := httptest.NewServer(mux)
	defer server.Close()
	home := server.URL + "/debug/iwarp"

	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(2*time.Minute))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	var w watch
	require.NoError(t, chromedp.Listen(ctx, w.on))
	do := func(steps ...chromedp.Action[chromedp.Void]) { require.NoError(t, chromedp.Do(ctx, steps...)) }
	xpath := func(s string) chromedp.Search { return chromedp.Search(s) }

	// By hand: from the list to a connection, record, and look again.
	button := func(name string) chromedp.Search { return xpath(`//button[text()="` + name + `"]`) }
	do(chromedp.Navigate(home), chromedp.Click(xpath(`//td/a[text()="`+v.stream.LocalAddr().String()+`"]`)), chromedp.WaitVisible(button("Record frames")))
	value(t, ctx, chromedp.Evaluate[bool](`(document.querySelector('[name=seconds]').value = "600") === "600"`)) // beyond the last step
	do(chromedp.Click(button("Record frames")), chromedp.WaitVisible(button("Stop")))
	text := value(t, ctx, chromedp.Text(chromedp.CSS("body")))
	require.Contains(t, text, "Recording since")
	require.Contains(t, text, "No frame has passed")
	v.say(v.stream, v.peer, 100)
	v.say(v.peer, v.stream, 70_000)
	v.say(v.stream, v.peer, 70_000)
	do(chromedp.Click(xpath(`//a[text()="Look again"]`)), chromedp.WaitVisible(xpath(`//td[text()="RDMA Write"]`)))
	frames := value(t, ctx, chromedp.Location())
	r, err := http.Get(frames + "&pcapng")
	require.NoError(t, err)
	defer r.Body.Close()
	file, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.Equal(t, []byte{0x0a, 0x0d, 0x0d, 0x0a}, file[:4])

	for _, c := range []struct {
		name           string
		width, height  int64
		phone          bool
		scheme         string
		page, contains string
	}{
		{"page-light", 1280, 900, false, "light", home, "Why plain TCP"},
		{"page-dark", 1280, 900, false, "dark", home, "the peer does not read"},
		{"page-phone-light", 390, 844, true, "light", home, "Reserved ports"},
		{"page-phone-dark", 390, 844, true, "dark", home, "Since the start"},
		{"frames-light", 1280, 900, false, "light", frames, "RDMA Write"},
		{"frames-dark", 1280, 900, false, "dark", frames, "last"},
		{"frames-phone-light", 390, 844, true, "light", frames, "Download as pcapng"},
		{"frames-phone-dark", 390, 844, true, "dark", frames, "Stop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			value(t, ctx, func(ctx context.Context, tab *chromedp.Target) (cdp.Empty, error) {
				return cdp.Call(ctx, tab, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
					Width: c.width, Height: c.height, DeviceScaleFactor: 1, Mobile: c.phone,
				})
			})
			value(t, ctx, func(ctx context.Context, tab *chromedp.Target) (cdp.Empty, error) {
				return cdp.Call(ctx, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
					Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: c.scheme}},
				})
			})
			do(chromedp.Navigate(c.page))
			require.Contains(t, value(t, ctx, chromedp.Text(chromedp.CSS("body"))), c.contains)
			require.Empty(t, value(t, ctx, chromedp.Evaluate[[]string](wide)))
			require.Empty(t, value(t, ctx, chromedp.Evaluate[[]string](faint)))
			picture := value(t, ctx, chromedp.CaptureScreenshot())
			if *pictures != "" {
				require.NoError(t, os.WriteFile(filepath.Join(*pictures, c.name+".png"), picture, 0o644))
			}
		})
	}
	do(chromedp.Click(button("Stop")), chromedp.WaitVisible(xpath(`//p[contains(text(), "it was stopped")]`)))
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Empty(t, w.said)
}
