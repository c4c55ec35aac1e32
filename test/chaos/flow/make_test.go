package flow

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
)

func TestScriptPrintsAtItsRate(t *testing.T) {
	t.Parallel()
	c := exec.Command("sh", "-c", script)
	c.Env = []string{"MARKER=m", "RATE=1000", "LINES=1500", "PADDING=rest of it", "PATH=/usr/bin:/bin"}
	begun := time.Now()
	out, err := c.Output()
	require.NoError(t, err)
	assert.Greater(t, time.Since(begun), 1400*time.Millisecond)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Len(t, lines, 1500)
	assert.Equal(t, "m 1 rest of it", lines[0])
	assert.Equal(t, "m 1500 rest of it", lines[1499])
}

func TestWriters(t *testing.T) {
	t.Parallel()
	o := Options{Rate: 1000, Duration: 90 * time.Second}
	assert.Equal(t, []writer{{"writer-0", "a", 45000}, {"writer-1", "d", 45000}}, makeWriters([]string{"a", "b", "c", "d"}, o))
	assert.Equal(t, []writer{{"writer-0", "a", 90000}}, makeWriters([]string{"a"}, o))
}

func TestCutRules(t *testing.T) {
	t.Parallel()
	c := &inventory.Cluster{Network: inventory.Network{PodCIDR: "10.2.0.0/16"}, Nodes: []inventory.Node{{Name: "a", Role: inventory.ControlPlane, Address: "10.0.0.1"}, {Name: "b", Role: inventory.Worker, Address: "fd00::1"}}}
	rules, err := cutRules(c, 3*time.Minute)
	require.NoError(t, err)
	assert.Equal(t, `table inet catamaran_chaos {
  set ip_cut { type ipv4_addr; flags interval, timeout; elements = { 10.2.0.0/16 timeout 180s, 10.0.0.1 timeout 180s } }
  chain ip_in { type filter hook prerouting priority -310; ip saddr @ip_cut drop; }
  set ip6_cut { type ipv6_addr; flags interval, timeout; elements = { fd00::1 timeout 180s } }
  chain ip6_in { type filter hook prerouting priority -310; ip6 saddr @ip6_cut drop; }
}
`, rules)
	c.Nodes[0].Address = "a.example"
	_, err = cutRules(c, time.Minute)
	assert.ErrorContains(t, err, `"a.example" is no address`)
}
