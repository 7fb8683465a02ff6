package mem

import (
	"fmt"
	"io"
	"os"
	"time"

	"bzzz/internal/errs"
	"bzzz/transport"
)

// Stream is one end of a connection. It implements transport.Stream.
//
// A direction holds at most a window of bytes on its way and another one at
// the receiver; then Write blocks. Besides, any method may be called while any
// other runs.
type Stream struct {
	c    *conn
	id   uint64
	node *Node // nil until connected
	peer transport.Addr
	in   *pipe
	out  *pipe

	// Guarded by c.mu:
	err      error // why this end is over; nil while it stands
	deadline time.Time
}

var _ transport.Stream = (*Stream)(nil)

// errDeadline matches errs.ErrTimeout and os.ErrDeadlineExceeded.
var errDeadline = fmt.Errorf("%w: %w", errs.ErrTimeout, os.ErrDeadlineExceeded)

// unavailable returns an error that wraps errs.ErrUnavailable.
func unavailable(why string) error { return fmt.Errorf("%w: %s", errs.ErrUnavailable, why) }

// Pipe returns two connected streams between the addresses "a" and "b" of a
// network of their own, for a link within one process: bounded buffers and,
// with the zero Options, no delay and no fault.
func Pipe(o Options) (a, b *Stream) {
	c := newConn(New(o), "a", "b", 0)
	return c.ends[0], c.ends[1]
}

// Peer returns the address of the other end.
func (s *Stream) Peer() transport.Addr { return s.peer }

// Read returns what has arrived, at most len(b) bytes, and blocks until there
// is something. It returns io.EOF after the other end's CloseWrite.
func (s *Stream) Read(b []byte) (int, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for {
		switch {
		case s.over():
			s.in.readable.set() // for another reader, should there be one
			return 0, s.why()
		case len(b) == 0:
			return 0, nil
		case s.in.rbuf.n > 0:
			return s.in.fetch(b), nil
		case s.in.eof:
			s.in.readable.set()
			return 0, io.EOF
		}
		s.wait(s.in.readable)
	}
}

// Write returns when all of b is on its way, or with the number of bytes that
// are and an error. It blocks while the window is full. b may be used again
// afterwards.
func (s *Stream) Write(b []byte) (n int, err error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for {
		switch {
		case s.over():
			s.out.writable.set()
			return n, s.why()
		case s.out.ended:
			return n, errs.ErrClosed
		}
		n += s.out.accept(b[n:])
		if n == len(b) {
			return n, nil
		}
		s.wait(s.out.writable)
	}
}

// CloseWrite ends what this end writes: later writes return ErrClosed, the
// other end reads io.EOF after the data. It does not block and is idempotent.
func (s *Stream) CloseWrite() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if !s.out.ended {
		s.out.finish()
	}
	return nil
}

// Close ends this end: pending and later calls return ErrClosed. After a
// CloseWrite what was written is still delivered; else the stream is reset:
// the other end returns ErrUnavailable as soon as it hears of it, and loses
// what it has not read yet. Close does not block and is idempotent.
func (s *Stream) Close() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	stood := s.err == nil
	s.fail(errs.ErrClosed)
	s.err = errs.ErrClosed
	if stood && !s.out.ended {
		s.out.reset()
		s.out.flush()
	}
	s.out.settle()
	s.in.flush() // what was held up by the window finds a closed end
	return nil
}

// SetDeadline bounds pending and later reads and writes; past it they return
// an error that matches ErrTimeout and os.ErrDeadlineExceeded. The stream
// stands and goes on when the deadline is lifted by the zero time.
func (s *Stream) SetDeadline(t time.Time) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.deadline = t
	s.in.readable.set()
	s.out.writable.set()
	return nil
}

// fail makes this end return err from now on, if it did not fail before.
func (s *Stream) fail(err error) {
	if s.err == nil {
		s.err = &errs.Error{Op: "mem.Stream", Addr: string(s.peer), Err: err}
	}
	s.in.rbuf.reset()
	s.in.readable.set()
	s.out.writable.set()
}

// over says whether a call has to end with the error that why returns.
func (s *Stream) over() bool {
	return s.err != nil || !s.deadline.IsZero() && !time.Now().Before(s.deadline)
}

func (s *Stream) why() error {
	if s.err != nil {
		return s.err
	}
	return errDeadline
}

// wait gives up the lock until the signal or the deadline.
func (s *Stream) wait(sig signal) {
	deadline := s.deadline
	s.c.mu.Unlock()
	defer s.c.mu.Lock()
	if deadline.IsZero() {
		<-sig
		return
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-sig:
	case <-timer.C:
	}
}

// signal wakes one waiter, or the next one to wait.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) set() {
	select {
	case s <- struct{}{}:
	default:
	}
}
