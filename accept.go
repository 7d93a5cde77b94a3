package iwarp

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/rdmanet/iwarp/internal/keepalive"
	"github.com/rdmanet/iwarp/internal/neterr"
	"github.com/rdmanet/iwarp/internal/sniff"
)

// enter counts a call of Accept, or an assistant. From the first one on, clients of all kinds are
// waited for.
func (l *Listener) enter(assistant bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch err := l.over(); {
	case assistant && l.state != listens:
		return l.fail("accept", net.ErrClosed)
	case !assistant && err != nil:
		return err
	}
	l.calls++
	if l.calls == 1 && l.state == listens {
		l.serveDevices()
	}
	switch {
	case assistant:
		l.assistants++
	case l.assistants > 0:
		l.kick() // perhaps one has the turn, which is for this call
	}
	return nil
}

// leave ends what enter began. After the last one, the devices' clients have to wait.
func (l *Listener) leave(assistant bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if assistant {
		l.assistants--
	}
	if l.calls--; l.calls > 0 {
		return
	}
	l.fault = nil
	if l.idle != nil {
		l.idle()
		l.idle = nil
	}
	if l.left != nil {
		close(l.left)
		l.left = nil
	}
}

// over returns why Accept must not wait, or nil. Its caller holds l.mu.
func (l *Listener) over() error {
	switch {
	case l.state == closed && (!l.taken || len(l.ready) == 0):
		return l.fail("accept", net.ErrClosed)
	case !l.until.IsZero() && !time.Now().Before(l.until):
		return l.fail("accept", os.ErrDeadlineExceeded)
	case l.taken && len(l.ready) == 0 && !l.coming():
		return l.fail("accept", net.ErrClosed)
	}
	return nil
}

// next returns a client that is ready or why none is waited for, or else announces a take.
func (l *Listener) next() (c client, found bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.over(); err != nil {
		return client{}, false, err
	}
	if len(l.ready) > 0 {
		return l.pop(), true, nil
	}
	if l.fault != nil {
		err, l.fault = l.fault, nil
		return client{}, false, err
	}
	l.announceTake(l.until)
	return client{}, false, nil
}

// announceTake settles what take must do, until when at most. Its caller holds l.mu.
func (l *Listener) announceTake(limit time.Time) {
	l.pause = 0
	changed := limit != l.limit
	l.limit = limit
	if l.state != listens {
		return
	}
	if l.pause = l.half.room(); l.pause <= 0 && l.isShared() {
		l.pause = l.half.moment(l.calls)
	}
	l.accepting = l.pause <= 0
	if changed || l.kicked && l.accepting { // it has come back, and may go on
		l.kicked = false
		_ = l.tcp.SetDeadline(limit)
	}
}

// pop takes the first client out of ready. Its caller holds l.mu.
func (l *Listener) pop() client {
	c := l.ready[0]
	l.ready[0] = client{}
	if l.ready = l.ready[1:]; len(l.ready) == 0 {
		l.ready = nil
	}
	return c
}

// take waits for something to do: a client of the kernel, or one that gets ready. If it returns
// neither, there is something else to look at.
func (l *Listener) take() (client, error) {
	if !l.accepting {
		l.awaitNudge()
		return client{}, nil
	}
	c, err := l.tcp.AcceptTCP()
	var got client
	if err == nil {
		got = l.sort(c)
	}
	got, kicked := l.accepted(got)
	switch {
	case err == nil:
		return got, nil
	case kicked:
		return client{}, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return client{}, l.fail("accept", os.ErrDeadlineExceeded)
	}
	return client{}, l.fail("accept", neterr.Bare(err))
}

// accepted records that accept(2) has returned, and reports whether it was called back. It returns
// c unless others, which are older, are already ready.
func (l *Listener) accepted(c client) (first client, kicked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.Conn != nil && len(l.ready) > 0 {
		l.ready = append(l.ready, c)
		c = client{}
	}
	l.accepting = false
	if l.out != nil {
		close(l.out)
		l.out = nil
	}
	return c, l.kicked || l.state != listens
}

// kick makes the call of Accept that has the turn look around. Its caller holds l.mu.
func (l *Listener) kick() {
	if l.accepting {
		if !l.kicked {
			l.kicked = true
			_ = l.tcp.SetDeadline(past)
		}
		return
	}
	select {
	case l.nudge <- struct{}{}:
	default:
	}
}

// awaitNudge waits for the next kick, the deadline, or the end of the pause.
func (l *Listener) awaitNudge() {
	l.mu.Lock()
	wait, limited := l.pause, l.pause > 0
	if !l.limit.IsZero() && (!limited || time.Until(l.limit) < wait) {
		wait, limited = time.Until(l.limit), true
	}
	l.mu.Unlock()
	var passed <-chan time.Time
	if limited {
		t := time.NewTimer(wait)
		defer t.Stop()
		passed = t.C
	}
	select {
	case <-l.nudge:
	case <-passed:
	}
}

// sort returns a connection made of c if nothing of the peer has to be waited for. Otherwise what c
// is is found out in the background.
func (l *Listener) sort(c *net.TCPConn) client {
	place, ok := l.hasShare(c)
	if !ok {
		l.turnAway(c)
		return client{}
	}
	keepalive.SetAccepted(l.tcp, c, l.config.KeepAlive, l.config.KeepAliveConfig)
	if l.direct {
		reason := ReasonPolicy
		if l.policy != OffloadNever {
			reason = ReasonNoDevice
		}
		return client{Conn: l.plain(c, reason, l.whyNone)}
	}
	if l.kernel == nil {
		return client{Conn: l.plain(c, ReasonNotIWARP, nil)}
	}
	first, atOnce, err := l.glance(c)
	switch {
	case err != nil && l.policy == OffloadRequire: // the connection broke, which it tells once
		l.counters.failed.Add(1)
		_ = c.Close()
		return client{}
	case err == nil && first.Verdict == sniff.PlainTCP && l.half.ahead(nil) == nil:
		return client{Conn: l.plain(c, ReasonNotIWARP, nil)}
	case err == nil && first.Whole && atOnce:
		return l.shakeAtOnce(c, place, false)
	}
	l.find(&halfOpen{c: c, since: time.Now(), place: place})
	return client{}
}

// glance looks at the first bytes of c, and returns whether a request that is whole can be answered
// without waiting.
func (l *Listener) glance(c *net.TCPConn) (first sniff.Beginning, atOnce bool, err error) {
	atOnce = l.prompt && len(l.deviceList()) == 0
	first, err = sniff.Look(c, false, l.errors())
	if err == nil && first.N == 0 && first.Verdict == sniff.Undecided && l.policy == OffloadRequire && atOnce {
		first, err = l.moment.await(c)
	}
	return first, atOnce, err
}

// turnAway ends a connection that is one too many: by a refusal if it has already asked for iWARP,
// as a reset looks like a peer that has none.
func (l *Listener) turnAway(c *net.TCPConn) {
	if !l.direct && l.kernel != nil {
		if first, atOnce, err := l.glance(c); err == nil && first.Whole && atOnce {
			l.shakeAtOnce(c, nil, true)
			return
		}
	}
	reset(c)
}

const (
	// momentTime is how long a call of Accept itself waits for the request of a client, which is
	// mostly on its way already: that takes less than to leave it to another goroutine.
	momentTime = 2 * time.Millisecond
	// momentPause is how many clients are not waited for after one that was silent for as long, so
	// that many of those hold nobody up.
	momentPause = 256
	// momentLate is after how long the wait was for long enough that a few clients are not waited
	// for either.
	momentLate  = momentTime / 4
	momentLater = momentPause / 8
)

// A moment is such a wait, of the only call that takes clients. All share one timer, which is left
// alone unless it has expired: one of its own for each would often wake a thread to wait for it.
type moment struct {
	mu    sync.Mutex
	c     *net.TCPConn // nil if there is no wait, or its time is over
	began time.Time
	timer *time.Timer
	runs  bool // the timer does
	pause int  // clients that are still not to be waited for
}

// await looks at the first bytes of c once they are there, or the moment is over.
func (m *moment) await(c *net.TCPConn) (sniff.Beginning, error) {
	if !m.begin(c) {
		return sniff.Beginning{}, nil
	}
	first, err := sniff.Look(c, true, sniff.Take)
	if !m.end() {
		return first, err
	}
	_ = c.SetReadDeadline(time.Time{})
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return first, err
	}
	return sniff.Look(c, false, sniff.Take)
}

func (m *moment) begin(c *net.TCPConn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.c != nil: // whose wait this must not end
		return false
	case m.pause > 0:
		m.pause--
		return false
	}
	m.c, m.began = c, time.Now()
	switch {
	case m.runs:
	case m.timer == nil:
		m.timer = time.AfterFunc(momentTime, m.expire)
	default:
		m.timer.Reset(momentTime)
	}
	m.runs = true
	return true
}

// end ends the wait, and reports whether its time was over before.
func (m *moment) end() (over bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	over = m.c == nil
	if !over && time.Since(m.began) > momentLate {
		m.pause = momentLater
	}
	m.c = nil
	return over
}

// expire ends the wait if it is time.
func (m *moment) expire() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.c == nil {
		m.runs = false
		return
	}
	if left := momentTime - time.Since(m.began); left > 0 {
		m.timer.Reset(left)
		return
	}
	_ = m.c.SetReadDeadline(past)
	m.c, m.runs, m.pause = nil, false, momentPause
}

// shakeAtOnce sets up the iWARP connection that c asks for, whose request has come.
func (l *Listener) shakeAtOnce(c *net.TCPConn, place *place, surplus bool) client {
	h := halfOpens.Get().(*halfOpen)
	h.c, h.since, h.place, h.surplus = c, time.Now(), place, surplus
	made := l.shakeKernel(h)
	*h = halfOpen{}
	halfOpens.Put(h)
	if made == nil {
		return client{}
	}
	return client{Conn: made}
}

// halfOpens are for clients that are identified at once.
var halfOpens = sync.Pool{New: func() any { return new(halfOpen) }}

// find starts finding out in the background what h is.
func (l *Listener) find(h *halfOpen) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == closed { // and may no longer be waiting for calls
		reset(h.c)
		return
	}
	l.admit(h)
	l.workers.Go(func() { l.identify(h) })
}

// plain returns a connection that is handed to Accept as it is, or nil if the policy has no use for
// it.
func (l *Listener) plain(c *net.TCPConn, reason Reason, why error) net.Conn {
	if l.policy == OffloadRequire {
		l.counters.refused.Add(1)
		l.logRefused(c)
		_ = c.Close()
		return nil
	}
	l.counters.plain.Add(1)
	if reason == ReasonNotIWARP {
		if r, ok := l.refusals.take(c); ok {
			reason, why = r.Reason, r.Err
		}
	}
	return rememberTCP(c, plainInfo(reason, why), origin{accepted: true})
}

// deliver makes c ready for Accept.
func (l *Listener) deliver(c client) {
	if c.Conn == nil {
		return
	}
	l.mu.Lock()
	if l.state == closed && !l.taken {
		l.mu.Unlock()
		reset(c.Conn)
		return
	}
	l.ready = append(l.ready, c)
	l.kick()
	l.mu.Unlock()
}

// resetReady ends the connections that nobody has asked for.
func (l *Listener) resetReady() {
	l.mu.Lock()
	list := l.ready
	l.ready = nil
	l.mu.Unlock()
	for _, c := range list {
		reset(c.Conn)
	}
}

func (l *Listener) isTaken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.taken && len(l.ready) > 0
}

// isClosed reports whether Close was called.
func (l *Listener) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == closed
}
