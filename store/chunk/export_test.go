package chunk

// Limit sets how many chunks a cutter takes.
func Limit(c *Cutter, chunks int) { c.limit = chunks }

// SkipFresh makes the next Sweep believe that no manifest was stored since.
func SkipFresh(c *Collection, w *Writer) { c.puts, c.keep = w.state.puts, w.oldestLease(c.epoch) }

// Gear is the table of the cutting hash.
var Gear = gear
