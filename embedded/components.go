package embedded

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/catamaran-k8s/catamaran/embedded/helm"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// part says what a component belongs to.
type part int

const (
	// foundation: a cluster needs it, whatever runs there.
	foundation part = iota
	// platform: it follows platform.enabled, unless components.NAME.enabled says otherwise.
	platform
	// optional: off unless components.NAME.enabled says otherwise.
	optional
)

// component is one embedded chart: where it goes, when, and what the inventory decides about it.
type component struct {
	name, namespace string
	part            part
	// clusters are those that it can be installed on; nil: both.
	clusters    []inventory.ClusterName
	podSecurity string
	order       int
	timeout     time.Duration
	// fallback is whether it is on when the inventory does not say; of the platform only while platform.enabled is true.
	// decidedBy names the inventory field that switches it instead of components.NAME.enabled.
	fallback  bool
	decidedBy string
	// provider names the provider (inventory.Provider.Name) of the clusters that it is on when the inventory does not say.
	provider string
	// unless says that the inventory makes it needless; components.NAME.enabled goes before it. nil: never.
	unless func(*inventory.Inventory) bool
	// everyNode: it gets ready only when every node of the inventory is.
	everyNode bool
	// after names a component of the service cluster that must be installed before this one, which is in the other cluster;
	// within a cluster order says it.
	after string
	on    func(*inventory.Cluster) bool // for decidedBy
	// values are what the inventory says elsewhere; components.NAME.values can not override these keys. All but the foundation
	// get size beside them.
	values func(*inventory.Inventory, *inventory.Cluster) map[string]any
	// secrets are made in its namespace before it is installed; nil: none.
	secrets func(*inventory.Inventory, *inventory.Cluster) []Secret
	// requires says what the inventory lacks for it to work on the cluster; nil: nothing ever. It is asked only where the
	// component is on.
	requires func(*inventory.Inventory, *inventory.Cluster) []missing
}

// missing is something that a component needs and the inventory does not give.
type missing struct {
	field string // where it would stand; empty: components.NAME
	what  string // completes "NAME needs ..."
	hint  string // what to do
}

// components are all embedded charts, in the order of installation.
func components() []component {
	all := slices.Concat(foundationComponents(), cloudComponents(), metricsComponents(), logsComponents(), securityComponents(), optionalComponents())
	slices.SortStableFunc(all, func(a, b component) int { return cmp.Compare(a.order, b.order) })
	return all
}

// foundationComponents are what a cluster needs whatever runs there.
func foundationComponents() []component {
	return []component{
		{
			name: "flannel", namespace: "kube-flannel", podSecurity: "privileged", order: 0, timeout: 5 * time.Minute,
			decidedBy: "network.cni", on: func(c *inventory.Cluster) bool { return c.Network.CNI == inventory.CNIFlannel },
			values: func(_ *inventory.Inventory, c *inventory.Cluster) map[string]any {
				return map[string]any{
					"podCIDR":   c.Network.PodCIDR,
					"nftables":  c.Network.ProxyMode == "nftables",
					"apiServer": map[string]any{"host": c.Endpoint.Address, "port": c.Endpoint.Port},
				}
			},
		},
		{
			name: "network-policies", namespace: "network-policies", podSecurity: "privileged", order: 5, timeout: 5 * time.Minute,
			decidedBy: "network.networkPolicy",
			on:        func(c *inventory.Cluster) bool { return c.Network.NetworkPolicy != nil && *c.Network.NetworkPolicy },
			values:    nothing,
		},
		{
			name: localPath, namespace: "local-path-storage", podSecurity: "privileged", order: 20, timeout: 5 * time.Minute,
			fallback: true, values: nothing,
		},
		{
			name: "metrics-server", namespace: "metrics-server", podSecurity: "restricted", order: 20, timeout: 5 * time.Minute,
			fallback: true, values: nothing,
		},
		{
			name: "smoke", namespace: "smoke", podSecurity: "restricted", order: 20, timeout: 5 * time.Minute, everyNode: true,
			values: func(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
				return map[string]any{"nodes": len(c.PresentNodes()), "dnsDomain": c.Network.DNSDomain, "storageClass": storageClass(inv)}
			},
		},
	}
}

func nothing(*inventory.Inventory, *inventory.Cluster) map[string]any { return map[string]any{} }

// localPath is the component that makes volumes of nodes' folders.
const localPath = "local-path"

// storageClass is that of the volumes that we bring; empty where the site brings its own, whose default is used then.
func storageClass(inv *inventory.Inventory) string {
	// not by componentNamed: the table asks for it while it is made
	if given := inv.Components[localPath].Enabled; given != nil && !*given {
		return ""
	}
	return localPath
}

func componentNamed(name string) (component, bool) {
	all := components()
	i := slices.IndexFunc(all, func(c component) bool { return c.name == name })
	if i < 0 {
		return component{}, false
	}
	return all[i], true
}

// fits says whether the component can be installed on a cluster of the inventory.
func (c component) fits(inv *inventory.Inventory, spec *inventory.Cluster) bool {
	return c.clusters == nil || slices.ContainsFunc(c.clusters, func(n inventory.ClusterName) bool { return inv.Cluster(n) == spec })
}

// enabled says whether the inventory wants the component on the cluster.
func (c component) enabled(inv *inventory.Inventory, spec *inventory.Cluster) bool {
	if !c.fits(inv, spec) {
		return false
	}
	if c.decidedBy != "" {
		return c.on(spec)
	}
	if given := inv.Components[c.name].Enabled; given != nil {
		return *given
	}
	if c.unless != nil && c.unless(inv) {
		return false
	}
	if c.provider != "" {
		return spec.Provider.Name() == c.provider
	}
	return c.fallback && (c.part == foundation || inv.Platform.On())
}

// decided are the values that follow from other parts of the inventory.
func (c component) decided(inv *inventory.Inventory, spec *inventory.Cluster) map[string]any {
	values := c.values(inv, spec)
	if c.part != foundation {
		values["size"] = string(inv.Platform.Size)
	}
	return values
}

// release makes the component's release.
func (c component) release(inv *inventory.Inventory, name inventory.ClusterName) (Release, error) {
	spec := inv.Cluster(name)
	chart, err := embeddedChart(c.name)
	if err != nil {
		return Release{}, err
	}
	values := helm.Merge(inv.Components[c.name].Values, c.decided(inv, spec))
	r := Release{
		Cluster: name, Name: c.name, Namespace: c.namespace, Order: c.order, Timeout: c.timeout, EveryNode: c.everyNode,
		Chart: ChartSource{Embedded: c.name}, Values: values, PodSecurity: c.podSecurity, After: c.after, chart: chart,
		// no value of our charts is a secret
		public: values,
	}
	if c.secrets != nil {
		r.Secrets = c.secrets(inv, spec)
	}
	if name == inventory.Workload {
		for _, s := range r.Secrets {
			if err := checkSeparation(inv, s); err != nil {
				return r, err
			}
		}
	}
	return r, r.finish(spec.VersionOr(inv))
}

// checkComponents finds names that are no component's, settings that the inventory makes elsewhere, and what components
// that are on need and do not find.
func checkComponents(inv *inventory.Inventory) inventory.Errors {
	var errs inventory.Errors
	fail := func(field, hint, format string, args ...any) {
		errs = append(errs, inv.Errorf(field, hint, format, args...))
	}
	for _, name := range slices.Sorted(maps.Keys(inv.Components)) {
		field := "components." + name
		c, ok := componentNamed(name)
		if !ok {
			hint := "there are " + strings.Join(componentNames(), ", ")
			if near := helm.Nearest(name, componentNames()); near != "" {
				hint = "did you mean " + near + "?"
			}
			fail(field, hint, "there is no such component")
			continue
		}
		given := inv.Components[name]
		if given.Enabled != nil && c.decidedBy != "" {
			fail(field+".enabled", "set it there", "clusters.NAME.%s decides whether %s is installed", c.decidedBy, name)
		}
		if given.Enabled != nil && *given.Enabled && len(c.here(inv)) == 0 {
			fail(field+".enabled", "leave it out, or add that cluster", "%s is for the %s cluster, which this inventory does not have", name, c.clusters[0])
		}
		for _, k := range c.owned(inv) {
			if _, twice := given.Values[k]; twice {
				fail(field+".values."+k, "leave it out", "it follows from other parts of the inventory (`catamaran charts values %s` says which)", name)
			}
		}
	}
	for _, c := range components() {
		for _, name := range c.here(inv) {
			if spec := inv.Cluster(name); c.requires != nil && c.enabled(inv, spec) {
				for _, m := range c.requires(inv, spec) {
					field := m.field
					if field == "" {
						field = "components." + c.name
					}
					fail(field, m.hint, "%s on the %s cluster needs %s", c.name, name, m.what)
				}
			}
		}
	}
	return errs
}

// here are the inventory's clusters that the component can be installed on.
func (c component) here(inv *inventory.Inventory) []inventory.ClusterName {
	var out []inventory.ClusterName
	for _, name := range inv.ClusterNames() {
		if c.fits(inv, inv.Cluster(name)) {
			out = append(out, name)
		}
	}
	return out
}

// owned are the values that the inventory decides elsewhere, sorted; they are the same for both clusters.
func (c component) owned(inv *inventory.Inventory) []string {
	clusters := c.here(inv)
	if len(clusters) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(c.decided(inv, inv.Cluster(clusters[0]))))
}

func componentNames() []string {
	var names []string
	for _, c := range components() {
		names = append(names, c.name)
	}
	return names
}

// Validate checks everything that the inventory says about components, without a cluster: their names and, against
// the charts' strict schemas, their values. The error is inventory.Errors with all that is wrong. The site's own
// releases are not looked at, since their charts may have to be pulled.
func Validate(inv *inventory.Inventory) error {
	errs := checkComponents(inv)
	for _, comp := range components() {
		for _, name := range comp.here(inv) {
			// a component that is off is checked too: it will be switched on one day
			_, err := comp.release(inv, name)
			if err == nil {
				continue
			}
			for _, e := range fieldErrors(inv, "components."+comp.name+".values", err) {
				if !slices.Contains(errs, e) {
					errs = append(errs, e)
				}
			}
		}
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
}

// fieldErrors puts what is wrong with values below the inventory field that holds them.
func fieldErrors(inv *inventory.Inventory, field string, err error) inventory.Errors {
	var refused *helm.ValuesError
	if !errors.As(err, &refused) {
		return inventory.Errors{inv.Errorf(field, "", "%s", err)}
	}
	var errs inventory.Errors
	for _, p := range refused.Problems {
		errs = append(errs, inv.Errorf(strings.TrimSuffix(field+"."+p.Path, "."), "", "%s", p.Message))
	}
	return errs
}

// Component describes an embedded chart for documentation.
type Component struct {
	Name, Version, Description string
	Namespace, PodSecurity     string
	Order                      int
	// Platform says that it is a part of the compliance platform, which platform.enabled switches as a whole.
	Platform bool
	// Default is whether it is installed when the inventory does not say; of the platform only while that is on. DecidedBy names the field below clusters.NAME that
	// decides instead.
	Default   bool
	DecidedBy string
	// Provider names the provider whose clusters it is on when the inventory does not say.
	Provider string
	// Clusters are those that it can be installed on.
	Clusters []inventory.ClusterName
}

// Components lists the embedded charts in the order of installation.
func Components() ([]Component, error) {
	var out []Component
	for _, c := range components() {
		chart, err := embeddedChart(c.name)
		if err != nil {
			return nil, err
		}
		clusters := c.clusters
		if clusters == nil {
			clusters = []inventory.ClusterName{inventory.Service, inventory.Workload}
		}
		out = append(out, Component{
			Name: c.name, Version: chart.Version(), Description: chart.Description(), Namespace: c.namespace, PodSecurity: c.podSecurity,
			Order: c.order, Platform: c.part == platform, Default: c.fallback, DecidedBy: c.decidedBy, Provider: c.provider, Clusters: clusters,
		})
	}
	return out, nil
}
