package embedded

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/catamaran-k8s/catamaran/embedded/helm"
)

// "all:", since plain embed leaves out _helpers.tpl.
//
//go:embed all:charts
var chartFiles embed.FS

// embeddedChart loads one of our charts.
func embeddedChart(name string) (*helm.Chart, error) {
	root := path.Join("charts", name)
	var files []helm.File
	err := fs.WalkDir(chartFiles, root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := chartFiles.ReadFile(p)
		if err != nil {
			return err
		}
		files = append(files, helm.File{Name: strings.TrimPrefix(p, root+"/"), Data: data})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("embedded chart %s: %w", name, err)
	}
	chart, err := helm.LoadFiles(files)
	if err != nil {
		return nil, fmt.Errorf("embedded chart %s: %w", name, err)
	}
	return chart, nil
}
