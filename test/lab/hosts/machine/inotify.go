package machine

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Inotify is how many inotify instances the machine lets its root have. All hosts share them, since they all run as that
// user, and the kernel's default of 128 is less than two clusters with four control planes need. It is the only setting
// of the whole machine that a lab changes; the lab remembers what it was and puts it back.
const Inotify = "/proc/sys/fs/inotify/max_user_instances"

// What hosts take of it. Measured with Kubernetes 1.37.2: systemd and its friends 4, kubelet and containerd 9, kube-proxy 1,
// and on a control plane API server and controller manager 7 each. The machine itself needs some too.
const (
	inotifyControlPlane = 28
	inotifyOther        = 14
	inotifyMachine      = 20
)

// RaiseInotify makes room for so many hosts with Kubernetes. It returns what the limit was when it had to be raised, and 0
// when there is room enough. path is Inotify.
func RaiseInotify(path string, controlPlanes, others int) (was int, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	// pods use some as well: twice the measured need
	need := 2 * (inotifyControlPlane*controlPlanes + inotifyOther*others + inotifyMachine)
	if need <= limit {
		return 0, nil
	}
	return limit, SetInotify(path, need)
}

// SetInotify sets the limit.
func SetInotify(path string, limit int) error {
	if err := os.WriteFile(path, []byte(strconv.Itoa(limit)+"\n"), 0o644); err != nil {
		return fmt.Errorf("%w; without more inotify instances kubelets and API servers fail with \"too many open files\"", err)
	}
	return nil
}
