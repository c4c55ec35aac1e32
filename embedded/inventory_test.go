package embedded

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// site is an inventory with both clusters; more is added at the end of the file. The platform is off unless more has it.
func site(t testing.TB, more string) *inventory.Inventory {
	t.Helper()
	if !strings.Contains(more, "platform:") {
		more += "\nplatform: {enabled: false}\n"
	}
	inv, err := inventory.Parse([]byte(`
apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: test}
kubernetes: {version: 1.37.2}
clusters:
  service:
    network: {podCIDR: 10.100.0.0/16, serviceCIDR: 10.101.0.0/16}
    nodes:
      - {name: sc-1, role: control-plane, address: 10.77.0.11}
      - {name: sc-2, role: worker, address: 10.77.0.12}
      - {name: sc-3, role: worker, address: 10.77.0.13, state: absent}
  workload:
    endpoint: {address: api.example.org, port: 443, mode: external}
    network: {podCIDR: 10.102.0.0/16, serviceCIDR: 10.103.0.0/16, proxyMode: iptables, networkPolicy: false, dnsDomain: wc.example.org}
    nodes:
      - {name: wc-1, role: control-plane, address: 10.77.0.21}
`+more), filepath.Join(t.TempDir(), "inventory.yaml"))
	require.NoError(t, err)
	return inv
}

func releases(t *testing.T, inv *inventory.Inventory, c inventory.ClusterName) []Release {
	t.Helper()
	out, err := Releases(t.Context(), inv, c)
	require.NoError(t, err)
	return out
}

func named(t *testing.T, list []Release, name string) Release {
	t.Helper()
	for _, r := range list {
		if r.Name == name {
			return r
		}
	}
	require.Fail(t, "there is no release "+name)
	return Release{}
}

func names(list []Release) []string {
	var out []string
	for _, r := range list {
		out = append(out, r.Name)
	}
	return out
}

// refusals are what is wrong with an inventory, one line each, without the file.
func refusals(t *testing.T, err error) []string {
	t.Helper()
	var errs inventory.Errors
	require.ErrorAs(t, err, &errs)
	var out []string
	for _, e := range errs {
		out = append(out, e.Field+": "+e.Message)
	}
	return out
}
