// Package providertest is the one conformance suite that every provider must pass: the contract of provider.Provider as
// cases. A provider's own test hands a Harness to Run.
package providertest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// Harness says how the suite drives one provider.
type Harness struct {
	// World makes an empty world of its own for one case: a project in a cloud, a rack. t.Cleanup takes it away.
	World func(t testing.TB) World
	// Creates says that the provider makes machines. One that only adopts listed machines must plan, change and delete
	// nothing, and the suite checks that instead.
	Creates bool
}

// World is what a provider acts on.
type World interface {
	// Provider is a provider as a new process has it: nothing is remembered that is not in the world.
	Provider(t testing.TB) provider.Provider
	// Request asks for what a case needs.
	Request(t testing.TB, w Want) provider.Request
	// Resources identify everything that exists in the world, whoever made it, sorted. An identity is never used again.
	Resources(t testing.TB) []string
	// Watch calls f before and after each operation on the world that changes something, from now on, possibly from
	// several goroutines. A world without operations never calls it.
	Watch(f func())
	// Break makes all following operations fail in a way that trying again can not mend, and tells whether it can.
	Break(t testing.TB) bool
}

// Want is what a case asks of a world.
type Want struct {
	// Nodes is how many nodes the workload cluster has, at least 2; the last but one is absent.
	Nodes int
	// Adopted is how many of the first nodes have a machine in the world already, made by somebody else.
	Adopted int
}

// patience bounds a call that must not hang.
const patience = 20 * time.Second

// Case is one clause of the contract.
type Case struct {
	Name  string
	Check func(t testing.TB, h Harness)
}

// Run runs every case against a provider.
func Run(t *testing.T, h Harness) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			c.Check(t, h)
		})
	}
}

// Cases are the suite. The names stand in provider/README.md.
func Cases() []Case {
	return []Case{
		{"plan changes nothing", planIsPure},
		{"plan tells what ensure does", planIsTrue},
		{"plan is empty after ensure", planEmptyAfterEnsure},
		{"ensure returns all machines in inventory order", machinesInOrder},
		{"ensure again changes nothing", ensureAgain},
		{"ensure makes only what is missing", ensureGrows},
		{"ensure adopts what is there", adopts},
		{"ensure cut off anywhere goes on", ensureCutOff},
		{"destroy deletes all that ensure created", destroysAll},
		{"destroy leaves adopted machines", destroyLeavesAdopted},
		{"destroy again is no error", destroyAgain},
		{"destroy cut off anywhere goes on", destroyCutOff},
		{"report may be nil", reportNil},
		{"report holds no lock", reportFree},
		{"report ends with the call", reportEnds},
		{"a cancelled context stops everything", contextHonoured},
		{"permanent errors say so", permanentErrors},
		{"several calls at once", concurrent},
	}
}

// reports gathers changes from several goroutines.
type reports struct {
	mu   sync.Mutex
	done []provider.Change
}

func (r *reports) add(c provider.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = append(r.done, c)
}

// all are the changes without their order and reasons.
func (r *reports) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return words(r.done)
}

func words(changes []provider.Change) []string {
	out := []string{}
	for _, c := range changes {
		out = append(out, fmt.Sprintf("%s %s %s", c.Verb, c.Kind, c.Name))
	}
	sort.Strings(out)
	return out
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func ensure(t testing.TB, w World, r provider.Request) []provider.Machine {
	t.Helper()
	m, err := w.Provider(t).Ensure(bounded(t), r, func(provider.Change) {})
	require.NoError(t, err, "ensure")
	return m
}

func plan(t testing.TB, w World, r provider.Request) []provider.Change {
	t.Helper()
	p, err := w.Provider(t).Plan(bounded(t), r)
	require.NoError(t, err, "plan")
	return p
}

func destroy(t testing.TB, w World, r provider.Request) {
	t.Helper()
	require.NoError(t, w.Provider(t).Destroy(bounded(t), r, func(provider.Change) {}), "destroy")
}

func planIsPure(t testing.TB, h Harness) {
	w := h.World(t)
	r := w.Request(t, Want{Nodes: 3, Adopted: 1})
	before := w.Resources(t)
	first := plan(t, w, r)
	assert.Equal(t, before, w.Resources(t), "plan changed the world")
	assert.Equal(t, first, plan(t, w, r), "the second plan differs from the first")
	if h.Creates {
		assert.NotEmpty(t, first, "two machines are missing")
	}
	for _, c := range first {
		assert.NotEmpty(t, c.Kind, "%v", c)
		assert.NotEmpty(t, c.Name, "%v", c)
		assert.NotEmpty(t, c.Reason, "%v", c)
	}
}

func planIsTrue(t testing.TB, h Harness) {
	w := h.World(t)
	r := w.Request(t, Want{Nodes: 3, Adopted: 1})
	planned := plan(t, w, r)
	var done reports
	_, err := w.Provider(t).Ensure(bounded(t), r, done.add)
	require.NoError(t, err)
	assert.Equal(t, words(planned), done.all(), "what ensure reported is not what was planned")
}

func planEmptyAfterEnsure(t testing.TB, h Harness) {
	w := h.World(t)
	r := w.Request(t, Want{Nodes: 3, Adopted: 1})
	ensure(t, w, r)
	p := plan(t, w, r)
	assert.NotNil(t, p, "no change is an empty slice, not nil: it is shown as JSON")
	assert.Empty(t, p)
}

func machinesInOrder(t testing.TB, h Harness) {
	w := h.World(t)
	r := w.Request(t, Want{Nodes: 5, Adopted: 1})
	nodes := r.Inventory.Cluster(r.Cluster).Nodes
	require.Len(t, nodes, 5, "the harness's request")
	require.Equal(t, inventory.Absent, nodes[3].State, "the harness's request: the last but one is absent")
	machines := ensure(t, w, r)
	require.Len(t, machines, len(nodes), "absent nodes have machines too: they are drained and reset")
	seen := map[string]string{}
	for i, m := range machines {
		assert.Equal(t, nodes[i].Name, m.Name)
		assert.Equal(t, nodes[i].Role, m.Role)
		assert.Equal(t, r.Cluster, m.Cluster)
		if nodes[i].Address != "" {
			assert.Equal(t, nodes[i].Address, m.Address, "%s: the inventory asks for this address", m.Name)
		}
		if nodes[i].HostKey != "" {
			assert.Equal(t, nodes[i].HostKey, m.HostKey, "%s: the inventory pins this key", m.Name)
		}
		_, err := netip.ParseAddr(m.Address)
		assert.NoError(t, err, "%s: its address", m.Name)
		assert.Empty(t, seen[m.Address], "%s has another's address", m.Name)
		seen[m.Address] = m.Name
	}
}

func ensureAgain(t testing.TB, h Harness) {
	w := h.World(t)
	r := w.Request(t, Want{Nodes: 3, Adopted: 1})
	first, made := ensure(t, w, r), w.Resources(t)
	var done reports
	second, err := w.Provider(t).Ensure(bounded(t), r, done.add)
	require.NoError(t, err)
	assert.Equal(t, first, second, "the machines")
	assert.Equal(t, made, w.Resources(t), "the world")
	assert.Empty(t, done.all(), "what was reported")
}

func ensureGrows(t testing.TB, h Harness) {
	w := h.World(t)
	small := ensure(t, w, w.Request(t, Want{Nodes: 2}))
	made := w.Resources(t)
	large := w.Request(t, Want{Nodes: 4})
	machines := ensure(t, w, large)
	require.Len(t, machines, 4)
	assert.Equal(t, addresses(small), addresses(machines[:2]), "machines that were there have moved")
	assert.Subset(t, w.Resources(t), made, "something that was there is gone")
	if h.Creates {
		assert.Greater(t, len(w.Resources(t)), len(made), "nothing was made")
	}
}

func addresses(machines []provider.Machine) []string {
	var out []string
	for _, m := range machines {
		out = append(out, m.Name+" "+m.Address)
	}
	return out
}

func adopts(t testing.TB, h Harness) {
	w := h.World(t)
	r := w.Request(t, Want{Nodes: 3, Adopted: 3})
	foreign := w.Resources(t)
	for _, c := range plan(t, w, r) {
		assert.Equal(t, provider.Adopt, c.Verb, "%v: all machines are there", c)
	}
	assert.Len(t, ensure(t, w, r), 3)
	assert.Equal(t, foreign, w.Resources(t), "adopting makes nothing and deletes nothing")
}

// cutOff calls do with a context that ends at each operation in turn, in a world of its own each, until it is not cut
// off any more; then resume must reach what an undisturbed run reaches.
func cutOff(t testing.TB, h Harness, prepare, do, resume func(w World, r provider.Request, ctx context.Context) error, check func(w World, r provider.Request, point int)) {
	t.Helper()
	for point := 1; ; point++ {
		require.Less(t, point, 1000, "operations do not end")
		w := h.World(t)
		r := w.Request(t, Want{Nodes: 3, Adopted: 1})
		require.NoError(t, prepare(w, r, bounded(t)))
		ctx, cancel := context.WithCancel(bounded(t))
		var mu sync.Mutex
		count := 0
		w.Watch(func() {
			mu.Lock()
			defer mu.Unlock()
			if count++; count == point {
				cancel()
			}
		})
		err := do(w, r, ctx)
		mu.Lock()
		reached := count >= point
		mu.Unlock()
		cancel()
		if err != nil {
			assert.ErrorIs(t, err, context.Canceled, "cut off at operation %d", point)
			assert.NotErrorIs(t, err, provider.ErrPermanent, "cut off at operation %d: trying again does help", point)
		}
		w.Watch(func() {})
		require.NoError(t, resume(w, r, bounded(t)), "resumed after operation %d", point)
		check(w, r, point)
		if !reached {
			require.NoError(t, err, "it was not cut off")
			if h.Creates {
				require.Greater(t, point, 2, "the world shows no operations: the harness does not watch them")
			}
			return
		}
	}
}

func callEnsure(t testing.TB) func(World, provider.Request, context.Context) error {
	return func(w World, r provider.Request, ctx context.Context) error {
		_, err := w.Provider(t).Ensure(ctx, r, func(provider.Change) {})
		return err
	}
}

func callDestroy(t testing.TB) func(World, provider.Request, context.Context) error {
	return func(w World, r provider.Request, ctx context.Context) error {
		return w.Provider(t).Destroy(ctx, r, func(provider.Change) {})
	}
}

func ensureCutOff(t testing.TB, h Harness) {
	whole := h.World(t)
	ensure(t, whole, whole.Request(t, Want{Nodes: 3, Adopted: 1}))
	want := len(whole.Resources(t))
	nothing := func(World, provider.Request, context.Context) error { return nil }
	cutOff(t, h, nothing, callEnsure(t), callEnsure(t), func(w World, r provider.Request, point int) {
		assert.Len(t, w.Resources(t), want, "cut off at operation %d and resumed: something was made twice, or not at all", point)
		assert.Empty(t, plan(t, w, r), "cut off at operation %d and resumed", point)
	})
}

func destroyCutOff(t testing.TB, h Harness) {
	foreign := map[World][]string{}
	prepare := func(w World, r provider.Request, ctx context.Context) error {
		foreign[w] = w.Resources(t)
		return callEnsure(t)(w, r, ctx)
	}
	cutOff(t, h, prepare, callDestroy(t), callDestroy(t), func(w World, _ provider.Request, point int) {
		assert.Equal(t, foreign[w], w.Resources(t), "cut off at operation %d and resumed", point)
	})
}

func destroysAll(t testing.TB, h Harness) {
	w := h.World(t)
	r := w.Request(t, Want{Nodes: 3})
	before := w.Resources(t)
	ensure(t, w, r)
	var done reports
	require.NoError(t, w.Provider(t).Destroy(bounded(t), r, done.add))
	assert.Equal(t, before, w.Resources(t), "what ensure created is not what destroy deleted")
	if h.Creates {
		assert.NotEmpty(t, done.all(), "deletions are reported")
		for _, c := range done.done {
			assert.Equal(t, provider.Delete, c.Verb)
		}
	} else {
		assert.Empty(t, done.all(), "nothing was created")
	}
}

func destroyLeavesAdopted(t testing.TB, h Harness) {
	w := h.World(t)
	r := w.Request(t, Want{Nodes: 3, Adopted: 2})
	foreign := w.Resources(t)
	ensure(t, w, r)
	destroy(t, w, r)
	assert.Equal(t, foreign, w.Resources(t), "adopted machines must stay, everything else must go")
}

func destroyAgain(t testing.TB, h Harness) {
	w := h.World(t)
	r := w.Request(t, Want{Nodes: 3, Adopted: 1})
	destroy(t, w, r) // nothing was ever ensured
	ensure(t, w, r)
	destroy(t, w, r)
	left := w.Resources(t)
	destroy(t, w, r)
	assert.Equal(t, left, w.Resources(t))
}

func reportNil(t testing.TB, h Harness) {
	w := h.World(t)
	r := w.Request(t, Want{Nodes: 3, Adopted: 1})
	assert.NotPanics(t, func() {
		_, err := w.Provider(t).Ensure(bounded(t), r, nil)
		assert.NoError(t, err)
		assert.NoError(t, w.Provider(t).Destroy(bounded(t), r, nil))
	})
}

// reportFree calls the provider from within report: who holds a lock then, hangs.
func reportFree(t testing.TB, h Harness) {
	w := h.World(t)
	r := w.Request(t, Want{Nodes: 3, Adopted: 1})
	p := w.Provider(t)
	done := make(chan error, 1)
	go func() {
		_, err := p.Ensure(bounded(t), r, func(provider.Change) { _, _ = p.Plan(bounded(t), r) }) // its result is another case's
		done <- err
	}()
	select {
	case err := <-done:
		assert.NoError(t, err)
	case <-time.After(patience / 10):
		assert.Fail(t, "ensure hangs while report calls plan: it holds a lock")
	}
}

func reportEnds(t testing.TB, h Harness) {
	w := h.World(t)
	r := w.Request(t, Want{Nodes: 3, Adopted: 1})
	var mu sync.Mutex
	over, late := false, 0
	report := func(provider.Change) {
		mu.Lock()
		defer mu.Unlock()
		if over {
			late++
		}
	}
	ended := func() {
		mu.Lock()
		over = true
		mu.Unlock()
	}
	_, err := w.Provider(t).Ensure(bounded(t), r, report)
	ended()
	require.NoError(t, err)
	assert.Never(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return late > 0
	}, 200*time.Millisecond, 20*time.Millisecond, "report was called after ensure returned")
}

func contextHonoured(t testing.TB, h Harness) {
	w := h.World(t)
	r := w.Request(t, Want{Nodes: 3, Adopted: 1})
	before := w.Resources(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the operator pressed a key")
	cancel(cause)
	isCause := func(call string, err error) {
		assert.Error(t, err, "%s went on", call)
		assert.True(t, errors.Is(err, context.Canceled) || errors.Is(err, cause), "%s: the error does not wrap the context's: %v", call, err)
		assert.NotErrorIs(t, err, provider.ErrPermanent, call)
	}
	_, err := w.Provider(t).Plan(ctx, r)
	isCause("plan", err)
	_, err = w.Provider(t).Ensure(ctx, r, nil)
	isCause("ensure", err)
	assert.Equal(t, before, w.Resources(t), "ensure changed the world")
	ensure(t, w, r)
	made := w.Resources(t)
	isCause("destroy", w.Provider(t).Destroy(ctx, r, nil))
	assert.Equal(t, made, w.Resources(t), "destroy changed the world")
}

func permanentErrors(t testing.TB, h Harness) {
	w := h.World(t)
	r := w.Request(t, Want{Nodes: 3})
	isPermanent := func(r provider.Request, why string) {
		_, err := w.Provider(t).Plan(bounded(t), r)
		assert.ErrorIs(t, err, provider.ErrPermanent, "plan: %s", why)
		_, err = w.Provider(t).Ensure(bounded(t), r, nil)
		assert.ErrorIs(t, err, provider.ErrPermanent, "ensure: %s", why)
		assert.ErrorIs(t, w.Provider(t).Destroy(bounded(t), r, nil), provider.ErrPermanent, "destroy: %s", why)
	}
	isPermanent(provider.Request{Inventory: r.Inventory, Cluster: "management"}, "no such cluster")
	if w.Break(t) {
		isPermanent(r, "nothing can be done any more")
	} else {
		assert.False(t, h.Creates, "a world in which machines are made can be broken")
	}
}

// concurrent calls one provider from several goroutines; with -race it finds shared state.
func concurrent(t testing.TB, h Harness) {
	w := h.World(t)
	r := w.Request(t, Want{Nodes: 3, Adopted: 1})
	ensure(t, w, r)
	p, made := w.Provider(t), w.Resources(t)
	errs := make(chan error, 8)
	for range cap(errs) / 2 {
		go func() {
			_, err := p.Ensure(bounded(t), r, func(provider.Change) {})
			errs <- err
		}()
		go func() {
			_, err := p.Plan(bounded(t), r)
			errs <- err
		}()
	}
	for range cap(errs) {
		assert.NoError(t, <-errs)
	}
	assert.Equal(t, made, w.Resources(t))
}
