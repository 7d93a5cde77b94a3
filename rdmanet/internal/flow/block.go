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
type blockList struct{ last *Block } // which the first one follows

// first returns the first block, or nil.
func (l *blockList) first() *Block {
	if l.last == nil {
		return nil
	}
	return l.last.next
}

// push adds b at the end.
func (l *blockList) push(b *Block) {
	b.next = b
	if l.last != nil {
		b.next, l.last.next = l.last.next, b
	}
	l.last = b
}

// append adds p at the end. As many bytes as wait in full blocks are expected to follow, so a
// stream fills large blocks, and no list takes much more than twice its bytes.
func (l *blockList) append(p []byte) {
	for len(p) > 0 {
		if l.last == nil {
			l.push(GetBlock(min(len(p), storedBlock)))
		} else if size := len(l.last.Buf); l.last.w == size {
			l.push(GetBlock(min(max(len(p), 2*size), storedBlock)))
		}
		n := copy(l.last.Buf[l.last.w:], p)
		l.last.w += n
		p = p[n:]
	}
}

// prepend adds p before all others.
func (l *blockList) prepend(p []byte) {
	var front blockList
	front.append(p)
	switch {
	case front.last == nil:
	case l.last == nil:
		*l = front
	default:
		l.last.next, front.last.next = front.last.next, l.last.next
	}
}

// front returns the first bytes, as many as lie in one piece. They stay in place until they are
// dropped.
func (l *blockList) front() []byte {
	b := l.first()
	if b == nil {
		return nil
	}
	return b.Bytes()
}

// drop removes the first n bytes, which front has returned.
func (l *blockList) drop(n int) {
	b := l.first()
	b.r += n
	if b.r == b.w {
		l.pop()
		PutBlock(b)
	}
}

// pop removes the first block.
func (l *blockList) pop() {
	if b := l.last.next; b == l.last {
		l.last = nil
	} else {
		l.last.next = b.next
	}
}

// clear removes everything.
func (l *blockList) clear() {
	for b := l.first(); b != nil; b = l.first() {
		l.pop()
		PutBlock(b)
	}
}
