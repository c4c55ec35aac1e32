package bundle

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"sigs.k8s.io/yaml"
)

// LockKind is the kind of a lock file.
const LockKind = "BundleLock"

// Lock pins what a build took, so that a later build of the same specification takes the same.
type Lock struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"`
	Arch       string        `json:"arch"` // GOARCH
	Files      []LockedFile  `json:"files,omitempty"`
	Images     []LockedImage `json:"images,omitempty"`

	mu sync.Mutex
}

// LockedFile pins a download.
type LockedFile struct {
	URL    string `json:"url"`    // upstream, without a member
	SHA256 string `json:"sha256"` // 64 hexadecimal digits
}

// LockedImage pins an image.
type LockedImage struct {
	Ref string `json:"ref"`
	// Digest is the manifest's of the one architecture.
	Digest string `json:"digest"`
	// Of is the digest that the specification asked for, if any: when that changes, the lock no longer holds.
	Of string `json:"of,omitempty"`
}

// ReadLock reads a lock file; one that does not exist pins nothing.
func ReadLock(path, arch string) (*Lock, error) {
	l := &Lock{}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return &Lock{APIVersion: APIVersion, Kind: LockKind, Arch: arch}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := yaml.UnmarshalStrict(data, l); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if l.APIVersion != APIVersion || l.Kind != LockKind {
		return nil, fmt.Errorf("%s is %q %q, expected apiVersion: %s and kind: %s", path, l.APIVersion, l.Kind, APIVersion, LockKind)
	}
	if l.Arch != arch {
		return nil, fmt.Errorf("%s is for %s, the bundle is for %s: use another --lock", path, l.Arch, arch)
	}
	for _, f := range l.Files {
		if !hexDigest.MatchString(f.SHA256) {
			return nil, fmt.Errorf("%s: %s: sha256 %q is not 64 hexadecimal digits", path, f.URL, f.SHA256)
		}
	}
	for _, i := range l.Images {
		if !digestPattern.MatchString(i.Digest) {
			return nil, fmt.Errorf("%s: %s: digest %q is not sha256: and 64 hexadecimal digits", path, i.Ref, i.Digest)
		}
	}
	return l, nil
}

// write puts the lock in place, sorted, so that its changes read well in a review.
func (l *Lock) write(path string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.SortFunc(l.Files, func(a, b LockedFile) int { return cmp.Compare(a.URL, b.URL) })
	slices.SortFunc(l.Images, func(a, b LockedImage) int { return cmp.Compare(a.Ref, b.Ref) })
	data, err := yaml.Marshal(l)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func (l *Lock) file(url string) (sum string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.Files {
		if f.URL == url {
			return f.SHA256, true
		}
	}
	return "", false
}

func (l *Lock) learnFile(url, sum string) {
	if _, ok := l.file(url); ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Files = append(l.Files, LockedFile{URL: url, SHA256: sum})
}

func (l *Lock) image(s ImageSource) (digest string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range l.Images {
		if i.Ref == s.Ref && i.Of == s.Digest {
			return i.Digest, true
		}
	}
	return "", false
}

func (l *Lock) learnImage(s ImageSource, digest string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Images = slices.DeleteFunc(l.Images, func(i LockedImage) bool { return i.Ref == s.Ref })
	l.Images = append(l.Images, LockedImage{Ref: s.Ref, Digest: digest, Of: s.Digest})
}
