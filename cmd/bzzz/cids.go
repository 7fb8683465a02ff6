package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bzzz/engine"
	"bzzz/internal/cliout"
)

// cidTail is how much of a CID people are shown at least: the end, 37 bits,
// since all CIDs begin alike. A key has far fewer versions than would make two
// ends equal by chance (a list that holds such ones shows more of them).
const cidTail = 8

// shortCIDs returns how the CIDs of one list are shown: for people by their
// ends, long enough to differ; for programs whole. Any command that takes a CID
// takes these.
func (a *app) shortCIDs(versions []engine.Version) func(cid string) any {
	if a.p.Format() != cliout.Table {
		return func(cid string) any { return textOrNil(cid) }
	}
	n := cidTail
	for tails := map[string]string{}; ; n++ {
		clear(tails)
		unique := true
		for _, v := range versions {
			end := tail(v.CID, n)
			other, taken := tails[end]
			unique = unique && (!taken || other == v.CID)
			tails[end] = v.CID
		}
		if unique {
			return func(cid string) any { return textOrNil(tail(cid, n)) }
		}
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// cidPart reports whether s may be the beginning or the end of a CID: base32 in
// lower case (RFC 4648 section 6).
func cidPart(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// byCID returns the version of a key whose CID begins or ends with cid.
// ErrNotFound if there is none; several are an error of usage.
func byCID(cmd *cobra.Command, key string, versions []engine.Version, cid string) (engine.Version, error) {
	var found []engine.Version
	for _, v := range versions {
		if strings.HasPrefix(v.CID, cid) || strings.HasSuffix(v.CID, cid) {
			found = append(found, v)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return engine.Version{}, cliout.WithNext(
			fmt.Errorf("key %q: none of its %d versions has a CID that begins or ends with %q: %w", key, len(versions), cid, engine.ErrNotFound),
			fmt.Sprintf("bzzz log %s lists them", cliout.Safe(key)))
	}
	return engine.Version{}, cliout.WithNext(
		usage(cmd, "%d of the %d versions of key %q have a CID that begins or ends with %q", len(found), len(versions), key, cid),
		fmt.Sprintf("give more of it: bzzz log %s -o json shows all of it", cliout.Safe(key)))
}

// point is a point in history as the user named it.
type point struct {
	at  engine.Point
	cid string // instead of at: the beginning or the end of the CID of one key's version
	err error  // what s is if no version has such a CID
}

// in returns the point in the history of a key.
func (p point) in(cmd *cobra.Command, ns *engine.Namespace, key string) (engine.Point, error) {
	if p.cid == "" {
		return p.at, nil
	}
	history, err := ns.History(cmd.Context(), []byte(key))
	if err != nil {
		return engine.Point{}, err
	}
	v, err := byCID(cmd, key, history, p.cid)
	switch {
	case errors.Is(err, engine.ErrNotFound) && p.err != nil:
		return engine.Point{}, usage(cmd, "%w", p.err)
	case err != nil:
		return engine.Point{}, err
	}
	return engine.AtCID(v.CID)
}

// valueOf is what a version holds, as it is printed: a number, or its bytes,
// for people without those at the beginning that the versions beside it share.
func (a *app) valueOf(v engine.Version, common int) any {
	if n, ok := numberOf(v); ok {
		return n
	}
	if v.Blob != "" {
		return a.large(v.Blob, v.Size)
	}
	return a.preview(v.Value, common)
}

// kept is how much of what values have in common is shown before they differ.
const kept = 10

// commonLen returns how many bytes at their beginning values need not be shown
// for people to tell them apart: 0 where that would save little.
func commonLen(values ...[]byte) int {
	var first []byte
	n, longest, common := 0, 0, 0
	for _, v := range values {
		if v == nil {
			continue
		}
		if n++; n == 1 {
			first, common = v, len(v)
		}
		longest, common = max(longest, len(v)), min(common, len(v))
		for i := range common {
			if v[i] != first[i] {
				common = i
				break
			}
		}
	}
	if n < 2 || common == longest || longest < 4*kept || common < 2*kept {
		return 0
	}
	return common - kept
}
