package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const chartsInventory = `
apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: umea}
kubernetes: {version: 1.37.2}
clusters:
  service:
    network: {podCIDR: 10.100.0.0/16, serviceCIDR: 10.101.0.0/16}
    nodes: [{name: sc-1, role: control-plane, address: 10.77.0.11}]
  workload:
    network: {podCIDR: 10.102.0.0/16, serviceCIDR: 10.103.0.0/16}
    nodes: [{name: wc-1, role: control-plane, address: 10.77.0.21}]
components: {local-path: {enabled: false}}
platform: {enabled: false}
`

// runCharts runs one charts command and returns what it wrote.
func runCharts(t *testing.T, inventory string, args ...string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "inventory.yaml")
	require.NoError(t, os.WriteFile(file, []byte(inventory), 0o600))
	c := newCharts(&global{inventory: file})
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetArgs(args)
	c.SilenceErrors, c.SilenceUsage = true, true
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

func TestChartsCommands(t *testing.T) {
	t.Parallel()
	list, err := runCharts(t, chartsInventory, "list")
	require.NoError(t, err)
	assert.Regexp(t, `(?m)^NAME +VERSION +CLUSTER +ORDER +ENABLED +DESCRIPTION$`, list)
	assert.Regexp(t, `(?m)^flannel +\S+ +workload +0 +yes +Pod network`, list)
	assert.Regexp(t, `(?m)^local-path +\S+ +service +20 +no +Default storage`, list)
	assert.Regexp(t, `(?m)^loki +\S+ +service +34 +no `, list)
	assert.NotRegexp(t, `(?m)^loki +\S+ +workload `, list, "it is not for that cluster")
	on, err := runCharts(t, strings.Replace(chartsInventory, "platform: {enabled: false}", "platform: {size: small}", 1), "list")
	require.NoError(t, err)
	assert.Regexp(t, `(?m)^loki +\S+ +service +34 +yes `, on)

	both, err := runCharts(t, chartsInventory, "render", "flannel")
	require.NoError(t, err)
	assert.Contains(t, both, "10.100.0.0/16")
	assert.Contains(t, both, "10.102.0.0/16")
	one, err := runCharts(t, chartsInventory, "render", "flannel", "--cluster", "workload")
	require.NoError(t, err)
	assert.NotContains(t, one, "10.100.0.0/16")
	assert.NotContains(t, one, "metrics-server")
	_, err = runCharts(t, chartsInventory, "render", "local-path")
	require.ErrorContains(t, err, "there is no release local-path: `catamaran charts list` shows")
	_, err = runCharts(t, chartsInventory, "render", "--cluster", "other")
	require.ErrorContains(t, err, `no cluster "other": expected service or workload`)
	_, err = runCharts(t, chartsInventory+"releases: []\n", "render", "a", "b")
	require.Error(t, err)

	values, err := runCharts(t, "", "values", "smoke")
	require.NoError(t, err)
	assert.Contains(t, values, "# peers ")
	_, err = runCharts(t, "", "values", "smok")
	require.ErrorContains(t, err, "did you mean smoke?")

	_, err = runCharts(t, strings.Replace(chartsInventory, "local-path", "local-paht", 1), "list")
	require.ErrorContains(t, err, "components.local-paht: there is no such component (did you mean local-path?)")
}
