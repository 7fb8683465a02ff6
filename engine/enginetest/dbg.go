package enginetest

import "fmt"

func Dump(c *Cluster) {
	for i, n := range c.nodes {
		fmt.Println(i, "lives", n.lives, n.db.ReplicaID())
	}
	for _, l := range c.stats.log { fmt.Println(l) }
}
