package session

import "bzzz/crdt"

// weight is what versions weigh: their keys and values, and their memory.
type weight struct{ content, memory int64 }

// versionMemory is what a decoded version takes beside its bytes, rounded up.
const versionMemory = 200

func (w *weight) add(v *crdt.Version) {
	content := int64(len(v.Key) + len(v.Value))
	w.content += content
	w.memory += content + versionMemory + 32*int64(len(v.Context))
	for _, a := range v.Attrs {
		w.memory += int64(len(a.Name) + len(a.Value) + 40)
	}
}
