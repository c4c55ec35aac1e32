package machine

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestInotifyWarning(t *testing.T) {
	t.Parallel()
	assert.Empty(t, inotifyWarning(128, 2, 2), "two clusters of two fit into the kernel's default")
	warning := inotifyWarning(128, 4, 2)
	assert.Contains(t, warning, "need about 160")
	assert.Contains(t, warning, "allows 128")
	assert.Contains(t, warning, "sysctl -w fs.inotify.max_user_instances=")
	assert.Empty(t, inotifyWarning(1024, 9, 9))
	_, err := InotifyWarning(1, 1)
	require.NoError(t, err)
}

func TestLacksSaysWhatToDo(t *testing.T) {
	t.Parallel()
	l := &Lacks{Packages: []string{"mmdebstrap", "systemd-container"}, Modules: []string{"br_netfilter"}}
	for _, want := range []string{"apt-get install mmdebstrap systemd-container", "modprobe br_netfilter", "--install"} {
		assert.Contains(t, l.Error(), want)
	}
}

func TestHas(t *testing.T) {
	t.Parallel()
	assert.True(t, has("/proc/filesystems", "proc"))
	assert.False(t, has("/proc/filesystems", "pro"))
	assert.True(t, has("/proc/filesystems", ""))
	assert.False(t, has("/proc/no-such-file", ""))
	assert.False(t, has("/proc/no-such-file", "proc"))
}

func TestWhatTheMachineIs(t *testing.T) {
	t.Parallel()
	mib, err := memory()
	require.NoError(t, err)
	assert.Greater(t, mib, 100)
	// the same question, answered by the kernel in another way
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	for capability, name := range map[int]string{0: "CAP_CHOWN", 24: "CAP_SYS_RESOURCE"} {
		got, err := bounding(capability)
		require.NoError(t, err)
		for _, l := range strings.Split(string(status), "\n") {
			if mask, ok := strings.CutPrefix(l, "CapBnd:\t"); ok {
				digit := strings.Index("0123456789abcdef", string(mask[len(mask)-1-capability/4]))
				assert.Equal(t, digit>>(capability%4)&1 == 1, got, name)
			}
		}
	}
}
