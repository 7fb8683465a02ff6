package enginetest_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"bzzz/engine/enginetest"
	"bzzz/transport/mem"
)

func TestDbg(t *testing.T) {
	for round := range 6 {
	for _, seed := range []uint64{387, 295} {
		synctest.Test(t, func(t *testing.T) {
			s := newSim(t, seed, 3, enginetest.Options{Net: mem.Options{Link: bad}})
			s.c.ConnectLine()
			for s.steps = range 150 {
				for range s.rng.IntN(4) {
					s.write()
				}
				if s.rng.IntN(6) == 0 {
					s.disturb()
				}
				pause := time.Duration(s.rng.IntN(300)) * time.Millisecond
				if s.rng.IntN(12) == 0 {
					pause = time.Duration(s.rng.IntN(20)) * time.Second
				}
				time.Sleep(pause)
			}
			s.c.Heal(good)
			s.start()
			time.Sleep(3 * time.Minute)
			if s.c.Agree(context.Background()) == nil {
				return
			}
			fmt.Println("round", round, "seed", seed, s.fault)
			for i := range 3 {
				st, _ := s.c.DB(i).State(context.Background())
				for j := range 3 {
					sj, _ := s.c.DB(j).State(context.Background())
					d := st.Clock.Minus(sj.Clock)
					for _, r := range d.Replicas() {
						fmt.Println(i, "has over", j, r, d.Of(r).Runs(), "self", s.c.DB(i).ReplicaID(), s.c.DB(j).ReplicaID(), "maxes", st.Clock.Of(r).Runs(), sj.Clock.Of(r).Runs())
					}
				}
			}
			a, b, c := s.c.Sessions()
			fmt.Println("sessions", a, b, c)
			enginetest.Dump(s.c)
		})
	}
	}
}
