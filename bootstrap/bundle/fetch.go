package bundle

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sync/singleflight"
)

// maxSums bounds a published list of digests, in bytes.
const maxSums = 1 << 20

// fetcher brings files into a cache folder, named by their digest. What was fetched once is not fetched again.
type fetcher struct {
	client  *http.Client
	cache   string
	mirrors Mirrors
	flights singleflight.Group
}

// errDigest is content that is not what was asked for.
var errDigest = errors.New("wrong digest")

// get returns the path of a file with this sha256 (64 hexadecimal digits). Several callers share one download.
func (f *fetcher) get(ctx context.Context, at, sum string) (string, error) {
	v, err, _ := f.flights.Do(sum, func() (any, error) {
		done := filepath.Join(f.cache, sum)
		if got, err := hashFile(done); err == nil && got == sum {
			return done, nil
		}
		if err := os.MkdirAll(f.cache, 0o755); err != nil {
			return "", err
		}
		err := f.download(ctx, at, sum, done)
		if errors.Is(err, errResumedWrong) {
			err = f.download(ctx, at, sum, done) // what an earlier run had left was of another file
		}
		return done, err
	})
	if err != nil {
		return "", err
	}
	return v.(string), nil
}

// errResumedWrong is a wrong digest after going on with what an earlier run had left.
var errResumedWrong = fmt.Errorf("%w of a resumed download", errDigest)

// download appends to the part that is there, checks the whole and puts it in place.
func (f *fetcher) download(ctx context.Context, at, sum, done string) error {
	part, err := os.OpenFile(done+".part", os.O_RDWR|os.O_CREATE, 0o644) //nolint:gosec // public files
	if err != nil {
		return err
	}
	err = f.fill(ctx, at, sum, part)
	if err == nil {
		err = part.Sync()
	}
	if err == nil {
		err = os.Rename(part.Name(), done)
	}
	if errors.Is(err, errDigest) {
		err = errors.Join(err, os.Remove(part.Name()))
	}
	return errors.Join(err, part.Close())
}

func (f *fetcher) fill(ctx context.Context, at, sum string, part *os.File) error {
	if err := syscall.Flock(int(part.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another build is downloading %s: wait for it, or use another --cache", at)
	}
	hash := &tally{w: io.Discard, hash: sha256.New()}
	if _, err := io.Copy(hash, part); err != nil {
		return err
	}
	had := hash.n
	res, err := f.ask(ctx, at, had)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // only read
	switch start, ok := rangeStart(res); {
	case res.StatusCode == http.StatusPartialContent && ok && start == had:
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable && had > 0:
		// nothing is left to send: the part is whole, or of another file
	case res.StatusCode == http.StatusOK:
		if _, err := part.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := part.Truncate(0); err != nil {
			return err
		}
		had, hash = 0, &tally{w: io.Discard, hash: sha256.New()}
	default:
		return fmt.Errorf("%s answered %s", at, res.Status)
	}
	if res.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		hash.w = part
		if _, err := io.Copy(hash, res.Body); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	if got := strings.TrimPrefix(hash.digest(), "sha256:"); got != sum {
		if had > 0 {
			return errResumedWrong
		}
		return fmt.Errorf("%s has sha256 %s, expected %s: %w", at, got, sum, errDigest)
	}
	return nil
}

// ask requests a file from an offset on.
func (f *fetcher) ask(ctx context.Context, at string, from int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.mirrors.file(at), nil)
	if err != nil {
		return nil, err
	}
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	return f.client.Do(req)
}

// sum asks for the digest that is published for a file: alone, or in a list as sha256sum writes it.
func (f *fetcher) sum(ctx context.Context, at, sums string) (string, error) {
	if sums == "" {
		sums = at + ".sha256"
	}
	res, err := f.ask(ctx, sums, 0)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxSums+1))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return "", fmt.Errorf("%s: %w", sums, err)
	}
	switch {
	case res.StatusCode != http.StatusOK:
		return "", fmt.Errorf("%s answered %s", sums, res.Status)
	case len(data) > maxSums:
		return "", fmt.Errorf("%s has more than %d bytes: it is no list of digests", sums, maxSums)
	}
	return findSum(data, path.Base(at), sums)
}

func findSum(list []byte, file, sums string) (string, error) {
	lines := bytes.Split(bytes.TrimSpace(list), []byte("\n"))
	for _, l := range lines {
		w := strings.Fields(string(l))
		if len(w) == 0 || !hexDigest.MatchString(strings.ToLower(w[0])) {
			continue
		}
		alone := len(w) == 1 && len(lines) == 1
		if alone || len(w) == 2 && path.Base(strings.TrimPrefix(w[1], "*")) == file {
			return strings.ToLower(w[0]), nil
		}
	}
	return "", fmt.Errorf("%s holds no sha256 of %s", sums, file)
}

// local is the path of a location on this machine.
func local(at string) (string, bool) {
	u, err := url.Parse(at)
	switch {
	case err != nil:
		return "", false
	case u.Scheme == "file":
		return u.Path, true
	case u.Scheme == "":
		return at, true
	}
	return "", false
}

func hashFile(file string) (string, error) {
	r, err := os.Open(file)
	if err != nil {
		return "", err
	}
	t := &tally{w: io.Discard, hash: sha256.New()}
	_, err = io.Copy(t, r)
	return strings.TrimPrefix(t.digest(), "sha256:"), errors.Join(err, r.Close())
}

// openMember opens a file, or a member of it if it is a tar archive.
func openMember(file, member string) (io.ReadCloser, error) {
	f, err := os.Open(file)
	if err != nil || member == "" {
		return f, err
	}
	m, err := findMember(f, member)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{m, f}, nil
}

func findMember(f io.Reader, member string) (io.Reader, error) {
	in := bufio.NewReaderSize(f, 256<<10)
	start, _ := in.Peek(4) // too short a file fails below
	var r io.Reader = in
	switch {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		r = z
	case packed(start):
		z, err := decoder(in)
		if err != nil {
			return nil, err
		}
		r = z
	}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		switch {
		case err == io.EOF:
			return nil, fmt.Errorf("the archive holds no file %s", member)
		case err != nil:
			return nil, fmt.Errorf("the archive can not be read: %w", err)
		}
		if h.Typeflag == tar.TypeReg && path.Clean("/"+h.Name) == path.Clean("/"+member) {
			return t, nil
		}
	}
}
