package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strings"
)

// Limits of a manifest that is believed. They keep sums of sizes within int64 and memory within reason; a bundle of two
// clusters has about 100 blobs and 50 KiB of manifest.
const (
	maxManifest = 64 << 20 // bytes
	maxBlob     = 1 << 40  // bytes
)

var (
	digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	namePattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*$`)
	refPattern    = regexp.MustCompile(`^[a-zA-Z0-9][\x21-\x7e]*$`)
)

// encode is the one way a manifest is written.
func encode(m Manifest) ([]byte, error) {
	data, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// head is a manifest as it was read, with the digest of its bytes.
type head struct {
	Manifest
	digest string
}

// sumLine is what sha256sum prints of the manifest.
func (h head) sumLine() string {
	return strings.TrimPrefix(h.digest, "sha256:") + "  " + manifestName + "\n"
}

// decode reads a manifest strictly and checks it.
func decode(data []byte) (head, error) {
	var is struct{ APIVersion, Kind string }
	if err := json.Unmarshal(data, &is); err != nil {
		return head{}, fmt.Errorf("%s: %w", manifestName, err)
	}
	if is.APIVersion != APIVersion || is.Kind != Kind {
		return head{}, fmt.Errorf("%s is %q %q, this program reads %q %q", manifestName, is.APIVersion, is.Kind, APIVersion, Kind)
	}
	h := head{digest: digestOf(data)}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&h.Manifest); err != nil {
		return head{}, fmt.Errorf("%s: %w", manifestName, err)
	}
	if err := h.check(); err != nil {
		return head{}, fmt.Errorf("%s: %w", manifestName, err)
	}
	return h, nil
}

// check finds all contradictions that need no blob: forms, order, doubles, and that files and images on one side and
// blobs on the other refer to each other without a remainder.
func (m Manifest) check() error {
	c := checker{blobs: make(map[string]Blob, len(m.Blobs)), used: make(map[string]bool, len(m.Blobs))}
	for i, b := range m.Blobs {
		if i > 0 && m.Blobs[i-1].Digest >= b.Digest {
			c.fail("blob %s is not in its place, or is there twice", b.Digest)
		}
		c.blob(b)
		c.blobs[b.Digest] = b
	}
	c.files("file", m.Files)
	c.files("chart", m.Charts)
	for i, img := range m.Images {
		if i > 0 && m.Images[i-1].Ref >= img.Ref {
			c.fail("image %s is not in its place, or is there twice", img.Ref)
		}
		c.image(img)
	}
	for _, b := range m.Blobs {
		if !c.used[b.Digest] {
			c.fail("blob %s belongs to no file, image or chart", b.Digest)
		}
	}
	return errors.Join(c.problems...)
}

type checker struct {
	blobs    map[string]Blob
	used     map[string]bool
	problems []error
}

func (c *checker) fail(format string, args ...any) {
	c.problems = append(c.problems, fmt.Errorf(format, args...))
}

func (c *checker) blob(b Blob) {
	switch {
	case !digestPattern.MatchString(b.Digest) || !digestPattern.MatchString(b.Stored):
		c.fail("blob %q stored as %q: a digest is sha256: and 64 hexadecimal digits", b.Digest, b.Stored)
	case b.Size < 0 || b.StoredSize < 0 || b.Size > maxBlob || b.StoredSize > maxBlob:
		c.fail("blob %s: sizes %d and %d are impossible", b.Digest, b.Size, b.StoredSize)
	case b.Encoding == "" && (b.Stored != b.Digest || b.StoredSize != b.Size):
		c.fail("blob %s has no encoding, but is stored as %s", b.Digest, b.Stored)
	case b.Encoding != "" && b.Encoding != Zstd:
		c.fail("blob %s has the unknown encoding %q", b.Digest, b.Encoding)
	}
}

func (c *checker) files(what string, files []File) {
	for i, f := range files {
		if i > 0 && files[i-1].Name >= f.Name {
			c.fail("%s %s is not in its place, or is there twice", what, f.Name)
		}
		if !namePattern.MatchString(f.Name) {
			c.fail("%s %q: the name is not allowed", what, f.Name)
		}
		if f.Mode > 0o7777 {
			c.fail("%s %s: mode %o is impossible", what, f.Name, f.Mode)
		}
		b, ok := c.blobs[f.Digest]
		switch {
		case !ok:
			c.fail("%s %s: its blob %s is missing", what, f.Name, f.Digest)
		case b.Size != f.Size:
			c.fail("%s %s has %d bytes, its blob %d", what, f.Name, f.Size, b.Size)
		}
		c.used[f.Digest] = true
	}
}

func (c *checker) image(img Image) {
	if !refPattern.MatchString(img.Ref) {
		c.fail("image %q: the reference is not allowed", img.Ref)
	}
	if len(img.Blobs) < 2 || img.Blobs[0] != img.Digest {
		c.fail("image %s: its blobs must begin with its manifest %s and a configuration", img.Ref, img.Digest)
	}
	for _, d := range img.Blobs {
		if _, ok := c.blobs[d]; !ok {
			c.fail("image %s: its blob %s is missing", img.Ref, d)
		}
		c.used[d] = true
	}
}

// arrange brings a manifest into its one order.
func (m *Manifest) arrange() {
	byName := func(f []File) { sort.Slice(f, func(i, j int) bool { return f[i].Name < f[j].Name }) }
	byName(m.Files)
	byName(m.Charts)
	sort.Slice(m.Images, func(i, j int) bool { return m.Images[i].Ref < m.Images[j].Ref })
	sort.Slice(m.Blobs, func(i, j int) bool { return m.Blobs[i].Digest < m.Blobs[j].Digest })
}

// blobPath is where stored bytes lie, in the archive and in the folder.
func blobPath(stored string) string { return "blobs/sha256/" + strings.TrimPrefix(stored, "sha256:") }
