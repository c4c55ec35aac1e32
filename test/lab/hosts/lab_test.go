package hosts

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/process"
)

func TestMain(m *testing.M) {
	Reexec() // supervisors are copies of the test program
	os.Exit(m.Run())
}

// The lab of these tests stands beside one that may be running: another name, network and folder.
const testName = "catt"

func testOptions(t *testing.T) Options {
	t.Helper()
	requireRoot(t)
	// not t.TempDir: /tmp may lie in memory or on an overlay
	dir, err := os.MkdirTemp("/var/tmp", "catamaran-lab-test-") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, Down(context.Background(), dir, testName, true, func(l string) { t.Log(l) }))
		assert.NoError(t, os.RemoveAll(dir))
	})
	return Options{
		Dir: dir, Name: testName, Subnet: netip.MustParsePrefix("10.78.0.0/24"),
		Layout: Layout{Service: Counts{1, 0}, Spares: 1}, Log: func(l string) { t.Log(l) },
	}
}

// kernel is what the kernel knows of a lab, and the settings of the machine that it must not change. Other labs may come
// and go meanwhile.
type kernel struct {
	Mounts, Links, Groups []string
	Sysctls               map[string]string
}

func look(t *testing.T, dir string) kernel {
	t.Helper()
	var k kernel
	// in every mount namespace there is
	tables, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	require.NoError(t, err)
	for _, table := range tables {
		data, err := os.ReadFile(table)
		if err != nil {
			continue // ended meanwhile
		}
		for _, l := range strings.Split(string(data), "\n") {
			if strings.Contains(l, dir) {
				k.Mounts = append(k.Mounts, table+": "+l)
			}
		}
	}
	links, err := filepath.Glob("/sys/class/net/" + testName + "*")
	require.NoError(t, err)
	k.Links = links
	groups, err := filepath.Glob("/sys/fs/cgroup/*/catamaran-lab-" + testName)
	require.NoError(t, err)
	k.Groups = groups
	k.Sysctls = map[string]string{}
	// what changes by itself, and what belongs to a namespace
	moving := []string{"kernel/random/", "kernel/ns_last_pid", "kernel/pty/nr", "fs/inode-", "fs/dentry-state", "fs/file-nr", "fs/aio-nr", "fs/quota/", "net/"}
	require.NoError(t, filepath.WalkDir("/proc/sys", func(path string, d fs.DirEntry, err error) error {
		rel := strings.TrimPrefix(path, "/proc/sys/")
		if err != nil || d.IsDir() || slices.ContainsFunc(moving, func(m string) bool { return strings.HasPrefix(rel, m) }) {
			return err
		}
		if data, err := os.ReadFile(path); err == nil { // some can only be written
			k.Sysctls[rel] = string(data)
		}
		return nil
	}))
	return k
}

// run runs a command on a host as root.
func run(t *testing.T, l *Lab, host, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := l.Run(ctx, host, "root", command)
	require.NoError(t, err)
	return strings.TrimSpace(out)
}

func status(t *testing.T, l *Lab, host string) HostStatus {
	t.Helper()
	s, err := l.Status(context.Background())
	require.NoError(t, err)
	for _, h := range s.Hosts {
		if h.Name == host {
			return h
		}
	}
	require.Failf(t, "no such host", "%s", host)
	return HostStatus{}
}

const ping = "ping -q -c 1 -W 1 10.78.0.51 >/dev/null && echo yes || echo no"

func TestHostsLikeMachines(t *testing.T) {
	o := testOptions(t)
	before := look(t, o.Dir)
	ctx := context.Background()
	o.Memory = map[string]int64{"spare-1": 1 << 30}
	l, err := Up(ctx, o)
	require.NoError(t, err)

	t.Run("they look like machines", func(t *testing.T) {
		assert.Equal(t, "sc-cp-1", run(t, l, "sc-cp-1", "hostname"))
		assert.Equal(t, "systemd", run(t, l, "sc-cp-1", "cat /proc/1/comm"))
		assert.Equal(t, "running", run(t, l, "sc-cp-1", "systemctl is-system-running --wait"))
		assert.Contains(t, run(t, l, "sc-cp-1", "ip -o addr show dev eth0"), "10.78.0.11/24")
		assert.NotEqual(t, run(t, l, "sc-cp-1", "cat /etc/machine-id"), run(t, l, "spare-1", "cat /etc/machine-id"))
		assert.NotEqual(t, run(t, l, "sc-cp-1", "cat /proc/sys/kernel/random/boot_id"), run(t, l, "spare-1", "cat /proc/sys/kernel/random/boot_id"))
		assert.Equal(t, "yes", run(t, l, "sc-cp-1", ping))
		console, err := os.ReadFile(l.Console("sc-cp-1"))
		require.NoError(t, err)
		assert.Contains(t, string(console), "Reached target multi-user.target", "what process 1 says of the boot")
		for _, program := range []string{"iptables", "nft", "conntrack", "ethtool", "socat", "modprobe", "flock", "mount", "systemd-run"} {
			assert.NotEmpty(t, run(t, l, "sc-cp-1", "command -v "+program))
		}
		out, err := l.Run(ctx, "sc-cp-1", "ops", "id -un; sudo -n id -un")
		require.NoError(t, err)
		assert.Equal(t, "ops\nroot\n", out)
		_, err = l.Run(ctx, "sc-cp-1", "nobody", "true")
		assert.ErrorContains(t, err, "unable to authenticate")
	})
	t.Run("what Kubernetes writes is theirs alone", func(t *testing.T) {
		for _, s := range []string{"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "fs/inotify/max_user_instances"} {
			assert.Equal(t, "7", run(t, l, "sc-cp-1", fmt.Sprintf("echo 7 > /proc/sys/%s; cat /proc/sys/%[1]s", s)), s)
			assert.NotEqual(t, "7", run(t, l, "spare-1", "cat /proc/sys/"+s), s)
		}
		assert.Equal(t, "1", run(t, l, "sc-cp-1", "echo 1 > /proc/sys/net/ipv4/ip_forward; cat /proc/sys/net/ipv4/ip_forward"))
		assert.Equal(t, "0", run(t, l, "spare-1", "cat /proc/sys/net/ipv4/ip_forward"))
		assert.Equal(t, "1", run(t, l, "sc-cp-1", "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables; cat /proc/sys/net/bridge/bridge-nf-call-iptables"))
		_, err := l.Run(ctx, "sc-cp-1", "root", "echo 7 > /proc/sys/vm/dirty_ratio")
		assert.ErrorContains(t, err, "Read-only")
		assert.Equal(t, "made", run(t, l, "sc-cp-1", "for d in /sys/fs/cgroup/*/; do mkdir $d/kubepods || exit; done; echo made"))
		assert.Equal(t, "mounted", run(t, l, "sc-cp-1", `cd /var/lib/containerd && mkdir -p l u w m && mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m && umount m && echo mounted`))
		assert.NotEmpty(t, run(t, l, "sc-cp-1", "ls /sys/module"))
	})
	t.Run("memory is bounded", func(t *testing.T) {
		g, err := l.group("spare-1")
		require.NoError(t, err)
		var data []byte
		for _, dir := range g.Existing() {
			for _, file := range []string{"memory.limit_in_bytes", "memory.max"} {
				if d, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
					data = d
				}
			}
		}
		assert.Equal(t, "1073741824", strings.TrimSpace(string(data)))
	})
	t.Run("the inventory is the product's", func(t *testing.T) {
		inv, err := inventory.Load(l.Inventory())
		require.NoError(t, err)
		assert.Equal(t, status(t, l, "sc-cp-1").HostKey, inv.Node("sc-cp-1").HostKey)
	})
	t.Run("up again changes nothing, and more of it adds", func(t *testing.T) {
		pid := status(t, l, "sc-cp-1").Init
		require.NotZero(t, pid)
		require.NoError(t, os.WriteFile(l.Inventory(), []byte("# mine\n"), 0o644))
		o.Layout.Spares = 2
		l, err = Up(ctx, o)
		require.NoError(t, err)
		assert.Equal(t, pid, status(t, l, "sc-cp-1").Init, "it must not be booted again")
		assert.Equal(t, "spare-2", run(t, l, "spare-2", "hostname"))
		data, err := os.ReadFile(l.Inventory())
		require.NoError(t, err)
		assert.Equal(t, "# mine\n", string(data), "an inventory that was changed by hand is left alone")
	})
	t.Run("stop and start", func(t *testing.T) {
		run(t, l, "spare-1", "echo kept > /root/file")
		require.NoError(t, l.Stop(ctx, "spare-1", "spare-2"))
		s := status(t, l, "spare-1")
		assert.Equal(t, Off, s.Power)
		assert.Equal(t, "powered off", s.Ended)
		assert.Zero(t, s.Init)
		assert.Equal(t, "no", run(t, l, "sc-cp-1", ping))
		require.NoError(t, l.Stop(ctx, "spare-1"), "it is off already")
		require.NoError(t, l.Start(ctx, "spare-1", "spare-2"))
		assert.Equal(t, "kept", run(t, l, "spare-1", "cat /root/file"))
		assert.Equal(t, "yes", run(t, l, "sc-cp-1", ping))
		assert.NotContains(t, run(t, l, "spare-1", "journalctl -b -1 -o cat | tail -n 3"), "no persistent journal")
	})
	t.Run("power cut", func(t *testing.T) {
		// a process that ignores everything that can be ignored
		run(t, l, "spare-1", `systemd-run --quiet sh -c 'trap "" TERM INT HUP; while :; do sleep 1; done'`)
		require.NoError(t, l.Kill(ctx, "spare-1"))
		s := status(t, l, "spare-1")
		assert.Equal(t, Off, s.Power)
		assert.Equal(t, "power cut", s.Ended)
		require.NoError(t, l.Kill(ctx, "spare-1"), "it is off already")
		require.NoError(t, l.Start(ctx, "spare-1"))
		assert.Equal(t, "kept", run(t, l, "spare-1", "cat /root/file"))
	})
	t.Run("unplugged", func(t *testing.T) {
		require.NoError(t, l.Partition(ctx, "spare-1"))
		s := status(t, l, "spare-1")
		assert.True(t, s.Partitioned)
		assert.False(t, s.Answers)
		assert.Equal(t, Running, s.Power)
		assert.Equal(t, "no", run(t, l, "sc-cp-1", ping))
		require.NoError(t, l.Kill(ctx, "spare-1"))
		require.NoError(t, l.Start(ctx, "spare-1"))
		assert.Equal(t, "no", run(t, l, "sc-cp-1", ping), "a cable does not plug itself in when the host boots")
		require.NoError(t, l.Heal(ctx, "spare-1"))
		require.NoError(t, l.Start(ctx, "spare-1"), "waits until it answers")
		assert.Equal(t, "yes", run(t, l, "sc-cp-1", ping))
	})
	t.Run("paused", func(t *testing.T) {
		run(t, l, "spare-1", `systemd-run --quiet sh -c 'while :; do echo >> /root/ticks; sleep 0.02; done'; until [ -s /root/ticks ]; do sleep 0.02; done`)
		require.NoError(t, l.Pause(ctx, "spare-1"))
		defer func() { assert.NoError(t, l.Resume(ctx, "spare-1")) }()
		ticks := func() int {
			data, err := os.ReadFile(l.hostDir("spare-1", "disk", "upper", "root", "ticks"))
			require.NoError(t, err)
			return len(data)
		}
		n := ticks()
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		_, err := l.Run(short, "spare-1", "root", "true")
		cancel()
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, n, ticks(), "nothing runs on it")
		s := status(t, l, "spare-1")
		assert.Equal(t, Paused, s.Power)
		assert.ErrorContains(t, l.Start(ctx, "spare-1"), "paused")
		require.NoError(t, l.Resume(ctx, "spare-1"))
		run(t, l, "spare-1", "true")
		require.Eventually(t, func() bool { return ticks() > n }, 5*time.Second, 20*time.Millisecond)
		require.NoError(t, l.Pause(ctx, "spare-1"))
		require.NoError(t, l.Kill(ctx, "spare-1"), "the power of a paused host can be cut")
		require.NoError(t, l.Start(ctx, "spare-1"))
	})
	t.Run("the guest reboots itself", func(t *testing.T) {
		boot := run(t, l, "spare-1", "cat /proc/sys/kernel/random/boot_id")
		run(t, l, "spare-1", "ip link add left type bridge; mkdir /sys/fs/cgroup/cpu/left; systemctl reboot")
		require.Eventually(t, func() bool {
			s := status(t, l, "spare-1")
			return s.Boots == 2 && s.Answers
		}, 60*time.Second, 50*time.Millisecond)
		assert.NotEqual(t, boot, run(t, l, "spare-1", "cat /proc/sys/kernel/random/boot_id"))
		assert.Equal(t, "gone", run(t, l, "spare-1", "ip link show left 2>/dev/null || ls -d /sys/fs/cgroup/cpu/left 2>/dev/null || echo gone"))
		assert.Equal(t, "yes", run(t, l, "sc-cp-1", ping))
	})
	t.Run("a fresh disk", func(t *testing.T) {
		id := run(t, l, "spare-1", "cat /etc/machine-id")
		run(t, l, "spare-1", "echo data > /var/lib/etcd/file")
		require.NoError(t, l.Reset(ctx, "spare-1"))
		assert.Equal(t, "fresh", run(t, l, "spare-1", "ls /root/file /var/lib/etcd/file 2>/dev/null || echo fresh"))
		assert.Equal(t, id, run(t, l, "spare-1", "cat /etc/machine-id"))
	})
	t.Run("supervisor killed", func(t *testing.T) {
		s := status(t, l, "spare-1")
		require.NoError(t, syscall.Kill(s.Supervisor, syscall.SIGKILL))
		require.Eventually(t, func() bool { return status(t, l, "spare-1").Power == Orphaned }, 5*time.Second, 20*time.Millisecond)
		require.NoError(t, l.Start(ctx, "spare-1"))
		now := status(t, l, "spare-1")
		assert.Equal(t, Running, now.Power)
		assert.NotEqual(t, s.Init, now.Init)
	})
	t.Run("a host with another key is refused", func(t *testing.T) {
		path := l.hostDir("spare-1", "identity", "ssh_host_ed25519_key.pub")
		mine, err := os.ReadFile(path)
		require.NoError(t, err)
		other, err := os.ReadFile(l.hostDir("spare-2", "identity", "ssh_host_ed25519_key.pub"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, other, 0o644))
		_, err = l.Run(ctx, "spare-1", "root", "true")
		assert.ErrorContains(t, err, "host key mismatch")
		require.NoError(t, os.WriteFile(path, mine, 0o644))
		run(t, l, "spare-1", "true")
	})
	t.Run("unknown host", func(t *testing.T) {
		assert.ErrorContains(t, l.Stop(ctx, "sc-cp-9"), "there are sc-cp-1, spare-1, spare-2")
		assert.Error(t, l.Stop(ctx))
	})
	t.Run("a failed up takes down what it made and nothing else", func(t *testing.T) {
		pid := status(t, l, "sc-cp-1").Init
		require.NoError(t, os.WriteFile(l.path("hosts", "wc-cp-1"), nil, 0o644)) // where its folder must go
		more := o
		more.Layout.Workload = Counts{1, 1}
		_, err := Up(ctx, more)
		require.Error(t, err)
		again, err := Open(o.Dir)
		require.NoError(t, err)
		assert.Len(t, again.Hosts(), 3)
		assert.NoDirExists(t, l.hostDir("wc-w-1"))
		assert.Equal(t, pid, status(t, again, "sc-cp-1").Init)
	})
	t.Run("down leaves nothing, whatever happened", func(t *testing.T) {
		require.NoError(t, l.Pause(ctx, "spare-2"))
		s := status(t, l, "sc-cp-1")
		require.NoError(t, syscall.Kill(s.Supervisor, syscall.SIGKILL))
		ran := processes(t, l)
		assert.NotEqual(t, before, look(t, o.Dir))
		require.NoError(t, Down(ctx, o.Dir, testName, false, o.Log))
		assert.FileExists(t, l.path("lab.json"), "without purge the disks stay")
		assertNothingLeft(t, before, look(t, o.Dir), ran)
	})
	t.Run("the same machines come back", func(t *testing.T) {
		// as after a reboot of the machine: the state names processes of another boot
		path := l.hostDir("sc-cp-1", "supervisor.json")
		stale, err := json.Marshal(supervision{Supervisor: process.ID{PID: os.Getpid(), Start: 1, Boot: "another"}})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, stale, 0o644))
		key := status(t, l, "sc-cp-1").HostKey
		l, err = Up(ctx, o)
		require.NoError(t, err)
		assert.Equal(t, key, status(t, l, "sc-cp-1").HostKey)
		assert.Equal(t, "yes", run(t, l, "sc-cp-1", ping))
	})
	ran := processes(t, l)
	require.NoError(t, Down(ctx, o.Dir, testName, true, o.Log))
	assert.NoDirExists(t, o.Dir)
	assertNothingLeft(t, before, look(t, o.Dir), ran)
}

// processes are all that run on the lab's hosts, and their supervisors.
func processes(t *testing.T, l *Lab) []process.ID {
	t.Helper()
	var out []process.ID
	for _, h := range l.Hosts() {
		g, err := l.group(h.Name)
		require.NoError(t, err)
		pids, err := g.Processes()
		require.NoError(t, err)
		for _, pid := range append(pids, status(t, l, h.Name).Supervisor) {
			if id, err := process.Of(pid); err == nil {
				out = append(out, id)
			}
		}
	}
	return out
}

// assertNothingLeft looks by other means than Down does. A namespace without a process or a mount has ended.
func assertNothingLeft(t *testing.T, before, after kernel, ran []process.ID) {
	t.Helper()
	assert.Equal(t, before, after)
	assert.Greater(t, len(ran), 10)
	for _, id := range ran {
		assert.False(t, id.Alive(), "process %d (%s)", id.PID, commandLine(id.PID))
	}
}

func TestInterruptedUpLeavesNothing(t *testing.T) {
	o := testOptions(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// as soon as one host runs, which is before any of them answers
	go func() {
		for ctx.Err() == nil {
			if l, err := Open(o.Dir); err == nil {
				for _, h := range l.Hosts() {
					if s, err := l.supervision(h.Name); err == nil && s.Supervisor.Alive() {
						cancel()
					}
				}
			}
			time.Sleep(time.Millisecond)
		}
	}()
	_, err := Up(ctx, o)
	require.ErrorIs(t, err, context.Canceled)
	assert.NoDirExists(t, o.Dir)
	left, err := Leftovers(o.Dir, testName)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestRefusals(t *testing.T) {
	o := testOptions(t)
	require.NoError(t, os.WriteFile(filepath.Join(o.Dir, "precious"), nil, 0o644))
	_, err := Up(context.Background(), o)
	assert.ErrorContains(t, err, "is not empty and holds no lab")
	require.NoError(t, os.Remove(filepath.Join(o.Dir, "precious")))

	o.Subnet = netip.MustParsePrefix("127.0.0.0/8")
	_, err = Up(context.Background(), o)
	assert.ErrorContains(t, err, "the network 127.0.0.0/8 is that of the interface lo")

	_, err = Open(o.Dir)
	assert.ErrorIs(t, err, ErrNoLab)
}
