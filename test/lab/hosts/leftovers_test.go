package hosts

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts/cgroup"
)

// Each kind of thing that a lab can leave is made by hand, without any state of a lab, found, and removed by Down.
func TestDownFindsWhatACrashLeft(t *testing.T) {
	requireRoot(t)
	const name = "catx"
	dir := t.TempDir()
	left, err := Leftovers(dir, name)
	require.NoError(t, err)
	require.Empty(t, left, "an earlier run of this test left something")

	group, err := cgroup.Open(filepath.Join(groupPath(name), "sc-cp-1"))
	require.NoError(t, err)
	require.NoError(t, group.Create())
	program := filepath.Join(dir, "bin", "lab")
	require.NoError(t, os.Mkdir(filepath.Dir(program), 0o755))
	sleep, err := os.ReadFile("/bin/sleep")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(program, sleep, 0o755))
	supervisor, guest := exec.Command(program, "1000"), exec.Command("sleep", "1000")
	for _, cmd := range []*exec.Cmd{supervisor, guest} {
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	pid := strconv.Itoa(guest.Process.Pid)
	for _, g := range group.Existing() {
		require.NoError(t, os.WriteFile(filepath.Join(g, "cgroup.procs"), []byte(pid), 0))
	}
	require.NoError(t, group.Freeze(context.Background()), "a frozen host is the hardest to end")
	t.Cleanup(func() { _ = group.Thaw(context.Background()) }) // else a failed test waits forever for its child
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	require.NoError(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	attrs.Name = name + "-sc-cp-1"
	require.NoError(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "-peer"}))
	mount := filepath.Join(dir, "with space")
	require.NoError(t, os.Mkdir(mount, 0o755))
	require.NoError(t, unix.Mount(mount, mount, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(mount, unix.MNT_DETACH) })

	left, err = Leftovers(dir, name)
	require.NoError(t, err)
	all := strings.Join(left, "\n")
	for _, want := range []string{
		"process " + strconv.Itoa(supervisor.Process.Pid), "process " + pid, "control group /sys/fs/cgroup/",
		"interface " + name, "interface " + name + "-sc-cp-1", "mount " + mount,
	} {
		assert.Contains(t, all, want)
	}

	var log []string
	require.NoError(t, Down(context.Background(), dir, name, true, func(l string) { log = append(log, l) }))
	assert.Contains(t, strings.Join(log, "\n"), "no lab")
	left, err = Leftovers(dir, name)
	require.NoError(t, err)
	assert.Empty(t, left)
	assert.FileExists(t, program, "a folder that is not a lab's keeps its files")
}

func requireRoot(t *testing.T) {
	t.Helper()
	require.Zero(t, os.Geteuid(), "this test makes namespaces, mounts and control groups: run it as root")
}
