package vsphere

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts"
)

// Offsets of the addresses in the inventory: each control plane has a static one, workers ask DHCP.
var planes = map[inventory.ClusterName]struct {
	node   string
	pool   string
	offset int
}{
	inventory.Service:  {"sc-cp-1", "sc-w", 11},
	inventory.Workload: {"wc-cp-1", "wc-w", 31},
}

// writeInventory writes an inventory of two clusters on the vCenter, of one control plane and a pool of one worker each.
func writeInventory(ctx context.Context, l *hosts.Lab, s State, subnet netip.Prefix) error {
	base, err := l.Skeleton(ctx)
	if err != nil {
		return err
	}
	inv := map[string]any{}
	if err := yaml.Unmarshal(base, &inv); err != nil {
		return err
	}
	gateway := subnet.Masked().Addr().Next()
	clusters, ok := inv["clusters"].(map[string]any)
	if !ok {
		return fmt.Errorf("the lab's inventory has no clusters:\n%s", base)
	}
	for name, p := range planes {
		c, ok := clusters[string(name)].(map[string]any)
		if !ok {
			return fmt.Errorf("the lab's inventory has no %s cluster:\n%s", name, base)
		}
		c["provider"] = map[string]any{"vsphere": map[string]any{
			"datacenter": s.Datacenter, "caFile": s.CAFile,
			"machine": map[string]any{
				"template": s.Template, "cluster": s.Cluster, "datastore": s.Datastore, "network": s.Network, "cpus": 2, "memoryMiB": 2048, "diskGiB": 20,
			},
		}}
		c["nodes"] = []any{map[string]any{
			"name": p.node, "role": "control-plane", "address": at(subnet, p.offset).String(),
			"vsphere": map[string]any{"gateway": gateway.String(), "prefix": subnet.Bits()},
		}}
		c["pools"] = []any{map[string]any{"name": p.pool, "role": "worker", "count": 1}}
	}
	// the simulator has nothing for them to do, and the lab does not build them
	inv["components"] = map[string]any{
		"vsphere-cloud-controller-manager": map[string]any{"enabled": false}, "vsphere-csi": map[string]any{"enabled": false},
	}
	data, err := yaml.Marshal(inv)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.Inventory), 0o755); err != nil {
		return err
	}
	return os.WriteFile(s.Inventory, data, 0o644)
}

// at is the n-th address of a network.
func at(subnet netip.Prefix, n int) netip.Addr {
	b := subnet.Masked().Addr().As4()
	sum := int(b[2])<<8 + int(b[3]) + n
	b[2], b[3] = byte(sum>>8), byte(sum)
	return netip.AddrFrom4(b)
}

// newLeases gives out the second half of a network.
func newLeases(subnet netip.Prefix) leases {
	half := 1 << (31 - subnet.Bits())
	return leases{subnet: subnet, gateway: at(subnet, 1), first: at(subnet, half+1), last: at(subnet, 2*half-2), given: map[string]netip.Addr{}}
}
