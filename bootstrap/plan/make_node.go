package plan

import (
	"fmt"
	"slices"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// node plans one present, reachable machine from programs to membership.
func (m *maker) node(v *view, n *inventory.Node, f *host.Facts) {
	version := v.spec.VersionOr(m.in.Inventory)
	if have := f.Versions["kubelet"]; v.members[n.Name] && have != "" && have != version {
		m.fail("%s runs Kubernetes %s, the inventory wants %s: this version of catamaran can not upgrade a cluster; set the version back to %s",
			n.Name, have, version, have)
		return
	}
	ground, ok := m.ground(v, n, f)
	if !ok {
		return
	}
	images := m.images(v, n, f, ground.programs, ground.prepare)
	m.member(v, n, f, []string{ground.programs, ground.prepare, images})
}

// ground are the steps that make a machine ready for Kubernetes.
type ground struct {
	programs, prepare string
	// unread are files that a member's API server must be restarted with, and why.
	unread []host.FileChange
	why    string
}

// ground plans them, once a node. False: it can not be said what the machine must look like.
func (m *maker) ground(v *view, n *inventory.Node, f *host.Facts) (ground, bool) {
	if g, done := m.grounds[n.Name]; done {
		return g, true
	}
	want, err := host.Desired(host.DesiredInput{Inventory: m.in.Inventory, Cluster: v.name, Node: n,
		AuditPolicy: m.in.AuditPolicies[v.name], Authentication: m.authentication(v)})
	if err != nil {
		m.fail("%s: %w", n.Name, err)
		return ground{}, false
	}
	g := ground{programs: m.programs(v, n, f)}
	changes := host.Diff(want, f)
	if v.members[n.Name] {
		// with the file alone, the API server would go on with what it has read
		changes.Files = slices.DeleteFunc(changes.Files, func(c host.FileChange) bool { return c.AtStart })
		g.unread, g.why = host.Unread(want, f)
	}
	g.prepare = m.prepare(v, n, changes, g.programs)
	m.trustIssuer(v, n, g.prepare)
	m.grounds[n.Name] = g
	return g, true
}

// members plans the ground of machines that are in the cluster already, before all else: their firewalls must know a
// machine before it joins. It returns the steps that a machine which joins waits for.
func (m *maker) members(v *view) []string {
	var steps []string
	for _, n := range v.inOrder() {
		f := m.in.Facts[n.Name]
		if f == nil || !v.members[n.Name] || n.State == inventory.Absent {
			continue
		}
		if g, ok := m.ground(v, n, f); ok {
			steps = append(steps, g.prepare)
		}
	}
	return steps
}

// prepare plans files, sysctls, modules, swap and units.
func (m *maker) prepare(v *view, n *inventory.Node, changes host.Changes, programs string) string {
	step := id(v, n.Name, "prepare")
	if changes.Empty() {
		return step
	}
	s := Step{
		ID: step, Cluster: v.name, Node: n.Name, Title: "prepare the machine", Reason: changes.Reason(),
		Needs: append([]string{programs}, m.left(v)...), Task: PrepareHost{Node: n.Name, Changes: changes},
	}
	s.Files = shown(changes.Files)
	return m.add(s)
}

// shown are a machine's files for the diff.
func shown(files []host.FileChange) []FileChange {
	var out []FileChange
	for _, c := range files {
		out = append(out, FileChange{Path: c.Path, Mode: fmt.Sprintf("%#o", c.Mode), Before: c.Before, After: c.Content, Exists: c.Exists})
	}
	return out
}

// member plans kubeadm init or join, and what keeps a member as it should be.
func (m *maker) member(v *view, n *inventory.Node, f *host.Facts, needs []string) {
	config, in, err := m.kubeadmConfig(v, n)
	if err != nil {
		m.fail("%s: %w", n.Name, err)
		return
	}
	vip, err := m.vip(v, n, f)
	if err != nil {
		m.fail("%s: %w", n.Name, err)
		return
	}
	if v.members[n.Name] {
		m.keepMember(v, n, f, config, in, vip)
		return
	}
	lead := v.lead()
	founder := lead.Name == n.Name && !v.formed()
	if !founder && !v.formed() && m.in.Facts[lead.Name] == nil {
		return // nothing to join; said as a warning
	}
	task := MakeMember{
		Cluster: v.name, Node: n.Name, Role: n.Role, Address: m.address(n), Init: founder,
		Config: config, Kubeadm: in, Member: memberMark{m.in.Inventory.Metadata.Name, v.name, n.Name, n.Role}.text(), VIP: vip,
	}
	needs = append(needs, id(v, "secrets"))
	needs = append(needs, m.welcome[v.name]...)
	s := Step{ID: id(v, n.Name, "join"), Cluster: v.name, Node: n.Name, Needs: needs, Task: task}
	switch {
	case founder:
		s.ID, s.Title = id(v, n.Name, "init"), "found the cluster (kubeadm init)"
		s.Reason = "no control plane of the cluster exists"
	case n.Role == inventory.ControlPlane:
		// etcd takes one new member at a time
		s.Title, s.Lock = "join as a control plane", id(v, "etcd")
		s.Reason = "the machine is not a member"
		s.Needs = append(s.Needs, id(v, lead.Name, "init"))
	default:
		s.Title = "join as a worker"
		s.Reason = "the machine is not a member"
		s.Needs = append(s.Needs, id(v, lead.Name, "init"))
	}
	if has(f, attemptFile) {
		s.Reason += "; an earlier attempt was cut off and is taken back first"
	}
	joined := m.add(s)
	m.label(v, n, joined)
}

// keepMember plans what an existing member lacks.
func (m *maker) keepMember(v *view, n *inventory.Node, f *host.Facts, config string, in kubeadm.Input, vip *VIP) {
	m.checkAuthority(v, n, f)
	unread := m.grounds[n.Name].unread
	if have := f.Files[kubeadmFile]; have.SHA256 != sum(config) {
		lock := ""
		if n.Role == inventory.ControlPlane {
			lock = id(v, "etcd")
		}
		m.add(Step{
			ID: id(v, n.Name, "reconfigure"), Cluster: v.name, Node: n.Name, Lock: lock,
			Title: "reconfigure Kubernetes", Reason: "its kubeadm configuration changed",
			// the lead uploads what the others read
			Needs: []string{id(v, n.Name, "prepare"), id(v, "secrets"), id(v, v.lead().Name, "reconfigure")},
			Files: append([]FileChange{{Path: kubeadmFile, Mode: "0600", Before: have.Content, After: config, Exists: have.SHA256 != ""}}, shown(unread)...),
			Task:  Reconfigure{Cluster: v.name, Node: n.Name, Role: n.Role, Config: config, Unread: unread, Kubeadm: in},
		})
	} else if len(unread) > 0 {
		m.restartAPIServer(v, n)
	}
	if vip != nil && f.Files[kubeVIPFile].SHA256 != sum(vip.Manifest) {
		m.add(Step{
			ID: id(v, n.Name, "kube-vip"), Cluster: v.name, Node: n.Name, Lock: id(v, "etcd"),
			Title: "write kube-vip's manifest", Reason: "it differs",
			Files: []FileChange{{Path: kubeVIPFile, Mode: "0600", Before: f.Files[kubeVIPFile].Content, After: vip.Manifest, Exists: has(f, kubeVIPFile)}},
			Task:  WriteStaticPod{Node: n.Name, Path: kubeVIPFile, Content: vip.Manifest},
		})
	}
	if left, err := certificateLeft(f.Certificates[servingCert], m.in.Now); err != nil || left < servingRenewal {
		reason := fmt.Sprintf("it ends in %d days", int(left.Hours()/24))
		if err != nil {
			reason = err.Error()
		}
		m.add(Step{
			ID: id(v, n.Name, "kubelet-certificate"), Cluster: v.name, Node: n.Name,
			Title: "renew kubelet's serving certificate", Reason: reason,
			Task: RenewServing{Cluster: v.name, Node: n.Name, Address: m.address(n)},
		})
	}
	if v.answered {
		m.label(v, n, "")
	}
}

// checkAuthority refuses to go on with a member that trusts another authority than the vault's.
func (m *maker) checkAuthority(v *view, n *inventory.Node, f *host.Facts) {
	vault, ok := m.in.Local.Vault[v.name]
	if !ok {
		m.fail("%s is a member of a cluster whose secrets are not in %s: restore the vault file from its backup",
			n.Name, m.in.Inventory.VaultFile())
		return
	}
	if have := f.Files[caFile]; have.SHA256 != "" && have.SHA256 != sum(vault.CA) {
		m.fail("%s trusts another authority than the one in %s: it belongs to another cluster; `catamaran reset` takes it back", n.Name, m.in.Inventory.VaultFile())
	}
}

// label plans labels and taints that differ. Before a node has joined, all that the inventory names differ.
func (m *maker) label(v *view, n *inventory.Node, joined string) {
	have := v.nodes[n.Name]
	task := LabelNode{Cluster: v.name, Node: n.Name, Labels: map[string]string{}}
	for k, want := range n.Labels {
		if got, ok := have.Labels[k]; !ok || got != want {
			task.Labels[k] = want
		}
	}
	// kubeadm registers new nodes with their taints already
	if n.Taints != nil && joined == "" && !sameTaints(have.Taints, *n.Taints) {
		task.Taints = n.Taints
	}
	if len(task.Labels) == 0 && task.Taints == nil {
		return
	}
	m.add(Step{
		ID: id(v, n.Name, "labels"), Cluster: v.name, Title: "set labels and taints of " + n.Name,
		Reason: "they differ from the inventory", Needs: []string{joined}, Task: task,
	})
}

// address is where the node is: the provider's word, which for listed machines is the inventory's.
func (m *maker) address(n *inventory.Node) string {
	if a := m.in.Machines[n.Name].Address; a != "" {
		return a
	}
	return n.Address
}
