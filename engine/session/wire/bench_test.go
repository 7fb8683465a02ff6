package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"bzzz/crdt"
)

func replica(n byte) crdt.ReplicaID {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	var id crdt.ReplicaID
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	return id
}

// writer makes versions as a node does: transactions of one to ten writes,
// several a millisecond.
type writer struct {
	rng         *rand.Rand
	id          crdt.ReplicaID
	seq         uint64
	time        crdt.HLC
	first, last uint64
	now         float64 // milliseconds
}

func newWriter(id crdt.ReplicaID) *writer {
	return &writer{rng: rand.New(rand.NewPCG(1, uint64(id[0]))), id: id, now: 1_760_000_000_000}
}

func (w *writer) put(key []byte, context crdt.Context) crdt.Version {
	w.seq++
	if w.seq > w.last {
		w.first, w.last = w.seq, w.seq
		if w.rng.IntN(4) == 0 {
			w.last += uint64(1 + w.rng.IntN(9))
		}
		w.now += w.rng.ExpFloat64() * 0.2 // five transactions a millisecond
	}
	w.time = w.time.Next(crdt.HLC(w.now) << 16)
	value := make([]byte, 0, 104)
	for len(value) < 100 {
		value = binary.LittleEndian.AppendUint64(value, w.rng.Uint64())
	}
	return crdt.Version{
		Key: key, Kind: crdt.Put, Dot: crdt.Dot{Replica: w.id, Seq: w.seq}, Time: w.time,
		First: w.first, Last: w.last, Context: context, Value: value[:100],
	}
}

func key(n int) []byte { return fmt.Appendf(nil, "key-%09d", n) }

// bulk is scenario S1: n versions that one replica wrote in key order.
func bulk(n int) []crdt.Version {
	w := newWriter(replica(1))
	vs := make([]crdt.Version, n)
	for i := range vs {
		vs[i] = w.put(key(i), nil)
	}
	return vs
}

// overwrites is one direction of scenario S2: of a base of 50,000 keys that
// replica 1 wrote 500 are overwritten in random order, and 500 are added.
func overwrites(id crdt.ReplicaID) []crdt.Version {
	w := newWriter(id)
	if id == replica(1) {
		w.seq, w.last = 50_000, 50_000
	}
	vs := make([]crdt.Version, 0, 1000)
	for _, n := range w.rng.Perm(50_000)[:500] {
		vs = append(vs, w.put(key(n), crdt.Context{{Replica: replica(1), Seq: uint64(n + 1), Direct: true}}))
	}
	for i := range 500 {
		vs = append(vs, w.put(key(50_000+i), nil))
	}
	return vs
}

// frames encodes versions in batches of about cut bytes and returns the stream.
func frames(e *Encoder, dst []byte, vs []crdt.Version, cut int) []byte {
	for i := range vs {
		if !e.Add(&vs[i]) || e.Len() >= cut {
			dst = AppendFrame(dst, TypeBatch, e.Flush(0, 0))
		}
	}
	if e.Count() > 0 {
		dst = AppendFrame(dst, TypeBatch, e.Flush(0, 0))
	}
	return dst
}

// documents is bulk with values that compress: small JSON objects.
func documents(n int) []crdt.Version {
	vs := bulk(n)
	rng := rand.New(rand.NewPCG(3, 3))
	for i := range vs {
		vs[i].Value = fmt.Appendf(nil, `{"id":%d,"sensor":"unit-%02d","temperature":%.2f,"state":"%s","seen":%d}`,
			i, rng.IntN(40), 20+rng.NormFloat64(), []string{"idle", "running", "failed"}[rng.IntN(3)], 1_760_000_000+i*3)
	}
	return vs
}

type scenario struct {
	name string
	vs   []crdt.Version
	cut  int
	most float64 // bytes a version
}

func scenarios() []scenario {
	base := bulk(50_000)
	return []scenario{
		{"S1/256KiB", base, 256 << 10, 106},
		{"S1/1MiB", base, 1 << 20, 106},
		{"documents", documents(50_000), 256 << 10, 35},
		{"S2/foreign", overwrites(replica(2)), 256 << 10, 107},
		{"S2/own", overwrites(replica(1)), 256 << 10, 107},
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, s := range scenarios() {
		b.Run(s.name, func(b *testing.B) {
			z := NewZstd()
			var out []byte
			b.ReportAllocs()
			b.SetBytes(int64(113 * len(s.vs)))
			for b.Loop() {
				out = frames(NewEncoder(z), out[:0], s.vs, s.cut)
			}
			perVersion(b, len(s.vs))
			b.ReportMetric(float64(len(out))/float64(len(s.vs)), "bytes/version")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, s := range scenarios() {
		b.Run(s.name, func(b *testing.B) {
			z := NewZstd()
			stream := frames(NewEncoder(z), nil, s.vs, s.cut)
			b.ReportAllocs()
			b.SetBytes(int64(113 * len(s.vs)))
			for b.Loop() {
				r, d := NewReader(bytes.NewReader(stream)), NewDecoder(z)
				for {
					f, err := r.Next()
					if err != nil {
						break
					}
					if _, err := d.Decode(f.Payload); err != nil {
						b.Fatal(err)
					}
				}
			}
			perVersion(b, len(s.vs))
		})
	}
}

func perVersion(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/version")
}

// BenchmarkPush is a live push of one version.
func BenchmarkPush(b *testing.B) {
	z := NewZstd()
	e, d := NewEncoder(z), NewDecoder(z)
	w := newWriter(replica(1))
	var out []byte
	var total int
	v := w.put(key(1), nil)
	b.ReportAllocs()
	for b.Loop() {
		e.Add(&v)
		v.Dot.Seq++
		v.First, v.Last = v.Dot.Seq, v.Dot.Seq
		v.Time = v.Time.Next(0)
		payload := e.Flush(0, 1)
		out = AppendFrame(out[:0], TypeBatch, payload)
		total += len(out)
		if _, err := d.Decode(payload); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(total)/float64(b.N), "bytes/version")
}
