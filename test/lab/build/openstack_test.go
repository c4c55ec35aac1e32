package build

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A lab without OpenStack must not wait for its controllers; with it, their images are the ones that the charts name.
func TestOpenStackIsOnlyMadeWhereItIsAskedFor(t *testing.T) {
	t.Parallel()
	without, with := testBuilder(t), testBuilder(t)
	with.openStack = true
	require.Len(t, with.components(), len(without.components())+1)
	require.Len(t, with.recipes(), len(without.recipes())+2)
	built := map[string]bool{}
	for _, c := range openStackComponents() {
		for _, p := range c.programs {
			built[p.name] = true
		}
	}
	// read as a file: the package embedded would bring all of Helm into this test
	lock, err := os.ReadFile(filepath.Join("..", "..", "..", "embedded", "images.lock"))
	require.NoError(t, err)
	for _, r := range openStackRecipes() {
		assert.Contains(t, string(lock), "\n  - ref: "+r.ref+"\n")
		for _, p := range r.programs {
			assert.True(t, built[p], p)
		}
	}
}
