package vsphere

// Cut off at every single call, as by kill -9: from then on nothing comes through, and the next run is another process.

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/provider"
)

const spreadPool = `
    nodes:
      - {name: wc-cp, role: control-plane, vsphere: {vm: DC0_C0_RP0_VM1}}
    pools:
      - {name: wc-w, role: worker, count: 2, vsphere: {antiAffinity: hard, diskGiB: 20}}
`

// die lets n calls through and none after: the connection just ends.
func (c *cloud) die(n int64) *atomic.Int64 {
	var count atomic.Int64
	c.onCall(func(_ string, w http.ResponseWriter, _ []byte) bool {
		if count.Add(1) <= n {
			return false
		}
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = conn.Close()
		}
		return true
	})
	return &count
}

func (c *cloud) revive() { c.onCall(nil) }

// cutAtCalls does something in a cloud of its own for each call (or every step-th) at which it is cut off, and checks afterwards.
func cutAtCalls(t *testing.T, step int64, prepare, do func(*cloud, provider.Request) error, after func(*cloud, provider.Request, int64)) {
	t.Helper()
	if testing.Short() {
		step = 7
	}
	for n := int64(0); ; n += step {
		c := newCloud(t)
		r := c.site(t, spreadPool)
		require.NoError(t, prepare(c, r))
		count := c.die(n)
		err := do(c, r)
		calls := count.Load()
		c.revive()
		if calls > n && n < calls-3 { // the last three only tidy up and sign out
			require.Error(t, err, "cut off after call %d", n)
		}
		if err != nil {
			require.NotErrorIs(t, err, provider.ErrPermanent, "cut off after call %d", n)
		}
		after(c, r, n)
		if calls <= n {
			require.NoError(t, err)
			require.Greater(t, n, int64(30), "so few calls are not all")
			return
		}
	}
}

func ensured(c *cloud, r provider.Request) error {
	_, err := c.with(nil).Ensure(context.Background(), r, nil)
	return err
}

func destroyed(c *cloud, r provider.Request) error {
	return c.with(nil).Destroy(context.Background(), r, nil)
}

func nothing(*cloud, provider.Request) error { return nil }

func TestEnsureCutOffAtEveryCall(t *testing.T) {
	t.Parallel()
	cutAtCalls(t, 1, nothing, ensured, func(c *cloud, r provider.Request, n int64) {
		require.NoError(t, ensured(c, r), "resumed after call %d", n)
		assert.Equal(t, map[string]int{"Folder": 2, "VirtualMachine": 2, "rule": 1, "attribute": 1, "category": 1, "tag": 1}, c.made(t), "after call %d", n)
		p, err := c.with(nil).Plan(t.Context(), r)
		require.NoError(t, err)
		assert.Empty(t, p.Changes, "resumed after call %d", n)
		require.NoError(t, destroyed(c, r))
		assert.Empty(t, c.made(t), "destroyed, after call %d", n)
	})
}

func TestDestroyCutOffAtEveryOtherCall(t *testing.T) {
	t.Parallel()
	cutAtCalls(t, 2, ensured, destroyed, func(c *cloud, r provider.Request, n int64) {
		require.NoError(t, destroyed(c, r), "resumed after call %d", n)
		assert.Empty(t, c.made(t), "resumed after call %d", n)
	})
}

// made counts by kind what is there beside what a new cloud has.
func (c *cloud) made(t *testing.T) map[string]int {
	out := map[string]int{}
	for _, r := range c.Resources(t) {
		kind, _, _ := strings.Cut(r, " ")
		name := r[strings.LastIndex(r, " ")+1:]
		switch {
		case kind == "StoragePod": // a folder to the simulator
		case kind == "VirtualMachine" && strings.HasPrefix(name, "DC0_"):
		case kind == "Folder" && !strings.HasSuffix(r, " umea") && !strings.HasSuffix(r, " workload") && !strings.HasSuffix(r, " service"):
		default:
			out[kind]++
		}
	}
	return out
}

func TestCutOffErrorsNameTheVCenter(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	c.die(0)
	_, err := c.with(nil).Plan(t.Context(), c.site(t, spreadPool))
	assert.ErrorContains(t, err, fmt.Sprintf("vsphere: plan the workload cluster: reach the vCenter %s", strings.TrimPrefix(c.front.URL, "https://")))
}
