package demo

import (
	"encoding/json"
	"fmt"
	"slices"
)

// The things that the story changes. The records are among the first rows of
// each part.
const (
	keyAll    = "New York/2012-01-03" // corrected by all three
	keyTwo    = "Seattle/2012-01-04"  // corrected by two; left for the reader to settle
	keyCausal = "New York/2014-01-03" // corrected by cho, then by ann who had seen that
	keyGone   = "Seattle/2012-01-02"  // deleted by one while another corrects it

	keyCounter = "corrections"
	keySet     = "tags"
	keyList    = "todo"
)

// storyKeys are the corrected records in the order they are shown.
func storyKeys() []string { return []string{keyAll, keyTwo, keyCausal, keyGone} }

// observation is one row of the weather data. Numbers keep their digits.
type observation struct {
	Location      string      `json:"location"`
	Date          string      `json:"date"`
	Precipitation json.Number `json:"precipitation"`
	TempMax       json.Number `json:"temp_max"`
	TempMin       json.Number `json:"temp_min"`
	Wind          json.Number `json:"wind"`
	Weather       string      `json:"weather"`
}

// edit returns a record's value with a change applied.
func edit(value []byte, change func(*observation)) ([]byte, error) {
	var o observation
	if err := json.Unmarshal(value, &o); err != nil {
		return nil, err
	}
	change(&o)
	return json.Marshal(o)
}

// show is what people are shown of a record: what the story corrects.
func show(value []byte) string {
	var o observation
	if err := json.Unmarshal(value, &o); err != nil {
		return string(value)
	}
	return fmt.Sprintf("%s °C, %s", o.TempMax, o.Weather)
}

// model is what the story must end with, kept beside the engine in the plainest
// way: counts that a reset had not seen, and the writes that nothing replaced.
type model struct {
	counted   int64               // before the network was cut, seen by all
	apart     map[string]int64    // since, by node, seen by that node only
	swallowed int64               // by resets
	concur    map[string][]string // CIDs written apart to a key, where nobody saw another's
}

func newModel() model { return model{apart: map[string]int64{}, concur: map[string][]string{}} }

// reset swallows what a node has seen.
func (m *model) reset(node string) {
	m.swallowed = m.counted + m.apart[node]
	m.counted, m.apart[node] = 0, 0
}

// want is the count that all nodes must come to.
func (m *model) want() int64 {
	sum := m.counted
	for _, n := range m.apart {
		sum += n
	}
	return sum
}

// conflicts returns the keys whose concurrent values must all be listed, with
// their CIDs in order.
func (m *model) conflicts() map[string][]string {
	out := map[string][]string{}
	for key, cids := range m.concur {
		if len(cids) > 1 {
			out[key] = slices.Sorted(slices.Values(cids))
		}
	}
	return out
}
