package engine

import (
	"io"
	"sync"
)

// pipeRoom is how many bytes one direction of a pipe holds.
const pipeRoom = 1 << 20

// newPipe returns a connected pair of streams within the process: buffered,
// so that a writer need not meet its reader.
func newPipe() (a, b io.ReadWriteCloser) {
	x, y := newPipeBuffer(), newPipeBuffer()
	return &pipeEnd{r: x, w: y}, &pipeEnd{r: y, w: x}
}

type pipeEnd struct{ r, w *pipeBuffer }

func (p *pipeEnd) Read(b []byte) (int, error)  { return p.r.read(b) }
func (p *pipeEnd) Write(b []byte) (int, error) { return p.w.write(b) }

// Close ends both directions; what was written is still read.
func (p *pipeEnd) Close() error {
	p.w.close()
	p.r.abandon()
	return nil
}

// pipeBuffer is one direction.
type pipeBuffer struct {
	mu     sync.Mutex
	cond   sync.Cond
	b      []byte
	closed bool // by the writer
	gone   bool // the reader
}

func newPipeBuffer() *pipeBuffer {
	p := &pipeBuffer{}
	p.cond.L = &p.mu
	return p
}

func (p *pipeBuffer) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.b) == 0 && !p.closed && !p.gone {
		p.cond.Wait()
	}
	if p.gone {
		return 0, io.ErrClosedPipe
	}
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.b)
	if p.b = p.b[n:]; len(p.b) == 0 {
		p.b = nil
	}
	p.cond.Broadcast()
	return n, nil
}

func (p *pipeBuffer) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(b) {
		for len(p.b) >= pipeRoom && !p.gone && !p.closed {
			p.cond.Wait()
		}
		if p.gone || p.closed {
			return n, io.ErrClosedPipe
		}
		m := min(len(b)-n, pipeRoom-len(p.b))
		p.b = append(p.b, b[n:n+m]...)
		n += m
		p.cond.Broadcast()
	}
	return n, nil
}

func (p *pipeBuffer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.cond.Broadcast()
}

func (p *pipeBuffer) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	p.cond.Broadcast()
}
