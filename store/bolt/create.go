package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"go.etcd.io/bbolt"

	"bzzz/store"
)

// A file is made under a name of this form beside its final place.
const (
	tempPrefix = "."
	tempSuffix = ".bzzz-new"
)

// create makes an empty store at path, complete and durable before it gets its
// name. If another process makes one at the same time, one of the two stays.
func create(path string) error {
	temp, err := newTemp(path)
	if err != nil {
		return err
	}
	if err := publish(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// newTemp makes an empty store beside path and returns its name.
func newTemp(path string) (temp string, err error) {
	dir, base := filepath.Split(path)
	f, err := os.CreateTemp(filepath.Clean(dir), tempPrefix+base+".*"+tempSuffix)
	if err != nil {
		return "", err
	}
	temp = f.Name()
	if err := f.Close(); err != nil {
		return "", errors.Join(err, os.Remove(temp))
	}
	db, err := bbolt.Open(temp, 0o600, &bbolt.Options{PageSize: pageSize, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return "", errors.Join(err, os.Remove(temp))
	}
	db.AllocSize = minGrowth
	err = db.Update(func(tx *bbolt.Tx) error {
		own, err := tx.CreateBucket([]byte(ownBucket))
		if err != nil {
			return err
		}
		return own.Put([]byte(formatKey), []byte(format))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return "", errors.Join(err, os.Remove(temp))
	}
	return temp, nil
}

// publish gives a complete and flushed file its name, durably. It never
// replaces a file: fs.ErrExist if there is one. The temporary name, and those
// that crashed predecessors left, are removed.
func publish(temp, path string) error {
	err := os.Link(temp, path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		// No hard links here (FAT, some network and phone file systems).
		if _, statErr := os.Lstat(path); errors.Is(statErr, fs.ErrNotExist) {
			err = os.Rename(temp, path)
		} else {
			err = fs.ErrExist
		}
	}
	return errors.Join(err, removeTemps(path), syncDir(filepath.Dir(path)))
}

// removeTemps removes the temporary files of path. One that another process is
// about to publish may be among them: path exists now, so it would lose anyway.
func removeTemps(path string) error {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, tempPrefix+base+".") && strings.HasSuffix(name, tempSuffix) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// syncDir makes the names in dir durable. Windows has no such call.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncDirs makes the names of files durable.
func syncDirs(paths ...string) error {
	var done []string
	for _, path := range paths {
		dir := filepath.Dir(path)
		if slices.Contains(done, dir) {
			continue
		}
		if err := syncDir(dir); err != nil {
			return err
		}
		done = append(done, dir)
	}
	return nil
}

// checkMarker refuses files of other programs and formats.
func checkMarker(tx *bbolt.Tx) error {
	own := tx.Bucket([]byte(ownBucket))
	if own == nil {
		return errForeign
	}
	if got := own.Get([]byte(formatKey)); string(got) != format {
		return fmt.Errorf("%w: format %.40q, this build knows %q", store.ErrUnsupported, got, format)
	}
	return nil
}

var errForeign = fmt.Errorf("%w: a bbolt file of another program: no bucket %q", store.ErrUnsupported, ownBucket)
