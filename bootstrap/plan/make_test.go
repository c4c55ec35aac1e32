package plan

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
)

func TestAFreshSiteConvergesInOneApply(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.plan()
	s.apply(p, nil)
	assert.Empty(t, ids(s.plan()), "the second plan")
}

func TestTheFirstPlanReadsLikeTheRecipe(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.plan()
	var b bytes.Buffer
	require.NoError(t, Render(&b, p, RenderOptions{Brief: true}))
	golden(t, "fresh.txt", b.String())

	for _, st := range p.Steps {
		assert.NotEmpty(t, st.Reason, st.ID)
		assert.NotEmpty(t, st.Title, st.ID)
		assert.NotEmpty(t, st.Digest, st.ID)
	}
	init := step(t, p, "workload/wc-1/init")
	assert.ElementsMatch(t, []string{"workload/wc-1/programs", "workload/wc-1/prepare", "workload/wc-1/images", "workload/secrets"}, init.Needs)
	second := step(t, p, "workload/wc-2/join")
	assert.Contains(t, second.Needs, "workload/wc-1/init")
	assert.Equal(t, "workload/etcd", second.Lock, "etcd takes one new member at a time")
	assert.Empty(t, step(t, p, "workload/wc-4/join").Lock, "workers join at once")
	ready := step(t, p, "workload/wc-4/ready")
	assert.Contains(t, ready.Needs, "workload/release/flannel", "without a CNI no node gets ready")
	assert.Contains(t, step(t, p, "service/release/smoke").Needs, "service/release/local-path", "lower orders first")
	assert.Equal(t, []string{"service/sc-1/init"}, step(t, p, "service/release/local-path").Needs, "pods wait for the network, nobody else need")
	assert.Subset(t, step(t, p, "workload/release/smoke").Needs, []string{"workload/wc-1/ready", "workload/wc-4/ready"}, "it needs every node")
	assert.NotContains(t, step(t, p, "workload/release/flannel").Needs, "workload/wc-4/ready")
}

// A release is known by its namespace and name; only our own have names that nobody else can take.
func TestReleasesOfOneNameInSeveralNamespaces(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := inventory.Workload
	for _, namespace := range []string{"one", "two"} {
		for _, name := range []string{"smoke", "flannel"} {
			s.in.Releases[c] = append(s.in.Releases[c], embedded.Release{
				Cluster: c, Name: name, Namespace: namespace, Order: 100, Digest: "own", Version: "1.0.0", Chart: embedded.ChartSource{Path: "/charts/" + name},
			})
		}
	}
	p := s.plan()
	for _, own := range []string{"one/smoke", "two/smoke", "one/flannel", "two/flannel"} {
		assert.Contains(t, step(t, p, "workload/release/"+own).Needs, "workload/release/smoke", "%s comes after ours", own)
	}
	assert.Equal(t, []string{"workload/wc-1/init"}, step(t, p, "workload/release/flannel").Needs)
}

// Whatever subset of steps ended before the process died, going on ends in the same state, and no ended step is planned
// again.
func TestCutOffAnywhereItGoesOn(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		s := newSite(t)
		r := rand.New(rand.NewPCG(seed, 1))
		ended := map[string]bool{}
		for round := 0; ; round++ {
			p := s.plan()
			if len(p.Steps) == 0 {
				break
			}
			require.Less(t, round, 60, "seed %d does not converge: %v", seed, ids(p))
			for _, id := range ids(p) {
				require.False(t, ended[id], "seed %d: %s ended and is planned again", seed, id)
			}
			s.apply(p, func(st Step) bool {
				for _, n := range st.Needs {
					if !ended[n] {
						return false
					}
				}
				if r.IntN(3) == 0 {
					return false
				}
				ended[st.ID] = true
				return true
			})
		}
	}
}

func TestADriftIsPlannedAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		drift func(*site)
		want  []string
		edits []string
	}{
		{name: "a program was replaced", drift: func(s *site) { delete(s.facts("sc-2").Files, "/usr/bin/kubelet") }, want: []string{"service/sc-2/programs"}},
		{name: "an image was pruned", drift: func(s *site) { delete(s.facts("wc-4").Images, "example.org/smoke:v1") }, want: []string{"workload/wc-4/images"}},
		{name: "a file was edited", drift: func(s *site) {
			s.facts("wc-1").Files["/etc/containerd/config.toml"] = host.File{Mode: "0644", SHA256: "x", Content: "mine"}
		}, want: []string{"workload/wc-1/prepare"}},
		{name: "a mode was opened", drift: func(s *site) {
			f := s.facts("wc-1").Files["/etc/kubernetes/audit/policy.yaml"]
			f.Mode = "0666"
			s.facts("wc-1").Files["/etc/kubernetes/audit/policy.yaml"] = f
		}, want: []string{"workload/wc-1/api-server"}},
		{name: "an audit policy was edited by hand", drift: func(s *site) { s.edit("wc-2", kubeadm.AuditPolicyFile, "rules: []\n") }, want: []string{"workload/wc-2/api-server"}},
		{name: "an audit policy was edited and put back by hand", drift: func(s *site) {
			s.edit("wc-2", kubeadm.AuditPolicyFile, s.in.AuditPolicies["workload"])
		}, want: []string{"workload/wc-2/api-server"}},
		{name: "an audit policy was edited and the machine restarted", drift: func(s *site) {
			s.edit("wc-2", kubeadm.AuditPolicyFile, "rules: []\n")
			s.restart("wc-2", nil)
		}, want: []string{"workload/wc-2/api-server"}},
		{name: "an audit policy without which no API server runs", drift: func(s *site) {
			s.edit("wc-2", kubeadm.AuditPolicyFile, "rules: [\n")
			s.facts("wc-2").APIServerStarted = time.Time{}
		}, want: []string{"workload/wc-2/api-server"}},
		{name: "an API server was restarted by itself", drift: func(s *site) { s.restart("wc-2", nil) }},
		{name: "somebody pointed the API server at other admission rules", drift: func(s *site) {
			s.edit("wc-2", kubeadm.AdmissionFile, "plugins: []\n")
		}, want: []string{"workload/wc-2/api-server"}},
		// the file and the restart are one step for each, one API server after the other: their steps share the lock of etcd
		{name: "the audit policy changed", drift: func(s *site) { s.in.AuditPolicies["workload"] += "# another rule\n" }, want: []string{
			"workload/wc-1/reconfigure", "workload/wc-2/reconfigure", "workload/wc-3/reconfigure",
		}},
		{name: "somebody lifted the rules that guard the platform", drift: func(s *site) {
			delete(s.facts("wc-2").Files, "/etc/kubernetes/admission/manifests/platform.yaml")
		}, want: []string{"workload/wc-2/prepare"}},
		{name: "Gatekeeper is not wanted any more", drift: func(s *site) {
			off := false
			s.in.Inventory.Components = map[string]inventory.Component{"gatekeeper": {Enabled: &off}}
		}, want: []string{
			"service/sc-1/reconfigure", "workload/wc-1/reconfigure", "workload/wc-2/reconfigure", "workload/wc-3/reconfigure",
		}},
		{name: "Gatekeeper leaves out a namespace more", drift: func(s *site) {
			s.in.Inventory.Components = map[string]inventory.Component{"gatekeeper": {Values: map[string]any{"exemptNamespaces": []any{"legacy"}}}}
		}, want: []string{
			"service/sc-1/prepare", "workload/wc-1/prepare", "workload/wc-2/prepare", "workload/wc-3/prepare",
		}},
		{name: "a sysctl was reset", drift: func(s *site) { s.facts("wc-1").Sysctls["net.ipv4.ip_forward"] = "0" }, want: []string{"workload/wc-1/prepare"}},
		{name: "swap came back", drift: func(s *site) { s.facts("sc-2").SwapActive = true }, want: []string{"service/sc-2/prepare"}},
		{name: "containerd is stopped", drift: func(s *site) {
			s.facts("sc-2").Units["containerd.service"] = host.Unit{Active: "failed", Enabled: "enabled"}
		}, want: []string{"service/sc-2/prepare"}},
		{name: "a label was removed", drift: func(s *site) { s.facts("sc-1").Cluster.Nodes[1].Labels = map[string]string{} }, want: []string{"service/sc-2/labels"}},
		{name: "a taint was added to a node with taints of its own", drift: func(s *site) { s.facts("wc-1").Cluster.Nodes[0].Taints = []string{"mine=:NoSchedule"} }, want: []string{"workload/wc-1/labels"}},
		{name: "a node is not ready", drift: func(s *site) { s.facts("sc-1").Cluster.Nodes[1].Ready = false }, want: []string{"service/sc-2/ready"}},
		{name: "kube-vip was changed", drift: func(s *site) { s.write("wc-2", kubeVIPFile, "0600", "other") }, want: []string{"workload/wc-2/kube-vip"}},
		{name: "a release failed", drift: func(s *site) { s.facts("sc-1").Cluster.Releases[1].Status = "failed" }, want: []string{"service/release/local-path"}},
		{name: "a chart changed", drift: func(s *site) { s.in.Releases["service"][1].Digest = "three" }, want: []string{"service/release/smoke"}},
		{name: "the kubeconfig was lost", drift: func(s *site) { delete(s.in.Local.Kubeconfigs, "workload") }, want: []string{"workload/kubeconfig"}},
		{name: "the kubeconfig runs out", drift: func(s *site) { s.in.Now = s.in.Now.Add(kubeconfigValidity - 29*24*time.Hour) }, want: []string{
			"service/sc-1/kubelet-certificate", "service/sc-2/kubelet-certificate", "service/kubeconfig",
			"workload/wc-1/kubelet-certificate", "workload/wc-2/kubelet-certificate", "workload/wc-3/kubelet-certificate", "workload/wc-4/kubelet-certificate", "workload/kubeconfig",
		}},
		{name: "a node that nobody listed", drift: func(s *site) {
			c := s.facts("sc-1").Cluster
			c.Nodes = append(c.Nodes, host.NodeFacts{Name: "stranger", Ready: true})
		}},
		{name: "a label that nobody listed", drift: func(s *site) { s.facts("sc-1").Cluster.Nodes[0].Labels["other"] = "1" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.apply(s.plan(), nil)
			require.Empty(t, ids(s.plan()))
			c.drift(s)
			got := ids(s.plan())
			if c.want == nil {
				c.want = []string(nil)
			}
			assert.Equal(t, c.want, got)
			for i := range s.in.Facts {
				s.in.Facts[i].Clock = s.in.Now
				s.in.Facts[i].Received = s.in.Now
			}
			s.apply(s.plan(), func(st Step) bool { return !strings.Contains(st.ID, "release/") })
		})
	}
}

func TestAPIServersAreReconfiguredOneByOne(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.apply(s.plan(), nil)
	s.in.AuditPolicies["workload"] += "# another rule\n"
	p := s.plan()
	for _, n := range []string{"wc-1", "wc-2", "wc-3"} {
		st := step(t, p, "workload/"+n+"/reconfigure")
		assert.Equal(t, "workload/etcd", st.Lock)
		task, ok := st.Task.(Reconfigure)
		require.True(t, ok)
		require.Len(t, task.Unread, 1, "the file is put in place by the step that restarts")
		assert.Equal(t, s.in.AuditPolicies["workload"], task.Unread[0].Content)
		assert.Equal(t, kubeadm.AuditPolicyFile, st.Files[1].Path, "and shows in the diff")
	}
}

// Whoever edits the policy of all API servers gets them back one by one, and a server that does not come back stops the rest.
func TestEditedAuditPoliciesArePutBackOneByOne(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.apply(s.plan(), nil)
	for _, n := range []string{"wc-1", "wc-2", "wc-3"} {
		s.edit(n, kubeadm.AuditPolicyFile, "rules: []\n")
	}
	s.in.Releases["workload"][1].Digest = "three"
	p := s.plan()
	before := []string{}
	for _, n := range []string{"wc-1", "wc-2", "wc-3"} {
		st := step(t, p, "workload/"+n+"/api-server")
		assert.Equal(t, "workload/etcd", st.Lock)
		assert.Equal(t, before, st.Needs)
		assert.Equal(t, kubeadm.AuditPolicyFile+" differs", st.Reason)
		require.Len(t, st.Files, 1)
		assert.Equal(t, "rules: []\n", st.Files[0].Before)
		assert.Equal(t, kubeadm.AuditPolicy(), st.Files[0].After)
		before = append(before, st.ID)
	}
	assert.Subset(t, step(t, p, "workload/release/smoke").Needs, before, "nothing is asked of an API server that restarts")

	// cut off between the file and the restart, which one unit does: the next run sees that the server is older than the file
	s.apply(p, func(st Step) bool { return st.ID != "workload/wc-3/api-server" })
	s.edit("wc-3", kubeadm.AuditPolicyFile, kubeadm.AuditPolicy())
	p = s.plan()
	require.Equal(t, []string{"workload/wc-3/api-server"}, ids(p))
	assert.Equal(t, kubeadm.AuditPolicyFile+" was written after the API server started", p.Steps[0].Reason)
	assert.Empty(t, p.Steps[0].Files, "there is no diff to show")
	s.apply(p, nil)
	assert.Empty(t, ids(s.plan()))
}

// Where the API server is reconfigured anyway, the file goes with that.
func TestAnEditedAuditPolicyGoesWithAReconfiguration(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.apply(s.plan(), nil)
	s.edit("sc-1", kubeadm.AuditPolicyFile, "rules: []\n")
	s.in.Inventory.Clusters.Service.Kubelet.MaxPods = 99
	p := s.plan()
	assert.Equal(t, []string{"service/sc-1/reconfigure", "service/sc-2/reconfigure"}, ids(p))
	assert.Len(t, step(t, p, "service/sc-1/reconfigure").Task.(Reconfigure).Unread, 1)
	s.apply(p, nil)
	assert.Empty(t, ids(s.plan()))
}

func TestTheGuardLetsAnUpgradePassBeforeItBegins(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.in.Releases["workload"] = append(s.in.Releases["workload"], embedded.Release{
		Cluster: "workload", Name: "gatekeeper", Namespace: "gatekeeper-system", Order: 30, Digest: "one", Version: "1.0.0", Chart: embedded.ChartSource{Embedded: "gatekeeper"},
	})
	s.apply(s.plan(), nil)
	s.in.Inventory.Components = map[string]inventory.Component{"gatekeeper": {Values: map[string]any{"exemptNamespaces": []any{"legacy"}}}}
	s.in.Releases["workload"][len(s.in.Releases["workload"])-1].Digest = "two"
	p := s.plan()
	assert.Subset(t, step(t, p, "workload/release/gatekeeper").Needs, []string{"workload/wc-1/prepare", "workload/wc-2/prepare", "workload/wc-3/prepare"})
	assert.NotContains(t, step(t, p, "workload/release/gatekeeper").Needs, "workload/wc-4/prepare")
}

func TestAddAndRemove(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.apply(s.plan(), nil)

	n := inventory.Node{Name: "wc-5", Role: inventory.Worker, Address: "10.77.0.25", State: inventory.Present}
	s.in.Inventory.Clusters.Workload.Nodes = append(s.in.Inventory.Clusters.Workload.Nodes, n)
	s.in.Facts["wc-5"] = s.fresh(n, 0)
	p := s.plan()
	assert.Equal(t, []string{"workload/wc-5/programs", "workload/wc-5/prepare", "workload/wc-5/images", "workload/wc-5/join", "workload/wc-5/ready"}, ids(p))
	s.apply(p, nil)
	require.Empty(t, ids(s.plan()))

	setState(s, "wc-5", inventory.Absent)
	p = s.plan()
	assert.Equal(t, []string{"workload/wc-5/drain", "workload/wc-5/reset", "workload/wc-5/delete"}, ids(p))
	assert.Equal(t, []string{"workload/wc-5/drain"}, step(t, p, "workload/wc-5/reset").Needs)
	s.apply(p, nil)
	require.Empty(t, ids(s.plan()))

	// a control plane whose machine is gone leaves etcd through another
	setState(s, "wc-3", inventory.Absent)
	s.unplug("wc-3")
	p = s.plan()
	assert.Equal(t, []string{"workload/wc-3/drain", "workload/wc-3/etcd-remove", "workload/wc-3/delete"}, ids(p))
	assert.Equal(t, "wc-1", step(t, p, "workload/wc-3/etcd-remove").Node)
}

// A machine joins when the firewalls of all that are there already know it.
func TestFirewallsKnowANodeBeforeItJoins(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.apply(s.plan(), nil)
	n := inventory.Node{Name: "sc-0", Role: inventory.Worker, Address: "10.77.0.19", State: inventory.Present}
	nodes := &s.in.Inventory.Clusters.Service.Nodes
	*nodes = append([]inventory.Node{n}, *nodes...)
	s.in.Facts["sc-0"] = s.fresh(n, 0)
	p := s.plan()
	assert.Equal(t, []string{
		"service/sc-1/prepare", "service/sc-2/prepare", "service/sc-0/programs", "service/sc-0/prepare", "service/sc-0/images", "service/sc-0/join", "service/sc-0/ready",
	}, ids(p))
	join := step(t, p, "service/sc-0/join").Needs
	assert.Contains(t, join, "service/sc-1/prepare")
	assert.Contains(t, join, "service/sc-2/prepare")
	s.apply(p, nil)
	require.Empty(t, ids(s.plan()))

	setState(s, "sc-0", inventory.Absent)
	assert.NotContains(t, ids(s.plan()), "service/sc-1/prepare", "while it leaves it is still known")
	off := false
	s.in.Inventory.Host.Firewall = &off
	p = s.plan()
	assert.Equal(t, "the firewall is on", step(t, p, "service/sc-1/prepare").Reason)
	s.apply(p, nil)
	require.Empty(t, ids(s.plan()))
}

// What a step needs is planned before it, in whatever order the inventory lists machines.
func TestTheOrderOfTheInventoryDoesNotMatter(t *testing.T) {
	t.Parallel()
	s := newSite(t, `      - {name: wc-1, role: control-plane, address: 10.77.0.21, taints: []}
`, "", `      - {name: wc-4, role: worker, address: 10.77.0.24}
`, `      - {name: wc-4, role: worker, address: 10.77.0.24}
      - {name: wc-1, role: control-plane, address: 10.77.0.21, taints: []}
`, `      - {name: sc-1, role: control-plane, address: 10.77.0.11}
      - {name: sc-2, role: worker, address: 10.77.0.12, labels: {tier: store}}
`, `      - {name: sc-2, role: worker, address: 10.77.0.12, labels: {tier: store}}
      - {name: sc-1, role: control-plane, address: 10.77.0.11}
`)
	p := s.plan()
	assert.Contains(t, step(t, p, "service/sc-2/join").Needs, "service/sc-1/init")
	s.apply(p, nil)
	require.Empty(t, ids(s.plan()))

	s.in.Inventory.Clusters.Service.Kubelet.MaxPods = 99
	p = s.plan()
	assert.Equal(t, []string{"service/sc-1/reconfigure", "service/sc-2/reconfigure"}, ids(p))
	assert.Contains(t, step(t, p, "service/sc-2/reconfigure").Needs, "service/sc-1/reconfigure", "the lead uploads what the worker reads")
}

func setState(s *site, node string, state inventory.NodeState) {
	for _, c := range s.in.Inventory.ClusterNames() {
		for i := range s.in.Inventory.Cluster(c).Nodes {
			if s.in.Inventory.Cluster(c).Nodes[i].Name == node {
				s.in.Inventory.Cluster(c).Nodes[i].State = state
			}
		}
	}
}

func TestADeadWorkerDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.unplug("wc-4")
	p := s.plan()
	assert.Contains(t, p.Unreachable, "wc-4")
	for _, id := range ids(p) {
		assert.NotContains(t, id, "wc-4")
	}
	s.apply(p, nil)
	assert.Empty(t, ids(s.plan()))
}

func TestWhileTheFounderIsDeadNothingIsFounded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.unplug("wc-1")
	p := s.plan()
	for _, st := range p.Steps {
		if st.Cluster == inventory.Workload {
			_, member := st.Task.(MakeMember)
			assert.False(t, member, st.ID)
		}
	}
	assert.Contains(t, ids(p), "workload/wc-2/programs", "what can be prepared is")
	assert.Contains(t, strings.Join(p.Warnings, "\n"), "wc-1, which founds the cluster, can not be reached")
}

// A founded cluster must not be founded again because its control planes can not be seen now.
func TestNoSecondClusterIsFounded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.apply(s.plan(), nil)
	for _, n := range []string{"wc-1", "wc-2", "wc-3"} {
		s.unplug(n)
	}
	p := s.plan()
	for _, st := range p.Steps {
		assert.NotEqual(t, inventory.Workload, st.Cluster, st.ID)
	}
	assert.Contains(t, strings.Join(p.Warnings, "\n"), "may hold the cluster")
}

func TestWhatForbidsAPlan(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(*site)
		want  string
	}{
		{"no bundle", func(s *site) { s.in.Bundle = nil }, "there is no bundle to install from"},
		{"a bundle without an image", func(s *site) { s.in.Bundle.Manifest.Images = s.in.Bundle.Manifest.Images[1:] }, "the bundle lacks"},
		{"too little memory", func(s *site) { s.facts("sc-1").MemoryMiB = 512 }, "preflight: sc-1: memory"},
		{"another Kubernetes", func(s *site) { s.facts("sc-1").Leftovers = []string{"/var/lib/rancher"} }, "holds a Kubernetes that is not ours"},
		{"another site's machine", func(s *site) {
			s.apply(s.plan(), nil)
			s.write("sc-2", memberFile, "0644", `{"site":"lulea","cluster":"service","node":"sc-2","role":"worker"}`)
		}, "the machine is node sc-2 of the service cluster of site lulea"},
		{"another role", func(s *site) {
			s.apply(s.plan(), nil)
			s.write("wc-4", memberFile, "0644", `{"site":"umea","cluster":"workload","node":"wc-4","role":"control-plane"}`)
		}, "it joined as control-plane and the inventory says worker"},
		{"a lost vault", func(s *site) {
			s.apply(s.plan(), nil)
			delete(s.in.Local.Vault, "service")
		}, "restore the vault file from its backup"},
		{"another authority", func(s *site) {
			s.apply(s.plan(), nil)
			s.write("sc-2", caFile, "0644", "other")
		}, "sc-2 trusts another authority"},
		{"a cloud controller manager that comes later", func(s *site) {
			s.apply(s.plan(), nil)
			s.cloudController("openstack-cloud-controller-manager", true)
		}, "clusters.workload: kubelet runs without --cloud-provider=external on wc-1, wc-2, wc-3, wc-4, and the inventory has a cloud controller manager on"},
		{"a cloud controller manager that goes", func(s *site) {
			s.cloudController("openstack-cloud-controller-manager", true)
			s.apply(s.plan(), nil)
			s.cloudController("openstack-cloud-controller-manager", false)
		}, "clusters.service: kubelet runs with --cloud-provider=external on sc-1, sc-2, and the inventory has no cloud controller manager on"},
		{"another version", func(s *site) {
			s.apply(s.plan(), nil)
			s.facts("sc-2").Versions["kubelet"] = "1.36.3"
		}, "can not upgrade"},
		{"the last control plane absent", func(s *site) {
			s.apply(s.plan(), nil)
			setState(s, "sc-1", inventory.Absent)
		}, "is the last control plane"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			c.spoil(s)
			_, err := Make(s.in)
			assert.ErrorContains(t, err, c.want)
		})
	}
}

func TestResetPlans(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p, err := MakeReset(s.in, nil)
	require.NoError(t, err)
	assert.Empty(t, p.Steps, "nothing of ours is there")
	s.apply(s.plan(), nil)

	p, err = MakeReset(s.in, []string{"wc-4"})
	require.NoError(t, err)
	assert.Equal(t, []string{"workload/wc-4/drain", "workload/wc-4/reset", "workload/wc-4/delete"}, ids(p))

	p, err = MakeReset(s.in, nil)
	require.NoError(t, err)
	assert.Len(t, p.Steps, 6)
	s.apply(p, nil)
	p, err = MakeReset(s.in, nil)
	require.NoError(t, err)
	assert.Empty(t, p.Steps)
}

func TestASavedPlanMoves(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path := t.TempDir() + "/plan.json"
	p := s.plan()
	require.NoError(t, WriteFile(path, p))
	saved, err := ReadFile(path)
	require.NoError(t, err)
	assert.Empty(t, Moved(saved, s.plan()))

	s.facts("sc-1").Sysctls["net.ipv4.ip_forward"] = "1"
	assert.Equal(t, []string{"service/sc-1/prepare would do something else now: " + step(t, s.plan(), "service/sc-1/prepare").Reason}, Moved(saved, s.plan()))
	s.apply(p, func(st Step) bool { return st.ID == "service/secrets" })
	assert.Contains(t, Moved(saved, s.plan()), "service/secrets is not needed any more")

	saved.Steps[0].Reason = "edited" // not covered: the digest is of what is done
	saved.Steps = saved.Steps[1:]
	require.NoError(t, WriteFile(path, saved))
	_, err = ReadFile(path)
	assert.ErrorContains(t, err, "was changed after it was saved")
}

// The plan is data: nothing secret is in it, however it is shown.
func TestAPlanHoldsNoSecret(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.apply(s.plan(), func(st Step) bool { _, ok := st.Task.(MakeSecrets); return ok })
	p := s.plan()
	var b bytes.Buffer
	require.NoError(t, RenderJSON(&b, p))
	require.NoError(t, Render(&b, p, RenderOptions{}))
	for _, sec := range s.secrets {
		for _, key := range []string{sec.CA.Key, sec.EtcdCA.Key, sec.FrontProxyCA.Key, sec.ServiceAccount.Key} {
			line := strings.Split(key, "\n")[1]
			assert.NotContains(t, b.String(), line)
		}
		assert.NotContains(t, b.String(), sec.EncryptionKey)
	}
	assert.NotContains(t, b.String(), "PRIVATE KEY")
}
