package replica

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"bzzz/crdt"
)

// Pass is how far a check of everything has come. The zero value begins one. It
// is bound to one namespace, not to a transaction: each step sees the state of
// its own View, and what is written meanwhile is seen or not.
type Pass struct {
	phase   phase
	at      []byte // where the phase goes on, nil at its beginning
	records uint64 // journal records counted
	removed uint64 // how many were removed when the count began
	checked uint64
	lost    crdt.Clock // reported as lost; not stored
}

// Checked returns how many keys, records and entries were looked at.
func (p *Pass) Checked() uint64 { return p.checked }

// passFormat is the first byte of a stored Pass.
const passFormat = 1

// AppendBinary appends the stored form:
//
//	format u8 | phase u8 | records uv | removed uv | checked uv | where the phase goes on
func (p *Pass) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, passFormat, byte(p.phase))
	for _, n := range []uint64{p.records, p.removed, p.checked} {
		b = binary.AppendUvarint(b, n)
	}
	return append(b, p.at...), nil
}

// UnmarshalBinary reads what AppendBinary wrote. ErrInvalid if it is malformed:
// begin anew.
func (p *Pass) UnmarshalBinary(b []byte) error {
	rd := reader{b: b}
	format := rd.byte()
	got := Pass{phase: phase(rd.byte()), records: rd.uvarint(), removed: rd.uvarint(), checked: rd.uvarint()}
	if rd.bad || format != passFormat || got.phase >= phases || got.phase == phaseClock && len(rd.b) != 0 && len(rd.b) != 12 {
		return fmt.Errorf("stored pass of %d bytes: %w", len(b), ErrInvalid)
	}
	if len(rd.b) > 0 {
		got.at = bytes.Clone(rd.b)
	}
	*p = got
	return nil
}
