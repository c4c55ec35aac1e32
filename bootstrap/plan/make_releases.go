package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// kubeconfigRenewal is how long before its end an operator's kubeconfig is made anew.
const kubeconfigRenewal = 30 * 24 * time.Hour

// releases plans the Helm releases of a cluster, lower orders first, equal orders in parallel, and between them the wait
// for its nodes: they get ready when the network plugin is there, and some releases only when all nodes are.
func (m *maker) releases(v *view) {
	forming := !v.formed() && m.ids[id(v, v.lead().Name, "init")]
	if !forming && !v.answered {
		return
	}
	network := func(r embedded.Release) bool { return r.Chart.Embedded == string(v.spec.Network.CNI) }
	for _, r := range m.in.Releases[v.name] {
		if network(r) {
			m.release(v, r, nil)
		}
	}
	ready := m.ready(v)
	ground := m.restarts(v)
	if !forming {
		// the scheduler may choose any node of a cluster that stands, and a pod whose image is not there yet backs off for minutes
		for _, n := range v.spec.PresentNodes() {
			ground = append(ground, id(v, n.Name, "images"))
		}
	}
	// nobody else waits for the network plugin: pods wait for the network of their own node, not of every node
	others := slices.DeleteFunc(slices.Clone(m.in.Releases[v.name]), network)
	slices.SortStableFunc(others, func(a, b embedded.Release) int { return cmp.Compare(a.Order, b.Order) })
	done := ground
	var current []string
	order := -1 << 31
	for _, r := range others {
		if r.Order != order {
			done, current, order = append(done, current...), nil, r.Order
		}
		needs := done
		if r.EveryNode {
			needs = append(done[:len(done):len(done)], ready...)
		}
		current = append(current, m.release(v, r, needs)...)
	}
}

// restarts are the steps that restart API servers: nothing can be asked of the only one meanwhile.
func (m *maker) restarts(v *view) []string {
	var steps []string
	for _, n := range v.spec.ControlPlanes() {
		steps = append(steps, id(v, n.Name, "reconfigure"), id(v, n.Name, "api-server"))
	}
	return steps
}

// release plans one release, and before it the Secrets that it mounts, unless that is done already; it returns the steps
// that what comes later waits for.
func (m *maker) release(v *view, r embedded.Release, needs []string) []string {
	step := id(v, "release", r.Name)
	if r.Chart.Embedded == "" {
		// a site's own may be named as one of ours, or as another of its own, in another namespace
		step = id(v, "release", r.Namespace, r.Name)
	}
	if m.ids[step] {
		return []string{step}
	}
	reason, same := releaseReason(v, r)
	secrets := m.secrets(v, r, !same)
	if same {
		return secrets
	}
	needs = slices.Concat([]string{id(v, v.lead().Name, "init")}, needs, secrets)
	if r.Chart.Embedded == kubeadm.Gatekeeper {
		// what the new revision may do to its webhook is said by the rules that API servers read from files
		for _, n := range v.spec.ControlPlanes() {
			needs = append(needs, id(v, n.Name, "prepare"))
		}
	}
	if r.After != "" {
		// the only steps of one cluster that wait for the other
		needs = append(needs, fmt.Sprintf("%s/release/%s", inventory.Service, r.After))
	}
	return []string{m.add(Step{
		ID: step, Cluster: v.name,
		Title:  fmt.Sprintf("install %s %s in %s", r.Name, r.Version, r.Namespace),
		Reason: reason, Needs: needs,
		Task: InstallRelease{Release: r},
	})}
}

// releaseReason says why a release must be installed or upgraded; same: it need not.
func releaseReason(v *view, r embedded.Release) (reason string, same bool) {
	have, ok := v.releases[r.Namespace+"/"+r.Name]
	switch {
	case !ok:
		return "it is not installed", false
	case have.Status != "deployed":
		return fmt.Sprintf("revision %d is %s", have.Revision, have.Status), false
	case have.Digest != embedded.LabelDigest(r.Digest):
		return "its chart or values changed", false
	}
	return "", true
}

// kubeconfig plans the operator's own kubeconfig of the cluster.
func (m *maker) kubeconfig(v *view) {
	server := Server(v.spec)
	have, exists := m.in.Local.Kubeconfigs[v.name]
	reason := ""
	switch {
	case !exists:
		reason = "there is none yet"
	case have.Server != server:
		reason = fmt.Sprintf("it names %s, the endpoint is %s", have.Server, server)
	case have.CA != m.in.Local.Vault[v.name].CA:
		reason = "it trusts another authority than the cluster's"
	case m.in.Now.After(have.NotAfter.Add(-kubeconfigRenewal)):
		reason = fmt.Sprintf("its certificate ends %s", have.NotAfter.Format(time.DateOnly))
	default:
		return
	}
	m.add(Step{
		ID: id(v, "kubeconfig"), Cluster: v.name, Title: "write the kubeconfig", Reason: reason,
		Needs: []string{id(v, "secrets")},
		Task:  WriteKubeconfig{Cluster: v.name, Server: server},
	})
}

// ready plans waiting for every node that this plan adds or that is not ready now: a cluster is healthy when its nodes
// are. It returns the steps.
func (m *maker) ready(v *view) []string {
	var steps []string
	for _, n := range v.spec.PresentNodes() {
		needs := []string{id(v, n.Name, "init"), id(v, n.Name, "join")}
		reason := "it is new in the cluster"
		if !m.ids[needs[0]] && !m.ids[needs[1]] {
			have, in := v.nodes[n.Name]
			if !in || have.Ready || m.in.Facts[n.Name] == nil {
				continue
			}
			reason = "it is in the cluster but not ready"
		}
		if v.spec.Network.CNI != inventory.CNINone {
			needs = append(needs, id(v, "release", string(v.spec.Network.CNI)))
		}
		steps = append(steps, m.add(Step{
			ID: id(v, n.Name, "ready"), Cluster: v.name, Title: "wait until " + n.Name + " is ready",
			Reason: reason, Needs: needs,
			Task: AwaitReady{Cluster: v.name, Node: n.Name, Timeout: 5 * time.Minute},
		}))
	}
	return steps
}
