package flow

import "sync"

// blockSizes are those that blocks come in. The largest is for bytes that are moved on at once.
var blockSizes = [...]int{512, 4 << 10, 16 << 10, 64 << 10, 256 << 10}

// storedBlock is the size of the largest block in a list.
const storedBlock = 64 << 10

// A Block holds bytes of stream between their arrival and their reading.
type Block struct {
	Buf  []byte
	r, w int // bytes not read are Buf[r:w]
	next *Block
}

var blockPools [len(blockSizes)]sync.Pool

// sizeClass returns the index of the smallest size that takes n bytes, or of the largest.
func sizeClass(n int) int {
	for i, size := range blockSizes {
		if n <= size {
			return i
		}
	}
	return len(blockSizes) - 1
}

// GetBlock returns an empty block for n bytes, or for some of them.
func GetBlock(n int) *Block {
	if b, _ := blockPools[sizeClass(n)].Get().(*Block); b != nil {
		return b
	}
	return newBlock(n)
}

// newBlock is kept out of the frame of GetBlock, which is one of many where bytes are placed.
//
//go:noinline
func newBlock(n int) *Block { return &Block{Buf: make([]byte, blockSizes[sizeClass(n)])} }

// Bytes returns what is in b and has not been read.
func (b *Block) Bytes() []byte { return b.Buf[b.r:b.w] }

// Fill puts as much of p into the empty block b as it has room for, and returns how much.
func (b *Block) Fill(p []byte) int {
	b.w = copy(b.Buf, p)
	return b.w
}

// SetLen says that the first n bytes of the empty block b were filled in.
func (b *Block) SetLen(n int) { b.w = n }

// PutBlock gives b back, which must not be used after that.
func PutBlock(b *Block) {
	b.r, b.w, b.next = 0, 0, nil
	blockPools[sizeClass(len(b.Buf))].Put(b)
}

// A blockList is a queue of bytes in blocks from the pools. It holds none while it is empty.
type blockList struct {
	head, tail *Block
}

// append adds p at the end. As many bytes as wait in full blocks are expected to follow, so a
// stream fills large blocks, and no list takes much more than twice its bytes.
func (l *blockList) append(p []byte) {
	for len(p) > 0 {
		if l.tail == nil {
			l.head = GetBlock(min(len(p), storedBlock))
			l.tail = l.head
		} else if l.tail.w == len(l.tail.Buf) {
			l.tail.next = GetBlock(min(max(len(p), 2*len(l.tail.Buf)), storedBlock))
			l.tail = l.tail.next
		}
		n := copy(l.tail.Buf[l.tail.w:], p)
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

// front returns the first bytes, as many as lie in one piece. They stay in place until they are
// dropped.
func (l *blockList) front() []byte {
	if l.head == nil {
		return nil
	}
	return l.head.Bytes()
}

// drop removes the first n bytes, which front has returned.
func (l *blockList) drop(n int) {
	b := l.head
	b.r += n
	if b.r == b.w {
		l.pop()
		PutBlock(b)
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
		PutBlock(b)
	}
	l.tail = nil
}
