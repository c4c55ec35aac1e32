// Package machine says what the machine under the lab can do: what must be there before hosts can boot, and what it
// lacks, so that the inventory can say so.
package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts/cgroup"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/network"
)

// Features are the differences to an ordinary server that the hosts' software must be told of.
type Features struct {
	CPUs      int
	MemoryMiB int
	// CgroupV1: kubelet refuses it unless told otherwise.
	CgroupV1 bool
	// SysResource is CAP_SYS_RESOURCE; without it nobody can lower an oom_score_adj.
	SysResource bool
	// NFTQueue is the nftables queue verdict, which the NetworkPolicy agent needs.
	NFTQueue bool
	// BridgeNetfilter: net.bridge.bridge-nf-call-iptables exists in a host's network namespace.
	BridgeNetfilter bool
}

// Detect looks at the machine. rootfs has the nft program.
func Detect(ctx context.Context, rootfs string) (Features, error) {
	f := Features{CPUs: runtime.NumCPU()}
	var err error
	if f.MemoryMiB, err = memory(); err != nil {
		return f, err
	}
	hs, err := cgroup.Hierarchies()
	if err != nil {
		return f, err
	}
	f.CgroupV1 = cgroup.IsV1(hs)
	if f.SysResource, err = bounding(unix.CAP_SYS_RESOURCE); err != nil {
		return f, err
	}
	if f.NFTQueue, err = nftQueue(ctx, rootfs); err != nil {
		return f, err
	}
	ns, err := network.NewNamespace(func() error {
		_, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables")
		f.BridgeNetfilter = err == nil
		return nil
	})
	if err != nil {
		return f, err
	}
	return f, ns.Close()
}

func memory() (int, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for _, l := range strings.Split(string(data), "\n") {
		if f := strings.Fields(l); len(f) == 3 && f[0] == "MemTotal:" {
			kib, err := strconv.Atoi(f[1])
			return kib / 1024, err
		}
	}
	return 0, errors.New("/proc/meminfo: no MemTotal")
}

// bounding says whether a capability is in the bounding set, so that a host can have it.
func bounding(capability int) (bool, error) {
	r, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(capability), 0, 0, 0)
	return r == 1, err
}

// nftQueue tries the verdict in a network namespace of its own, which ends with the program.
func nftQueue(ctx context.Context, rootfs string) (bool, error) {
	try := func(verdict string) error {
		cmd := exec.CommandContext(ctx, "/usr/sbin/nft", "-f", "-")
		// nft wants each closing brace on a line of its own
		cmd.Stdin = strings.NewReader("table inet lab {\n chain lab {\n  type filter hook forward priority 0\n  tcp dport 1 " + verdict + "\n }\n}\n")
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: rootfs, Cloneflags: syscall.CLONE_NEWNET}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nft (verdict %s): %w\n%s", verdict, err, bytes.TrimSpace(out))
		}
		return nil
	}
	// a verdict that every nftables has, so that a failure of the second means the verdict
	if err := try("drop"); err != nil {
		return false, err
	}
	return try("queue num 0") == nil, ctx.Err()
}
