package provider_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
	"github.com/catamaran-k8s/catamaran/provider/onprem"
)

func TestRegistryFor(t *testing.T) {
	t.Parallel()
	p := onprem.New()
	r := provider.Registry{"onprem": p}
	got, err := r.For(&inventory.Cluster{Provider: inventory.Provider{OnPrem: &inventory.OnPrem{}}})
	require.NoError(t, err)
	assert.Equal(t, provider.Provider(p), got)

	_, err = r.For(&inventory.Cluster{})
	assert.ErrorIs(t, err, provider.ErrPermanent)
	assert.EqualError(t, err, `provider: there is none named "" here, only onprem: trying again does not help`)
	_, err = provider.Registry{}.For(&inventory.Cluster{Provider: inventory.Provider{OnPrem: &inventory.OnPrem{}}})
	assert.ErrorIs(t, err, provider.ErrPermanent)
}
