package openstack

import (
	"fmt"
	"maps"
	"slices"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// planEnsure compares what is there with the inventory. It asks the cloud nothing.
func (j *job) planEnsure() ([]step, error) {
	if err := j.duplicates.err(); err != nil {
		return nil, err
	}
	out := slices.Clone(j.duplicates.steps)
	out = append(out, j.planLeftOver()...)
	if j.spec.LoadBalancer == nil {
		out = append(out, j.dropBalancer("the inventory asks for none any more", stageClean, stageClean)...)
	}
	adopt, err := j.planAdopt()
	if err != nil {
		return nil, err
	}
	nodes := j.made()
	if len(nodes) > 0 || j.spec.LoadBalancer != nil {
		for _, part := range []func([]*inventory.Node) ([]step, error){
			j.planNetwork, j.planSecurity, j.planServerGroups, j.planPorts, j.planVolumes, j.planServers, j.planFloating, j.planBalancer,
		} {
			steps, err := part(nodes)
			if err != nil {
				return nil, err
			}
			out = append(out, steps...)
		}
	}
	if p := j.ports[j.names.part(partVIP)]; p != nil && j.reserved() == "" {
		if err := j.unseen(); err != nil {
			return nil, err
		}
		out = append(out, step{at: stageCleanParts, change: remove("port", p.Name, "the inventory asks for no address that it would keep"), do: j.deletePort(p.ID)})
	}
	return append(out, adopt...), nil
}

// planLeftOver are parts of machines that a run began to make and that nobody wants any more: there is no server, and the inventory
// has no present node of that name.
func (j *job) planLeftOver() []step {
	var out []step
	for _, name := range j.parts() {
		if n := j.node(name); j.servers[name] == nil && (n == nil || n.State == inventory.Absent || j.machine(n).Server != "") {
			out = append(out, j.dropParts(name, stageClean, "no server and no present node of the inventory uses it")...)
		}
	}
	return append(out, j.idleGroups(nil, stageCleanParts)...)
}

// parts are the names of all nodes that something was made for, in order.
func (j *job) parts() []string {
	all := map[string]bool{}
	for _, m := range []func(func(string)){
		func(f func(string)) { each(j.ports, f) }, func(f func(string)) { each(j.volumes, f) },
	} {
		m(func(name string) {
			if node, ok := j.names.nodeOf(name); ok {
				all[node] = true
			}
		})
	}
	for node := range j.floating {
		if node != balancerNode {
			all[node] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func each[T any](m map[string]*T, f func(string)) {
	for name := range m {
		f(name)
	}
}

// dropParts are what belongs to a machine beside its server.
func (j *job) dropParts(node string, at stage, reason string) []step {
	when := func(s stage) stage {
		if at == stageClean {
			return at
		}
		return s
	}
	var out []step
	if f := j.floating[node]; f != nil {
		out = append(out, step{at: when(stageDropFloating), node: node, change: remove("floating-ip", node, reason), do: j.deleteFloating(f.ID)})
	}
	if v := j.volumes[j.names.node(node)]; v != nil {
		out = append(out, step{
			at: when(stageDropVolumes), node: node, change: remove("volume", v.Name, reason),
			do: j.deleteVolume(v.ID), ready: volumeGone(v.ID),
		})
	}
	if p := j.ports[j.names.node(node)]; p != nil {
		out = append(out, step{at: when(stageDropPorts), node: node, change: remove("port", p.Name, reason), do: j.deletePort(p.ID)})
	}
	return out
}

func remove(kind, name, reason string) provider.Change {
	return provider.Change{Verb: provider.Delete, Kind: kind, Name: name, Reason: reason}
}

func add(kind, name, format string, args ...any) provider.Change {
	return provider.Change{Verb: provider.Create, Kind: kind, Name: name, Reason: fmt.Sprintf(format, args...)}
}

func mend(kind, name, format string, args ...any) provider.Change {
	return provider.Change{Verb: provider.Update, Kind: kind, Name: name, Reason: fmt.Sprintf(format, args...)}
}
