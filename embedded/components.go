package embedded

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/catamaran-k8s/catamaran/embedded/helm"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// component is one embedded chart: where it goes, when, and what the inventory decides about it.
type component struct {
	name, namespace string
	podSecurity     string
	order           int
	timeout         time.Duration
	// fallback is whether it is on when the inventory does not say. decidedBy names the inventory field that switches it
	// instead of components.NAME.enabled.
	fallback  bool
	decidedBy string
	// everyNode: it gets ready only when every node of the inventory is.
	everyNode bool
	on        func(*inventory.Cluster) bool // for decidedBy
	// values are what the inventory says elsewhere; components.NAME.values can not override these keys.
	values func(*inventory.Inventory, *inventory.Cluster) map[string]any
}

// components are all embedded charts, in the order of installation.
func components() []component {
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
			name: "local-path", namespace: "local-path-storage", podSecurity: "privileged", order: 20, timeout: 5 * time.Minute,
			fallback: true, values: nothing,
		},
		{
			name: "metrics-server", namespace: "metrics-server", podSecurity: "restricted", order: 20, timeout: 5 * time.Minute,
			fallback: true, values: nothing,
		},
		{
			name: "smoke", namespace: "smoke", podSecurity: "restricted", order: 20, timeout: 5 * time.Minute, everyNode: true,
			values: func(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
				class := ""
				if storage, ok := componentNamed("local-path"); ok && storage.enabled(inv, c) {
					class = "local-path"
				}
				return map[string]any{"nodes": len(c.PresentNodes()), "dnsDomain": c.Network.DNSDomain, "storageClass": class}
			},
		},
	}
}

func nothing(*inventory.Inventory, *inventory.Cluster) map[string]any { return map[string]any{} }

func componentNamed(name string) (component, bool) {
	all := components()
	i := slices.IndexFunc(all, func(c component) bool { return c.name == name })
	if i < 0 {
		return component{}, false
	}
	return all[i], true
}

// enabled says whether the inventory wants the component on the cluster.
func (c component) enabled(inv *inventory.Inventory, spec *inventory.Cluster) bool {
	if c.decidedBy != "" {
		return c.on(spec)
	}
	if given := inv.Components[c.name].Enabled; given != nil {
		return *given
	}
	return c.fallback
}

// release makes the component's release.
func (c component) release(inv *inventory.Inventory, name inventory.ClusterName) (Release, error) {
	spec := inv.Cluster(name)
	chart, err := embeddedChart(c.name)
	if err != nil {
		return Release{}, err
	}
	values := helm.Merge(inv.Components[c.name].Values, c.values(inv, spec))
	r := Release{
		Cluster: name, Name: c.name, Namespace: c.namespace, Order: c.order, Timeout: c.timeout, EveryNode: c.everyNode,
		Chart: ChartSource{Embedded: c.name}, Values: values, PodSecurity: c.podSecurity, chart: chart,
		// no value of our charts is a secret
		public: values,
	}
	return r, r.finish(spec.VersionOr(inv))
}

// checkComponents finds names that are no component's and settings that the inventory makes elsewhere.
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
		for _, k := range c.owned(inv) {
			if _, twice := given.Values[k]; twice {
				fail(field+".values."+k, "leave it out", "it follows from other parts of the inventory (`catamaran charts values %s` says which)", name)
			}
		}
	}
	return errs
}

// owned are the values that the inventory decides elsewhere, sorted; they are the same for both clusters.
func (c component) owned(inv *inventory.Inventory) []string {
	clusters := inv.ClusterNames()
	if len(clusters) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(c.values(inv, inv.Cluster(clusters[0]))))
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
		for _, name := range inv.ClusterNames() {
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
	// Default is whether it is installed when the inventory does not say. DecidedBy names the field below clusters.NAME that
	// decides instead.
	Default   bool
	DecidedBy string
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
		out = append(out, Component{
			Name: c.name, Version: chart.Version(), Description: chart.Description(), Namespace: c.namespace, PodSecurity: c.podSecurity,
			Order: c.order, Default: c.fallback, DecidedBy: c.decidedBy,
			Clusters: []inventory.ClusterName{inventory.Service, inventory.Workload},
		})
	}
	return out, nil
}
