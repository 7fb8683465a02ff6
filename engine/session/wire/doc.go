// Package wire is the wire format of anti-entropy sessions and bundle files:
// frames, the messages in them, and the columnar coding of versions.
//
// A session is a stream of frames each way; a bundle file is such a stream that
// begins with a BUNDLE frame.
//
//	frame = type u8 | payload length | payload | CRC-32C of all before, u32 LE
//
// Reader takes frames off an io.Reader, AppendFrame makes them. Each message
// has an Append method and a Decode function for its payload:
//
//	 1 HELLO    Hello           what the initiator has, as salted digests
//	 2 WELCOME  Welcome         the responder's verdict on each of them
//	 3 STATE    State           clock, gone marks and root of one namespace
//	 4 BATCH    Encoder.Flush   versions that become live
//	 5 DONE     Done            end of a reconcile or of a push; what to adopt
//	 6 CHECK    Check           root and clock digest after applying
//	 7 CREDIT   Credit          bytes the other side may send
//	 8 BYE      Bye             end of the session, with the reason
//	 9 OPEN     Open            namespaces added after WELCOME
//	10 BUNDLE   Bundle          header of a bundle file
//	11 HISTORY  Encoder.Flush   versions that only go into the journal
//	12 REPAIR   Repair          opens a comparison of the live versions
//	13 CELLS    Part            cells of a sketch
//	14 MORE     More            asks for cells
//	15 WALK     Part            a message of the walk of the tree
//	16 OFFER    Offer           live versions that the other side may lack
//	17 FIX      Fix             which of them are wanted, and which are dead
//	18 WANT     Want            asks for blocks of large values
//	19 BLOCK    Block           one of them
//	20 PAST     Past            asks for retained history
//	21 PASTAT   Past            how far HISTORY has come
//	64 PING     -               the sender is alive; empty
//
// Numbers are unsigned varints (LEB128) in their shortest form, fixed-size
// integers little-endian, where the layout tables do not say otherwise. A
// string is its length and its bytes; Clock is crdt.Clock's own encoding.
//
// The decoders trust nothing: they accept canonical forms only, refuse bytes
// that are left over, bound every count by the bytes that are there and every
// decompressed size before they allocate, and return errors that wrap
// errs.ErrInvalid, ErrCorrupt, ErrTooLarge or ErrUnsupported. What they return
// shares no memory with their input.
package wire
