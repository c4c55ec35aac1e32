package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watcher sees who opens, changes, moves and removes files in some folders. It asks the kernel for all that happens to the
// folders and what is in them, by inode, so it does not matter through which mount a process comes.
//
// fanotify tells the process, and makes it wait at open until we looked at it, so that it is still there to be looked at;
// but it does not tell renames and removals with the process's file. inotify tells these, without the process. So both are
// used: what only inotify saw has no process.
type watcher struct {
	prefix  string // where the node's files are, /host
	folders map[string]bool
	fan     int
	ino     int
	byWatch map[int32]string
	self    int
	// openers are the processes that opened something lately, for when they closed it and are gone.
	openers map[int]map[string]string
	emit    func(map[string]string)
}

const (
	inoMask = unix.IN_CREATE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_ATTRIB | unix.IN_ONLYDIR
	fanMask = unix.FAN_OPEN_PERM | unix.FAN_CLOSE_WRITE | unix.FAN_EVENT_ON_CHILD
	// that many openers are remembered
	openers = 1000
)

func newWatcher(prefix string, emit func(map[string]string)) (*watcher, error) {
	w := &watcher{prefix: prefix, folders: map[string]bool{}, byWatch: map[int32]string{}, self: os.Getpid(), openers: map[int]map[string]string{}, emit: emit}
	var err error
	if w.ino, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	w.fan, err = unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		_ = unix.Close(w.ino)
		return nil, fmt.Errorf("fanotify (CAP_SYS_ADMIN is needed): %w", err)
	}
	return w, nil
}

// add watches a folder and those below; what is not there yet is looked for again by whoever calls.
func (w *watcher) add(folder string) error {
	err := filepath.WalkDir(w.prefix+folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		at := strings.TrimPrefix(path, w.prefix)
		if w.folders[at] {
			return nil
		}
		if err := unix.FanotifyMark(w.fan, unix.FAN_MARK_ADD, fanMask, unix.AT_FDCWD, path); err != nil {
			return fmt.Errorf("fanotify on %s: %w", path, err)
		}
		id, err := unix.InotifyAddWatch(w.ino, path, inoMask)
		if err != nil {
			return fmt.Errorf("inotify on %s: %w", path, err)
		}
		w.folders[at], w.byWatch[int32(id)] = true, at
		log.Printf("watching %s", at)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// run emits until the context ends.
func (w *watcher) run(ctx context.Context) error {
	defer unix.Close(w.fan) //nolint:errcheck // nothing was written
	defer unix.Close(w.ino) //nolint:errcheck // nothing was written
	buffer := make([]byte, 64<<10)
	for ctx.Err() == nil {
		ready := []unix.PollFd{{Fd: int32(w.fan), Events: unix.POLLIN}, {Fd: int32(w.ino), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, 500); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for i, read := range []func([]byte){w.opened, w.changed} {
			n, err := unix.Read(int(ready[i].Fd), buffer)
			if err == nil && n > 0 {
				read(buffer[:n])
			} else if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	}
	return nil
}

// opened takes fanotify's events.
func (w *watcher) opened(b []byte) {
	const size = int(unsafe.Sizeof(unix.FanotifyEventMetadata{}))
	for len(b) >= size {
		length := binary.NativeEndian.Uint32(b)
		mask := binary.NativeEndian.Uint64(b[8:])
		fd, pid := int(int32(binary.NativeEndian.Uint32(b[16:]))), int(int32(binary.NativeEndian.Uint32(b[20:])))
		b = b[min(int(length), len(b)):]
		if mask&unix.FAN_Q_OVERFLOW != 0 {
			log.Print("fanotify: events were lost")
			continue
		}
		path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		by := w.opener(pid)
		if mask&unix.FAN_OPEN_PERM != 0 {
			w.allow(fd)
		}
		_ = unix.Close(fd)
		if err != nil || pid == w.self {
			continue
		}
		// the path as this process sees it: below the prefix for what came by that mount, as it is for what came by another
		path = strings.TrimPrefix(path, w.prefix)
		if !w.folders[filepath.Dir(path)] {
			continue
		}
		e := maps.Clone(by)
		e["evt.type"], e["fd.name"], e["fd.typechar"], e["fd.num"] = "openat", path, "f", "3"
		e["fd.directory"] = filepath.Dir(path)
		// what was open for writing shows when it is closed
		write := mask&unix.FAN_CLOSE_WRITE != 0
		e["evt.is_open_write"], e["evt.is_open_read"] = strconv.FormatBool(write), strconv.FormatBool(!write)
		w.emit(e)
	}
}

// opener is the process; what it was when it is gone.
func (w *watcher) opener(pid int) map[string]string {
	e := process(pid)
	if e["proc.name"] == "" && w.openers[pid] != nil {
		return w.openers[pid]
	}
	if len(w.openers) > openers {
		clear(w.openers)
	}
	w.openers[pid] = e
	return e
}

// allow lets the process that waits go on.
func (w *watcher) allow(fd int) {
	answer := binary.NativeEndian.AppendUint32(nil, uint32(fd))
	answer = binary.NativeEndian.AppendUint32(answer, unix.FAN_ALLOW)
	if _, err := unix.Write(w.fan, answer); err != nil {
		log.Printf("fanotify: %v", err)
	}
}

// changed takes inotify's events: what has come and gone, also by a rename, what was removed, whose mode or owner changed.
func (w *watcher) changed(b []byte) {
	for len(b) >= unix.SizeofInotifyEvent {
		id := int32(binary.NativeEndian.Uint32(b))
		mask, length := binary.NativeEndian.Uint32(b[4:]), int(binary.NativeEndian.Uint32(b[12:]))
		name := string(bytes.TrimRight(b[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+length], "\x00"))
		b = b[unix.SizeofInotifyEvent+length:]
		folder, ok := w.byWatch[id]
		if !ok {
			continue
		}
		path := folder + "/" + name
		if mask&unix.IN_ISDIR != 0 && mask&unix.IN_CREATE != 0 {
			if err := w.add(path); err != nil {
				log.Print(err)
			}
			continue
		}
		e := map[string]string{}
		switch {
		case mask&unix.IN_MOVED_TO != 0:
			e["evt.type"], e["fs.path.target"], e["fs.path.name"] = "renameat2", path, path
		case mask&unix.IN_MOVED_FROM != 0:
			e["evt.type"], e["fs.path.source"], e["fs.path.name"] = "renameat2", path, path
		case mask&unix.IN_ATTRIB != 0 && name != "":
			e["evt.type"], e["fs.path.name"] = "fchmodat", path
		case mask&unix.IN_DELETE != 0:
			e["evt.type"], e["fs.path.name"] = "unlinkat", path
		default:
			continue
		}
		w.emit(e)
	}
}

// process is what /proc tells; a process that is gone has only its number.
func process(pid int) map[string]string {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	e := map[string]string{"proc.pid": strconv.Itoa(pid), "thread.ismain": "true", "container.id": "host"}
	if comm, err := os.ReadFile(filepath.Join(dir, "comm")); err == nil {
		e["proc.name"] = strings.TrimSpace(string(comm))
	}
	if line, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil {
		e["proc.cmdline"] = strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
	}
	if exe, err := os.Readlink(filepath.Join(dir, "exe")); err == nil {
		e["proc.exepath"] = exe
	}
	if status, err := os.ReadFile(filepath.Join(dir, "status")); err == nil {
		for line := range strings.Lines(string(status)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			switch key {
			case "Uid":
				e["user.uid"], _, _ = strings.Cut(value, "\t")
			case "PPid":
				if comm, err := os.ReadFile(filepath.Join("/proc", value, "comm")); err == nil {
					e["proc.pname"] = strings.TrimSpace(string(comm))
				}
			}
		}
	}
	if e["user.uid"] == "0" {
		e["user.name"] = "root"
	}
	return e
}

// ends emits the end of processes with one of the names. It looks several times a second, so it misses what lives shorter.
func ends(ctx context.Context, interval time.Duration, wanted func(map[string]string) bool, emit func(map[string]string)) error {
	alive := map[int]map[string]string{}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		now := map[int]map[string]string{}
		names, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			return err
		}
		for _, name := range names {
			pid, err := strconv.Atoi(filepath.Base(name))
			if err != nil {
				continue
			}
			if e, known := alive[pid]; known {
				now[pid] = e
			} else if e := process(pid); wanted(e) {
				now[pid] = e
			}
		}
		for pid, e := range alive {
			if now[pid] == nil {
				e["evt.type"] = "procexit"
				emit(e)
			}
		}
		alive = now
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
