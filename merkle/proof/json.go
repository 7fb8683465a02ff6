package proof

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"bzzz/crdt"
	"bzzz/internal/errs"
	"bzzz/merkle"
)

const (
	// fileType is the envelope's own name.
	fileType = "bzzz-proof"
	// format is the number of the layout that the package comment describes.
	format = 1
	// maxNamespace is the longest name of a namespace in bytes.
	maxNamespace = 255
)

// file is an envelope as JSON. Its base64 is that of RFC 4648 section 4.
type file struct {
	Type      string   `json:"type"`
	Format    int      `json:"format"`
	Kind      Kind     `json:"kind"`
	Namespace string   `json:"namespace"`
	Root      string   `json:"root"`
	Key       []byte   `json:"key"`
	Text      string   `json:"text"`
	Records   []record `json:"records"`
	Steps     []byte   `json:"steps"`
}

type record struct {
	CID    string `json:"cid"`
	Record []byte `json:"record"`
}

func validName(name string) bool {
	return name != "" && len(name) <= maxNamespace && utf8.ValidString(name)
}

// Encode returns the envelope as indented JSON that ends in a line feed.
// errs.ErrTooLarge above MaxSize: a key with so many or so large values.
func (e *Envelope) Encode() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	f := file{
		Type: fileType, Format: format, Kind: e.Kind, Namespace: e.Namespace, Root: hex.EncodeToString(e.Root[:]),
		Key: notNil(e.Key), Text: strconv.QuoteToASCII(string(e.Key)), Records: []record{}, Steps: notNil(e.Steps),
	}
	for _, b := range e.Records {
		f.Records = append(f.Records, record{crdt.DigestCID(sha256.Sum256(b)).String(), b})
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(f); err != nil {
		return nil, fmt.Errorf("proof: %w", err)
	}
	if out.Len() > MaxSize {
		return nil, fmt.Errorf("proof of %d bytes (at most %d): %w", out.Len(), MaxSize, errs.ErrTooLarge)
	}
	return out.Bytes(), nil
}

// notNil makes an empty byte string of nil, which JSON would show as null.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Decode reads what Encode wrote, with any white space between its parts, and
// nothing else: what is shown beside the bytes (text, cid) is what they say.
// It verifies nothing. errs.ErrTooLarge above MaxSize, else errs.ErrInvalid.
func Decode(b []byte) (*Envelope, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("proof of %d bytes (at most %d): %w", len(b), MaxSize, errs.ErrTooLarge)
	}
	var f file
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("not a proof: %w: %v", errs.ErrInvalid, err)
	}
	switch {
	case f.Type != fileType:
		return nil, fmt.Errorf("not a proof: %w: type %q", errs.ErrInvalid, f.Type)
	case f.Format != format:
		return nil, fmt.Errorf("proof of format %d, this build reads %d: %w", f.Format, format, errs.ErrUnsupported)
	}
	e := &Envelope{Kind: f.Kind, Namespace: f.Namespace, Key: f.Key, Steps: f.Steps}
	root, err := hex.DecodeString(f.Root)
	if err != nil || len(root) != len(e.Root) {
		return nil, fmt.Errorf("not a proof: %w: malformed root", errs.ErrInvalid)
	}
	e.Root = merkle.Digest(root)
	for _, r := range f.Records {
		e.Records = append(e.Records, r.Record)
	}
	if err := e.same(b); err != nil {
		return nil, err
	}
	return e, nil
}

// same checks that b is the envelope's canonical form.
func (e *Envelope) same(b []byte) error {
	again, err := e.Encode()
	if err != nil {
		return err
	}
	var want, got bytes.Buffer
	if err := json.Compact(&want, again); err != nil {
		return fmt.Errorf("proof: %w", err)
	}
	if err := json.Compact(&got, b); err != nil {
		return fmt.Errorf("not a proof: %w: %v", errs.ErrInvalid, err)
	}
	if !bytes.Equal(want.Bytes(), got.Bytes()) {
		return fmt.Errorf("not a proof: %w: not the canonical form", errs.ErrInvalid)
	}
	return nil
}
