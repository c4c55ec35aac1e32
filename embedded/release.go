// Package embedded holds the charts we wrote (go:embed), the image lock, and the Helm installer. Everything about
// which release goes where with which values is a pure function of the inventory.
package embedded

import (
	"time"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// Release is one Helm release wanted on one cluster, ready to install.
type Release struct {
	Cluster   inventory.ClusterName
	Name      string
	Namespace string
	Order     int           // lower first; equal orders go in parallel
	Timeout   time.Duration // for readiness
	Chart     ChartSource
	Values    map[string]any
	// Digest is sha256 over chart content and values; it is written as a label on the release and compared by plan.
	Digest string
	// Version is the chart's version.
	Version string
	// Images are all the images that the rendered manifests use.
	Images []string
}

// ChartSource is either an embedded chart or one of the site's own.
type ChartSource struct {
	// Embedded is the folder under charts/; empty for the site's own.
	Embedded string
	// Path is a folder or an archive; OCI an oci:// reference.
	Path string
	OCI  string
}
