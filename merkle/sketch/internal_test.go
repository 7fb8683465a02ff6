package sketch

import (
	"errors"
	"math"
	"math/big"
	"testing"
)

// TestSipHash: the vector of 16 bytes 00..0f under the key 00..0f of the
// reference implementation (vectors.h, vectors_sip64[16]).
func TestSipHash(t *testing.T) {
	t.Parallel()
	var k Key
	var it Item
	for i := range 16 {
		k[i], it[i] = byte(i), byte(i)
	}
	if got, want := k.hash(it.words()), uint64(0x3f2acc7f57c29bdb); got != want {
		t.Errorf("hash is %016x, want %016x", got, want)
	}
}

// TestMappingIsExact compares next with its definition in big integers.
func TestMappingIsExact(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		m := mapItem(seed * 0x9e3779b97f4a7c15)
		for m.at < MaxCells {
			state := m.state + 0x9e3779b97f4a7c15
			z := state
			z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
			z = (z ^ z>>27) * 0x94d049bb133111eb
			z ^= z >> 31
			u := new(big.Int).SetUint64(z>>33 + 1)
			right := new(big.Int).SetUint64((m.at + 1) * (m.at + 2))
			right.Lsh(right, 31)
			holds := func(j uint64) bool {
				l := new(big.Int).SetUint64((j + 1) * (j + 2))
				return l.Mul(l, u).Cmp(right) > 0
			}
			from := m.at
			m.next()
			if m.at <= from {
				t.Fatalf("from %d to %d", from, m.at)
			}
			if m.at < MaxCells && !holds(m.at) || m.at-1 > from && holds(m.at-1) {
				t.Fatalf("from %d with %d to %d: not the smallest", from, u, m.at)
			}
		}
	}
}

// TestMappingDensity: the share of items in cell i is rho(i) = 1/(1+i/2).
func TestMappingDensity(t *testing.T) {
	t.Parallel()
	const n, cells = 40_000, 256
	var hits [cells]int
	var key Key
	for i := range uint64(n) {
		for m := mapItem(key.hash(words{i, 1})); m.at < cells; m.next() {
			hits[m.at]++
		}
	}
	for i, got := range hits {
		rho := 1 / (1 + float64(i)/2)
		want, sd := n*rho, math.Sqrt(n*rho*(1-rho))
		if math.Abs(float64(got)-want) > 5*sd {
			t.Errorf("cell %d has %d items, want %.0f +- %.0f", i, got, want, sd)
		}
	}
}

// TestProjectionIsLinear, and a multiplication by 1 keeps the low bits.
func TestProjectionIsLinear(t *testing.T) {
	t.Parallel()
	p := newProjection(0xfeedfacecafebeef)
	a, b := uint64(0x0123456789abcdef), uint64(0xdeadbeef01020304)
	if p.of(a)^p.of(b) != p.of(a^b) {
		t.Error("not linear")
	}
	one := newProjection(1)
	if got := one.of(0xaaaaaaaa12345678); got != 0x12345678 {
		t.Errorf("times 1: %08x", got)
	}
	// x^63 times x is x^64 = x^4+x^3+x+1.
	two := newProjection(2)
	if got := two.of(1 << 63); got != 0x1b {
		t.Errorf("reduction: %08x", got)
	}
}

// TestHostileCycle: a cell gives away an item that cell 0 lacks; taking it out
// leaves cell 0 with minus that item, which would give it away again and so on
// for ever.
func TestHostileCycle(t *testing.T) {
	t.Parallel()
	own, _ := New(Key{}, 64)
	own.toggle(Item{1, 2, 3}, 1)
	var it words
	var hash, second uint64
	for it[0] = 1; ; it[0]++ {
		hash = own.key.hash(it)
		m := mapItem(hash)
		m.next()
		if second = m.at; second < 64 && own.cells[second] == (cell{}) {
			break
		}
	}
	e, err := NewEncoder(own, 5, 0)
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDecoder(own, e.Header(), 0)
	if err != nil {
		t.Fatal(err)
	}
	// A first cell that is not ours keeps the decoder from being done.
	c, _ := e.Next()
	c.Check ^= 1
	for i := uint64(0); i <= second && err == nil; i++ {
		if i > 0 {
			c, _ = e.Next()
		}
		if i == second {
			c = Cell{Item: it.item(), Check: e.short.of(hash), Count: 1}
		}
		err = d.AddCell(c)
	}
	if err != nil || len(d.theirs) != 1 {
		t.Fatalf("%v, %d items", err, len(d.theirs))
	}
	// Cell 0 now holds minus the item, but for the bit that was wrong. Put it
	// right and let the decoder look again.
	d.diff[0].check ^= 1
	d.queue = append(d.queue, 0)
	if err := d.peel(); !errors.Is(err, ErrInconsistent) {
		t.Errorf("a cycle: %v", err)
	}
}
