package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// systemd reads a folder of journal files as fluent-plugin-systemd does, by its own reader instead of libsystemd. Where it
// is it keeps by file and number of entries, not as a cursor: the real plugin could not go on from its position file.
type systemd struct {
	name, tag, path string
	matches         []map[string]string // one of them; all fields of it
	fields          map[string][]string // journal field to names in the record
	positions       string

	read map[string]int // entries that were emitted, by id of the file
}

const journalBatch = 500 // entries

func newSystemd(s *section) (*systemd, error) {
	if err := s.only("@type", "@id", "@label", "tag", "path", "matches", "read_from_head"); err != nil {
		return nil, err
	}
	if err := s.must("@id", "tag", "path"); err != nil {
		return nil, err
	}
	d := &systemd{name: s.get("@id"), tag: s.get("tag"), path: s.get("path"), fields: map[string][]string{}, read: map[string]int{}}
	if s.get("read_from_head") != "true" {
		return nil, s.errorf("the stand-in reads from the head only")
	}
	if m := s.get("matches"); m != "" {
		if err := json.Unmarshal([]byte(m), &d.matches); err != nil {
			return nil, s.errorf("matches: %w", err)
		}
	}
	storage, entry := s.inner("storage"), s.inner("entry")
	if storage == nil || storage.get("@type") != "local" || storage.get("autosave") != "true" || storage.get("path") == "" {
		return nil, s.errorf("<storage> must be local, save by itself and have a path")
	}
	d.positions = storage.get("path")
	if entry == nil || entry.get("field_map_strict") != "true" {
		return nil, s.errorf("the stand-in knows <entry> with field_map_strict only")
	}
	if err := entry.only("field_map", "field_map_strict"); err != nil {
		return nil, err
	}
	names := map[string]string{}
	if err := json.Unmarshal([]byte(entry.get("field_map")), &names); err != nil {
		return nil, entry.errorf("field_map: %w", err)
	}
	for from, to := range names {
		d.fields[to] = append(d.fields[to], from)
	}
	return d, nil
}

func (d *systemd) id() string { return d.name }

func (d *systemd) run(ctx context.Context, emit func(string, []event) error) error {
	if err := os.MkdirAll(filepath.Dir(d.positions), 0o700); err != nil {
		return err
	}
	saved, err := os.ReadFile(d.positions)
	if err == nil {
		err = json.Unmarshal(saved, &d.read)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return every(ctx, time.Second, func() error {
		// below the folder is one folder a machine id
		files, err := filepath.Glob(filepath.Join(d.path, "*", "*.journal"))
		if err != nil {
			return err
		}
		for _, path := range files {
			if err := d.follow(ctx, path, emit); err != nil {
				if ctx.Err() != nil {
					return nil //nolint:nilerr // it was told to end
				}
				log.Printf("%s: %s: %v", d.name, path, err) // one broken file does not hide the others
			}
		}
		return nil
	})
}

func (d *systemd) follow(ctx context.Context, path string, emit func(string, []event) error) error {
	j, err := openJournal(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer j.close() //nolint:errcheck // only read
	for {
		var events []event
		full := errors.New("enough for one batch")
		count := 0
		next, err := j.entries(d.read[j.id], func(realtime uint64, fields map[string]string) error {
			if count == journalBatch {
				return full
			}
			count++
			if d.wanted(fields) {
				events = append(events, event{time.UnixMicro(int64(realtime)), d.record(fields)})
			}
			return nil
		})
		if err != nil && !errors.Is(err, full) && next == d.read[j.id] {
			return err
		}
		if next == d.read[j.id] || ctx.Err() != nil {
			return nil
		}
		if len(events) > 0 {
			if err := emit(d.tag, events); err != nil {
				return err
			}
		}
		d.read[j.id] = next
		data, err := json.Marshal(d.read)
		if err != nil {
			return err
		}
		if err := replace(d.positions, data); err != nil {
			return err
		}
	}
}

func (d *systemd) wanted(fields map[string]string) bool {
	if len(d.matches) == 0 {
		return true
	}
	return slices.ContainsFunc(d.matches, func(m map[string]string) bool {
		for k, v := range m {
			if fields[k] != v {
				return false
			}
		}
		return true
	})
}

func (d *systemd) record(fields map[string]string) []field {
	var out []field
	for _, to := range slices.Sorted(maps.Keys(d.fields)) {
		for _, from := range d.fields[to] {
			if v, ok := fields[from]; ok {
				out = append(out, field{to, v})
				break
			}
		}
	}
	return out
}
