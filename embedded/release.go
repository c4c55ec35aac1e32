// Package embedded holds the charts we wrote (go:embed), the image lock, and the Helm installer. Everything about
// which release goes where with which values is a function of the inventory and of the charts that it names.
package embedded

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/catamaran-k8s/catamaran/embedded/helm"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// Release is one Helm release wanted on one cluster, ready to install. Releases makes them; an Installer installs no
// others.
type Release struct {
	Cluster   inventory.ClusterName
	Name      string
	Namespace string
	Order     int           // lower first; equal orders go in parallel
	Timeout   time.Duration // for readiness
	Chart     ChartSource
	// Values are what the chart's defaults are overridden with.
	Values map[string]any
	// PodSecurity is the level (privileged, baseline, restricted) that the namespace enforces; empty for the site's own
	// charts, whose new namespaces only warn.
	PodSecurity string
	// Digest is sha256 (hex) over chart content, values, name and namespace; LabelDigest of it is written as a label on the
	// release and compared by plan.
	Digest string
	// Version is the chart's version.
	Version string
	// Secrets must be in the namespace before the release is installed.
	Secrets []Secret
	// After names a release of the service cluster that must be installed before this one of the workload cluster.
	After string
	// EveryNode says that it gets ready only when every node of the cluster is: it is installed after them.
	EveryNode bool
	// Images are all the images that the rendered manifests use, sorted.
	Images []string

	chart *helm.Chart
	// public are the values that may be shown in logs and errors.
	public map[string]any
	// kubernetes is the version that Images was rendered for.
	kubernetes string
}

// ChartSource is either an embedded chart or one of the site's own.
type ChartSource struct {
	// Embedded is the folder under charts/; empty for the site's own.
	Embedded string
	// Path is a folder or an archive; OCI an oci:// reference.
	Path string
	OCI  string
}

// Releases returns all releases that the inventory wants on a cluster, ours and the site's own, by order and name. It
// reads the charts and values files that the inventory names, and nothing else but the registry of an OCI chart that
// was not pulled before (see cachedPull). What is wrong with the inventory comes back as inventory.Errors, all at once.
func Releases(ctx context.Context, inv *inventory.Inventory, c inventory.ClusterName) ([]Release, error) {
	spec := inv.Cluster(c)
	if spec == nil {
		return nil, fmt.Errorf("%s has no %s cluster", inv.Path, c)
	}
	errs := checkComponents(inv)
	var out []Release
	for _, comp := range components() {
		if !comp.enabled(inv, spec) {
			continue
		}
		r, err := comp.release(inv, c)
		if err != nil {
			errs = append(errs, fieldErrors(inv, "components."+comp.name+".values", err)...)
			continue
		}
		out = append(out, r)
	}
	for i := range inv.Releases {
		own := &inv.Releases[i]
		if own.Cluster != c {
			continue
		}
		field := fmt.Sprintf("releases[%d]", i)
		if slices.ContainsFunc(out, func(r Release) bool { return r.Name == own.Name && r.Namespace == own.Namespace }) {
			errs = append(errs, inv.Errorf(field+".name", "choose another name or namespace", "%s in %s is a release of catamaran's own", own.Name, own.Namespace))
			continue
		}
		r, err := ownRelease(ctx, inv, own)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			errs = append(errs, fieldErrors(inv, field, err)...)
			continue
		}
		out = append(out, r)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	slices.SortStableFunc(out, func(a, b Release) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Namespace, b.Namespace))
	})
	return out, nil
}

// Images returns all images that a cluster's releases use, sorted, each once.
func Images(ctx context.Context, inv *inventory.Inventory, c inventory.ClusterName) ([]string, error) {
	releases, err := Releases(ctx, inv, c)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range releases {
		out = append(out, r.Images...)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Manifest is what the release would install, rendered without a cluster: a YAML stream without hooks and CRDs.
func (r Release) Manifest() (string, error) {
	rendered, err := r.render(r.kubernetes, nil)
	return rendered.Manifest, err
}

func (r Release) render(kubernetes string, apis []string) (helm.Rendered, error) {
	if r.chart == nil {
		return helm.Rendered{}, fmt.Errorf("release %s was not made from an inventory: it has no chart", r.Name)
	}
	return r.chart.Render(helm.RenderOptions{
		Name: r.Name, Namespace: r.Namespace, KubeVersion: kubernetes, APIVersions: apis, Values: r.Values,
	})
}

// finish checks the values and fills in what follows from chart and values. The error is a *helm.ValuesError when
// the chart's schema refuses the values.
func (r *Release) finish(kubernetes string) error {
	if err := r.chart.CheckValues(r.Values); err != nil {
		return err
	}
	r.kubernetes, r.Version = kubernetes, r.chart.Version()
	rendered, err := r.render(kubernetes, nil)
	if err != nil {
		return err
	}
	r.Images = rendered.Images
	r.Digest, err = r.digest()
	return err
}

func (r *Release) digest() (string, error) {
	values, err := helm.Normal(r.Values)
	if err != nil {
		return "", err
	}
	// maps are written with sorted keys
	data, err := json.Marshal([]any{r.chart.Digest(), r.Name, r.Namespace, r.PodSecurity, values})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// labelDigestLength keeps 160 of the 256 bits: a label value holds 63 characters.
const labelDigestLength = 40

// LabelDigest is the part of a release's digest that fits into a label.
func LabelDigest(digest string) string {
	digest = strings.TrimPrefix(digest, "sha256:")
	return digest[:min(len(digest), labelDigestLength)]
}
