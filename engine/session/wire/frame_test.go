package wire

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"bzzz/internal/errs"
)

// readAll decodes a stream to its end and returns the types of its frames.
func readAll(stream []byte, z *Zstd) ([]Type, error) {
	r, d := NewReader(bytes.NewReader(stream)), NewDecoder(z)
	var types []Type
	for {
		f, err := r.Next()
		if err == io.EOF {
			return types, nil
		}
		if err != nil {
			return types, err
		}
		types = append(types, f.Type)
		if _, err := recode(f.Type, f.Payload, z, d); err != nil {
			return types, err
		}
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	big := bytes.Repeat([]byte("0123456789abcdef"), MaxData/16)
	want := []Frame{
		{TypeHello, []byte("hi")}, {TypeBye, nil}, {70, []byte{1}}, {20, []byte{2}},
		{TypeBatch, big}, {255, big[:MaxControl]}, {TypeCredit, bytes.Repeat([]byte{0}, 127)},
		{TypeCredit, bytes.Repeat([]byte{0}, 128)},
	}
	var stream []byte
	for _, f := range want {
		stream = AppendFrame(stream, f.Type, f.Payload)
	}
	for name, in := range map[string]io.Reader{
		"whole":    bytes.NewReader(stream),
		"halves":   iotest.HalfReader(bytes.NewReader(stream)),
		"data+EOF": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		r := NewReader(in)
		for i, w := range want {
			f, err := r.Next()
			if err != nil || f.Type != w.Type || !bytes.Equal(f.Payload, w.Payload) {
				t.Fatalf("%s: frame %d: got %v of %d bytes, %v", name, i, f.Type, len(f.Payload), err)
			}
		}
		for range 2 {
			if _, err := r.Next(); err != io.EOF {
				t.Errorf("%s: got %v at the end, want io.EOF", name, err)
			}
		}
		if r.Offset() != int64(len(stream)) {
			t.Errorf("%s: offset %d, want %d", name, r.Offset(), len(stream))
		}
	}
}

func TestReaderErrors(t *testing.T) {
	t.Parallel()
	ok := AppendFrame(nil, TypeCredit, []byte{5})
	broken := errors.New("cable cut")
	tests := []struct {
		name string
		in   io.Reader
		want error
		text string
	}{
		{"reserved type", bytes.NewReader(make([]byte, 10)), errs.ErrInvalid, "offset 7: type 0 is reserved"},
		{"long length", bytes.NewReader([]byte{7, 0x81, 0}), errs.ErrInvalid, "length of CREDIT is not in the shortest form"},
		{"control above cap", bytes.NewReader([]byte{7, 0x81, 0x80, 0x40}), errs.ErrTooLarge, "CREDIT longer than 1048576"},
		{"data above cap", bytes.NewReader([]byte{4, 0x81, 0x80, 0x80, 4}), errs.ErrTooLarge, "BATCH longer than 8388608"},
		{"length of ten bytes", bytes.NewReader(append([]byte{4}, bytes.Repeat([]byte{0x80}, 10)...)), errs.ErrTooLarge, "offset 7"},
		{"checksum", bytes.NewReader([]byte{7, 1, 5, 0, 0, 0, 0}), errs.ErrCorrupt, "frame at offset 7: CREDIT of 1 bytes: checksum"},
		{"cut in the payload", bytes.NewReader([]byte{4, 0x80, 0x80, 0x80, 4, 1}), io.ErrUnexpectedEOF, "BATCH of 8388608 bytes"},
		{"stream error", iotest.ErrReader(broken), broken, "offset 7: cable cut"},
	}
	for _, tt := range tests {
		r := NewReader(io.MultiReader(bytes.NewReader(ok), tt.in))
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		_, err := r.Next()
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: got %v", tt.name, err)
		}
		if _, again := r.Next(); again != err {
			t.Errorf("%s: then %v, want the same error", tt.name, again)
		}
	}
}

func TestType(t *testing.T) {
	t.Parallel()
	if got := TypeHistory.String() + " " + Type(77).String() + " " + Type(0).String(); got != "HISTORY type(77) type(0)" {
		t.Errorf("got %s", got)
	}
	if Type(63).Optional() || !Type(64).Optional() || Type(64).Known() || !TypeBundle.Known() {
		t.Error("optional or known is wrong")
	}
}

// A stream cut at any byte ends within a frame, or between frames.
func TestTruncated(t *testing.T) {
	t.Parallel()
	z := NewZstd()
	stream, bounds := sampleStream(z)
	for n := range stream {
		_, err := readAll(stream[:n], z)
		if whole := slices.Contains(bounds, n); whole != (err == nil) || (!whole && !errors.Is(err, io.ErrUnexpectedEOF)) {
			t.Errorf("cut at %d of %d: %v", n, len(stream), err)
		}
	}
}

// A stream with any one bit flipped is refused.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	z := NewZstd()
	stream, _ := sampleStream(z)
	for i := range 8 * len(stream) {
		stream[i/8] ^= 1 << (i % 8)
		if types, err := readAll(stream, z); err == nil {
			t.Errorf("flipped bit %d of byte %d: accepted as %v", i%8, i/8, types)
		}
		stream[i/8] ^= 1 << (i % 8)
	}
}

// A payload with any one bit flipped is refused or decodes to something else;
// the checksum being right, as a hostile peer would have it.
func TestPayloadBitFlips(t *testing.T) {
	t.Parallel()
	z := NewZstd()
	for name, s := range samples(z) {
		for i := range 8 * len(s.payload) {
			p := bytes.Clone(s.payload)
			p[i/8] ^= 1 << (i % 8)
			again, err := recode(s.typ, p, z, NewDecoder(z))
			if err == nil && bytes.Equal(again, s.payload) {
				t.Errorf("%s: flipped bit %d of byte %d changes nothing", name, i%8, i/8)
			}
		}
	}
}

func FuzzReader(f *testing.F) {
	z := NewZstd()
	stream, _ := sampleStream(z)
	f.Add(stream)
	f.Add([]byte{4, 0x80, 0x80, 0x80, 4, 1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b))
		var again []byte
		for {
			fr, err := r.Next()
			if err != nil {
				if err == io.EOF && !bytes.Equal(again, b) {
					t.Errorf("read %x as %x", b, again)
				}
				return
			}
			again = AppendFrame(again, fr.Type, fr.Payload)
		}
	})
}

func TestFrameSize(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 127, 128, 16383, 16384, 1 << 20} {
		f := Frame{TypeBatch, make([]byte, n)}
		if got, want := f.Size(), len(AppendFrame(nil, f.Type, f.Payload)); got != want {
			t.Errorf("payload of %d bytes: size %d, want %d", n, got, want)
		}
	}
}
