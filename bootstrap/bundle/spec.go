package bundle

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"sigs.k8s.io/yaml"
)

// SpecificationKind is the kind of a Specification.
const SpecificationKind = "BundleSpecification"

// Upstream as a source's sha256 takes the digest that the publisher puts beside the file.
const Upstream = "upstream"

// Specification says what to build a bundle from. Default makes one; a site may write its own.
type Specification struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"`
	Kubernetes string        `json:"kubernetes"` // without "v"
	Arch       string        `json:"arch"`       // GOARCH
	Files      []Source      `json:"files"`
	Images     []ImageSource `json:"images"`
	// Charts are chart archives of the site's own.
	Charts  []Source `json:"charts,omitempty"`
	Mirrors Mirrors  `json:"mirrors,omitzero"`
}

// Source is where a file comes from.
type Source struct {
	Name    string `json:"name"`
	Version string `json:"version"` // without "v"
	// URL is https, http, file, or a path relative to the specification. "!" leads to a member of a tar archive
	// (plain, gzip or zstd): https://example.org/tools.tar.gz!bin/tool
	URL string `json:"url"`
	// SHA256 is of what URL (before "!") answers: 64 hexadecimal digits, or "upstream". Only local files may go without.
	SHA256 string `json:"sha256,omitempty"`
	// Sums is the URL of the list of digests for "upstream", as sha256sum writes it. Default: URL with .sha256 behind.
	Sums string `json:"sums,omitempty"`
}

// ImageSource is a container image.
type ImageSource struct {
	Ref string `json:"ref"`
	// Digest is of the image, or of the index that holds it. Empty: whatever Ref answers, pinned by the lock file.
	Digest string `json:"digest,omitempty"`
}

// Mirrors say where to ask instead. References, sources and the lock keep the upstream names.
type Mirrors struct {
	// Files maps the beginning of an upstream URL to that of the mirror's; the longest that fits is taken.
	Files map[string]string `json:"files,omitempty"`
	// Registries maps an upstream registry to host[:port][/prefix]. "*" stands for all others, and there the upstream
	// registry's name becomes the first part of the repository.
	Registries map[string]string `json:"registries,omitempty"`
}

// ReadSpecification reads a specification strictly. Relative paths inside begin at its folder.
func ReadSpecification(path string) (Specification, error) {
	var s Specification
	data, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	if err := yaml.UnmarshalStrict(data, &s); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	if err := s.Check(); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	for _, list := range [][]Source{s.Files, s.Charts} {
		for i := range list {
			if l, _ := list[i].location(); !strings.Contains(l, "://") && !filepath.IsAbs(l) {
				list[i].URL = filepath.Join(filepath.Dir(path), list[i].URL)
			}
		}
	}
	return s, nil
}

var (
	hexDigest      = regexp.MustCompile(`^[0-9a-f]{64}$`)
	versionPattern = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+$`)
)

// Check finds everything that is wrong without asking a server.
func (s Specification) Check() error {
	var problems []error
	fail := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if s.APIVersion != APIVersion || s.Kind != SpecificationKind {
		fail("it is %q %q, expected apiVersion: %s and kind: %s", s.APIVersion, s.Kind, APIVersion, SpecificationKind)
	}
	if !versionPattern.MatchString(s.Kubernetes) {
		fail("kubernetes: %q is not a version such as 1.37.2", s.Kubernetes)
	}
	if s.Arch != "amd64" && s.Arch != "arm64" {
		fail("arch: %q is neither amd64 nor arm64", s.Arch)
	}
	for _, list := range []struct {
		what    string
		sources []Source
	}{{"file", s.Files}, {"chart", s.Charts}} {
		seen := map[string]bool{}
		for _, src := range list.sources {
			if err := src.check(); err != nil {
				fail("%s %s: %w", list.what, src.Name, err)
			}
			if seen[src.Name] {
				fail("%s %s is there twice", list.what, src.Name)
			}
			seen[src.Name] = true
		}
	}
	seen := map[string]bool{}
	for _, img := range s.Images {
		if err := img.check(); err != nil {
			fail("image %s: %w", img.Ref, err)
		}
		if seen[img.Ref] {
			fail("image %s is there twice", img.Ref)
		}
		seen[img.Ref] = true
	}
	return errors.Join(append(problems, s.Mirrors.check())...)
}

func (s Source) check() error {
	switch {
	case !namePattern.MatchString(s.Name):
		return errors.New("the name is not allowed")
	case s.Version == "" || strings.HasPrefix(s.Version, "v"):
		return fmt.Errorf("version %q: expected one without v", s.Version)
	case s.SHA256 != "" && s.SHA256 != Upstream && !hexDigest.MatchString(s.SHA256):
		return fmt.Errorf("sha256 %q: expected 64 hexadecimal digits or %s", s.SHA256, Upstream)
	case s.Sums != "" && s.SHA256 != Upstream:
		return fmt.Errorf("sums is read only with sha256: %s", Upstream)
	}
	at, _ := s.location()
	u, err := url.Parse(at)
	if err != nil {
		return err
	}
	switch u.Scheme {
	case "https", "http":
		if u.User != nil {
			return errors.New("url holds a login, which would be kept in the bundle")
		}
		if u.Host == "" {
			return fmt.Errorf("url %s has no host", s.URL)
		}
		if s.SHA256 == "" {
			return fmt.Errorf("sha256 is missing: give the digest of %s, or %s", at, Upstream)
		}
	case "file", "":
		if u.Path == "" {
			return errors.New("url is missing")
		}
		if s.SHA256 == Upstream {
			return fmt.Errorf("sha256: %s needs a url that is https or http", Upstream)
		}
	default:
		return fmt.Errorf("url %s: expected https, http, file or a path", s.URL)
	}
	return nil
}

// location splits a URL from the member of the archive that it answers.
func (s Source) location() (at, member string) {
	at, member, _ = strings.Cut(s.URL, "!")
	return at, member
}

func (i ImageSource) check() error {
	if i.Digest != "" && !digestPattern.MatchString(i.Digest) {
		return fmt.Errorf("digest %q: expected sha256: and 64 hexadecimal digits", i.Digest)
	}
	if _, err := name.ParseReference(i.Ref, name.StrictValidation); err != nil {
		return fmt.Errorf("expected registry/repository:tag: %w", err)
	}
	return nil
}

func (m Mirrors) check() error {
	var problems []error
	for from, to := range m.Files {
		if u, err := url.Parse(to); err != nil || u.Host == "" && u.Scheme != "file" {
			problems = append(problems, fmt.Errorf("mirrors.files: %s: %q is not a URL", from, to))
		}
	}
	for from, to := range m.Registries {
		if _, err := name.NewRepository(to+"/x", name.StrictValidation); err != nil || strings.Contains(to, "://") {
			problems = append(problems, fmt.Errorf("mirrors.registries: %s: %q is not host[:port][/prefix]", from, to))
		}
	}
	return errors.Join(problems...)
}

// file is where to ask for an upstream URL.
func (m Mirrors) file(upstream string) string {
	best := ""
	for from := range m.Files {
		if strings.HasPrefix(upstream, from) && len(from) > len(best) {
			best = from
		}
	}
	return m.Files[best] + strings.TrimPrefix(upstream, best)
}

// repository is where to ask for an image's upstream repository.
func (m Mirrors) repository(upstream name.Repository, opts ...name.Option) (name.Repository, error) {
	registry := upstream.RegistryStr()
	if registry == name.DefaultRegistry {
		registry = "docker.io"
	}
	if to, ok := m.Registries[registry]; ok {
		return name.NewRepository(to+"/"+upstream.RepositoryStr(), opts...)
	}
	if to, ok := m.Registries["*"]; ok {
		return name.NewRepository(to+"/"+strings.ReplaceAll(registry, ":", "-")+"/"+upstream.RepositoryStr(), opts...)
	}
	return name.NewRepository(upstream.Name(), opts...)
}

// MirrorAll sends every download to a URL and every image to a host: https://dl.k8s.io/x is asked at URL/dl.k8s.io/x, and
// registry.k8s.io/x at host/registry.k8s.io/x. Either may be empty.
func MirrorAll(files, registry string) Mirrors {
	var m Mirrors
	if files != "" {
		m.Files = map[string]string{"https://": strings.TrimSuffix(files, "/") + "/"}
	}
	if registry != "" {
		m.Registries = map[string]string{"*": strings.TrimSuffix(registry, "/")}
	}
	return m
}
