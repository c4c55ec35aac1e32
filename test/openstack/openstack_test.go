package openstack_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/provider"
	"github.com/catamaran-k8s/catamaran/provider/providertest"
	lab "github.com/catamaran-k8s/catamaran/test/lab/openstack"
)

func TestConformance(t *testing.T) {
	need(t)
	providertest.Run(t, providertest.Harness{
		Creates: true, Patience: 10 * time.Minute, Stride: *stride,
		World: func(t testing.TB) providertest.World { return newWorld(t) },
	})
}

// pooled is a site with all kinds of resources.
func (w *world) pooled(t testing.TB, count int, more string) provider.Request {
	return w.parse(t, fmt.Sprintf(`
apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: %s}
kubernetes: {version: 1.37.2}
ssh: {user: ops, authorizedKeys: ["%s"]}
clusters:
  workload:
    endpoint: {address: 10.88.0.250}
    network: {podCIDR: 10.102.0.0/16, serviceCIDR: 10.103.0.0/16}
    provider:
      openstack:
        cloud: %s
        network: {cidr: 10.88.0.0/24, external: %s, dns: [192.0.2.53]}
        sshFrom: [192.0.2.0/24]
        apiFrom: [192.0.2.0/24]
        machine: {flavor: %s, image: %s}
    nodes:
      - {name: cp, role: control-plane, address: 10.88.0.11, openstack: {floatingIP: true, configDrive: true}}
    pools:
      - {name: w, role: worker, count: %d, openstack: {antiAffinity: soft, metadata: {owner: us}, tags: [blue]%s}}
`, w.site, key, *cloudName, *external, w.flavor, w.image, count, more))
}

func TestSite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.pooled(t, 2, ", volume: {sizeGiB: 2}")
	machines, err := w.Provider(t).Ensure(t.Context(), r, nil)
	require.NoError(t, err)
	require.Len(t, machines, 3)
	assert.Equal(t, "10.88.0.11", machines[0].Address)
	assert.NotEmpty(t, machines[0].SSHAddress, "the floating IP")
	for _, m := range machines {
		assert.True(t, strings.HasPrefix(m.HostKey, "ssh-ed25519 "), "%s: its host key is known before it is reached", m.Name)
	}
	kinds := map[string]int{}
	for _, id := range w.Resources(t) {
		kinds[id[:strings.LastIndex(id, " ")]]++
	}
	// ports: three machines, the API's address, the router
	assert.Equal(t, map[string]int{
		"server": 3, "volume": 2, "port": 5, "floating IP": 1, "security group": 2, "server group": 1, "network": 1, "subnet": 1, "router": 1,
	}, kinds)
	p, err := w.Provider(t).Plan(t.Context(), r)
	require.NoError(t, err)
	assert.Empty(t, p.Changes)
	require.NoError(t, w.Provider(t).Destroy(t.Context(), r, nil))
	assert.Empty(t, w.Resources(t))
}

func TestNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.flavor += "x"
	_, err := w.Provider(t).Plan(t.Context(), w.Request(t, providertest.Want{Nodes: 2}))
	assert.ErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, "there is no flavor "+w.flavor+"; the nearest are "+*flavorName)
}

func TestQuota(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.Provider(t).Ensure(t.Context(), w.pooled(t, 1, ", volume: {sizeGiB: 1000000}"), nil)
	assert.ErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, "volume gigabytes: 1000000 GiB are needed")
	assert.Empty(t, w.Resources(t), "nothing was made")
}

func TestDifferences(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.Provider(t).Ensure(t.Context(), w.pooled(t, 1, ""), nil)
	require.NoError(t, err)
	changed := w.pooled(t, 1, "")
	changed.Inventory.Clusters.Workload.Provider.OpenStack.SSHFrom = []string{"198.51.100.0/24"}
	p, err := w.Provider(t).Plan(t.Context(), changed)
	require.NoError(t, err)
	require.Len(t, p.Changes, 1)
	assert.Equal(t, provider.Update, p.Changes[0].Verb)
	assert.Equal(t, "security-group", p.Changes[0].Kind)
	_, err = w.Provider(t).Ensure(t.Context(), changed, nil)
	require.NoError(t, err)
	p, err = w.Provider(t).Plan(t.Context(), changed)
	require.NoError(t, err)
	assert.Empty(t, p.Changes)
	_, err = w.Provider(t).Plan(t.Context(), w.pooled(t, 1, ", volume: {sizeGiB: 5}"))
	assert.ErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, "w-1: it boots from the flavor's own disk, and the inventory names a volume")
}

// TestNoRoom asks for more hypervisors than there are, and for fewer afterwards.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.pooled(t, lab.DefaultComputes+1, "")
	for i := range r.Inventory.Clusters.Workload.Nodes {
		if n := &r.Inventory.Clusters.Workload.Nodes[i]; n.Pool != "" {
			n.OpenStack.AntiAffinity = "hard"
		}
	}
	_, err := w.Provider(t).Ensure(t.Context(), r, nil)
	require.ErrorIs(t, err, provider.ErrPermanent, "there are %d hypervisors", lab.DefaultComputes)
	assert.ErrorContains(t, err, "antiAffinity hard asks for one hypervisor for each machine of the pool w")
	p, err := w.Provider(t).Plan(t.Context(), r)
	require.NoError(t, err)
	require.Len(t, p.Changes, 2, "the one that never started is deleted and made again: %v", p.Changes)
}

// TestLostAnswers: each request that makes something is carried out, and its answer is lost once.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var lost atomic.Int64
	seen := map[string]bool{}
	guard := make(chan struct{}, 1)
	w.inject(func(r *http.Request, base http.RoundTripper) (*http.Response, error) {
		resp, err := base.RoundTrip(r)
		if err != nil || r.Method != http.MethodPost || strings.HasSuffix(r.URL.Path, "/auth/tokens") {
			return resp, err
		}
		guard <- struct{}{}
		first := !seen[r.URL.Path]
		seen[r.URL.Path] = true
		<-guard
		if !first {
			return resp, nil
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		lost.Add(1)
		return answer(r, http.StatusGatewayTimeout, ""), nil
	})
	r := w.pooled(t, 2, ", volume: {sizeGiB: 2}")
	machines, err := w.Provider(t).Ensure(t.Context(), r, nil)
	require.NoError(t, err)
	assert.Len(t, machines, 3)
	assert.GreaterOrEqual(t, lost.Load(), int64(8), "one of each kind")
	made := w.Resources(t)
	_, err = w.Provider(t).Ensure(t.Context(), r, nil)
	require.NoError(t, err)
	assert.Equal(t, made, w.Resources(t), "nothing was made twice, and nothing is missing")
	assert.Len(t, made, 17)
}

// TestTokenEnds: every tenth request finds the token expired.
func TestTokenEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var n, refused atomic.Int64
	w.inject(func(r *http.Request, base http.RoundTripper) (*http.Response, error) {
		if !strings.Contains(r.URL.Path, "/auth/tokens") && n.Add(1)%10 == 0 {
			refused.Add(1)
			return answer(r, http.StatusUnauthorized, `{"error": {"message": "The token has expired"}}`), nil
		}
		return base.RoundTrip(r)
	})
	_, err := w.Provider(t).Ensure(t.Context(), w.pooled(t, 1, ""), nil)
	require.NoError(t, err)
	assert.Positive(t, refused.Load())
}

// TestCalls counts the requests of a plan that has nothing to do: of one machine more, and of many.
func TestCalls(t *testing.T) {
	w := newWorld(t)
	plan := func(nodes int) (requests int64, took time.Duration) {
		r := w.pooled(t, nodes-1, "")
		_, err := w.Provider(t).Ensure(t.Context(), r, nil)
		require.NoError(t, err)
		before, begin := w.requests.Load(), time.Now()
		p, err := w.Provider(t).Plan(t.Context(), r)
		require.NoError(t, err)
		require.Empty(t, p.Changes)
		require.Len(t, p.Machines, nodes)
		return w.requests.Load() - before, time.Since(begin)
	}
	few, fast := plan(2)
	many, slow := plan(*nodeCount)
	t.Logf("a plan that has nothing to do: %d requests in %s for 2 machines, %d in %s for %d", few, fast.Round(time.Millisecond), many, slow.Round(time.Millisecond), *nodeCount)
	assert.Equal(t, few, many, "the number of requests must not grow with the servers")
}
