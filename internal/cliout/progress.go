package cliout

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Every is how often a Progress writes a line where there is no terminal.
const Every = 5 * time.Second

// Progress shows how far long work has come: a bar on a terminal, a line every
// 5 s elsewhere, nothing if quiet, always on stderr. It starts no goroutine and
// writes only when it is told of an advance. It is safe for concurrent use.
type Progress struct {
	mu    sync.Mutex
	out   io.Writer
	quiet bool
	bar   *progressbar.ProgressBar // nil where there is no terminal
	label string
	unit  string
	total int64
	done  int64
	start time.Time
	last  time.Time // of the last line
	lines int
}

// Progress starts to show work of total steps, 0 if that is not known. unit is
// what is counted, for example "records"; "bytes" are shown as KiB, MiB...
func (p *Printer) Progress(label, unit string, total int64) *Progress {
	now := time.Now()
	g := &Progress{out: p.err, quiet: p.quiet, label: clean(label), unit: unit, total: total, start: now, last: now}
	if p.errTerminal && !p.quiet {
		if total <= 0 {
			total = -1
		}
		g.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.err),
			progressbar.OptionSetDescription(g.label),
			progressbar.OptionShowBytes(unit == "bytes"),
			progressbar.OptionUseIECUnits(true),
			progressbar.OptionShowCount(),
			progressbar.OptionShowIts(),
			progressbar.OptionSetItsString(unit),
			progressbar.OptionSetWidth(24),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionSetSpinnerChangeInterval(0), // else it starts a goroutine
			progressbar.OptionClearOnFinish(),
		)
	}
	return g
}

// Add tells that n more steps are done.
func (g *Progress) Add(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.set(g.done + n)
}

// Set tells that so many steps are done.
func (g *Progress) Set(done int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.set(done)
}

func (g *Progress) set(done int64) {
	g.done = done
	switch now := time.Now(); {
	case g.quiet:
	case g.bar != nil:
		if g.total > 0 {
			done = min(done, g.total) // the bar takes more for an error
		}
		_ = g.bar.Set64(done)
	case now.Sub(g.last) >= Every:
		g.last = now
		g.line(now)
	}
}

// Done ends the work: the bar is wiped; where lines were written, a last one
// follows. It is idempotent.
func (g *Progress) Done() {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.quiet:
	case g.bar != nil:
		_ = g.bar.Finish()
	case g.lines > 0:
		g.line(time.Now())
	}
	g.quiet = true
}

func (g *Progress) amount(n int64) string {
	if g.unit == "bytes" {
		return Bytes(n).String()
	}
	return Count(n).String()
}

// line writes "label: 1,200 of 4,000 records (30 %), 240/s, 11s left".
func (g *Progress) line(now time.Time) {
	g.lines++
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", g.label, g.amount(g.done))
	if g.total > 0 {
		fmt.Fprintf(&b, " of %s", g.amount(g.total))
	}
	if g.unit != "bytes" {
		b.WriteString(" " + g.unit)
	}
	if g.total > 0 {
		fmt.Fprintf(&b, " (%d %%)", int64(100*float64(g.done)/float64(g.total)))
	}
	if took := now.Sub(g.start).Seconds(); took > 0 && g.done > 0 {
		rate := float64(g.done) / took
		fmt.Fprintf(&b, ", %s/s", g.amount(int64(rate)))
		const century = 3e9 // seconds; more does not fit a Duration for long
		if left := float64(g.total-g.done) / rate; left > 0 && left < century {
			fmt.Fprintf(&b, ", %s left", Duration(time.Duration(left+0.5)*time.Second))
		}
	}
	_, _ = fmt.Fprintln(g.out, b.String())
}
