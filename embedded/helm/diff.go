package helm

import (
	"crypto/sha256"
	"fmt"
	"sort"
	"strings"

	"github.com/hexops/gotextdiff"
	"github.com/hexops/gotextdiff/myers"
	"github.com/hexops/gotextdiff/span"
	"helm.sh/helm/v3/pkg/releaseutil"
	"sigs.k8s.io/yaml"
)

// Diff compares two manifests object by object and returns a unified diff, empty when they mean the same. The content
// of Secrets shows as hashes only.
func Diff(before, after string) (string, error) {
	old, err := byObject(before)
	if err != nil {
		return "", err
	}
	now, err := byObject(after)
	if err != nil {
		return "", err
	}
	keys := map[string]bool{}
	for k := range old {
		keys[k] = true
	}
	for k := range now {
		keys[k] = true
	}
	sorted := make([]string, 0, len(keys))
	for k := range keys {
		sorted = append(sorted, k)
	}
	sort.Strings(sorted)
	var b strings.Builder
	for _, k := range sorted {
		if old[k] == now[k] {
			continue
		}
		from, to := k, k
		if old[k] == "" {
			from = "/dev/null"
		}
		if now[k] == "" {
			to = "/dev/null"
		}
		edits := myers.ComputeEdits(span.URIFromPath(k), old[k], now[k])
		fmt.Fprint(&b, gotextdiff.ToUnified(from, to, old[k], edits))
	}
	return b.String(), nil
}

// byObject maps kind/namespace/name to the object's YAML with sorted keys.
func byObject(manifest string) (map[string]string, error) {
	out := map[string]string{}
	for _, doc := range releaseutil.SplitManifests(manifest) {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(doc), &object); err != nil {
			return nil, fmt.Errorf("a manifest is no YAML: %w", err)
		}
		if len(object) == 0 {
			continue
		}
		kind, _ := object["kind"].(string)
		meta, _ := object["metadata"].(map[string]any)
		name, _ := meta["name"].(string)
		namespace, _ := meta["namespace"].(string)
		if kind == "Secret" {
			for _, field := range []string{"data", "stringData"} {
				content, _ := object[field].(map[string]any)
				for k, v := range content {
					content[k] = fmt.Sprintf("sha256:%.12x", sha256.Sum256(fmt.Append(nil, v)))
				}
			}
		}
		text, err := yaml.Marshal(object)
		if err != nil {
			return nil, err
		}
		key := strings.ToLower(kind) + "/" + name
		if namespace != "" {
			key = strings.ToLower(kind) + "/" + namespace + "/" + name
		}
		out[key] = string(text)
	}
	return out, nil
}
