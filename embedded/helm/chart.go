// Package helm is the only place that knows the Helm SDK: it loads charts, checks values, renders, pulls from
// registries, and installs. Everything it takes and gives is its own, so that another major version of Helm is a change
// to this folder alone.
package helm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sort"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
)

// File is one file of a chart, its name relative to the chart's folder with forward slashes.
type File struct {
	Name string
	Data []byte
}

// Chart is a chart's files, checked to be a chart. It is read-only and safe for concurrent use: Helm changes the
// charts it works on, so each use parses the files again.
type Chart struct {
	files         []File // sorted by name
	name, version string
	description   string
}

// LoadFiles makes a chart of files that are in memory.
func LoadFiles(files []File) (*Chart, error) {
	c := &Chart{files: append([]File(nil), files...)}
	sort.Slice(c.files, func(i, j int) bool { return c.files[i].Name < c.files[j].Name })
	parsed, err := c.parse()
	if err != nil {
		return nil, err
	}
	if err := parsed.Validate(); err != nil {
		return nil, err
	}
	if parsed.Metadata.Type == "library" {
		return nil, fmt.Errorf("%s is a library chart, which can not be installed", parsed.Name())
	}
	if err := action.CheckDependencies(parsed, parsed.Metadata.Dependencies); err != nil {
		return nil, fmt.Errorf("%w; run `helm dependency update` in its folder", err)
	}
	c.name, c.version, c.description = parsed.Name(), parsed.Metadata.Version, parsed.Metadata.Description
	return c, nil
}

// LoadDir reads a chart's folder; .helmignore is honoured.
func LoadDir(dir string) (*Chart, error) {
	parsed, err := loader.LoadDir(dir)
	if err != nil {
		return nil, err
	}
	return fromRaw(parsed)
}

// LoadArchive reads a packaged chart (.tgz).
func LoadArchive(data []byte) (*Chart, error) {
	parsed, err := loader.LoadArchive(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return fromRaw(parsed)
}

func fromRaw(parsed *chart.Chart) (*Chart, error) {
	files := make([]File, 0, len(parsed.Raw))
	for _, f := range parsed.Raw {
		files = append(files, File{f.Name, f.Data})
	}
	return LoadFiles(files)
}

// Name is the chart's own name.
func (c *Chart) Name() string { return c.name }

// Version is the chart's version.
func (c *Chart) Version() string { return c.version }

// Description is what Chart.yaml says.
func (c *Chart) Description() string { return c.description }

// Digest is the sha256 (hex) of the names and contents of all files; a folder and its archive have the same.
func (c *Chart) Digest() string {
	h := sha256.New()
	for _, f := range c.files {
		sum := sha256.Sum256(f.Data)
		_, _ = fmt.Fprintf(h, "%s\x00%x\n", f.Name, sum) // a hash never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}

// File returns one file's content.
func (c *Chart) File(name string) ([]byte, bool) {
	i := sort.Search(len(c.files), func(i int) bool { return c.files[i].Name >= name })
	if i < len(c.files) && c.files[i].Name == name {
		return c.files[i].Data, true
	}
	return nil, false
}

func (c *Chart) parse() (*chart.Chart, error) {
	files := make([]*loader.BufferedFile, 0, len(c.files))
	for _, f := range c.files {
		files = append(files, &loader.BufferedFile{Name: f.Name, Data: f.Data})
	}
	parsed, err := loader.LoadFiles(files)
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the chart is cut off")
	}
	return parsed, err
}
