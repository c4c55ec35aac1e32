package embedded

import (
	"slices"
	"time"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// trivy is the component that scans.
const trivy = "trivy"

// securityComponents are the charts that guard and scan.
func securityComponents() []component {
	return []component{
		{
			// no Secret of the vault's: Gatekeeper is its own authority for its webhook, in either cluster
			name: "gatekeeper", namespace: "gatekeeper-system", part: platform,
			podSecurity: "restricted", order: 30, timeout: 10 * time.Minute, fallback: true,
			values: func(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
				return map[string]any{"network": networkOf(inv, c)}
			},
		},
		{
			// a rule can be written once Gatekeeper has made its kind, so this is a release of its own
			name: "gatekeeper-policies", namespace: "gatekeeper-system", part: platform,
			podSecurity: "restricted", order: 31, timeout: 5 * time.Minute, fallback: true,
			values: func(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
				return map[string]any{
					"platformNamespaces": namespacesOf(inv, c, platform), "foundationNamespaces": namespacesOf(inv, c, foundation),
					"optionalNamespaces": namespacesOf(inv, c, optional),
				}
			},
			requires: needsGatekeeper,
		},
		{
			// privileged: it reads images from the nodes' containerd
			name: trivy, namespace: trivy, part: platform,
			podSecurity: "privileged", order: 44, timeout: 5 * time.Minute, fallback: true,
			values: func(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
				nodes := []any{}
				for _, n := range c.PresentNodes() {
					nodes = append(nodes, n.Name)
				}
				// the workload cluster's one way to a server would be the ingest gateway
				return map[string]any{"network": networkOf(inv, c), "nodeNames": nodes, "server": c == inv.Clusters.Service}
			},
			secrets: scanSecrets,
		},
	}
}

// scanSecrets are what the service cluster's nodes prove themselves to the Trivy server with, which is there once there is a
// database.
func scanSecrets(inv *inventory.Inventory, c *inventory.Cluster) []Secret {
	database, _ := inv.Components[trivy].Values["database"].(map[string]any)
	if c != inv.Clusters.Service || stringOf(database["image"]) == "" && stringOf(database["repository"]) == "" {
		return nil
	}
	return []Secret{{Namespace: trivy, Name: "trivy-server", Values: map[string]SecretValue{"token": {Password: "trivy-server"}}}}
}

// stringOf is what a value holds that the chart's schema wants to be text.
func stringOf(value any) string {
	text, _ := value.(string)
	return text
}

// namespacesOf are those of a part's components that are on the cluster, sorted.
func namespacesOf(inv *inventory.Inventory, c *inventory.Cluster, of part) []any {
	var names []string
	for _, other := range components() {
		if other.part == of && other.enabled(inv, c) {
			names = append(names, other.namespace)
		}
	}
	slices.Sort(names)
	out := []any{}
	for _, name := range slices.Compact(names) {
		out = append(out, name)
	}
	return out
}

func needsGatekeeper(inv *inventory.Inventory, c *inventory.Cluster) []missing {
	if g, ok := componentNamed("gatekeeper"); ok && g.enabled(inv, c) {
		return nil
	}
	return []missing{{what: "the component gatekeeper, which is off", hint: "switch it on, or this one off"}}
}
