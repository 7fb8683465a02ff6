package session

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bzzz/crdt"
	"bzzz/engine/replica"
	"bzzz/engine/session/wire"
)

var update = flag.Bool("update", false, "rewrite the seed corpus of FuzzSession")

// script is what a peer sends: the role of the side under test, then frames as
// type u8 | length u16 LE | payload, checksums left out. Type 0 pumps.
func script(initiator bool, frames []wire.Frame) []byte {
	b := []byte{0}
	if initiator {
		b[0] = 1
	}
	for _, f := range frames {
		b = append(b, byte(f.Type))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(f.Payload)))
		b = append(append(b, f.Payload...), 0, 0, 0)
	}
	return b
}

// victim is a node whose keys below "own/" nobody else ever wrote.
func victim(w *world) *node {
	n := newNode(w, 1, "ns")
	for i := range 4 {
		n.write("ns", fmt.Sprint("own/", i), fmt.Sprint("value ", i))
	}
	n.write("ns", "own/0", "again")
	n.remove("ns", "own/1")
	n.catchUp("ns")
	n.write("ns", "own/4", "late")
	return n
}

// seeds are sessions as they go, one for each role, whole and live.
func seeds() map[string][]byte {
	out := map[string][]byte{}
	w := newWorld()
	for _, initiator := range []bool{true, false} {
		n, peer := victim(w), newNode(w, 2, "ns", "more")
		peer.grow("ns", "peer", 6)
		peer.remove("ns", "peer001")
		peer.write("more", "k", "v")
		l := newLink(peer, n, Config{Live: true})
		if initiator {
			l = newLink(n, peer, Config{Live: true})
		}
		must(l.start())
		peer.put("ns", map[string][]byte{"tx1": []byte("1"), "tx2": []byte("2")})
		must(l.notify())
		l.close()
		log := l.a.log
		if initiator {
			log = l.b.log
		}
		out[fmt.Sprint("session-initiator-", initiator)] = script(initiator, log)
		for name, f := range frames(w.zstd) {
			out[fmt.Sprintf("early-%s-%v", strings.NewReplacer(" ", "", "(", "", ")", "").Replace(name), initiator)] = script(initiator, []wire.Frame{f})
			if len(log) > 2 {
				out[fmt.Sprintf("late-%s-%v", strings.NewReplacer(" ", "", "(", "", ")", "").Replace(name), initiator)] = script(initiator, append(log[:len(log):len(log)], f))
			}
		}
	}
	return out
}

// repairSeeds are sessions that compare, for each role: with a peer whose root
// differs at equal clocks, by sketch and by tree, and with one that collected
// deletes which the victim has not seen.
func repairSeeds() map[string][]byte {
	out := map[string][]byte{}
	for _, initiator := range []bool{true, false} {
		for _, why := range []string{"root", "tree", "gone"} {
			w := newWorld()
			n := victim(w)
			peer := n.clone()
			if why == "gone" {
				peer = newNode(w, 2, "ns")
				peer.grow("ns", "peer", 6)
				peer.remove("ns", "peer001")
				peer.collect("ns")
			} else {
				peer.forget("ns", "own/2")
			}
			l := newLink(peer, n, Config{})
			if initiator {
				l = newLink(n, peer, Config{})
			}
			var heard []wire.Frame
			l.deliver = func(fromA bool, _ int, f wire.Frame) []wire.Frame {
				if why == "tree" {
					f = giveUp(f)
				}
				if fromA != initiator {
					heard = append(heard, f)
				}
				return []wire.Frame{f}
			}
			must(l.start())
			l.close()
			b := script(initiator, heard)
			out[fmt.Sprintf("repair-%s-initiator-%v", why, initiator)] = b
			claims := bytes.Clone(b)
			claims[0] |= mayDrop
			out[fmt.Sprintf("repair-%s-dropping-initiator-%v", why, initiator)] = claims
		}
	}
	return out
}

// Bits of a script's first byte.
const (
	isInitiator = 1 // the victim begins the session
	notLive     = 2 // it ends after the reconcile
	mayDrop     = 4 // the brake lets claims through: keys may vanish
)

// allSeeds are all seeds of FuzzSession.
func allSeeds() map[string][]byte {
	out := seeds()
	maps.Copy(out, repairSeeds())
	return out
}

// Whatever a peer sends, the session does not panic, the store stays whole and
// what the node has acknowledged stays as it is, unless the peer replaced it by
// a valid version of its own.
func FuzzSession(f *testing.F) {
	for name, b := range allSeeds() {
		f.Add(b)
		if *update && !strings.HasPrefix(name, "late") {
			path := filepath.Join("testdata", "fuzz", "FuzzSession", name)
			must(os.MkdirAll(filepath.Dir(path), 0o755))
			must(os.WriteFile(path, fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", b), 0o644))
		}
	}
	base := victim(newWorld())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		n := base.clone()
		n.w = base.w
		if n.brake = 0; b[0]&mayDrop != 0 {
			n.brake = 1000
		}
		written := map[string]bool{}
		n.adopt = func(_ string, vs []*crdt.Version, a *Adoption) (*Adoption, error) {
			for _, v := range vs {
				written[string(v.Key)] = true
			}
			if a != nil && !a.Drop.IsEmpty() {
				for i := range 5 {
					written[fmt.Sprint("own/", i)] = true // or dropped
				}
			}
			return a, nil
		}
		s := New(Config{Initiator: b[0]&isInitiator != 0, Live: b[0]&notLive == 0, Salt: [8]byte{1, 2, 3}, Zstd: base.w.zstd}, n)
		defer s.Close()
		s.sizes = small
		feed(s, b[1:])
		checkVictim(t, base, n, written)
		checkVictim(t, base, n.clone(), written)
	})
}

// feed plays a script until the session ends.
func feed(s *Session, b []byte) {
	if s.Start() != nil {
		return
	}
	for len(b) >= 3 {
		typ, size := wire.Type(b[0]), int(binary.LittleEndian.Uint16(b[1:]))
		b = b[3:]
		if typ == 0 {
			s.Notify("")
			for more, err := true, error(nil); more && err == nil; {
				more, err = s.Pump()
				s.Output()
			}
			continue
		}
		size = min(size, len(b))
		if s.Receive(wire.Frame{Type: typ, Payload: b[:size]}) != nil {
			s.Bye()
			return
		}
		s.Output()
		b = b[size:]
	}
}

func checkVictim(t *testing.T, base, n *node, written map[string]bool) {
	n.view("ns", func(v *replica.View) {
		must(v.Verify(func(p replica.Problem) {
			t.Errorf("verify: %s %q %s: %v", p.What, p.Key, p.Dot, p.Err)
		}, func(int) error { return nil }))
		if !v.Clock().Contains(base.clock("ns")) {
			t.Error("own writes are not in the clock any more")
		}
		if _, err := v.Root(); err != nil {
			t.Error(err)
		}
	})
	for i := range 5 {
		key := fmt.Sprint("own/", i)
		if got, want := n.get("ns", key), base.get("ns", key); !written[key] && fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s holds %q, want %q", key, got, want)
		}
	}
	for name := range n.spaces {
		n.root(name)
	}
}

// Played again, the seeds that compare come as far as they are meant to.
func TestRepairSeedsReachTheirEnd(t *testing.T) {
	t.Parallel()
	for name, b := range repairSeeds() {
		n := victim(newWorld())
		if n.brake = 0; b[0]&mayDrop != 0 {
			n.brake = 1000
		}
		s := New(Config{Initiator: b[0]&isInitiator != 0, Live: true, Salt: [8]byte{1, 2, 3}, Zstd: n.w.zstd}, n)
		s.sizes = small
		feed(s, b[1:])
		r := s.Report().Namespaces[0]
		s.Close()
		drops := strings.Contains(name, "dropping") && !strings.Contains(name, "gone")
		if r.Rounds == 0 || s.err != nil || (r.Applied.Dropped > 0) != drops || drops && !r.InSync {
			t.Errorf("%s: %v, report %+v", name, s.err, r)
		}
	}
}

// Flipped bytes of a real session.
func TestFlippedSessions(t *testing.T) {
	t.Parallel()
	base := victim(newWorld())
	for name, b := range allSeeds() {
		if !strings.HasPrefix(name, "session") && !strings.HasPrefix(name, "repair") {
			continue
		}
		for at := 0; at < len(b)-1; at += 7 {
			bad := bytes.Clone(b)
			bad[at+1] ^= 1 << (at % 8)
			n := base.clone()
			n.brake = 0
			s := New(Config{Initiator: bad[0]&1 == 1, Live: true, Salt: [8]byte{1, 2, 3}, Zstd: base.w.zstd}, n)
			s.sizes = small
			written := map[string]bool{}
			n.adopt = func(_ string, vs []*crdt.Version, a *Adoption) (*Adoption, error) {
				for _, v := range vs {
					written[string(v.Key)] = true
				}
				return a, nil
			}
			feed(s, bad[1:])
			s.Close()
			checkVictim(t, base, n, written)
		}
	}
}
