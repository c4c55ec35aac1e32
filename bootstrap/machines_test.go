package bootstrap

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote/sshdtest"
	"github.com/catamaran-k8s/catamaran/inventory"
)

func TestPlanShowsChangesAndMakesNothing(t *testing.T) {
	t.Parallel()
	c := &cloud{}
	s := cloudSite(t, c, nil)
	p, err := s.Plan(t.Context())
	require.NoError(t, err)
	var words []string
	for _, change := range p.Changes {
		words = append(words, string(change.Cluster)+": "+change.Words())
	}
	assert.Equal(t, []string{
		"service: create server sc-1", "workload: create server wc-1", "workload: create server wc-w-1", "workload: create server wc-w-2",
	}, words)
	assert.Equal(t, []string{"sc-1", "wc-1", "wc-w-1", "wc-w-2"}, p.Pending)
	assert.Empty(t, p.Steps)
	assert.False(t, p.Empty())
	assert.Empty(t, c.names(), "nothing was made")
}

func TestApplyAsksBeforeItMakes(t *testing.T) {
	t.Parallel()
	c := &cloud{}
	s := cloudSite(t, c, nil)
	var shown plan.Plan
	_, sum, err := s.Apply(t.Context(), ApplyOptions{ApproveMachines: func(p plan.Plan) (bool, error) { shown = p; return false, nil }})
	require.NoError(t, err)
	assert.Len(t, shown.Changes, 4)
	assert.True(t, sum.Empty())
	assert.Empty(t, c.names(), "the operator said no")
	assert.NoFileExists(t, s.JournalFile())
}

func TestApplyChecksTheBundleBeforeItMakes(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Site){
		"none":     func(s *Site) { s.Bundle = nil },
		"an image": func(s *Site) { s.Bundle.Manifest.Images = s.Bundle.Manifest.Images[1:] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &cloud{}
			s := cloudSite(t, c, nil)
			spoil(s)
			_, _, err := s.Apply(t.Context(), ApplyOptions{ApproveMachines: func(plan.Plan) (bool, error) {
				assert.Fail(t, "it asked")
				return true, nil
			}})
			assert.ErrorContains(t, err, "bundle")
			assert.Empty(t, c.names())
		})
	}
}

func TestASavedPlanOfOtherMachinesIsRefused(t *testing.T) {
	t.Parallel()
	c := &cloud{}
	s := cloudSite(t, c, nil)
	saved, err := s.Plan(t.Context())
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "plan.json")
	require.NoError(t, plan.WriteFile(file, saved))
	saved, err = plan.ReadFile(file)
	require.NoError(t, err)
	assert.Len(t, saved.Changes, 4)

	no := func(plan.Plan) (bool, error) { return false, nil }
	_, _, err = s.Apply(t.Context(), ApplyOptions{Saved: &saved, ApproveMachines: no})
	require.NoError(t, err, "nothing moved")

	c.add(inventory.Workload, "wc-w-2", inventory.Worker, false)
	_, _, err = s.Apply(t.Context(), ApplyOptions{Saved: &saved, ApproveMachines: no})
	var moved *MovedError
	require.ErrorAs(t, err, &moved)
	assert.Equal(t, []string{"workload: create server wc-w-2 is not needed any more"}, moved.Differences)
	assert.Equal(t, []string{"wc-w-2"}, c.names(), "nothing was made")

	saved.Changes = saved.Changes[1:]
	require.NoError(t, plan.WriteFile(file, saved))
	_, err = plan.ReadFile(file)
	assert.ErrorContains(t, err, "was changed after it was saved")
}

func TestMachinesAreMadeAndAwaited(t *testing.T) {
	t.Parallel()
	sshd := sshdtest.Start(t)
	c := &cloud{hostKey: ssh.FingerprintSHA256(sshd.HostKeys[ssh.KeyAlgoED25519].PublicKey())}
	s := cloudSite(t, c, sshd)
	require.NoError(t, s.FindMachines(t.Context()))
	var events []plan.Event
	_, goOn, deaf, err := s.makeMachines(t.Context(), &ApplyOptions{Events: func(e plan.Event) { events = append(events, e) }})
	require.NoError(t, err)
	require.NoError(t, deaf)
	assert.True(t, goOn)
	assert.Equal(t, []string{"sc-1", "wc-1", "wc-w-1", "wc-w-2"}, c.names())
	assert.NoFileExists(t, s.awaitFile(), "all have answered")

	node := s.Inventory.Node("wc-w-1")
	require.NotNil(t, node)
	assert.Regexp(t, `^10\.77\.0\.1\d$`, node.Address, "what others reach it at, not what SSH does")
	assert.Equal(t, c.hostKey, node.HostKey)
	assert.Equal(t, s.Inventory.Node("sc-1").Address, s.Inventory.Cluster(inventory.Service).Endpoint.Address, "the only control plane is the endpoint")
	assert.Empty(t, s.wanted.Node("sc-1").Address, "what the file says stays")

	f, err := os.Open(s.JournalFile())
	require.NoError(t, err)
	defer f.Close() //nolint:errcheck // only read
	entries, err := plan.ReadJournal(f)
	require.NoError(t, err)
	var types []string
	for _, e := range entries {
		if e.Step == "service/machines" {
			types = append(types, e.Type+" "+e.Title)
		}
	}
	assert.Equal(t, []string{"begin make the machines", "changed create server sc-1", "end make the machines"}, types)
	ended := map[string]bool{}
	for _, e := range events {
		ended[e.Step] = ended[e.Step] || e.Type == plan.End
	}
	assert.True(t, ended["workload/wc-w-2/ssh"], "%v", ended)
}

func TestAMachineThatDoesNotBootIsToldWithItsConsole(t *testing.T) {
	t.Parallel()
	sshd := sshdtest.Start(t)
	link := sshdtest.StartProxy(t, sshd.Port)
	link.Set(false, true)
	c := &cloud{hostKey: ssh.FingerprintSHA256(sshd.HostKeys[ssh.KeyAlgoED25519].PublicKey()), console: "kernel panic: no root"}
	down := *sshd
	down.Port = link.Port
	s := cloudSite(t, c, &down)
	s.dial.bound = 300 * time.Millisecond
	require.NoError(t, s.FindMachines(t.Context()))
	_, goOn, deaf, err := s.makeMachines(t.Context(), &ApplyOptions{})
	require.NoError(t, err)
	assert.True(t, goOn, "others may have answered")
	require.ErrorContains(t, deaf, "sc-1 was made and did not answer on SSH within 300ms")
	require.ErrorContains(t, deaf, "the end of its console:\nkernel panic: no root")

	// the next run waits for it again, though nothing is to be made
	link.Set(false, false)
	next, err := Open(s.wanted.Path, Options{Operator: "tester", Providers: s.providers})
	require.NoError(t, err)
	t.Cleanup(next.Close)
	require.NoError(t, next.FindMachines(t.Context()))
	waited := false
	_, _, deaf, err = next.makeMachines(t.Context(), &ApplyOptions{Events: func(e plan.Event) { waited = waited || e.Step == "service/sc-1/ssh" }})
	require.NoError(t, err)
	require.NoError(t, deaf)
	assert.True(t, waited)
	assert.NoFileExists(t, s.awaitFile())
}

func TestAnotherHostKeyFailsAtOnce(t *testing.T) {
	t.Parallel()
	sshd, other := sshdtest.Start(t), sshdtest.Start(t)
	c := &cloud{hostKey: ssh.FingerprintSHA256(other.HostKeys[ssh.KeyAlgoED25519].PublicKey())}
	s := cloudSite(t, c, sshd)
	s.dial.bound = time.Hour
	require.NoError(t, s.FindMachines(t.Context()))
	begin := time.Now()
	_, _, deaf, err := s.makeMachines(t.Context(), &ApplyOptions{})
	require.NoError(t, err)
	require.ErrorContains(t, deaf, "host key")
	assert.Less(t, time.Since(begin), time.Minute)
}

func TestSurplusIsAnAbsentNode(t *testing.T) {
	t.Parallel()
	c := &cloud{}
	s := cloudSite(t, c, nil)
	c.add(inventory.Service, "sc-1", inventory.ControlPlane, false)
	for _, n := range []string{"wc-1", "wc-w-1", "wc-w-2", "wc-w-3"} {
		c.add(inventory.Workload, n, inventory.Worker, n == "wc-w-2")
	}
	for i := range s.wanted.Clusters.Workload.Nodes {
		if n := &s.wanted.Clusters.Workload.Nodes[i]; n.Name != "wc-1" {
			n.State = inventory.Absent
		}
	}
	require.NoError(t, s.FindMachines(t.Context()))
	surplus := s.Inventory.Node("wc-w-3")
	require.NotNil(t, surplus)
	assert.Equal(t, inventory.Absent, surplus.State)
	assert.True(t, surplus.Leaving)
	assert.Equal(t, "wc-w", surplus.Pool)
	assert.True(t, s.Inventory.Node("wc-w-1").Leaving, "absent, and the provider made it")
	assert.False(t, s.Inventory.Node("wc-w-2").Leaving, "absent, and somebody else made it")
	require.NoError(t, newEnvironment(s, nil).Retire(t.Context(), inventory.Workload, "wc-w-3", func(string) {}))
	assert.Equal(t, []string{"wc-w-3"}, c.retired)
}

func TestDestroy(t *testing.T) {
	t.Parallel()
	c := &cloud{fails: errNoFlavor}
	s := cloudSite(t, c, nil)
	c.add(inventory.Service, "sc-1", inventory.ControlPlane, false)
	c.add(inventory.Workload, "wc-1", inventory.ControlPlane, true)
	c.add(inventory.Workload, "wc-w-7", inventory.Worker, false)

	var shown Destruction
	_, err := s.Destroy(t.Context(), DestroyOptions{Approve: func(d Destruction) (bool, error) { shown = d; return false, nil }})
	require.NoError(t, err)
	assert.Equal(t, []string{"sc-1", "wc-1", "wc-w-7"}, c.names(), "the operator said no")
	require.Len(t, shown.Changes, 2)
	assert.Equal(t, "delete server wc-w-7", shown.Changes[1].Words(), "surplus too")
	assert.Equal(t, []string{"wc-1"}, shown.Adopted)
	assert.Contains(t, shown.Unknown, "there is no flavor named huge")

	lock, err := plan.Acquire(s.wanted.SiteDir(), s.holder("apply"))
	require.NoError(t, err)
	_, err = s.Destroy(t.Context(), DestroyOptions{})
	var held *plan.HeldError
	require.ErrorAs(t, err, &held, "not while somebody else changes the site")
	lock.Release()

	_, err = s.Destroy(t.Context(), DestroyOptions{})
	require.NoError(t, err)
	assert.Equal(t, []string{"wc-1"}, c.names(), "somebody else made it")
	text, err := os.ReadFile(s.JournalFile())
	require.NoError(t, err)
	assert.Contains(t, string(text), "delete server sc-1")
}
