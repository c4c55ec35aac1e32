package build

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A lab without the platform must not wait for it, and names of programs and images must not collide with its.
func TestPlatformIsOnlyMadeWhereItIsAskedFor(t *testing.T) {
	t.Parallel()
	without, with := testBuilder(t), platformBuilder(t)
	names := func(b *builder) (programs, components []string) {
		for _, c := range b.components() {
			components = append(components, c.name)
			for _, p := range c.programs {
				programs = append(programs, p.name)
			}
		}
		return programs, components
	}
	programs, components := names(without)
	all, allComponents := names(with)
	for _, p := range platformComponents() {
		assert.NotContains(t, components, p.name)
		assert.Contains(t, allComponents, p.name)
	}
	assert.NotContains(t, programs, "prometheus")
	for _, list := range [][]string{all, allComponents} {
		slices.Sort(list)
		assert.Equal(t, slices.Compact(slices.Clone(list)), list, "two of one name")
	}

	few, err := ImageRefs(without.release.kubernetes, false)
	require.NoError(t, err)
	many, err := ImageRefs(with.release.kubernetes, true)
	require.NoError(t, err)
	assert.Subset(t, many, few)
	assert.Len(t, many, len(few)+len(platformRecipes()))
}

// Prometheus numbers its module v0.3MM.P.
func TestPrometheusModuleIsItsRelease(t *testing.T) {
	t.Parallel()
	for _, c := range platformComponents() {
		if c.name == "prometheus" {
			assert.Equal(t, "0.313.5", c.pinned())
			assert.Equal(t, "3.13.5", c.version)
			assert.Equal(t, "github.com/prometheus/prometheus@v0.313.5", c.source())
		}
	}
}
