package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// The systemd journal's file format, read only (https://systemd.io/JOURNAL_FILE_FORMAT/). Entries are read in the order
// of the file's array of entries, which only grows. Of the compressions, zstd is known: what systemd writes since 246.

const (
	headerSize       = 208 // the part that every version has
	incompatibleZstd = 8
	incompatibleKeys = 4
	compact          = 16

	typeData       = 1
	typeEntry      = 3
	typeEntryArray = 6

	dataZstd       = 4
	dataCompressed = 7
	// no object that is read whole is larger: journald itself refuses bigger fields
	objectLimit = 768 << 20
)

// journalFile is one file of a journal. It is safe to read while journald appends.
type journalFile struct {
	file    *os.File
	id      string // of the file, also after it was renamed
	compact bool
	array   uint64 // offset of the first array of entries; 0: no entry yet
	zstd    *zstd.Decoder
}

func openJournal(path string) (*journalFile, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	j := &journalFile{file: file}
	if err := j.header(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	j.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(objectLimit))
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return j, nil
}

func (j *journalFile) close() error {
	j.zstd.Close()
	return j.file.Close()
}

func (j *journalFile) header() error {
	h := make([]byte, headerSize)
	if _, err := j.file.ReadAt(h, 0); err != nil {
		return err
	}
	if string(h[:8]) != "LPKSHHRH" {
		return errors.New("it is no journal file")
	}
	flags := binary.LittleEndian.Uint32(h[12:])
	if unknown := flags &^ (incompatibleKeys | incompatibleZstd | compact); unknown != 0 {
		return fmt.Errorf("it has features that are not known (%#x)", unknown)
	}
	j.id, j.compact, j.array = fmt.Sprintf("%x", h[24:40]), flags&compact != 0, binary.LittleEndian.Uint64(h[176:])
	return nil
}

// object reads an object of the type whose header is at the offset.
func (j *journalFile) object(at uint64, kind byte) ([]byte, error) {
	var h [16]byte
	if _, err := j.file.ReadAt(h[:], int64(at)); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint64(h[8:])
	if h[0] != kind || size < 16 || size > objectLimit {
		return nil, fmt.Errorf("at %d is no object of type %d (%d, %d bytes)", at, kind, h[0], size)
	}
	b := make([]byte, size)
	if _, err := j.file.ReadAt(b, int64(at)); err != nil {
		return nil, err
	}
	return b, nil
}

// entries calls f with the fields of each entry from number skip on, and returns the number of the first that was not read.
func (j *journalFile) entries(skip int, f func(realtime uint64, fields map[string]string) error) (int, error) {
	if err := j.header(); err != nil {
		return skip, err
	}
	width := 8
	if j.compact {
		width = 4
	}
	seen := 0
	for at := j.array; at != 0; {
		array, err := j.object(at, typeEntryArray)
		if err != nil {
			return skip, err
		}
		at = binary.LittleEndian.Uint64(array[16:])
		items := array[24:]
		n := len(items) / width
		if skip >= seen+n {
			seen += n
			continue
		}
		for i := skip - seen; i < n; i++ {
			offset := j.offset(items[i*width:])
			if offset == 0 {
				return skip, nil // not written yet
			}
			realtime, fields, err := j.entry(offset)
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return skip, nil
			}
			if err != nil {
				return skip, err
			}
			if err := f(realtime, fields); err != nil {
				return skip, err
			}
			skip++
		}
		seen += n
	}
	return skip, nil
}

func (j *journalFile) offset(b []byte) uint64 {
	if j.compact {
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

func (j *journalFile) entry(at uint64) (realtime uint64, fields map[string]string, err error) {
	b, err := j.object(at, typeEntry)
	if err != nil {
		return 0, nil, err
	}
	if len(b) < 64 {
		return 0, nil, fmt.Errorf("the entry at %d is cut off", at)
	}
	realtime, fields = binary.LittleEndian.Uint64(b[24:]), map[string]string{}
	width := 16
	if j.compact {
		width = 4
	}
	for items := b[64:]; len(items) >= width; items = items[width:] {
		offset := j.offset(items)
		if offset == 0 {
			break
		}
		payload, err := j.data(offset)
		if err != nil {
			return 0, nil, err
		}
		for i, c := range payload {
			if c == '=' {
				fields[string(payload[:i])] = string(payload[i+1:])
				break
			}
		}
	}
	return realtime, fields, nil
}

func (j *journalFile) data(at uint64) ([]byte, error) {
	b, err := j.object(at, typeData)
	if err != nil {
		return nil, err
	}
	start := 64
	if j.compact {
		start = 72
	}
	if len(b) < start {
		return nil, fmt.Errorf("the data at %d is cut off", at)
	}
	switch b[1] & dataCompressed {
	case 0:
		return b[start:], nil
	case dataZstd:
		return j.zstd.DecodeAll(b[start:], nil)
	default:
		return nil, fmt.Errorf("the data at %d is compressed in a way that is not known (%d)", at, b[1])
	}
}
