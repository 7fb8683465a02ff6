package session

import (
	"fmt"

	"bzzz/engine/session/wire"
	"bzzz/internal/errs"
)

// propose looks up a state that both may once have agreed on: the initiator's own
// choice, or what its hint says.
func (sp *space) propose(hint []byte) error {
	b, err := sp.s.host.Base(sp.name, hint)
	sp.base = b
	return err
}

// rebase makes a STATE whole that shows only what came since a state agreed on.
// What both know is then used both ways, or not at all.
func (sp *space) rebase(m *wire.State) error {
	switch {
	case !m.Based:
		sp.base = nil
	case sp.base == nil || sp.base.Digest != m.Base:
		return fmt.Errorf("STATE of %q adds to a state unknown here: %w", sp.name, errs.ErrInvalid)
	default:
		m.Clock.Merge(sp.base.Clock)
		m.Gone.Merge(sp.base.Gone)
	}
	return nil
}
