package rdmanet

import "sync"

const (
	smallBlock = 4 << 10
	largeBlock = 64 << 10
)

// A block holds bytes of stream between their arrival and their reading.
type block struct {
	buf  []byte
	r, w int // bytes not read are buf[r:w]
	next *block
}

var (
	smallBlocks = sync.Pool{New: func() any { return &block{buf: make([]byte, smallBlock)} }}
	largeBlocks = sync.Pool{New: func() any { return &block{buf: make([]byte, largeBlock)} }}
)

// getBlock returns an empty block, a large one if more than n small bytes are expected.
func getBlock(n int) *block {
	if n <= smallBlock {
		return smallBlocks.Get().(*block)
	}
	return largeBlocks.Get().(*block)
}

func putBlock(b *block) {
	b.r, b.w, b.next = 0, 0, nil
	if len(b.buf) == smallBlock {
		smallBlocks.Put(b)
		return
	}
	largeBlocks.Put(b)
}

// A blockList is a queue of bytes in blocks from the pools. It holds none while it is empty.
type blockList struct {
	head, tail *block
}

// append adds p at the end.
func (l *blockList) append(p []byte) {
	for len(p) > 0 {
		if l.tail == nil || l.tail.w == len(l.tail.buf) {
			n := len(p)
			if l.tail != nil {
				n = largeBlock // more than one block's worth waits: a stream
			}
			b := getBlock(n)
			if l.tail == nil {
				l.head = b
			} else {
				l.tail.next = b
			}
			l.tail = b
		}
		n := copy(l.tail.buf[l.tail.w:], p)
		l.tail.w += n
		p = p[n:]
	}
}

// prepend adds p before all others.
func (l *blockList) prepend(p []byte) {
	var front blockList
	front.append(p)
	if front.head == nil {
		return
	}
	front.tail.next = l.head
	if l.tail == nil {
		l.tail = front.tail
	}
	l.head = front.head
}

// front returns the first bytes, as many as lie in one piece. They stay where they are until they are dropped.
func (l *blockList) front() []byte {
	if l.head == nil {
		return nil
	}
	return l.head.buf[l.head.r:l.head.w]
}

// drop removes the first n bytes, which front has returned.
func (l *blockList) drop(n int) {
	b := l.head
	b.r += n
	if b.r == b.w {
		l.pop()
		putBlock(b)
	}
}

// pop removes the first block.
func (l *blockList) pop() {
	l.head = l.head.next
	if l.head == nil {
		l.tail = nil
	}
}

// clear removes everything.
func (l *blockList) clear() {
	for l.head != nil {
		b := l.head
		l.head = b.next
		putBlock(b)
	}
	l.tail = nil
}
