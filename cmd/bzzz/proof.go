package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"bzzz/crdt"
	"bzzz/internal/cliout"
	"bzzz/internal/errs"
	"bzzz/merkle"
	"bzzz/merkle/proof"
)

func newVerifyProofCmd(a *app) *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use:   "verify-proof FILE --root HEX",
		Short: "Check a proof about a key against a root, without a store",
		Long: `Check a proof file (- for stdin) against the root of a namespace and print what
it proves: the values that a key holds, that it holds none, or how many keys
begin with a prefix. No store is needed and nothing in the file is believed.

The root is the 64 digits that "bzzz stat -o json" shows on a node that you trust,
or that several nodes agree on: a proof shows what is true of that root, no more.
The exit code is 0 only if the proof holds.`,
		Example: `  bzzz verify-proof apple.json --root "$ROOT"`,
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&root, "root", "", "root of the namespace, 64 hexadecimal digits")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		want, err := hex.DecodeString(root)
		if err != nil || len(want) != len(merkle.Digest{}) {
			return usage(cmd, "--root %q: want 64 hexadecimal digits", root)
		}
		b, err := a.readProof(args[0])
		if err != nil {
			return err
		}
		e, err := proof.Decode(b)
		if err != nil {
			return errs.Wrap("cannot read the proof", args[0], err)
		}
		s, err := proof.Verify(e, merkle.Digest(want))
		if err != nil {
			return cliout.WithNext(errs.Wrap("the proof does not hold", args[0], err), "do not rely on what came with it; ask for a proof of this root")
		}
		return a.printStatement(s)
	}
	return cmd
}

// readProof reads a proof file, or stdin; not much more than a proof may have.
func (a *app) readProof(file string) ([]byte, error) {
	in := a.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, inputError(err)
		}
		defer f.Close()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, proof.MaxSize+1))
}

// provenVersion is a version in the output of verify-proof.
type provenVersion struct {
	Kind   string `json:"kind"`
	Value  []byte `json:"value_base64"`
	Author string `json:"author"`
	Seq    uint64 `json:"seq"`
	CID    string `json:"cid"`
}

// printStatement prints what was proven.
func (a *app) printStatement(s proof.Statement) error {
	fields := []cliout.Field{
		{Name: "proven", Value: s.String()},
		{Name: "kind", Value: string(s.Kind)},
		{Name: "namespace", Value: s.Namespace},
		{Name: "key", Value: cliout.Key(s.Key)},
		{Name: "root", Value: fmt.Sprintf("%x", s.Root)},
	}
	switch s.Kind {
	case proof.Prefix:
		fields = append(fields, cliout.Field{Name: "keys", Value: cliout.Count(s.Keys)},
			cliout.Field{Name: "digest", Value: fmt.Sprintf("%x", s.Digest)})
	case proof.Absence:
		fields = append(fields, cliout.Field{Name: "none_below", Value: s.NoneBelow})
	}
	if s.Kind != proof.Inclusion || a.p.Format() == cliout.Table {
		if err := a.p.Object(fields...); err != nil || s.Kind != proof.Inclusion {
			return err
		}
		return a.printProven(s.Versions)
	}
	list := make([]provenVersion, len(s.Versions))
	for i, v := range s.Versions {
		list[i] = provenVersion{v.Kind.String(), v.Value, v.Dot.Replica.String(), v.Dot.Seq, v.CID().String()}
	}
	return a.p.Object(append(fields, cliout.Field{Name: "versions", Value: list})...)
}

// printProven prints the versions that a key holds.
func (a *app) printProven(versions []*crdt.Version) error {
	rows := a.p.Rows("kind", "value", "time", "author", "cid")
	for _, v := range versions {
		err := rows.Add(v.Kind.String(), a.preview(v.Value, 0), a.when(v.Time.Time()), a.author(v.Dot.Replica), v.CID().String())
		if err != nil {
			return err
		}
	}
	return rows.Close()
}
