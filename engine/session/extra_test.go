package session

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
)

// blocksOn gives a node blocks and returns their items.
func blocksOn(n *node, count int) (items []wire.Item) {
	for i := range count {
		data := noise(1000+i, n.id, byte(i), 77)
		it := wire.Item{Size: uint64(len(data)), Digest: sha256.Sum256(data)}
		n.blocks[it.Digest] = data
		items = append(items, it)
	}
	return items
}

// Blocks that a side lacked when the session opened come behind the reconcile;
// what the peer does not have either is not asked for twice.
func TestBlocks(t *testing.T) {
	t.Parallel()
	for _, lacking := range []string{"initiator", "responder", "both"} {
		t.Run(lacking, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, 10)
			const count = askItems + 30
			if lacking != "responder" {
				a.lacks = append(blocksOn(b, count), wire.Item{Size: 3, Digest: [32]byte{9}})
			}
			if lacking != "initiator" {
				b.lacks = blocksOn(a, count)
			}
			l := newLink(a, b, Config{})
			defer l.close()
			if err := l.start(); err != nil {
				t.Fatal(err)
			}
			if !l.a.s.Finished() || !l.b.s.Finished() {
				t.Fatal("session is stuck")
			}
			want := map[string][2]int{"initiator": {1, 0}, "responder": {0, 0}, "both": {1, 0}}[lacking]
			if got := [2]int{len(a.lacks), len(b.lacks)}; got != want {
				t.Errorf("%v blocks are lacking, want %v", got, want)
			}
			ra, rb := l.a.s.Report(), l.b.s.Report()
			if ra.BlocksIn+rb.BlocksIn == 0 || ra.BlocksIn != rb.BlocksOut || rb.BlocksIn != ra.BlocksOut {
				t.Errorf("blocks %d in, %d out and %d in, %d out", ra.BlocksIn, ra.BlocksOut, rb.BlocksIn, rb.BlocksOut)
			}
		})
	}
}

// Where nobody lacks anything no frame tells of blocks.
func TestNoBlocksNoFrames(t *testing.T) {
	t.Parallel()
	a, b := pair(t, 10)
	a.write("ns", "more", "v")
	r := mustSync(t, a, b)
	if _, sent := r.Frames["WANT"]; sent {
		t.Errorf("frames %v", r.Frames)
	}
}

// A peer that answers with other bytes, or without a question, is cut off.
func TestForgedBlocks(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(m *wire.Block)
		want   error
	}{
		"other bytes":    {func(m *wire.Block) { m.Data[0] ^= 1 }, errs.ErrCorrupt},
		"another block":  {func(m *wire.Block) { m.Digest[0] ^= 1 }, errs.ErrInvalid},
		"a manifest":     {func(m *wire.Block) { m.Manifest, m.Size = true, 0 }, errs.ErrInvalid},
		"another length": {func(m *wire.Block) { m.Size++ }, errs.ErrInvalid},
	}
	for name, tt := range tests {
		a, b := pair(t, 3)
		a.lacks = blocksOn(b, 2)
		l := newLink(a, b, Config{})
		l.deliver = func(fromA bool, _ int, f wire.Frame) []wire.Frame {
			if f.Type == wire.TypeBlock {
				m, err := wire.DecodeBlock(f.Payload)
				must(err)
				tt.change(&m)
				f.Payload = m.Append(nil)
			}
			return []wire.Frame{f}
		}
		if err := l.start(); !errors.Is(err, tt.want) || len(a.blocks) != 0 {
			t.Errorf("%s: got %v and %d blocks, want %v", name, err, len(a.blocks), tt.want)
		}
		l.close()
	}
}

// Retained history comes once, and changes nothing that is live (KERNEL K8).
func TestHistoryFollows(t *testing.T) {
	t.Parallel()
	a, b := pair(t, 5)
	for i := range 30 {
		a.write("ns", "changing", fmt.Sprint("version ", i))
	}
	a.remove("ns", "key 00001")
	rounds := []struct{ taken int }{{29}, {0}}
	for i, want := range rounds {
		if i > 0 {
			b.write("ns", "of b", fmt.Sprint(i)) // so that there is something to reconcile
		}
		l := newLink(b, a, Config{History: true})
		l.b.s.cfg.History = false
		if err := l.start(); err != nil {
			t.Fatal(err)
		}
		if !l.a.s.Finished() || !l.b.s.Finished() {
			t.Fatal("session is stuck")
		}
		ra, rb := l.a.s.Report().Namespaces[0], l.b.s.Report().Namespaces[0]
		if !ra.InSync || rb.PastSent < want.taken || ra.PastReceived != want.taken {
			t.Errorf("round %d: sent %d, taken %d, in sync %v; want %d taken", i, rb.PastSent, ra.PastReceived, ra.InSync, want.taken)
		}
		l.close()
	}
	if err := b.check("ns"); err != nil {
		t.Error(err)
	}
	if a.root("ns") != b.root("ns") {
		t.Error("roots differ")
	}
}
