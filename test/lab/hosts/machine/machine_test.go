package machine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRaiseInotify(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "max_user_instances")
	require.NoError(t, os.WriteFile(path, []byte("128\n"), 0o600))
	for _, c := range []struct {
		planes, others, was int
		after               string
	}{
		{0, 2, 0, "128\n"},
		{4, 3, 128, "348\n"},
		{4, 3, 0, "348\n"},
	} {
		was, err := RaiseInotify(path, c.planes, c.others)
		require.NoError(t, err)
		assert.Equal(t, c.was, was)
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, c.after, string(data))
	}
	require.NoError(t, os.WriteFile(path, []byte("many\n"), 0o600))
	_, err := RaiseInotify(path, 1, 1)
	assert.ErrorContains(t, err, path)
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
