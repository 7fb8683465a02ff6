package chunk

// Limit sets how many chunks a cutter takes.
func Limit(c *Cutter, chunks int) { c.limit = chunks }
