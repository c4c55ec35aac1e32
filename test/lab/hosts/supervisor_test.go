package hosts

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts/cgroup"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/process"
)

// A host whose power is cut right after it was switched on has no process in its group yet: only nspawn, or what is about
// to become it.
func TestPowerCutBeforeThereIsAGuest(t *testing.T) {
	t.Parallel()
	power := exec.Command("sleep", "1000")
	require.NoError(t, power.Start())
	id, err := process.Of(power.Process.Pid)
	require.NoError(t, err)
	group, err := cgroup.Open(groupPath("none"))
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- power.Wait() }()
	s := &supervisor{group: group, power: power.Process}
	require.NoError(t, s.cut())
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		_ = power.Process.Kill()
		assert.Fail(t, "it is still running")
	}
	assert.False(t, id.Alive())
	require.NoError(t, s.cut(), "it is off already")
}
