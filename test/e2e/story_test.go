package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/inventory"
	testsite "github.com/catamaran-k8s/catamaran/test/site"
)

func TestStory(t *testing.T) {
	for _, chapter := range []struct {
		name string
		f    func(*testing.T)
	}{
		{"killed at random moments it still converges", testKilledAtRandom},
		{"a second apply changes nothing", testSecondApply},
		{"the clusters are healthy", testClustersAreHealthy},
		{"pods, Services and DNS work across nodes", testTraffic},
		{"hardening holds", testHardening},
		{"a worker is added while a second apply is refused", testAddWorker},
		{"a worker is removed", testRemoveWorker},
		{"an unplugged machine gives a partial result", testUnplugged},
		{"the VIP outlives its control plane", testFailover},
		{"a setting of the API servers is changed one by one", testReconfigure},
		{"control planes leave one by one, and the cluster goes on with one", testControlPlanesLeave},
		{"an audit policy that was edited by hand is put back and read", testEditedAuditPolicy},
		{"a saved plan is refused when the site moved", testSavedPlan},
		{"the platform is installed", testPlatform},
		{"what happens is seen in the service cluster", testCanaries},
		{"the clusters share no credential", testSeparation},
		{"the service cluster withstands the workload cluster", testTamper},
		{"a path that is open is found", testTamperFindsAnOpenPath},
		{"no record is lost while parts die", testFaults},
		{"a changed value upgrades its release alone", testReleasesChangeAlone},
		{"the evidence pack is sound, and only then", testReport},
		{"secrets that leak would be found", testCanariesCanBeFound},
		{"no secret was seen", testNoSecretIsSeen},
		{"the workload cluster is wiped and the evidence stays", testWipedWorkload},
		{"reset leaves machines that can be used again", testReset},
	} {
		if !t.Run(chapter.name, chapter.f) {
			t.FailNow() // what follows stands on it
		}
	}
}

func testKilledAtRandom(t *testing.T) {
	seed := *seed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("the moments are those of -seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	stop := s.canaries.watch(t)
	begin := time.Now()
	for killed := 0; killed < *kills; {
		// the first ones early, where most steps are short
		pause := time.Duration(500+random.IntN(3000+2000*killed)) * time.Millisecond
		c, out := s.site.Command(s.ctx, "apply", "--yes", "--progress", "plain")
		require.NoError(t, c.Start())
		timer := time.AfterFunc(pause, func() { _ = c.Process.Signal(syscall.SIGKILL) })
		err := c.Wait()
		timer.Stop()
		if err == nil {
			t.Logf("converged after %d kills: taking it all back to go on", killed)
			s.site.Must(t, 0, "reset", "--yes")
			continue
		}
		if status, ok := c.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
			t.Fatalf("apply ended by itself with status %d:\n%s", c.ProcessState.ExitCode(), out.String())
		}
		killed++
		t.Logf("kill %d after %s", killed, pause.Round(10*time.Millisecond))
	}
	out := s.site.Must(t, 0, "apply", "--yes", "--progress", "plain")
	t.Logf("%d kills and convergence took %s; the last apply:\n%s", *kills, time.Since(begin).Round(time.Second), out)
	assert.Empty(t, stop(), "secrets on command lines")

	ended := map[string]string{} // step -> run in which it ended
	for _, e := range s.site.Journal(t) {
		switch e.Type {
		case string(plan.Begin):
			assert.NotContains(t, ended, e.Step, "the step ended in run %s and begins again in %s", ended[e.Step], e.Run)
		case string(plan.End):
			ended[e.Step] = e.Run
			if strings.HasSuffix(e.Step, "/reset") {
				ended = map[string]string{} // the machines begin anew
			}
		}
	}
	assert.Greater(t, len(ended), 20)
}

func testSecondApply(t *testing.T) {
	before := len(s.site.Journal(t))
	out := s.site.Must(t, 0, "apply", "--yes")
	assert.Contains(t, out, "nothing to do")
	assert.Contains(t, s.site.Must(t, 0, "plan"), "nothing to do")
	assert.Len(t, s.site.Journal(t), before, "nothing was begun")
	assert.Contains(t, settled(t), "as in the inventory")
}

// spare is the machine that the lab has beyond the clusters; on other machines the inventory's last worker is moved.
func spare(t *testing.T) map[string]any {
	t.Helper()
	data, err := os.ReadFile(s.machines.inventory())
	require.NoError(t, err)
	for _, l := range strings.Split(string(data), "\n") {
		line, ok := strings.CutPrefix(l, "#     - ")
		if !ok {
			continue
		}
		node, err := parseNode(line)
		require.NoError(t, err)
		node["role"] = "worker"
		return node
	}
	t.Fatal("the machines' inventory lists no spare in a comment")
	return nil
}

func testAddWorker(t *testing.T) {
	node := spare(t)
	name := node["name"].(string)
	s.site.Change(t, func(m map[string]any) {
		c := testsite.At(m, "clusters", "workload")
		node["labels"] = map[string]any{"example.org/added": "yes"}
		c["nodes"] = append(testsite.Nodes(m, inventory.Workload), node)
	})
	steps := s.site.Planned(t)
	for _, want := range []string{"programs", "prepare", "images", "join", "labels", "ready"} {
		assert.Contains(t, steps, "workload/"+name+"/"+want)
	}
	first, out := s.site.Command(s.ctx, "apply", "--yes", "--progress", "plain")
	require.NoError(t, first.Start())
	s.site.Eventually(t, time.Minute, func(context.Context) error {
		if !strings.Contains(string(read(t, filepath.Join(s.site.Load(t).SiteDir(), "lock"))), fmt.Sprintf(`"pid":%d`, first.Process.Pid)) {
			return errors.New("the first apply does not hold the lock yet")
		}
		return nil
	})
	second := s.site.Must(t, 5, "apply", "--yes")
	assert.Contains(t, second, fmt.Sprintf("process %d", first.Process.Pid), "the second is told who is first")
	require.NoError(t, first.Wait(), out.String())

	n, err := s.site.Client(t, inventory.Workload).CoreV1().Nodes().Get(s.ctx, name, metav1.GetOptions{})
	require.NoError(t, err)
	assert.True(t, testsite.Ready(n))
	assert.Equal(t, "yes", n.Labels["example.org/added"])
	assert.Empty(t, s.site.Planned(t))
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data
}

func testRemoveWorker(t *testing.T) {
	name := spare(t)["name"].(string)
	s.site.Change(t, func(m map[string]any) {
		for _, n := range testsite.Nodes(m, inventory.Workload) {
			if n := n.(map[string]any); n["name"] == name {
				n["state"] = "absent"
			}
		}
	})
	s.site.Must(t, 0, "apply", "--yes")
	_, err := s.site.Client(t, inventory.Workload).CoreV1().Nodes().Get(s.ctx, name, metav1.GetOptions{})
	assert.ErrorContains(t, err, "not found")
	left, err := s.machines.root(s.ctx, name, "ls /etc/kubernetes/manifests /etc/kubernetes/kubelet.conf /var/lib/kubelet/config.yaml 2>/dev/null; systemctl is-active kubelet; ip -o link; true", nil)
	require.NoError(t, err)
	assert.NotContains(t, left, "kubelet.conf")
	assert.Contains(t, left, "inactive")
	assert.NotContains(t, left, "flannel.1")
	assert.Empty(t, s.site.Planned(t))
}

func testUnplugged(t *testing.T) {
	dead := s.site.Load(t).Clusters.Workload.Workers()[0].Name
	require.NoError(t, s.machines.unplug(s.ctx, dead))
	s.site.Change(t, func(m map[string]any) {
		testsite.At(m, "host")["sysctls"] = map[string]any{"net.ipv4.conf.all.log_martians": "1"}
	})
	begin := time.Now()
	out := s.site.Must(t, 4, "apply", "--yes", "--progress", "plain")
	t.Logf("the partial apply took %s:\n%s", time.Since(begin).Round(time.Second), out)
	assert.Contains(t, out, "unreachable")
	assert.Contains(t, out, dead)
	assert.NotContains(t, out, "workload/"+dead+"/prepare")
	for _, n := range s.site.Load(t).Clusters.Workload.ControlPlanes() {
		got, err := s.machines.root(s.ctx, n.Name, "cat /proc/sys/net/ipv4/conf/all/log_martians", nil)
		require.NoError(t, err)
		assert.Equal(t, "1", strings.TrimSpace(got), n.Name)
	}
	status, code := s.site.Run(t, "status")
	assert.Equal(t, 4, code, "the site is not healthy")
	assert.Contains(t, status, "unreachable")

	require.NoError(t, s.machines.plug(s.ctx, dead))
	s.site.Eventually(t, 3*time.Minute, func(ctx context.Context) error {
		n, err := s.site.Client(t, inventory.Workload).CoreV1().Nodes().Get(ctx, dead, metav1.GetOptions{})
		if err == nil && !testsite.Ready(n) {
			err = errors.New(dead + " is not ready")
		}
		return err
	})
	s.site.Must(t, 0, "apply", "--yes")
	assert.Empty(t, s.site.Planned(t))
}

func testFailover(t *testing.T) {
	inv := s.site.Load(t)
	holder := ""
	for _, n := range inv.Clusters.Workload.ControlPlanes() {
		got, err := s.machines.root(s.ctx, n.Name, "ip -o addr show", nil)
		require.NoError(t, err)
		if strings.Contains(got, inv.Clusters.Workload.Endpoint.Address+"/32") {
			holder = n.Name
		}
	}
	require.NotEmpty(t, holder, "somebody carries the VIP")
	require.NoError(t, s.machines.kill(s.ctx, holder))
	begin := time.Now()
	api := s.site.Client(t, inventory.Workload)
	s.site.Eventually(t, 2*time.Minute, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		_, err := api.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	t.Logf("the API answered on the VIP %s after its holder %s lost power", time.Since(begin).Round(100*time.Millisecond), holder)
	require.NoError(t, s.machines.start(s.ctx, holder))
	s.site.Eventually(t, 4*time.Minute, func(context.Context) error {
		if out, code := s.site.Run(t, "status"); code != 0 {
			return errors.New(out)
		}
		return nil
	})
}

func testReconfigure(t *testing.T) {
	s.site.Change(t, func(m map[string]any) {
		testsite.At(m, "clusters", "workload", "apiServer")["auditMaxBackups"] = 7
		testsite.At(m, "clusters", "workload", "kubelet")["maxPods"] = 99
	})
	out := s.site.Must(t, 2, "plan")
	assert.Contains(t, out, "value: \"7\"", "the plan shows the file's diff")
	s.site.Must(t, 0, "apply", "--yes", "--progress", "plain")
	inv := s.site.Load(t)
	for _, n := range inv.Clusters.Workload.ControlPlanes() {
		got, err := s.machines.root(s.ctx, n.Name, "grep audit-log-maxbackup /etc/kubernetes/manifests/kube-apiserver.yaml; grep maxPods /var/lib/kubelet/config.yaml", nil)
		require.NoError(t, err)
		assert.Contains(t, got, "=7", n.Name)
		assert.Contains(t, got, "99", n.Name)
	}
	got, err := s.machines.root(s.ctx, inv.Clusters.Workload.Workers()[0].Name, "grep maxPods /var/lib/kubelet/config.yaml", nil)
	require.NoError(t, err)
	assert.Contains(t, got, "99", "the worker reads what the control planes uploaded")
	settled(t)
}

// Whoever edits the audit policy on a machine may have had the API server read it: with the file alone nothing is put right.
func testEditedAuditPolicy(t *testing.T) {
	inv := s.site.Load(t)
	edited, other := inv.Clusters.Service.ControlPlanes()[0].Name, inv.Clusters.Workload.ControlPlanes()[0].Name
	const policy = "/etc/kubernetes/audit/policy.yaml"
	// the process and when it began: a number alone may come again
	server := func(node string) string {
		got, err := s.machines.root(s.ctx, node, `for p in /proc/[0-9]*; do if [ "$(cat "$p/comm" 2>/dev/null)" = kube-apiserver ]; then echo "${p##*/} $(cut -d " " -f 22 "$p/stat")"; fi; done`, nil)
		require.NoError(t, err)
		require.Len(t, strings.Split(strings.TrimSpace(got), "\n"), 1, "one API server runs on %s", node)
		require.NotEmpty(t, strings.TrimSpace(got), node)
		return got
	}
	sum := func() string {
		got, err := s.machines.root(s.ctx, edited, "sha256sum "+policy, nil)
		require.NoError(t, err)
		return got
	}
	was, began, others := sum(), server(edited), server(other)
	_, err := s.machines.root(s.ctx, edited, "printf 'apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None}]\n' > "+policy, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"service/" + edited + "/api-server"}, s.site.Planned(t))
	s.site.Must(t, 0, "apply", "--yes", "--progress", "plain")
	assert.Equal(t, was, sum(), "the file is as it was")
	assert.NotEqual(t, began, server(edited), "another process reads it")
	assert.Equal(t, others, server(other), "where nothing was edited nothing was restarted")
	settled(t)
}

// settled waits until there is nothing to do and the site is healthy: a node may need a moment after its API server was restarted.
// It returns what status says then.
func settled(t *testing.T, args ...string) string {
	t.Helper()
	status := ""
	s.site.Eventually(t, 3*time.Minute, func(context.Context) error {
		out, code := s.site.Run(t, append([]string{"status"}, args...)...)
		if status = out; code != 0 {
			return errors.New(out)
		}
		return nil
	})
	assert.Empty(t, s.site.Planned(t))
	return status
}

// From here on the workload cluster has one control plane, and the machines have room for the platform.
func testControlPlanesLeave(t *testing.T) {
	planes := s.site.Load(t).Clusters.Workload.ControlPlanes()
	require.Len(t, planes, 3)
	gone := map[string]bool{planes[0].Name: true, planes[1].Name: true} // the founder too
	s.site.Change(t, func(m map[string]any) {
		for _, n := range testsite.Nodes(m, inventory.Workload) {
			if n := n.(map[string]any); gone[n["name"].(string)] {
				n["state"] = "absent"
			}
		}
	})
	out := s.site.Must(t, 0, "apply", "--yes", "--progress", "plain")
	t.Logf("two of three control planes left:\n%s", out)
	list, err := s.site.Client(t, inventory.Workload).CoreV1().Nodes().List(s.ctx, metav1.ListOptions{})
	require.NoError(t, err)
	for _, n := range list.Items {
		assert.False(t, gone[n.Name], "%s is still a node", n.Name)
	}
	for name := range gone {
		left, err := s.machines.root(s.ctx, name, "ls /etc/kubernetes/manifests /var/lib/etcd/member 2>/dev/null; systemctl is-active kubelet; true", nil)
		require.NoError(t, err)
		assert.NotContains(t, left, "etcd", name)
		assert.Contains(t, left, "inactive", name)
	}
	var status struct {
		Clusters []struct {
			Name string
			Etcd []struct{ Name string }
		}
	}
	said := settled(t, "-o", "json")
	require.NoError(t, json.Unmarshal([]byte(said[strings.Index(said, "{"):]), &status)) // warnings come before
	for _, c := range status.Clusters {
		assert.Len(t, c.Etcd, 1, "etcd members of %s", c.Name)
	}
	s.site.Change(t, func(m map[string]any) {
		c := testsite.At(m, "clusters", "workload")
		c["nodes"] = slices.DeleteFunc(testsite.Nodes(m, inventory.Workload), func(n any) bool { return gone[n.(map[string]any)["name"].(string)] })
	})
	assert.Empty(t, s.site.Planned(t))
	for name := range gone {
		require.NoError(t, s.machines.kill(s.ctx, name))
	}
}

func testSavedPlan(t *testing.T) {
	file := filepath.Join(s.dir, "plan.json")
	s.site.Change(t, func(m map[string]any) {
		testsite.At(m, "host")["sysctls"] = map[string]any{"net.ipv4.conf.all.log_martians": "0"}
	})
	s.site.Must(t, 2, "plan", "-o", file)
	node := s.site.Load(t).Clusters.Service.Nodes[0].Name
	const conf = "/etc/sysctl.d/99-catamaran.conf"
	_, err := s.machines.root(s.ctx, node, "cp "+conf+" /root/before; echo '# mine' >> "+conf, nil)
	require.NoError(t, err)
	out := s.site.Must(t, 1, "apply", file)
	assert.Contains(t, out, "the site moved since the plan was saved")
	assert.Contains(t, out, node)
	_, err = s.machines.root(s.ctx, node, "cp /root/before "+conf, nil)
	require.NoError(t, err)
	s.site.Must(t, 0, "apply", file)
	assert.Empty(t, s.site.Planned(t))
}

func testReset(t *testing.T) {
	s.site.Must(t, 0, "reset", "--yes")
	inv := s.site.Load(t)
	for _, c := range inv.ClusterNames() {
		for _, n := range inv.Cluster(c).Nodes {
			left, err := s.machines.root(s.ctx, n.Name, "ls -d /etc/kubernetes/manifests/*.yaml /etc/kubernetes/*.conf /var/lib/etcd/member /var/lib/catamaran/member.json 2>/dev/null; ip -o link show; true", nil)
			require.NoError(t, err)
			assert.NotContains(t, left, "/etc/kubernetes", n.Name)
			assert.NotContains(t, left, "/var/lib/etcd", n.Name)
			assert.NotContains(t, left, "member.json", n.Name)
			assert.NotContains(t, left, "flannel.1", n.Name)
		}
	}
	steps := s.site.Planned(t)
	assert.Contains(t, steps, "service/"+inv.Clusters.Service.ControlPlanes()[0].Name+"/init", "it could be founded again")
	assert.NotContains(t, steps, "service/"+inv.Clusters.Service.ControlPlanes()[0].Name+"/programs", "programs stay")
}
