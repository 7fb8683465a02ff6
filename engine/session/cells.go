package session

import "bzzz/merkle/sketch"

// firstCells is how many cells of the sketch are asked for at first: enough for
// 8 differences, less than 400 bytes.
const firstCells = 16

// maxPart bounds the cells of one frame: some 350 KiB.
const maxPart = 16 << 10

// moreCells returns how many cells to ask for, so that few are sent in vain. As
// long as there seem to be more differences than cells, hardly a cell came empty
// and the estimate is rough or a lower bound: at least two fifths more, up to 85 %
// of what it takes. Then 98 % of that at once, and steps that grow from a twentieth
// on, for a few streams take far more than most. From 100 to 10,000 differences
// this takes 3 to 11 % more cells than are needed on average, in 7 to 11 answers
// (TestFewCellsInVain).
func moreCells(d *sketch.Decoder) int {
	got, seems := d.Received(), d.Estimate()
	aim, step := sketch.ExpectedCells(seems)*98/100, got/20
	if seems > got {
		aim, step = sketch.ExpectedCells(seems)*85/100, got*2/5
	} else {
		step = max(step, got-aim)
	}
	next := max(got+max(4, step), aim)
	return min(min(next, d.Limit())-got, maxPart)
}
