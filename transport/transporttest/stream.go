package transporttest

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"bzzz/internal/errs"
)

// soon is a deadline that passes while a call waits.
const soon = 20 * time.Millisecond

func testOrder(t *testing.T, f Factory) {
	a, b := pair(t, f)
	must(t, transfer(a, b, random(1, 1<<20)))
}

func testWriteCopies(t *testing.T, f Factory) {
	a, b := pair(t, f)
	var g group
	g.Go(func() error {
		buf := []byte("before")
		_, err := a.Write(buf)
		copy(buf, "after!")
		return errors.Join(err, a.CloseWrite())
	})
	g.Go(func() error { return expect(b, 1, []byte("before")) })
	must(t, g.Wait())
}

func testDuplex(t *testing.T, f Factory) {
	a, b := pair(t, f)
	ab, ba := random(1, 1<<20), random(2, 1<<20)
	var g group
	g.Go(func() error { return transfer(a, b, ab) })
	g.Go(func() error { return transfer(b, a, ba) })
	must(t, g.Wait())
}

func testBackPressure(t *testing.T, f Factory) {
	a, b := pair(t, f)
	piece := random(1, 64<<10)
	var accepted int
	for accepted <= MaxBuffered {
		must(t, a.SetDeadline(time.Now().Add(soon)))
		n, err := a.Write(piece)
		accepted += n
		if err != nil {
			wantErr(t, "write without a reader", err, errs.ErrTimeout)
			break
		}
	}
	if accepted > MaxBuffered {
		t.Fatalf("accepted %d bytes without a reader", accepted)
	}
	must(t, a.SetDeadline(time.Time{}))
	must(t, a.CloseWrite())
	got, err := readAll(b, 1)
	must(t, err)
	if len(got) != accepted {
		t.Errorf("got %d bytes, want the %d that Write reported", len(got), accepted)
	}
}

func testCloseWrite(t *testing.T, f Factory) {
	a, b := pair(t, f)
	must(t, transfer(a, b, random(1, 10_000)))
	must(t, a.CloseWrite()) // idempotent
	_, err := a.Write([]byte("x"))
	wantErr(t, "write after CloseWrite", err, errs.ErrClosed)
	n, err := b.Read(make([]byte, 1))
	if n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read behind the end: got %d, %v, want 0, io.EOF", n, err)
	}
}

func testHalfClosed(t *testing.T, f Factory) {
	a, b := pair(t, f)
	must(t, transfer(a, b, nil))
	must(t, transfer(b, a, random(1, 10_000)))
}

func testCloseDelivers(t *testing.T, f Factory) {
	a, b := pair(t, f)
	want := random(1, 10_000)
	var g group
	g.Go(func() error { return errors.Join(writeAll(a, 1, want), a.Close()) })
	g.Go(func() error { return expect(b, 1, want) })
	must(t, g.Wait())
}

func testCloseBreaks(t *testing.T, f Factory) {
	a, b := pair(t, f)
	must(t, a.Close())
	must(t, a.Close()) // idempotent
	_, err := a.Read(make([]byte, 1))
	wantErr(t, "read after Close", err, errs.ErrClosed)
	_, err = a.Write([]byte("x"))
	wantErr(t, "write after Close", err, errs.ErrClosed)
	wantErr(t, "CloseWrite after Close", a.CloseWrite(), errs.ErrClosed)
	_, err = b.Read(make([]byte, 1))
	wantErr(t, "read at the other end", err, errs.ErrUnavailable)
	_, err = b.Write([]byte("x"))
	wantErr(t, "write at the other end", err, errs.ErrUnavailable)
	must(t, b.Close())
	_, err = b.Read(make([]byte, 1))
	wantErr(t, "read after both closed", err, errs.ErrClosed)
}

func testClosePending(t *testing.T, f Factory) {
	a, b := pair(t, f)
	reading, writing := make(chan error, 2), make(chan error, 2)
	for _, s := range []io.ReadWriter{a, b} {
		go func() {
			_, err := s.Read(make([]byte, 1))
			reading <- err
		}()
	}
	c, _ := pair(t, f)
	go func() {
		_, err := c.Write(make([]byte, MaxBuffered+1))
		writing <- err
	}()
	must(t, a.Close())
	must(t, c.Close())
	var closed, broken int
	for range 2 {
		switch err := <-reading; {
		case errors.Is(err, errs.ErrClosed):
			closed++
		case errors.Is(err, errs.ErrUnavailable):
			broken++
		}
	}
	if closed != 1 || broken != 1 {
		t.Errorf("pending reads: got %d ErrClosed and %d ErrUnavailable, want one each", closed, broken)
	}
	wantErr(t, "pending write", <-writing, errs.ErrClosed)
}

func testDeadlinePending(t *testing.T, f Factory) {
	a, b := pair(t, f)
	var g group
	g.Go(func() error { // waits before or after the deadline is set
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, errs.ErrTimeout) {
			return fmt.Errorf("read: got %v, want ErrTimeout", err)
		}
		return nil
	})
	g.Go(func() error {
		n, err := a.Write(make([]byte, MaxBuffered+1))
		if !errors.Is(err, errs.ErrTimeout) || n > MaxBuffered {
			return fmt.Errorf("write: got %d, %v, want ErrTimeout", n, err)
		}
		return nil
	})
	must(t, a.SetDeadline(time.Now().Add(soon)))
	must(t, g.Wait())
	must(t, b.Close())
}

func testDeadlineLater(t *testing.T, f Factory) {
	a, b := pair(t, f)
	_, err := b.Write([]byte("x"))
	must(t, err)
	must(t, a.SetDeadline(time.Now().Add(-time.Second)))
	_, err = a.Read(make([]byte, 1))
	wantErr(t, "read past the deadline", err, errs.ErrTimeout)
	_, err = a.Write([]byte("x"))
	wantErr(t, "write past the deadline", err, errs.ErrTimeout)
}

func testDeadlineLifted(t *testing.T, f Factory) {
	a, b := pair(t, f)
	must(t, a.SetDeadline(time.Now().Add(-time.Second)))
	_, err := a.Read(make([]byte, 1))
	wantErr(t, "read past the deadline", err, errs.ErrTimeout)
	must(t, a.SetDeadline(time.Time{}))
	must(t, transfer(a, b, random(1, 1000)))
	must(t, transfer(b, a, random(2, 1000)))
}
