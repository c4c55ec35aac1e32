package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tail follows files as in_tail does with follow_inodes: by what a file is, not by its name, so that a file that was
// renamed by a rotation is read to its end and not read again.
type tail struct {
	name, tag, pathKey string
	paths, exclude     []string
	refresh            time.Duration
	rotateWait         time.Duration
	batch              int // lines that are read before they are handed over
	unmatched          bool
	parse              func(line string, now time.Time) (event, bool)
	positions          string

	files map[inode]*followed
}

type inode struct{ device, number uint64 }

// followed is a file that is open. Its position is behind the last complete line that was emitted.
type followed struct {
	file     *os.File
	path     string
	position int64
	missing  time.Time // since when no path leads to it; zero: one does
}

func newTail(s *section) (*tail, error) {
	err := s.only("@type", "@id", "@label", "tag", "path", "exclude_path", "pos_file", "pos_file_compaction_interval", "path_key", "follow_inodes",
		"read_from_head", "refresh_interval", "rotate_wait", "enable_stat_watcher", "skip_refresh_on_startup", "read_lines_limit", "emit_unmatched_lines")
	if err != nil {
		return nil, err
	}
	if err := s.must("@id", "tag", "path", "pos_file"); err != nil {
		return nil, err
	}
	if s.get("follow_inodes") != "true" || s.get("read_from_head") != "true" {
		return nil, s.errorf("the stand-in tails with follow_inodes and read_from_head only")
	}
	t := &tail{
		name: s.get("@id"), tag: s.get("tag"), pathKey: s.get("path_key"), positions: s.get("pos_file"),
		unmatched: s.get("emit_unmatched_lines") == "true", files: map[inode]*followed{},
	}
	if t.paths, err = s.list("path"); err != nil {
		return nil, err
	}
	if t.exclude, err = s.list("exclude_path"); err != nil {
		return nil, err
	}
	for _, p := range append(slices.Clone(t.paths), t.exclude...) {
		if _, err := filepath.Match(p, "/"); err != nil {
			return nil, s.errorf("%q: %w", p, err)
		}
	}
	if t.refresh, err = s.duration("refresh_interval", time.Minute); err != nil {
		return nil, err
	}
	if t.rotateWait, err = s.duration("rotate_wait", 5*time.Second); err != nil {
		return nil, err
	}
	if t.batch, err = s.number("read_lines_limit", 1000); err != nil {
		return nil, err
	}
	p := s.inner("parse")
	if p == nil {
		return nil, s.errorf("<parse> is missing")
	}
	switch kind := p.get("@type"); kind {
	case "cri":
		t.parse = parseCRI
	case "none":
		t.parse = func(line string, now time.Time) (event, bool) { return event{now, []field{{"message", line}}}, true }
	default:
		return nil, p.errorf("the stand-in has no parser %q", kind)
	}
	return t, p.only("@type", "time_format")
}

func (t *tail) id() string { return t.name }

// parseCRI takes a line of a container's log apart. A piece of a longer line is an event of its own: its logtag is P.
func parseCRI(line string, _ time.Time) (event, bool) {
	parts := strings.SplitN(line, " ", 4)
	if len(parts) != 4 {
		return event{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, parts[0])
	if err != nil {
		return event{}, false
	}
	return event{at, []field{{"stream", parts[1]}, {"logtag", parts[2]}, {"message", parts[3]}, {"time", parts[0]}}}, true
}

func (t *tail) run(ctx context.Context, emit func(string, []event) error) error {
	if err := t.load(); err != nil {
		return err
	}
	defer func() {
		for _, f := range t.files {
			_ = f.file.Close()
		}
	}()
	var looked time.Time
	return every(ctx, time.Second, func() error {
		if time.Since(looked) >= t.refresh {
			looked = time.Now()
			if err := t.look(); err != nil {
				return err
			}
		}
		return t.read(ctx, emit)
	})
}

// look finds files that are new and drops those that no path leads to any more.
func (t *tail) look() error {
	there := map[inode]string{}
	for _, pattern := range t.paths {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, path := range found {
			if t.excluded(path) {
				continue
			}
			info, err := os.Stat(path)
			if err != nil || !info.Mode().IsRegular() {
				continue // gone since, or a link that leads nowhere yet
			}
			there[identity(info)] = path
		}
	}
	for id, path := range there {
		f, known := t.files[id]
		if known {
			f.path, f.missing = path, time.Time{}
			continue
		}
		file, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			log.Printf("%s: %v", t.name, err)
			continue
		}
		// between looking and opening it may have been rotated
		info, err := file.Stat()
		if err != nil || identity(info) != id {
			_ = file.Close()
			continue
		}
		t.files[id] = &followed{file: file, path: path}
	}
	for id, f := range t.files {
		if _, ok := there[id]; ok {
			continue
		}
		if f.missing.IsZero() {
			f.missing = time.Now()
		}
		if time.Since(f.missing) > t.rotateWait {
			_ = f.file.Close()
			delete(t.files, id)
		}
	}
	return nil
}

func (t *tail) excluded(path string) bool {
	return slices.ContainsFunc(t.exclude, func(pattern string) bool {
		ok, _ := filepath.Match(pattern, path) // patterns were checked
		return ok
	})
}

func identity(info fs.FileInfo) inode {
	s := info.Sys().(*syscall.Stat_t)
	return inode{s.Dev, s.Ino}
}

// read emits all complete lines that are there.
func (t *tail) read(ctx context.Context, emit func(string, []event) error) error {
	order := slices.SortedFunc(maps.Keys(t.files), func(a, b inode) int { return strings.Compare(t.files[a].path, t.files[b].path) })
	for _, id := range order {
		for ctx.Err() == nil {
			more, err := t.some(t.files[id], emit)
			if err != nil {
				return err
			}
			if !more {
				break
			}
		}
	}
	return nil
}

// some emits some lines of a file, then remembers how far it is: a crash between the two sends them again.
func (t *tail) some(f *followed, emit func(string, []event) error) (more bool, err error) {
	info, err := f.file.Stat()
	if err != nil {
		return false, err
	}
	if info.Size() < f.position {
		f.position = 0 // truncated
	}
	r := bufio.NewReaderSize(io.NewSectionReader(f.file, f.position, info.Size()-f.position), 64<<10)
	var events []event
	var taken int64
	for len(events) < t.batch {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break // what has no end yet stays
		}
		if err != nil {
			return false, fmt.Errorf("%s: %w", f.path, err)
		}
		taken += int64(len(line))
		events = append(events, t.event(f.path, string(bytes.TrimRight(line, "\r\n"))))
	}
	if taken == 0 {
		return false, nil
	}
	if err := emit(t.tag, events); err != nil {
		return false, err
	}
	f.position += taken
	return f.position < info.Size(), t.save()
}

func (t *tail) event(path, line string) event {
	e, ok := t.parse(line, time.Now())
	if !ok {
		e = event{time.Now(), []field{{"unmatched_line", line}}}
	}
	if t.pathKey != "" {
		e.record = append(e.record, field{t.pathKey, path})
	}
	return e
}

// load opens the files of the position file. Its lines are those of Fluentd: path, position and inode, in hexadecimal.
func (t *tail) load() error {
	if err := os.MkdirAll(filepath.Dir(t.positions), 0o700); err != nil {
		return err
	}
	text, err := os.ReadFile(t.positions)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	known := map[uint64]int64{}
	for line := range strings.Lines(string(text)) {
		parts := strings.Split(strings.TrimSpace(line), "\t")
		if len(parts) != 3 {
			continue
		}
		position, err1 := strconv.ParseInt(parts[1], 16, 64)
		number, err2 := strconv.ParseUint(parts[2], 16, 64)
		if err1 == nil && err2 == nil {
			known[number] = position
		}
	}
	if err := t.look(); err != nil {
		return err
	}
	for id, f := range t.files {
		f.position = known[id.number]
	}
	return nil
}

func (t *tail) save() error {
	var b bytes.Buffer
	for id, f := range t.files {
		fmt.Fprintf(&b, "%s\t%016x\t%016x\n", f.path, f.position, id.number)
	}
	return replace(t.positions, b.Bytes())
}

// replace writes a file as a whole.
func replace(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
