package helm

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"
	"sigs.k8s.io/yaml"
)

// ImagesAnnotation on any object names images (separated by commas) that its software starts by itself, so that no
// manifest shows them.
const ImagesAnnotation = "catamaran.dev/images"

// RenderOptions say what a chart is rendered for.
type RenderOptions struct {
	Name, Namespace string
	// KubeVersion is what templates see of the cluster, such as 1.37.2.
	KubeVersion string
	// APIVersions are API groups and kinds that templates find beside Kubernetes' own.
	APIVersions []string
	Values      map[string]any
}

// Rendered is a chart turned into manifests.
type Rendered struct {
	// Manifest is a YAML stream in the order of installation, without hooks and CRDs.
	Manifest string
	// Images are all images that the manifests and install or upgrade hooks use, sorted.
	Images []string
}

// Render turns the chart into manifests without a cluster: equal input gives equal output, unless a template asks for
// random numbers or the time. Values must have passed CheckValues.
func (c *Chart) Render(o RenderOptions) (Rendered, error) {
	parsed, err := c.parse()
	if err != nil {
		return Rendered{}, err
	}
	values, err := Normal(o.Values)
	if err != nil {
		return Rendered{}, err
	}
	version, err := chartutil.ParseKubeVersion(o.KubeVersion)
	if err != nil {
		return Rendered{}, fmt.Errorf("kubernetes version %q: %w", o.KubeVersion, err)
	}
	i := action.NewInstall(&action.Configuration{Log: func(string, ...any) {}})
	i.ClientOnly, i.DryRun, i.SkipCRDs, i.SkipSchemaValidation = true, true, true, true
	i.ReleaseName, i.Namespace = o.Name, o.Namespace
	i.KubeVersion, i.APIVersions = version, o.APIVersions
	rel, err := i.Run(parsed, values)
	if err != nil {
		return Rendered{}, err
	}
	r := Rendered{Manifest: rel.Manifest}
	streams := []string{rel.Manifest}
	for _, h := range rel.Hooks {
		if !slices.Equal(h.Events, []release.HookEvent{release.HookTest}) {
			streams = append(streams, h.Manifest)
		}
	}
	for _, crd := range parsed.CRDObjects() {
		streams = append(streams, string(crd.File.Data))
	}
	if r.Images, err = images(streams); err != nil {
		return Rendered{}, fmt.Errorf("a template of chart %s makes no YAML: %w", c.name, err)
	}
	return r, nil
}

func images(streams []string) ([]string, error) {
	found := map[string]bool{}
	for _, stream := range streams {
		for _, doc := range releaseutil.SplitManifests(stream) {
			var object map[string]any
			if err := yaml.Unmarshal([]byte(doc), &object); err != nil {
				return nil, err
			}
			collectImages(object, found)
		}
	}
	out := make([]string, 0, len(found))
	for image := range found {
		out = append(out, image)
	}
	sort.Strings(out)
	return out, nil
}

func collectImages(v any, found map[string]bool) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			collectImages(item, found)
		}
	case map[string]any:
		for key, item := range v {
			switch key {
			case "containers", "initContainers":
				list, _ := item.([]any)
				for _, entry := range list {
					container, _ := entry.(map[string]any)
					if image, ok := container["image"].(string); ok {
						found[image] = true
					}
				}
			case "annotations":
				annotations, _ := item.(map[string]any)
				if named, ok := annotations[ImagesAnnotation].(string); ok {
					for image := range strings.SplitSeq(named, ",") {
						found[strings.TrimSpace(image)] = true
					}
				}
			case "volumes":
				// an image volume is an image like any other
				list, _ := item.([]any)
				for _, entry := range list {
					volume, _ := entry.(map[string]any)
					source, _ := volume["image"].(map[string]any)
					if image, ok := source["reference"].(string); ok {
						found[image] = true
					}
				}
			default:
				collectImages(item, found)
			}
		}
	}
}
