package enginetest_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bzzz/crdt"
	"bzzz/engine"
	"bzzz/engine/enginetest"
	"bzzz/transport/mem"
)

// keepNothing makes Collect remove whatever the kernel allows.
var keepNothing = engine.Retention{Versions: -1, Age: -1, TombstoneAge: -1}

// keptRepairs are seeds that once found something: a key of the conflict index
// whose lost head was never written again (87).
var keptRepairs = []uint64{87}

// repairSim is a history with collected deletes, nodes that are away for long
// and lost index entries: what streaming alone does not bring together.
type repairSim struct {
	*sim
	lost map[int]map[string]bool // node -> keys that its index lost, until healed
	away map[int]int             // node -> rounds it stays down
}

// writeAround writes, deletes or reads a key on a node whose index has it.
func (s *repairSim) writeAround() {
	i, key := s.up(), fmt.Sprintf("key-%02d", s.rng.IntN(15))
	if s.lost[i][key] {
		return
	}
	switch s.rng.IntN(6) {
	case 0, 1:
		s.must(s.r.Delete(i, key))
	case 2:
		s.must(s.r.Read(i, key))
	default:
		s.must(s.r.Put(i, key, fmt.Sprintf("step %d on node %d %0*d", s.steps, i, s.rng.IntN(200), 0)))
	}
}

// harm makes one of the faults that streaming alone does not heal, or cuts the
// network.
func (s *repairSim) harm() {
	i := s.up()
	kinds := []string{"collect", "collect", "collect", "away", "lost heads", "partition", "restart", "power", "retire"}
	kind := kinds[s.rng.IntN(len(kinds))]
	switch kind {
	case "collect":
		r, err := s.c.DB(i).Collect(context.Background(), keepNothing)
		s.must(err)
		s.fault["collected deletes"] += r.Tombstones
	case "away":
		if s.alive() < 3 {
			return
		}
		s.c.Stop(i)
		s.away[i] = 1 + s.rng.IntN(2)
		s.loseHeads(i) // it comes back both behind and damaged
	case "lost heads":
		s.c.Stop(i)
		s.loseHeads(i)
		s.c.Start(i)
	case "partition":
		var groups [2][]int
		for n := range s.c.Len() {
			g := s.rng.IntN(2)
			groups[g] = append(groups[g], n)
		}
		s.c.Partition(groups[0], groups[1])
	case "restart":
		s.c.Restart(i)
	case "power":
		s.c.Kill(i, true)
		s.c.Start(i)
	case "retire":
		s.retire(i)
	}
	s.fault[kind]++
}

// loseHeads takes a few keys out of the index of a node that is down, which
// every other still has.
func (s *repairSim) loseHeads(i int) {
	most := 1 + s.rng.IntN(5)
	keys := s.c.LoseHeads(i, func(key string) bool {
		for n := range s.lost {
			if n != i && s.lost[n][key] {
				return false
			}
		}
		if most--; most < 0 {
			return false
		}
		return s.rng.IntN(2) == 0
	})
	for _, key := range keys {
		if s.lost[i] == nil {
			s.lost[i] = map[string]bool{}
		}
		s.lost[i][key] = true
		s.r.ForgetKey(i, key)
	}
	s.fault["keys lost from an index"] += len(keys)
}

// retire declares on a node every id lost that no node writes under and of which
// all have everything, so that nothing of it can arrive late.
func (s *repairSim) retire(i int) {
	if s.alive() < s.c.Len() || s.c.Agree(context.Background()) != nil {
		return
	}
	inUse := map[string]bool{}
	for n := range s.c.Len() {
		inUse[s.c.DB(n).ReplicaID().String()] = true
	}
	infos, err := s.c.DB(i).Replicas(context.Background())
	s.must(err)
	for _, info := range infos {
		if !inUse[info.ID] {
			id, err := crdt.ParseReplicaID(info.ID)
			s.must(err)
			_, err = s.c.DB(i).RetireReplica(context.Background(), id)
			s.must(err)
			s.fault["ids retired"]++
		}
	}
}

// gather lets those return that were away for long enough, and with all of them
// lets everybody meet anew.
func (s *repairSim) gather(all bool) {
	s.c.Heal(good)
	for i := range s.c.Len() {
		if s.away[i]--; all || s.away[i] <= 0 {
			s.c.Start(i)
			delete(s.away, i)
		}
	}
	if !all {
		time.Sleep(time.Minute)
		return
	}
	time.Sleep(time.Minute)
	for i := range s.c.Len() { // sessions that open at equal clocks see unequal roots
		s.c.Restart(i)
		time.Sleep(10 * time.Second)
	}
}

// work makes rounds of steps.
func (s *repairSim) work(rounds int) {
	for range rounds {
		for range 40 {
			s.steps++
			s.writeAround()
			if s.rng.IntN(4) == 0 {
				s.harm()
			}
			time.Sleep(time.Duration(s.rng.IntN(400)) * time.Millisecond)
		}
		s.gather(false)
	}
	s.gather(true)
}

// scrub lets all agree and mend what no root shows (a lost delete, a count), as
// the background check does, and meet anew where something was found.
func (s *repairSim) scrub() {
	for range 3 {
		s.agree()
		noted, found := 0, 0
		for i := range s.c.Len() {
			r, err := s.c.DB(i).Repair(context.Background(), nil)
			s.must(err)
			noted, found = noted+r.Noted, found+len(r.Problems)
		}
		s.fault["lost versions noted"] += noted
		s.fault["findings mended"] += found
		if noted+found == 0 {
			return
		}
		for i := range s.c.Len() {
			s.c.Restart(i)
		}
		time.Sleep(time.Minute)
	}
}

// agree waits until clocks and roots are equal.
func (s *repairSim) agree() {
	var err error
	for range 180 {
		if err = s.c.Agree(context.Background()); err == nil {
			return
		}
		time.Sleep(time.Second)
	}
	s.must(err)
}

// check compares everything with what the recorder knows.
func (s *repairSim) check() {
	s.scrub()
	s.c.AwaitConvergence(settleTime)
	clear(s.lost)
	for i := range s.c.Len() {
		s.must(s.r.Check(i))
	}
}

// totals sums what the seeds of a test did.
type totals struct {
	sync.Mutex
	enginetest.Comparisons
	histories int
	fault     map[string]int
}

func (a *totals) add(c enginetest.Comparisons, fault map[string]int) {
	a.Lock()
	defer a.Unlock()
	a.histories++
	a.Sketches += c.Sketches
	a.Trees += c.Trees
	a.Dropped += c.Dropped
	a.Missing += c.Missing
	a.Held += c.Held
	for k, n := range fault {
		a.fault[k] += n
	}
}

// repairHistories runs seeds, each with stores of these options, and returns
// what they did once all are over.
func repairHistories(t *testing.T, many uint64, o engine.Options, end func(s *repairSim)) *totals {
	sum := &totals{fault: map[string]int{}}
	list := slices.Clone(keptRepairs)
	for seed := range seeds(6, many) {
		list = append(list, seed)
	}
	for _, seed := range list {
		for _, nodes := range []int{3, 4} {
			t.Run(fmt.Sprintf("nodes=%d/seed=%d", nodes, seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					plain := newSim(t, seed+1000, nodes, enginetest.Options{Engine: o, Net: mem.Options{Link: good}})
					s := &repairSim{plain, map[int]map[string]bool{}, map[int]int{}}
					s.r.Collecting()
					s.c.ConnectAll()
					end(s)
					sum.add(s.c.Comparisons(), s.fault)
				})
			})
		}
	}
	return sum
}

// Deletes are collected at once, nodes are away for long and come back with
// what was deleted, indexes lose entries, ids are retired: what was deleted
// stays deleted, nothing else vanishes, and all agree. No brake ever holds,
// since its limit is out of reach.
func TestRepairSimulation(t *testing.T) {
	t.Parallel()
	var sum *totals
	t.Cleanup(func() {
		t.Logf("%+v", sum.Comparisons)
		t.Log(sum.fault)
		for what, n := range map[string]int64{
			"comparisons by sketch": sum.Sketches, "comparisons by tree": sum.Trees, "versions dropped on claims": sum.Dropped,
			"lost versions found": sum.Missing, "collected deletes": int64(sum.fault["collected deletes"]),
			"nodes away": int64(sum.fault["away"]), "keys lost from an index": int64(sum.fault["keys lost from an index"]),
		} {
			if n == 0 && sum.histories >= 12 {
				t.Errorf("no %s: the histories test little", what)
			}
		}
		if sum.Held > 0 {
			t.Errorf("%d claims were held back under a brake that allows everything", sum.Held)
		}
	})
	sum = repairHistories(t, 200, engine.Options{MaxAbsentDrop: 1 << 30}, func(s *repairSim) {
		for range 2 {
			s.work(2)
			s.check()
		}
	})
}

// The same histories under a brake that lets nothing through: while it holds,
// all that nobody deleted is everywhere; once an operator confirms, all agree.
func TestBrakeSimulation(t *testing.T) {
	t.Parallel()
	var sum *totals
	t.Cleanup(func() {
		t.Logf("%+v", sum.Comparisons)
		if (sum.Held == 0 || sum.fault["released"] == 0) && sum.histories >= 12 {
			t.Errorf("%d claims were held back, %d pairs of nodes released them: the histories test little", sum.Held, sum.fault["released"])
		}
	})
	sum = repairHistories(t, 100, engine.Options{MaxAbsentDrop: -1, BrakeQuorum: -1}, func(s *repairSim) {
		s.work(2)
		time.Sleep(time.Minute)
		if dropped := s.c.Comparisons().Dropped; dropped > 0 {
			s.t.Errorf("%d versions were dropped under the brake", dropped)
		}
		for i := range s.c.Len() {
			s.must(s.r.Present(i))
		}
		s.release()
		s.check()
	})
}

// release syncs everybody with everybody under a word from the operator.
func (s *repairSim) release() {
	ctx := context.Background()
	for range 4 {
		for i := range s.c.Len() {
			for j := range i {
				if s.c.Agree(ctx) == nil {
					return
				}
				_, _, err := engine.SyncLocal(ctx, s.c.DB(i), s.c.DB(j), engine.SyncOptions{ConfirmDrop: true})
				s.must(err)
				s.fault["released"]++
			}
		}
	}
}
