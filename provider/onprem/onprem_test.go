package onprem_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
	"github.com/catamaran-k8s/catamaran/provider/onprem"
	"github.com/catamaran-k8s/catamaran/provider/providertest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{World: func(testing.TB) providertest.World { return rack{} }})
}

// rack is the world of listed machines: they are there, and there is no way to make or delete one.
type rack struct{}

func (rack) Provider(testing.TB) provider.Provider { return onprem.New() }
func (rack) Resources(testing.TB) []string         { return []string{"the rack"} }
func (rack) Watch(func())                          {}
func (rack) Break(testing.TB) bool                 { return false }

// Spoil takes an address away, without which a machine can not be adopted.
func (rack) Spoil(t testing.TB, r provider.Request) (provider.Request, bool) {
	nodes := r.Inventory.Cluster(r.Cluster).Nodes
	require.NotEmpty(t, nodes)
	nodes[0].Address = ""
	return r, true
}

func (rack) Request(t testing.TB, w providertest.Want) provider.Request {
	text := `
apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: umea}
kubernetes: {version: 1.37.2}
clusters:
  workload:
    network: {podCIDR: 10.102.0.0/16, serviceCIDR: 10.103.0.0/16}
    nodes:
`
	for i := range w.Nodes {
		role, state := inventory.Worker, inventory.Present
		if i == 0 {
			role = inventory.ControlPlane
		} else if i == w.Nodes-2 {
			state = inventory.Absent
		}
		text += fmt.Sprintf("      - {name: wc-%d, role: %s, state: %s, address: 10.77.0.%d, hostKey: \"SHA256:%043d\"}\n", i, role, state, 10+i, i)
	}
	inv, err := inventory.Parse([]byte(text), "inventory.yaml")
	require.NoError(t, err)
	return provider.Request{Inventory: inv, Cluster: inventory.Workload}
}

func TestNodeWithoutAddress(t *testing.T) {
	t.Parallel()
	inv := &inventory.Inventory{Path: "inventory.yaml", Clusters: inventory.Clusters{Service: &inventory.Cluster{Nodes: []inventory.Node{{Name: "sc-1"}}}}}
	_, err := onprem.New().Ensure(t.Context(), provider.Request{Inventory: inv, Cluster: inventory.Service}, nil)
	assert.ErrorIs(t, err, provider.ErrPermanent)
	assert.EqualError(t, err, "onprem: inventory.yaml: the node sc-1 has no address: trying again does not help")
}
