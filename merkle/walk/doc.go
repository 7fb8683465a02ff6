// Package walk finds the keys in which two replicas differ by walking their
// Merkle trees together: tier 3 of anti-entropy, for when neither clocks nor a
// sketch tell. It is a state machine, messages in, messages out, over one
// [merkle.Index] on each side, and it moves digests and bit sets only.
//
// The initiator calls [Walk.Start], then each side gives every message of the
// other to [Walk.Receive] and sends what that returns, in strict turns. After
// every call [Walk.Offers] yields keys of one's own: those that the peer lacks
// or has with another leaf. At the end each side was offered exactly its keys
// whose leaf differs, so an overwritten key comes up on both sides and the two
// sides' offers together are the difference. What to send for an offer is the
// caller's business.
//
// # Method
//
// A region is the set of keys that share a path of nibbles. One side expands a
// region: it sends cuts, 4 or 8 byte hashes of the digests of its subtrees
// there, by next nibble. The other compares them with its own and answers which
// differ and which it lacks; what only it has it offers. It then expands the
// regions that differ, and so on with turned roles, until a region has at most
// 32 keys and their leaves are compared one by one. Large children are sent
// along with their parent (inlined), so that a message descends by a factor of
// about W whatever the tree's shape: 8 messages for 1 M keys, 9 where changes are
// clustered (BenchmarkWalk).
//
// Positions are never sent. Both sides keep the same two stacks of regions that
// differ, one of those that the initiator expands and one of the responder's;
// answers come in the order of the questions and expansions in the order of
// the stack. A side expands as many of its regions as fit in 1 MiB and keep
// what is pending below 24 Ki entries, and the rest in later messages. Where
// more is pending only the entry pushed last is expanded: depth first, so that
// memory stays bounded whatever the difference.
//
// A cut is the first bytes of SHA-256(salt || digest). Both sides contribute to
// the salt, so nobody can prepare digests whose cuts collide. Two different
// subtrees have the same cut, and a difference is missed, with a probability of
// 2^-32 (2^-64) for a pair that is compared: the caller compares roots
// afterwards and on a mismatch walks again with another salt and 8 bytes.
//
// # Messages
//
// At most 1 MiB. Integers are little-endian, uvarints in their shortest form.
//
//	u8 1      OPEN, the initiator's first message
//	u8        1, the format
//	u8        bytes of a cut, 4 or 8
//	uvarint   length of the key prefix
//	bytes     the prefix
//	16 B      SHA-256(salt || 0x00 || uvarint keys || digest), cut off
//
//	u8 2      SAME, the responder's answer if it has the same keys: the end
//
//	u8 3      STEP
//	answers   one for each expansion of the peer's last STEP, in its order
//	expansions of regions on the sender's stack, up to the message's end
//
// The responder's first STEP expands the whole (the region of the prefix).
//
// Expansion of a region, by its first byte:
//
//	00        EMPTY: no keys; only of the whole
//	01..20    LEAVES: so many keys, and their cuts in key order. A leaf digest
//	          commits to its key, so no keys are sent
//	21..40    SHORT: 1..32 keys, and the first byte of each cut: enough where
//	          most differ. Not of the whole, and not after MINE
//	80|flags  TILE: more than 32 keys; flag 08: MANY, more than 1,024
//	  u16     nibbles with which keys go on; flag 10: a key ends here (slot 0)
//	  flag 20: uvarint  nibbles that all keys of the region share further on
//	           MANY:    the packed path from the byte on that holds the region's end
//	           else:    first byte of SHA-256(salt || 0x01 || packed path)
//	  cuts    of the slots in use, slot 0 first
//	  flag 40: u16      slots whose TILE follows at once, depth first,
//	                    at most 32 in one expansion
//
// Answers to a TILE. The answerer looks at what it has at the TILE's path; what
// it has elsewhere in the region, or in slots the TILE does not use, it offers.
// Where the path is not told, the answerer takes that of its own keys, if they
// share one so deep. The check byte tells most other paths; one that it does not
// costs bytes but no correctness, since subtrees at different paths differ.
//
//	00|flags  COMPARE
//	  flag 01: bits     slots that both have and that differ
//	  flag 02: bits     slots that the answerer lacks: offer them
//	04        NONE: it has nothing at that path: offer all
//	05        MINE: it expands the region itself, as LEAVES, or as a TILE if its
//	          keys part above the TILE's depth; not to MANY
//
// Bits are one for each slot in use, lowest first, in as few bytes as they take,
// at least one set. A COMPARE is followed by the answers to the inlined TILEs of
// those slots that differ. The slots that differ and were not inlined go to the
// answerer's stack; slot 0 does not, both sides offer that key.
//
// Answers to LEAVES:
//
//	00        the answerer has them all
//	01 bits   those it lacks, neither none nor all: offer them
//	04        it lacks all
//	05        MINE: it has more than 1,024 keys in the region and expands it
//	          itself, as TILE with MANY; not after MINE to a TILE
//
// Answers to SHORT are the same, but what the answerer may have it does not have
// for certain. After 00 and 01 it expands the region as LEAVES, of those of its
// keys that match in a byte, and they are compared with those of the asker's
// that it did not name; MINE is no answer to that. MINE to SHORT is for more
// than 32 keys and followed by a TILE.
//
// Each side pushes, for a STEP, the entries that arise from it in reverse: the
// region asked first comes off first, and of an entry the lowest slot. A STEP
// has an answer or an expansion unless the newest entry of both stacks is the
// receiver's. The walk is over when nothing is pending and nothing unanswered;
// both sides see it.
//
// # Hostile peers
//
// Every message is decoded strictly and against what the tree at hand allows.
// A peer can make us offer keys that do not differ, and can hide its own, but
// no key that is not live here is ever offered, each at most once, and
//
//   - regions are entered only where we have keys, each at a greater depth than
//     the one it came from, and MINE turns a region at most twice, so that a
//     walk ends;
//   - an expansion in which nothing differs is a lie or a chance of 2^-32 (or
//     2^-64): the ninth is an error;
//   - pending entries, unanswered expansions and offers of a message are bounded
//     (64 Ki, 24 Ki and those of 32 Ki expansions);
//   - work is linear in the bytes received, and in all at most that of reading
//     each of our keys 64 times, plus 1 Mi reads.
//
// Errors of a message match errs.ErrInvalid, those of a bound errs.ErrTooLarge.
// Damage of the own tree is errs.ErrCorrupt. After an error the walk is over;
// the offers that wait are still right.
package walk
