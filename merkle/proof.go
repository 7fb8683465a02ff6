package merkle

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"bzzz/internal/errs"
)

// Proofs are the siblings of all nodes between the root and a member, from the
// root down:
//
//	uvarint  steps
//	then for each step
//	uvarint  bit in which the node's halves differ, less the bit of the step before, less 1
//	uvarint  keys in the sibling
//	32 B     digest of the sibling
//
// The member's own side is not sent: it is the member's bit. A proof is
// about 760 bytes at 1 M keys (BenchmarkIndex) and takes one hash a step to check.
//
// What a proof shows it shows of a root that was built honestly: it binds
// whoever vouches for the root, it does not make the set well-formed.

// step is a node on the way from the root to a member.
type step struct {
	bit     int
	sibling Subtree
}

// Member is a live key with its leaf digest. Inner nodes commit to the bits in
// which keys differ and not to whole keys: what ties a leaf to its key is that
// the version record, which the leaf is the digest of, names the key. Whoever
// verifies a proof about a member computes Leaf from records that it has and
// takes Key from the same records, never from the other side's word; else any
// key that agrees in the branching bits passes for the member.
type Member struct {
	Key  []byte
	Leaf Digest
}

// refused is the error of a proof that does not hold. It matches errs.ErrInvalid.
func refused(why string) error {
	return fmt.Errorf("%w: proof refused: %s", errs.ErrInvalid, why)
}

// appendSteps appends the encoding of a proof.
func appendSteps(b []byte, steps []step) []byte {
	b = binary.AppendUvarint(b, uint64(len(steps)))
	last := -1
	for i := range steps {
		s := &steps[i]
		b = binary.AppendUvarint(b, uint64(s.bit-last-1))
		b = binary.AppendUvarint(b, s.sibling.Count)
		b = append(b, s.sibling.Digest[:]...)
		last = s.bit
	}
	return b
}

// decodeSteps reads a proof whose bits are all below limit. It takes only what
// appendSteps writes.
func decodeSteps(proof []byte, limit int) ([]step, error) {
	n, b, ok := cutUvarint(proof)
	const least = 1 + 1 + 32
	switch {
	case !ok:
		return nil, refused("no number of steps")
	case n > uint64(len(b))/least:
		return nil, refused("more steps than bytes")
	}
	steps := make([]step, n)
	last := -1
	for i := range steps {
		s := &steps[i]
		var skip uint64
		if skip, b, ok = cutUvarint(b); !ok || skip >= uint64(max(0, limit-last-1)) {
			return nil, refused("a bit behind the end of the key")
		}
		s.bit = last + 1 + int(skip)
		last = s.bit
		if s.sibling.Count, b, ok = cutUvarint(b); !ok || s.sibling.Count == 0 || s.sibling.Count > maxCount {
			return nil, refused("a sibling without keys, or with too many")
		}
		if len(b) < 32 {
			return nil, refused("cut off")
		}
		b = b[copy(s.sibling.Digest[:], b):]
	}
	if len(b) != 0 {
		return nil, refused("bytes behind the last step")
	}
	return steps, nil
}

// climb folds a subtree upwards along the steps that lead to it; its side at
// each is key's bit.
func climb(key []byte, s Subtree, steps []step) Subtree {
	for i := len(steps) - 1; i >= 0; i-- {
		if bitAt(key, steps[i].bit) == 0 {
			s = join(steps[i].bit, s, steps[i].sibling)
		} else {
			s = join(steps[i].bit, steps[i].sibling, s)
		}
	}
	return s
}

// memberSteps decodes a proof and checks that it leads from root to m.
func memberSteps(root Digest, namespace string, m Member, proof []byte) ([]step, error) {
	if len(m.Key) == 0 || len(m.Key) > MaxKey {
		return nil, refused("no member or too long a key")
	}
	// The bit at 9*len is the end of the key itself: the last to branch at.
	steps, err := decodeSteps(proof, 9*len(m.Key)+1)
	if err != nil {
		return nil, err
	}
	if Root(namespace, nil, climb(m.Key, Subtree{1, m.Leaf}, steps)) != root {
		return nil, refused("it leads to another root")
	}
	return steps, nil
}

// VerifyInclusion checks that a member is in the set with this root. nil means
// it is; else the error matches errs.ErrInvalid. See Member for what must
// be true of m. One hash a step; memory within the proof's length.
func VerifyInclusion(root Digest, namespace string, m Member, proof []byte) error {
	_, err := memberSteps(root, namespace, m, proof)
	return err
}

// VerifyAbsence checks that key is not in the set with this root, by the proof
// of a neighbour: if key were there, the two would part in the first bit in
// which they differ, and no node on the neighbour's way does. The neighbour of
// an empty set is the zero Member. See Member for what must be true of it: with
// a neighbour whose record was not seen the proof shows nothing.
//
// If the neighbour does not begin with key, no member begins with key: this is
// how an empty prefix is proven.
func VerifyAbsence(root Digest, namespace string, key []byte, neighbour Member, proof []byte) error {
	switch {
	case len(key) == 0 || len(key) > MaxKey:
		return refused("no key or too long a key")
	case len(neighbour.Key) == 0:
		if neighbour.Leaf != (Digest{}) || !bytes.Equal(proof, []byte{0}) || Root(namespace, nil, Subtree{}) != root {
			return refused("the set is not empty")
		}
		return nil
	case bytes.Equal(key, neighbour.Key):
		return refused("the neighbour is the key")
	}
	steps, err := memberSteps(root, namespace, neighbour, proof)
	if err != nil {
		return err
	}
	crit := Crit(key, neighbour.Key)
	for i := range steps {
		if steps[i].bit == crit {
			return refused("the key may be on the other side")
		}
	}
	return nil
}

// VerifyPrefix checks that s is the subtree of all members that begin with
// prefix. The caller has computed s itself, from keys that all begin with
// prefix: then nothing is missing. A subtree that was merely claimed can be
// larger; for that case use VerifyPrefixByMember.
func VerifyPrefix(root Digest, namespace string, prefix []byte, s Subtree, proof []byte) error {
	if s.Count == 0 || s.Count > maxCount || len(prefix) > MaxKey {
		return refused("no keys, too many, or too long a prefix")
	}
	steps, err := decodeSteps(proof, 9*len(prefix))
	if err != nil {
		return err
	}
	if Root(namespace, nil, climb(prefix, s, steps)) != root {
		return refused("it leads to another root")
	}
	return nil
}

// VerifyPrefixByMember checks the inclusion proof of a member that begins with
// prefix and returns the subtree of all that do: those that the member parts
// from behind the prefix. See Member for what must be true of m.
func VerifyPrefixByMember(root Digest, namespace string, prefix []byte, m Member, proof []byte) (Subtree, error) {
	if !bytes.HasPrefix(m.Key, prefix) {
		return Subtree{}, refused("the member does not begin with the prefix")
	}
	steps, err := memberSteps(root, namespace, m, proof)
	if err != nil {
		return Subtree{}, err
	}
	return climb(m.Key, Subtree{1, m.Leaf}, steps[above(steps, prefix):]), nil
}

// above returns how many steps part members of a prefix from others.
func above(steps []step, prefix []byte) int {
	n := 0
	for n < len(steps) && steps[n].bit < 9*len(prefix) {
		n++
	}
	return n
}
