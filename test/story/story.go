package story

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
	"github.com/catamaran-k8s/catamaran/test/lab/proxy"
	"github.com/catamaran-k8s/catamaran/test/site"
)

// LeastKills is at how many different API calls of the phase in which machines are made apply is killed.
const LeastKills = 30

// lastCall ends the search for calls to be killed at: no phase is that long.
const lastCall = 400

// Options say how the story is told.
type Options struct {
	World World
	// Binary is catamaran. Ctx ends everything.
	Binary string
	Ctx    context.Context //nolint:containedctx // a test's
	// Kills is at how many different calls apply is killed. Default LeastKills; fewer only to look at the rest.
	Kills int
}

// teller holds what the chapters share.
type teller struct {
	Options
	site *site.Site
	// before is what was in the cloud at the beginning.
	before []Resource
}

// byHand is the machine that is adopted.
const byHand = "by-hand-1"

// Run tells the story. Each chapter stands on what the one before it left.
func Run(t *testing.T, o Options) {
	if o.Kills == 0 {
		o.Kills = LeastKills
	}
	s := &teller{Options: o, site: &site.Site{
		Ctx: o.Ctx, Binary: o.Binary, Path: filepath.Join(filepath.Dir(o.World.Inventory()), "story.yaml"), Env: append(os.Environ(), o.World.Env()...),
	}}
	require.NoError(t, s.site.Edit(o.World.Inventory(), func(map[string]any) {}))
	s.calm(t)
	s.before = s.list(t)
	for _, chapter := range []struct {
		name string
		f    func(*testing.T)
	}{
		{"a plan of an empty cloud shows what will be made", s.plansEmpty},
		{"killed at API calls it converges, and nothing is there twice", s.killed},
		{"two clusters form on the machines", s.forms},
		{"a second apply and a plan have nothing to do", s.nothingToDo},
		{"a machine made by hand is adopted", s.adopts},
		{"a pool grows while the API misbehaves", s.grows},
		{"a pool shrinks: drained, reset, deleted", s.shrinks},
		{"destroy, killed again and again, leaves nothing", s.destroys},
	} {
		if !t.Run(chapter.name, chapter.f) {
			t.FailNow() // what follows stands on it
		}
	}
}

func (s *teller) calm(t *testing.T) {
	t.Helper()
	require.NoError(t, s.World.Proxy().Set(s.Ctx))
}

func (s *teller) list(t *testing.T) []Resource {
	t.Helper()
	list, err := s.World.List(s.Ctx)
	require.NoError(t, err)
	return list
}

// made are the resources that were not there at the beginning.
func (s *teller) made(t *testing.T) []Resource {
	t.Helper()
	return slices.DeleteFunc(s.list(t), func(r Resource) bool { return slices.Contains(s.before, r) })
}

// words are resources for messages and comparisons, sorted.
func words(list []Resource) []string {
	out := []string{}
	for _, r := range list {
		out = append(out, r.Kind+" "+r.Name)
	}
	slices.Sort(out)
	return out
}

// unique fails where two resources of a kind have one name.
func (s *teller) unique(t *testing.T, when string) {
	t.Helper()
	list := words(s.made(t))
	assert.Equal(t, slices.Compact(slices.Clone(list)), list, "%s: something is there twice", when)
}

func (s *teller) plansEmpty(t *testing.T) {
	out := s.site.Must(t, 2, "plan")
	t.Log("\n" + out)
	p := s.site.Plan(t)
	require.NotEmpty(t, p.Changes)
	for _, c := range p.Changes {
		assert.Equal(t, provider.Create, c.Verb, c.Words())
		assert.Contains(t, out, c.Name)
	}
	assert.ElementsMatch(t, s.nodes(t), p.Pending, "the nodes whose machines are not there yet")
	assert.Empty(t, s.made(t), "a plan makes nothing")
}

// nodes are the names of all nodes.
func (s *teller) nodes(t *testing.T) []string {
	t.Helper()
	var out []string
	inv := s.site.Load(t)
	for _, c := range inv.ClusterNames() {
		for _, n := range inv.Cluster(c).Nodes {
			out = append(out, n.Name)
		}
	}
	return out
}

// ending is how a run that was to be killed ended.
type ending string

const (
	killedAtCall ending = "killed at the call"
	reachedSteps ending = "reached the steps, and was killed there"
	finished     ending = "came to its end"
)

// killAt runs the product and has it killed at its n-th API call. With atSteps it is also killed when it gets to carry out steps on
// machines: it has made them all. An end by itself that is none of success is a failure of the test.
func (s *teller) killAt(t *testing.T, n int, atSteps bool, args ...string) ending {
	t.Helper()
	// it is held at its first call until its process is known to the proxy
	require.NoError(t, s.World.Proxy().Set(s.Ctx, proxy.Rule{Hold: true}))
	defer s.calm(t)
	c, out := s.site.Command(s.Ctx, args...)
	steps := s.steps(t)
	require.NoError(t, c.Start())
	require.NoError(t, s.World.Proxy().Set(s.Ctx, proxy.Rule{First: n, Times: 1, Kill: c.Process.Pid}))
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err == nil {
				return finished
			}
			require.True(t, signaled(c), "%s ended by itself with status %d, %d calls allowed:\n%s", strings.Join(args, " "), c.ProcessState.ExitCode(), n, out.String())
			return killedAtCall
		case <-tick.C:
			if !atSteps || s.steps(t) == steps {
				continue
			}
			require.NoError(t, c.Process.Kill())
			<-ended
			return reachedSteps
		}
	}
}

func signaled(c *exec.Cmd) bool {
	status, ok := c.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}

// steps counts the steps on machines that were ever begun. Making the machines is in the journal too, as NAME/machines. A line that was
// cut off is as after any kill.
func (s *teller) steps(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.site.Load(t).SiteDir(), plan.JournalName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
	n := 0
	for line := range bytes.Lines(data) {
		var e plan.Entry
		if json.Unmarshal(line, &e) == nil && e.Type == string(plan.Begin) && !strings.HasSuffix(e.Step, "/machines") {
			n++
		}
	}
	return n
}

// killed: apply is killed at its first call, then at its second, and so on; each run goes on from what the others left. When all
// machines are there, nothing must be there twice, and destroying, killed as well, must leave nothing; then it begins anew, until there
// were kills at enough different calls. The first ones only read: one round goes to its end, whatever that takes.
func (s *teller) killed(t *testing.T) {
	begin := time.Now()
	kills, rounds := 0, 0
	fresh := true // the cloud is empty
	for n := 1; kills < s.Kills || rounds == 0; n++ {
		require.Less(t, n, lastCall, "only %d different calls could be killed at", kills)
		switch how := s.killAt(t, n, true, "apply", "--yes", "--progress", "plain"); how {
		case killedAtCall:
			kills++
			fresh = false
			s.unique(t, fmt.Sprintf("killed at call %d", n))
		case reachedSteps:
			require.False(t, fresh, "making all machines takes fewer than %d calls: only %d different calls could be killed at", n, kills)
			s.complete(t)
			s.wipe(t, kills)
			rounds, fresh = rounds+1, true
			n-- // this call was not reached
		case finished:
			require.Fail(t, "apply formed clusters in less than a tenth of a second")
		}
	}
	t.Logf("%d kills at different calls, %d times from empty to all machines and back, in %s", kills, rounds, time.Since(begin).Round(time.Second))
}

// complete expects all machines once, and nothing left to do for the provider.
func (s *teller) complete(t *testing.T) {
	t.Helper()
	s.unique(t, "all machines are there")
	p := s.site.Plan(t)
	assert.Empty(t, p.Changes)
	assert.Empty(t, p.Pending)
}

// wipe destroys, killed at a growing number of calls, and expects that nothing is left of what was made.
func (s *teller) wipe(t *testing.T, first int) {
	t.Helper()
	const step = 3
	for n := 1 + first%step; ; n += step {
		require.Less(t, n, lastCall, "destroy does not come to its end")
		if s.killAt(t, n, false, "destroy", "--yes") == finished {
			break
		}
	}
	assert.Empty(t, words(s.made(t)), "destroy left something")
}

func (s *teller) forms(t *testing.T) {
	begin := time.Now()
	out := s.site.Must(t, 0, "apply", "--yes", "--progress", "plain")
	t.Logf("from machines that were half made to two clusters in %s:\n%s", time.Since(begin).Round(time.Second), out)
	s.complete(t)
	s.healthy(t)
}

// healthy asks the clusters themselves.
func (s *teller) healthy(t *testing.T) {
	t.Helper()
	inv := s.site.Load(t)
	for _, c := range inv.ClusterNames() {
		api := s.site.Client(t, c)
		var want []string
		for _, n := range inv.Cluster(c).PresentNodes() {
			want = append(want, n.Name)
		}
		slices.Sort(want)
		s.site.Eventually(t, 3*time.Minute, func(ctx context.Context) error {
			list, err := api.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			var have []string
			for _, n := range list.Items {
				if !site.Ready(&n) {
					return fmt.Errorf("%s is not ready", n.Name)
				}
				have = append(have, n.Name)
			}
			slices.Sort(have)
			if !slices.Equal(want, have) {
				return fmt.Errorf("the nodes are %v, expected %v", have, want)
			}
			return nil
		})
	}
}

func (s *teller) nothingToDo(t *testing.T) {
	before := s.list(t)
	assert.Contains(t, s.site.Must(t, 0, "apply", "--yes"), "nothing to do")
	assert.Contains(t, s.site.Must(t, 0, "plan"), "nothing to do")
	assert.ElementsMatch(t, before, s.list(t))
}

func (s *teller) adopts(t *testing.T) {
	inv := s.site.Load(t)
	ssh := inv.SSHFor(inventory.Workload, nil)
	key, err := os.ReadFile(ssh.KeyFile + ".pub")
	require.NoError(t, err)
	node, err := s.World.MakeByHand(s.Ctx, byHand, ssh.User, strings.TrimSpace(string(key)))
	require.NoError(t, err)
	node["name"], node["role"] = byHand, string(inventory.Worker)
	there := s.list(t)
	s.site.Change(t, func(m map[string]any) {
		c := site.At(m, "clusters", string(inventory.Workload))
		c["nodes"] = append(site.Nodes(m, inventory.Workload), node)
	})
	for _, c := range s.site.Plan(t).Changes {
		assert.Equal(t, provider.Adopt, c.Verb, c.Words())
	}
	s.site.Must(t, 0, "apply", "--yes", "--progress", "plain")
	s.healthy(t)
	assert.ElementsMatch(t, words(there), words(s.list(t)), "adopting makes nothing")
	s.nothingToDo(t)
}

// count sets the size of the workload cluster's pool.
func (s *teller) count(t *testing.T, n int) {
	t.Helper()
	s.site.Change(t, func(m map[string]any) {
		pools, ok := site.At(m, "clusters", string(inventory.Workload))["pools"].([]any)
		require.True(t, ok)
		pool, ok := pools[0].(map[string]any)
		require.True(t, ok)
		pool["count"] = n
	})
}

// poolNode is the name of a node of the workload cluster's pool.
func (s *teller) poolNode(t *testing.T, n int) string {
	t.Helper()
	return fmt.Sprintf("%s-%d", s.site.Load(t).Clusters.Workload.Pools[0].Name, n)
}

func (s *teller) grows(t *testing.T) {
	s.count(t, 2)
	faults := s.World.Faults()
	var rules []proxy.Rule
	for _, f := range faults {
		rules = append(rules, f.Rule)
	}
	require.NoError(t, s.World.Proxy().Set(s.Ctx, rules...))
	// each fault comes once: a run survives it, or says what went wrong and the next one goes on
	for try := 0; ; try++ {
		out, code := s.site.Run(t, "apply", "--yes", "--progress", "plain")
		if code == 0 {
			break
		}
		t.Logf("try %d:\n%s", try+1, out)
		require.NotContains(t, out, "goroutine ", "it crashed")
		require.Less(t, try, len(faults), "there are more errors than faults")
		s.unique(t, fmt.Sprintf("after try %d", try+1))
	}
	status, err := s.World.Proxy().Status(s.Ctx)
	require.NoError(t, err)
	s.calm(t)
	for i, f := range faults {
		assert.Positive(t, status.Rules[i].Done, "%s never happened", f.Name)
	}
	s.unique(t, "grown")
	s.healthy(t)
	s.nothingToDo(t)
}

func (s *teller) shrinks(t *testing.T) {
	gone := s.poolNode(t, 2)
	before := s.made(t)
	s.count(t, 1)
	p := s.site.Plan(t)
	assert.NotEmpty(t, p.Steps)
	out := s.site.Must(t, 0, "apply", "--yes", "--progress", "plain")
	t.Log("\n" + out)
	_, err := s.site.Client(t, inventory.Workload).CoreV1().Nodes().Get(s.Ctx, gone, metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "the node %s: %v", gone, err)
	var left []string
	for _, r := range s.made(t) {
		if strings.Contains(r.Name, gone) {
			left = append(left, r.Kind+" "+r.Name)
		}
	}
	assert.Empty(t, left, "of the machine that was taken away")
	assert.Less(t, len(s.made(t)), len(before))
	s.healthy(t)
	s.nothingToDo(t)
}

func (s *teller) destroys(t *testing.T) {
	made := len(s.made(t))
	const step = 2
	kills := 0
	for n := 1; ; n += step {
		require.Less(t, n, lastCall, "destroy does not come to its end")
		how := s.killAt(t, n, false, "destroy", "--yes")
		if how == finished {
			break
		}
		kills++
		s.unique(t, fmt.Sprintf("destroy killed at call %d", n))
	}
	t.Logf("%d resources were destroyed with %d kills", made, kills)
	assert.Positive(t, kills)
	for _, r := range s.made(t) {
		assert.Contains(t, r.Name, byHand, "destroy left the %s %s", r.Kind, r.Name)
	}
	assert.Contains(t, strings.Join(words(s.list(t)), "\n"), byHand, "a machine that was adopted stays")
	require.NoError(t, s.World.UnmakeByHand(s.Ctx, byHand))
	assert.ElementsMatch(t, words(s.before), words(s.list(t)))
}
