package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"bzzz/engine"
	"bzzz/internal/cliout"
	"bzzz/internal/errs"
)

// access says what a command wants of a store.
type access byte

const (
	reading  access = iota // beside other readers
	writing                // alone; the store must be there
	creating               // alone; the store and the namespace are made if they are not there
)

// inDB works on the store that the flags name.
func (a *app) inDB(mode access, fn func(db *engine.DB) error) error {
	db, err := a.open(a.data, mode)
	if err != nil {
		return err
	}
	return closing(fn(db), db)
}

// inNamespace works on the namespace that the flags name.
func (a *app) inNamespace(cmd *cobra.Command, mode access, fn func(ns *engine.Namespace) error) error {
	return a.inDB(mode, func(db *engine.DB) error {
		ns, err := space(cmd, db, a.namespace, mode)
		if err != nil {
			return err
		}
		return fn(ns)
	})
}

// closing closes c after work that ended with err, and returns what went wrong
// first.
func closing(err error, c io.Closer) error {
	if e := c.Close(); err == nil {
		return e
	}
	return err
}

// storeAt reports whether dir holds a store; an error if it cannot hold one.
func storeAt(dir string) (bool, error) {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		err := &cliout.ConfigError{File: dir, Err: errors.New("the data directory is a file")}
		return false, cliout.WithNext(err, "name a directory with --data or BZZZ_DATA")
	}
	_, err := os.Stat(filepath.Join(dir, engine.DataFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, errs.Wrap("cannot look at the store", dir, err)
	}
	return err == nil, nil
}

// open opens the store in dir.
func (a *app) open(dir string, mode access) (*engine.DB, error) {
	there, err := storeAt(dir)
	if err != nil {
		return nil, err
	}
	if !there && mode != creating {
		return nil, noStore(dir)
	}
	opts := &engine.Options{ReadOnly: mode == reading}
	if a.verbose {
		opts.Logger = slog.New(slog.NewTextHandler(a.err, nil))
	}
	db, err := engine.Open(dir, opts)
	if err != nil {
		return nil, openError(dir, err)
	}
	if !there {
		a.p.Note("made a new store in %s", dir)
	}
	return db, nil
}

// noStore is the error of a directory without a store.
func noStore(dir string) error {
	return cliout.WithNext(errs.Wrap("cannot open the store", dir, fmt.Errorf("no store there: %w", engine.ErrNotFound)),
		fmt.Sprintf("name the data directory with --data, or make a store: bzzz init --data %s", dir))
}

// openError says in the user's words why a store does not open.
func openError(dir string, err error) error {
	err = innermost(err)
	next := ""
	switch {
	case errors.Is(err, engine.ErrUnsupported):
		next = "name another directory with --data, or use the program that wrote this one"
	case errors.Is(err, engine.ErrCorrupt):
		next = "keep the directory as it is; sync a new one from a peer, or restore a backup"
	case isPathError(err):
		next = "check the path given with --data or BZZZ_DATA, and who may write there"
	}
	err = errs.Wrap("cannot open the store", dir, err)
	if next != "" {
		err = cliout.WithNext(err, next)
	}
	return err
}

// isPathError reports whether the file system refused something.
func isPathError(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok
}

// innermost returns the cause below the operations that wrap it.
func innermost(err error) error {
	for e, ok := errors.AsType[*errs.Error](err); ok; e, ok = errors.AsType[*errs.Error](err) {
		err = e.Err
	}
	return err
}

// checkNamespace refuses the names that the engine refuses, before a store is
// made for one.
func checkNamespace(name string) error {
	switch {
	case name == "" || len(name) > engine.MaxNamespaceName || !utf8.ValidString(name):
		return fmt.Errorf("a namespace name of %d bytes: want 1 to %d bytes of UTF-8", len(name), engine.MaxNamespaceName)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("the namespace name %q has a control character", name)
	}
	return nil
}

// space returns the namespace called name.
func space(cmd *cobra.Command, db *engine.DB, name string, mode access) (*engine.Namespace, error) {
	open := db.OpenNamespace
	if mode == creating {
		open = db.CreateNamespace
	}
	ns, err := open(cmd.Context(), name)
	switch {
	case errors.Is(err, engine.ErrInvalid):
		return nil, usage(cmd, "%w", err)
	case errors.Is(err, engine.ErrNotFound):
		return nil, cliout.WithNext(err, "bzzz ns ls shows what is there")
	}
	return ns, err
}

// inputError makes a missing input file count as not found.
func inputError(err error) error {
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	path := ""
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		path, err = e.Path, e.Err
	}
	return cliout.WithNext(errs.Wrap("cannot read", path, fmt.Errorf("%w: %w", engine.ErrNotFound, err)), "check the path")
}
