package chunk

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"

	"bzzz/internal/errs"
)

// Problem is one finding of Verify.
type Problem struct {
	What    string // what was looked at
	Err     error  // matches ErrCorrupt
	Damaged bool   // the chunk called Chunk is not what it was: see Writer.Discard
	Chunk   Digest
}

// Verify reads everything: that each chunk is what its digest says and is found
// by it, that each manifest is what its CID says, and that the counts are
// right. It calls report for each finding and step after every row, with the
// bytes read so far in this call. An error is one of step, or one of the state
// row. It hashes every byte of the store.
func (r *Reader) Verify(report func(Problem), step func(rows int, bytes int64) error) error {
	if r.empty() {
		return nil
	}
	st, err := readState(r.meta.Get(metaState))
	if err != nil {
		return err
	}
	v := verifier{Reader: r, report: report, step: step}
	if err := v.chunks(); err != nil {
		return err
	}
	if err := v.entries(); err != nil {
		return err
	}
	if err := v.blobs(); err != nil {
		return err
	}
	for _, c := range []struct {
		what      string
		got, want uint64
	}{
		{"chunks", v.seen.chunks, st.chunks}, {"chunk bytes", v.seen.bytes, st.bytes},
		{"blobs", v.seen.blobs, st.blobs},
	} {
		if c.got != c.want {
			v.problem("count of "+c.what, fmt.Sprintf("%d, want %d", c.got, c.want))
		}
	}
	return nil
}

type verifier struct {
	*Reader
	report func(Problem)
	step   func(int, int64) error
	seen   state
}

func (v *verifier) problem(what, how string) {
	v.report(Problem{What: what, Err: &errs.Corruption{What: what + ": " + how, Hint: hintRepair}})
}

// chunks checks the data rows.
func (v *verifier) chunks() error {
	c := v.data.Cursor()
	for k, b := c.First(); k != nil; k, b = c.Next() {
		v.seen.chunks++
		v.seen.bytes += uint64(len(b))
		if len(k) != dataKeyLen {
			v.problem("chunk", fmt.Sprintf("key of %d bytes", len(k)))
			continue
		}
		d := k[8:]
		what := "chunk " + hex.EncodeToString(d)
		if got := sha256.Sum256(b); string(got[:]) != string(d) {
			v.report(Problem{what, &errs.Corruption{
				What: what, Want: hex.EncodeToString(d), Got: hex.EncodeToString(got[:]), Hint: hintRepair,
			}, true, Digest(d)})
		}
		if e, ok := readEntry(v.index.Get(d), d); !ok {
			v.problem(what, "not in the index")
		} else if e.number == binary.BigEndian.Uint64(k) && int(e.size) != len(b) {
			v.problem(what, fmt.Sprintf("%d bytes, the index says %d", len(b), e.size))
		}
		if err := v.step(1, int64(len(b))); err != nil {
			return err
		}
	}
	return nil
}

// entries checks that the index rows lead to chunks.
func (v *verifier) entries() error {
	c := v.index.Cursor()
	for k, b := c.First(); k != nil; k, b = c.Next() {
		e, ok := readEntry(b, k)
		switch {
		case !ok || len(k) != len(Digest{}):
			v.problem("index row "+hex.EncodeToString(k), "damaged")
		case v.data.Get(dataKey(e.number, (*Digest)(k))) == nil:
			v.problem("index row "+hex.EncodeToString(k), "its chunk is missing")
		}
		if err := v.step(1, int64(len(b))); err != nil {
			return err
		}
	}
	return nil
}

// blobs checks the manifests.
func (v *verifier) blobs() error {
	c := v.manifests.Cursor()
	for k, b := c.First(); k != nil; k, b = c.Next() {
		v.seen.blobs++
		if len(k) != len(Digest{}) {
			v.problem("manifest", fmt.Sprintf("key of %d bytes", len(k)))
		} else if _, err := v.Manifest(Digest(k)); err != nil {
			v.report(Problem{What: "manifest of blob " + CID(Digest(k)).String(), Err: err})
		}
		if err := v.step(1, int64(len(b))); err != nil {
			return err
		}
	}
	c = v.lists.Cursor()
	for k, b := c.First(); k != nil; k, b = c.Next() {
		if v.manifests.Get(k) == nil {
			v.problem("chunk list "+hex.EncodeToString(k), "of no manifest")
		}
		if err := v.step(1, int64(len(b))); err != nil {
			return err
		}
	}
	return nil
}

// Check looks at one blob: whether its manifest and all of its chunks are here,
// and with deep whether the chunks are what they were. It returns the first
// fault: ErrNotFound or ErrUnavailable for what is not here, ErrCorrupt for
// damage.
func (r *Reader) Check(blob Digest, deep bool) error {
	b, err := r.Open(blob)
	if err != nil {
		return err
	}
	if deep {
		_, err := b.WriteTo(io.Discard)
		return err
	}
	if missing, _ := r.Missing(b.m, 0, 1); len(missing) > 0 {
		return b.name(missing[0], fmt.Errorf("not here: %w", ErrUnavailable))
	}
	return nil
}
