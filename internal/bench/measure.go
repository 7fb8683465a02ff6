package bench

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
)

// Param is one thing that a measurement depends on.
type Param struct {
	Name  string
	Value any
}

// Params are parameters in the order in which they are printed.
type Params []Param

// MarshalJSON writes an object with the parameters in order.
func (p Params) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, f := range p {
		if i > 0 {
			b = append(b, ',')
		}
		for j, v := range []any{f.Name, f.Value} {
			text, err := json.Marshal(v)
			if err != nil {
				return nil, err
			}
			if j == 1 {
				b = append(b, ':')
			}
			b = append(b, text...)
		}
	}
	return append(b, '}'), nil
}

// String returns "name=value" pairs.
func (p Params) String() string {
	var parts []string
	for _, f := range p {
		text, err := json.Marshal(f.Value)
		if err != nil {
			text = []byte("?")
		}
		parts = append(parts, f.Name+"="+strings.Trim(string(text), `"`))
	}
	return strings.Join(parts, " ")
}

// with returns the parameters and more.
func (p Params) with(more ...Param) Params { return append(slices.Clone(p), more...) }

// Baseline is what a value is compared with: "none" if with nothing.
type Baseline struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// Measurement is one value, and where it is compared in turns the ratio to its
// baseline of every round.
type Measurement struct {
	ID       string
	Metric   string
	Value    float64
	Unit     string
	Params   Params
	Baseline Baseline
	Run      int
	Ratios   []float64 // value / baseline, one a round
}

// line is a measurement as it is printed, the stable format of "bzzz bench".
type line struct {
	ID       string   `json:"id"`
	Metric   string   `json:"metric"`
	Value    float64  `json:"value"`
	Unit     string   `json:"unit"`
	Params   Params   `json:"params"`
	Baseline Baseline `json:"baseline"`
	Run      int      `json:"run"`
}

// AppendJSON appends the measurement as one JSON object a line: the value
// itself, and if it was compared in rounds the least, median and greatest
// ratio as metrics "ratio", whose parameters "of" and "stat" tell them apart.
func (m Measurement) AppendJSON(b []byte) ([]byte, error) {
	base := Baseline{m.Baseline.Name, round(m.Baseline.Value)}
	if base.Name == "" {
		base.Name = "none"
	}
	lines := []line{{m.ID, m.Metric, round(m.Value), m.Unit, m.Params, base, m.Run}}
	if len(m.Ratios) > 0 {
		low, mid, high := spread(m.Ratios)
		one := Baseline{m.Baseline.Name, 1}
		for _, s := range []Param{{"min", low}, {"median", mid}, {"max", high}} {
			p := m.Params.with(Param{"of", m.Metric}, Param{"stat", s.Name})
			lines = append(lines, line{m.ID, "ratio", round(s.Value.(float64)), "1", p, one, m.Run})
		}
	}
	for _, l := range lines {
		text, err := json.Marshal(l)
		if err != nil {
			return nil, err
		}
		b = append(append(b, text...), '\n')
	}
	return b, nil
}

// round keeps four digits behind the point: more is noise.
func round(x float64) float64 { return math.Round(x*1e4) / 1e4 }

// spread returns the least, the median and the greatest of some values.
func spread(values []float64) (low, median, high float64) {
	s := slices.Sorted(slices.Values(values))
	median = s[len(s)/2]
	if len(s)%2 == 0 {
		median = (median + s[len(s)/2-1]) / 2
	}
	return s[0], median, s[len(s)-1]
}

// Row is the same measurement of all runs together.
type Row struct {
	Measurement               // Value and Baseline.Value are the medians of the runs
	Low, Median, High float64 // of all ratios; 0 if there are none
}

// Summary gathers measurements to rows, in the order in which they first came.
func Summary(all []Measurement) []Row {
	type group struct{ values, bases, ratios []float64 }
	groups := map[string]*group{}
	var rows []Row
	var order []*group
	for _, m := range all {
		key := strings.Join([]string{m.ID, m.Metric, m.Params.String(), m.Baseline.Name}, "\x00")
		g := groups[key]
		if g == nil {
			g = &group{}
			groups[key] = g
			rows, order = append(rows, Row{Measurement: m}), append(order, g)
		}
		g.values, g.bases = append(g.values, m.Value), append(g.bases, m.Baseline.Value)
		g.ratios = append(g.ratios, m.Ratios...)
		if len(m.Ratios) == 0 && m.Baseline.Value != 0 {
			g.ratios = append(g.ratios, m.Value/m.Baseline.Value)
		}
	}
	for i, g := range order {
		_, rows[i].Value, _ = spread(g.values)
		_, rows[i].Baseline.Value, _ = spread(g.bases)
		if len(g.ratios) > 0 {
			rows[i].Low, rows[i].Median, rows[i].High = spread(g.ratios)
		}
	}
	return rows
}

// record emits one measurement. base.Name may be empty.
func (e *env) record(metric string, value float64, params Params, base Baseline, ratios ...float64) error {
	return e.emit(Measurement{
		ID: e.id, Metric: metric, Value: value, Unit: unitOf(metric), Params: params, Baseline: base, Run: e.run, Ratios: ratios,
	})
}

// value is one of several values that have their parameters in common.
type value struct {
	metric string
	value  float64
	base   Baseline
}

// recordAll emits several measurements.
func (e *env) recordAll(params Params, values ...value) error {
	for _, v := range values {
		if err := e.record(v.metric, v.value, params, v.base); err != nil {
			return err
		}
	}
	return nil
}

// unitOf returns a metric's unit; metric names say it themselves.
func unitOf(metric string) string {
	switch {
	case metric == "mb_per_s":
		return "MB/s"
	case strings.HasSuffix(metric, "_percent"):
		return "%"
	case strings.HasSuffix(metric, "_per_s"):
		return "1/s"
	case strings.HasPrefix(metric, "fsyncs"), metric == "round_trips", metric == "messages":
		return "1"
	case strings.Contains(metric, "bytes"):
		return "B"
	case strings.HasSuffix(metric, "_ms"):
		return "ms"
	case strings.Contains(metric, "_us"):
		return "us"
	}
	return "1"
}

// side is one of the programs that take turns.
type side struct {
	name string
	// work does a round's work and returns how many operations it was.
	work func(round int) (ops int, err error)

	ops       int
	took      time.Duration
	rates     []float64 // operations per second, by round
	latencies []time.Duration
	written   uint64 // bytes handed to the system
}

// rate returns operations per second over all rounds.
func (s *side) rate() float64 { return float64(s.ops) / s.took.Seconds() }

// timed runs one operation and notes how long it took.
func (s *side) timed(op func() error) error {
	started := time.Now()
	err := op()
	s.latencies = append(s.latencies, time.Since(started))
	return err
}

// micros returns a quantile of the latencies in microseconds.
func (s *side) micros(q float64) float64 {
	if len(s.latencies) == 0 {
		return 0
	}
	slices.Sort(s.latencies)
	i := min(int(q*float64(len(s.latencies))), len(s.latencies)-1)
	return float64(s.latencies[i].Nanoseconds()) / 1e3
}

// over returns the ratios of the rates of two sides by round.
func (s *side) over(o *side) []float64 {
	out := make([]float64, len(s.rates))
	for i := range out {
		out[i] = s.rates[i] / o.rates[i]
	}
	return out
}

// takeTurns lets the sides do each round one after the other; another one
// begins each time. prepare, if not nil, makes a round's data beforehand.
func (e *env) takeTurns(rounds int, prepare func(round int), sides ...*side) error {
	for r := range rounds {
		if prepare != nil {
			prepare(r)
		}
		for i := range sides {
			if err := e.ctx.Err(); err != nil {
				return err
			}
			s := sides[(i+r)%len(sides)]
			before, started := writtenBytes(), time.Now()
			n, err := s.work(r)
			if err != nil {
				return err
			}
			took := time.Since(started)
			s.written += writtenBytes() - before
			s.ops += n
			s.took += took
			s.rates = append(s.rates, float64(n)/took.Seconds())
		}
	}
	return nil
}

// recordRate emits a side's rate beside another's.
func (e *env) recordRate(metric string, s, base *side, params Params) error {
	return e.record(metric, s.rate(), params, Baseline{base.name, base.rate()}, s.over(base)...)
}
