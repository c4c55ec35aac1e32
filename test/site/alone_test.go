package site

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAloneKeepsASecondRunAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	release, err := Alone(dir)
	require.NoError(t, err)
	_, err = Alone(dir + "/")
	require.ErrorContains(t, err, fmt.Sprintf("process %d runs its tests in the lab %s", os.Getpid(), dir))
	require.NoDirExists(t, dir, "the lab itself is not touched")
	require.NoError(t, release())
	release, err = Alone(dir)
	require.NoError(t, err, "the first run has ended")
	require.NoError(t, release())
	_, err = Alone(filepath.Join(dir, "absent", "lab"))
	require.ErrorContains(t, err, "claim the lab in")
}
