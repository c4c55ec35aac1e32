package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds a decoder's memory. Our encoder uses 8 MiB.
const maxWindow = 32 << 20

// content decodes a blob and checks it.
type content struct {
	blob   Blob
	r      io.Reader
	hash   hash.Hash
	left   int64
	failed error
	close  func() error
}

func newContent(stored io.ReadCloser, b Blob) (*content, error) {
	c := &content{blob: b, r: stored, hash: sha256.New(), left: b.Size, close: stored.Close}
	if b.Encoding == Zstd {
		d, err := decoder(stored)
		if err != nil {
			return nil, err
		}
		c.r, c.close = d, func() error { d.Close(); return stored.Close() }
	}
	return c, nil
}

func decoder(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
}

// Read hands out the last bytes only once the digest is right, so that a reader who counts bytes and never waits for
// io.EOF is safe too.
func (c *content) Read(p []byte) (n int, err error) {
	if c.failed != nil {
		return 0, c.failed
	}
	if len(p) == 0 {
		return 0, nil
	}
	if c.left > 0 {
		n, err = c.r.Read(p[:min(int64(len(p)), c.left)])
		c.left -= int64(n)
		_, _ = c.hash.Write(p[:n]) // a hash never fails
	}
	switch {
	case err != nil && err != io.EOF:
		c.failed = c.damaged("%w", err)
	case c.left == 0:
		if c.failed = c.finish(); c.failed == nil {
			c.failed = io.EOF
			if n > 0 {
				return n, nil
			}
		}
	case err == io.EOF:
		c.failed = c.damaged("it ends %d bytes before its end", c.left)
	default:
		return n, nil
	}
	return 0, c.failed
}

// finish makes sure that nothing follows the last byte, and that the digest is right.
func (c *content) finish() error {
	var one [1]byte
	switch _, err := io.ReadFull(c.r, one[:]); {
	case err == nil:
		return c.damaged("it is longer than the %d bytes in the manifest", c.blob.Size)
	case err != io.EOF:
		return c.damaged("%w", err)
	}
	if got := "sha256:" + hex.EncodeToString(c.hash.Sum(nil)); got != c.blob.Digest {
		return c.damaged("its content is %s", got)
	}
	return nil
}

func (c *content) damaged(format string, args ...any) error {
	return fmt.Errorf("blob %s is damaged: %w; copy the bundle again", c.blob.Digest, fmt.Errorf(format, args...))
}

func (c *content) Close() error { return c.close() }
