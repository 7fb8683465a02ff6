package mem

import "math/bits"

// ring is a bounded byte queue. Its memory grows with what it holds, up to
// max, and is dropped by reset.
type ring struct {
	max  int
	buf  []byte
	head int // index of the first byte
	n    int // bytes held
}

// minRing is the first allocation in bytes; most streams carry small frames.
const minRing = 4 << 10

func (r *ring) free() int { return r.max - r.n }

// write appends what fits of b and returns how much did.
func (r *ring) write(b []byte) int {
	b = b[:min(len(b), r.free())]
	r.grow(r.n + len(b))
	x, y := r.view(r.n, len(b))
	copy(y, b[copy(x, b):])
	r.n += len(b)
	return len(b)
}

// read removes up to len(b) bytes from the front and returns how many.
func (r *ring) read(b []byte) int {
	n := min(len(b), r.n)
	x, y := r.view(0, n)
	copy(b[copy(b, x):], y)
	r.discard(n)
	return n
}

// discard removes n bytes from the front.
func (r *ring) discard(n int) {
	r.n -= n
	if r.n == 0 {
		r.head = 0 // the next bytes stay in warm memory
		return
	}
	if r.head += n; r.head >= len(r.buf) {
		r.head -= len(r.buf)
	}
}

// view returns the memory of n bytes from offset off behind the front, in two
// parts where it wraps around.
func (r *ring) view(off, n int) (x, y []byte) {
	i := r.head + off
	if i >= len(r.buf) {
		i -= len(r.buf)
	}
	if k := len(r.buf) - i; n > k {
		return r.buf[i:], r.buf[:n-k]
	}
	return r.buf[i : i+n], nil
}

// grow makes room for n bytes in all.
func (r *ring) grow(n int) {
	if n <= len(r.buf) {
		return
	}
	buf := make([]byte, min(r.max, max(minRing, 1<<bits.Len(uint(n-1)))))
	x, y := r.view(0, r.n)
	copy(buf[copy(buf, x):], y)
	r.buf, r.head = buf, 0
}

// reset drops everything.
func (r *ring) reset() { *r = ring{max: r.max} }
