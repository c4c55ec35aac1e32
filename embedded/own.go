package embedded

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/embedded/helm"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// ownRelease makes a release of the site's own chart. Values that its schema refuses come back with paths that begin
// with "values".
func ownRelease(ctx context.Context, inv *inventory.Inventory, own *inventory.Release) (Release, error) {
	chart, source, err := ownChart(ctx, inv, own)
	if err != nil {
		return Release{}, err
	}
	values, err := ownValues(own)
	if err != nil {
		return Release{}, err
	}
	r := Release{
		Cluster: own.Cluster, Name: own.Name, Namespace: own.Namespace, Order: own.Order, Timeout: time.Duration(own.Timeout),
		Chart: source, Values: values, chart: chart,
	}
	err = r.finish(inv.Cluster(own.Cluster).VersionOr(inv))
	var refused *helm.ValuesError
	if errors.As(err, &refused) {
		under := &helm.ValuesError{Chart: refused.Chart}
		for _, p := range refused.Problems {
			p.Path = strings.TrimSuffix("values."+p.Path, ".")
			under.Problems = append(under.Problems, p)
		}
		return r, under
	}
	if err != nil {
		// a template may quote the values that it can not work with
		return r, helm.NewRedactor(values).Error(err)
	}
	return r, nil
}

// ownValues merges values files, later over earlier, and the inventory's values over all.
func ownValues(own *inventory.Release) (map[string]any, error) {
	values := map[string]any{}
	for i, file := range own.ValuesFiles {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("valuesFiles[%d]: %w", i, err)
		}
		var v map[string]any
		if err := yaml.UnmarshalStrict(data, &v); err != nil {
			return nil, fmt.Errorf("valuesFiles[%d]: %s is not a mapping in YAML, or has a key twice", i, file)
		}
		values = helm.Merge(values, v)
	}
	return helm.Merge(values, own.Values), nil
}

func ownChart(ctx context.Context, inv *inventory.Inventory, own *inventory.Release) (*helm.Chart, ChartSource, error) {
	if strings.HasPrefix(own.Chart, "oci://") {
		source := ChartSource{OCI: own.Chart}
		data, err := cachedPull(ctx, inv, own)
		if err != nil {
			return nil, source, err
		}
		chart, err := helm.LoadArchive(data)
		if err != nil {
			return nil, source, fmt.Errorf("%s:%s: %w", own.Chart, own.Version, err)
		}
		return chart, source, nil
	}
	source := ChartSource{Path: own.Chart}
	st, err := os.Stat(own.Chart)
	if err != nil {
		return nil, source, fmt.Errorf("chart: %w", err)
	}
	var chart *helm.Chart
	if st.IsDir() {
		chart, err = helm.LoadDir(own.Chart)
	} else {
		var data []byte
		if data, err = os.ReadFile(own.Chart); err == nil {
			chart, err = helm.LoadArchive(data)
		}
	}
	if err != nil {
		return nil, source, fmt.Errorf("chart %s: %w", own.Chart, err)
	}
	return chart, source, nil
}

// cachedPull gets an OCI chart from the site folder, or else from its registry, and keeps it there: a second plan asks
// no registry, and a tag that moves installs nothing else. Removing the file pulls again.
func cachedPull(ctx context.Context, inv *inventory.Inventory, own *inventory.Release) ([]byte, error) {
	kept := cacheFile(inv, own)
	data, err := os.ReadFile(kept)
	if err == nil {
		return data, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	o := helm.PullOptions{Username: own.Username}
	if own.Password != nil {
		password, err := own.Password.Read(inv.Dir)
		if err != nil {
			return nil, fmt.Errorf("password: %w", err)
		}
		o.Password = string(password)
	}
	if data, err = helm.Pull(ctx, own.Chart, own.Version, o); err != nil {
		return nil, err
	}
	return data, keep(kept, data)
}

// cacheFile is named after chart and version for people, and after their hash so that two can not share it.
func cacheFile(inv *inventory.Inventory, own *inventory.Release) string {
	sum := sha256.Sum256([]byte(own.Chart + "\n" + own.Version))
	name := fmt.Sprintf("%s-%s-%s.tgz", filepath.Base(own.Chart), filepath.Base(own.Version), hex.EncodeToString(sum[:8]))
	return filepath.Join(inv.SiteDir(), "charts", name)
}

// keep writes a file so that it is there whole or not at all.
func keep(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".pulling-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error says what is wrong
	}
	return err
}
