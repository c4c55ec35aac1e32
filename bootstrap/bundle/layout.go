package bundle

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

const (
	manifestName = "bundle.json"
	// sumName holds the manifest's digest as sha256sum writes it. With it no byte of a bundle is without a check.
	sumName = "bundle.json.sha256"

	block   = 512
	trailer = 2 * block // zeros that end a tar archive
)

// entry is one member of the archive. Everything about it follows from the manifest, and so do the offsets.
type entry struct {
	name   string
	header []byte
	at     int64 // of the header, in bytes
	size   int64
}

func (e entry) data() int64 { return e.at + int64(len(e.header)) }
func (e entry) end() int64  { return e.data() + padded(e.size) }

// layout lists the archive's members in order, and its whole size. The archive of a manifest has only this one form, so
// that two builds are equal byte by byte, and a reader needs no walk.
func layout(manifest []byte, blobs []Blob) (entries []entry, total int64, err error) {
	add := func(name string, size int64) error {
		h, err := header(name, size)
		if err != nil {
			return err
		}
		e := entry{name: name, header: h, at: total, size: size}
		entries, total = append(entries, e), e.end()
		return nil
	}
	if err := add(manifestName, int64(len(manifest))); err != nil {
		return nil, 0, err
	}
	if err := add(sumName, int64(len(head{digest: digestOf(manifest)}.sumLine()))); err != nil {
		return nil, 0, err
	}
	for _, b := range storedOnce(blobs) {
		if err := add(blobPath(b.Stored), b.StoredSize); err != nil {
			return nil, 0, err
		}
	}
	return entries, total + trailer, nil
}

// storedOnce leaves out what is stored already: the encoded form of one blob can be another blob.
func storedOnce(blobs []Blob) []Blob {
	seen := make(map[string]bool, len(blobs))
	out := make([]Blob, 0, len(blobs))
	for _, b := range blobs {
		if !seen[b.Stored] {
			seen[b.Stored] = true
			out = append(out, b)
		}
	}
	return out
}

// header is the tar header of a member: the same owner, mode and time for all.
func header(name string, size int64) ([]byte, error) {
	var b bytes.Buffer
	err := tar.NewWriter(&b).WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0),
	})
	if err != nil {
		return nil, fmt.Errorf("tar header of %s: %w", name, err)
	}
	return b.Bytes(), nil
}

func padded(size int64) int64 { return (size + block - 1) / block * block }

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}
