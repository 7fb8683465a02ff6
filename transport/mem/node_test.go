package mem

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestNodesForgetStreams checks that streams which are over stay in no node,
// however they ended.
func TestNodesForgetStreams(t *testing.T) {
	t.Parallel()
	ends := map[string]func(net *Net, a, b *Stream){
		"reset":  func(_ *Net, a, _ *Stream) { a.Close() },
		"end":    func(_ *Net, a, b *Stream) { a.CloseWrite(); b.CloseWrite(); a.Close(); b.Close() },
		"linger": func(_ *Net, a, b *Stream) { a.CloseWrite(); a.Close(); b.Write([]byte("x")) },
		"cut":    func(net *Net, _, _ *Stream) { net.Cut("a", "b") },
		"stall": func(net *Net, a, b *Stream) {
			net.HalfOpen("a", "b")
			a.Write([]byte("x"))
			time.Sleep(time.Minute)
			b.Close()
		},
		"nodes": func(net *Net, _, _ *Stream) { net.Node("a").Close() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := New(Options{Link: LinkProfile{Latency: time.Second}})
				na, nb := net.Node("a"), net.Node("b")
				a, err := na.Dial(t.Context(), "b")
				if err != nil {
					t.Fatal(err)
				}
				b, err := nb.Accept(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				a.Write([]byte("data"))
				end(net, a.(*Stream), b.(*Stream))
				time.Sleep(time.Hour)
				if got := len(na.live()) + len(nb.live()); got != 0 {
					t.Errorf("got %d streams kept, want none", got)
				}
				c := a.(*Stream).c
				c.mu.Lock()
				defer c.mu.Unlock()
				if got := len(c.queue); got != 0 {
					t.Errorf("got %d events left, want none", got)
				}
			})
		})
	}
}
