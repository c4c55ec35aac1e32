package evidence

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/verifytest"
)

// here runs scripts on this machine.
type here struct{}

func (here) Run(ctx context.Context, c remote.Command) (remote.Result, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", c.Script)
	cmd.Stdout = c.Stdout
	return remote.Result{}, cmd.Run()
}

// The script itself, by the machine's own shell.
func TestScriptOnThisMachine(t *testing.T) {
	t.Parallel()
	n := Node{Name: "here"}
	readNode(t.Context(), here{}, &n)
	require.Empty(t, n.Error)
	kernel, err := exec.Command("uname", "-r").Output()
	require.NoError(t, err)
	assert.Equal(t, strings.TrimSpace(string(kernel)), n.Kernel)
	assert.NotEmpty(t, n.OS)
	assert.Contains(t, []string{"on", "off"}, n.Swap)
	assert.Equal(t, map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH], n.Arch)
	assert.Less(t, max(n.Skew, -n.Skew), 1000.0, "this machine's clock is its own")
	require.NotEmpty(t, n.Disks)
	assert.Equal(t, "/", n.Disks[0].Mount)
}

const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

func script(lines ...string) []byte {
	return []byte("clock\t1000.100000000\n" + strings.Join(lines, "\n") + "\nend\tok\n")
}

func parsed(t *testing.T, out []byte) Node {
	t.Helper()
	n := Node{Name: "n"}
	begin := time.Unix(1000, 0)
	require.NoError(t, n.parse(out, begin, begin.Add(40*time.Millisecond)))
	return n
}

func TestParse(t *testing.T) {
	t.Parallel()
	a := verifytest.NewAuthority(t, "kubernetes")
	cert := base64.StdEncoding.EncodeToString(verifytest.CertPEM(a.Cert))
	n := parsed(t, script(
		"os\tDebian", "kernel\t6.1", "version\tkubelet\tKubernetes v1.37.2", "version\tcontainerd\tcontainerd github.com/containerd/containerd/v2 v2.4.2 abc.d", //nolint:dupword // as it says it
		"version\trunc\trunc version 1.5.2", "hostKey\t"+publicKey+" root@n", "authorizedKey\tops\t/home/ops/.ssh/authorized_keys\tno-pty,from=\"10.0.0.0/8\" "+publicKey+" ann@desk", //nolint:dupword // as it says it
		"authorizedKey\troot\t/root/.ssh/authorized_keys\tssh-rsa broken", "controlPlane\tyes", "flag\taudit-log-path\t/a=b", "auditPolicy\tff\t/p", "auditLog\t990 77\t/l",
		"encryption\tsecretbox\tsecrets", "certificate\t/etc/kubernetes/pki/ca.crt\t"+cert, "timeService\tchrony", "timeSource\t10.0.0.1\treached\t^*", "synchronised\tyes",
		"unsure\tdisks\tthere is no lsblk",
	))
	assert.Equal(t, map[string]string{"kubelet": "1.37.2", "containerd": "2.4.2", "runc": "1.5.2"}, n.Versions)
	require.Len(t, n.HostKeys, 1)
	assert.True(t, strings.HasPrefix(n.HostKeys[0].Fingerprint, "SHA256:"))
	require.Len(t, n.AuthorizedKeys, 2)
	assert.Equal(t, AuthorizedKey{User: "ops", File: "/home/ops/.ssh/authorized_keys", Type: "ssh-ed25519", Fingerprint: n.HostKeys[0].Fingerprint, Comment: "ann@desk", Options: `no-pty,from="10.0.0.0/8"`}, n.AuthorizedKeys[0])
	assert.Equal(t, AuthorizedKey{User: "root", File: "/root/.ssh/authorized_keys", Type: "unreadable", Comment: "a line of 14 bytes"}, n.AuthorizedKeys[1])
	assert.Equal(t, map[string]string{"audit-log-path": "/a=b"}, n.Flags)
	assert.Equal(t, "secretbox", n.Encryption)
	assert.InDelta(t, 10.1, n.AuditLogAge, 0.01)
	assert.InDelta(t, 80, n.Skew, 0.01, "100 ms after begin, in a window of 40 ms")
	assert.InDelta(t, 20, n.SkewError, 0.01)
	assert.True(t, n.Synced)
	assert.Equal(t, []TimeSource{{"10.0.0.1", "reached"}}, n.TimeSources)
	require.Len(t, n.certificates, 1)
	assert.Equal(t, "n: /etc/kubernetes/pki/ca.crt", n.certificates[0].Where)
	assert.Equal(t, []string{"disks: there is no lsblk"}, n.Unsure)
}

// The script has the API server write to its audit log, after it read the clock.
func TestAnAuditLogThatIsWrittenMeanwhileIsThere(t *testing.T) {
	t.Parallel()
	assert.Zero(t, parsed(t, script("auditLog\t1005 77\t/l")).AuditLogAge)
}

func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	t.Parallel()
	whole := script("kernel\t6.1")
	for name, out := range map[string][]byte{
		"cut off":         whole[:len(whole)-8],
		"nothing":         nil,
		"no clock":        []byte("kernel\t6.1\nend\tok\n"),
		"another line":    script("surprise\tx"),
		"too few fields":  script("mount\t/"),
		"a wrong clock":   []byte("clock\tnoon\nend\tok\n"),
		"wrong base64":    script("certificate\t/x\t%%%"),
		"a wrong log age": script("auditLog\tyesterday 1\t/l"),
	} {
		n := Node{}
		require.Error(t, n.parse(out, time.Unix(0, 0), time.Unix(0, 1)), name)
	}
}

func TestDisksAreFollowedToWhatTheyAreMadeOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ blocks, want string }{
		"a partition":                 {"/dev/sda1 part /dev/sda,/dev/sda disk ", no},
		"LUKS":                        {"/dev/sda1 crypt /dev/sda2,/dev/sda2 part /dev/sda,/dev/sda disk ", yes},
		"LVM on LUKS":                 {"/dev/sda1 lvm /dev/mapper/c,/dev/mapper/c crypt /dev/sda,/dev/sda disk ", yes},
		"LVM on a disk":               {"/dev/sda1 lvm /dev/sda,/dev/sda disk ", no},
		"RAID of one that is":         {"/dev/sda1 raid1 /dev/mapper/c,/dev/sda1 raid1 /dev/sdb,/dev/mapper/c crypt /dev/sdc,/dev/sdb disk ,/dev/sdc disk ", no},
		"RAID of two that are":        {"/dev/sda1 raid1 /dev/mapper/c,/dev/sda1 raid1 /dev/mapper/d,/dev/mapper/c crypt /dev/sdc,/dev/mapper/d crypt /dev/sdd", yes},
		"a volume of somebody else's": {"/dev/sdb disk ", unknown},
		"on an unseen device":         {"/dev/sda1 lvm /dev/gone", unknown},
	} {
		lines := []string{"mount\t/\t/dev/sda1"}
		for b := range strings.SplitSeq(c.blocks, ",") {
			f := strings.SplitN(b, " ", 3)
			lines = append(lines, "block\t"+strings.Join(f, "\t"))
		}
		assert.Equal(t, c.want, parsed(t, script(lines...)).Disks[0].Encrypted, name)
	}
}

func TestPins(t *testing.T) {
	t.Parallel()
	want := parsed(t, script("hostKey\t"+publicKey)).HostKeys[0].Fingerprint
	for _, pin := range []string{want, publicKey, publicKey + " comment", strings.Fields(publicKey)[1]} {
		assert.Equal(t, want, pinned(pin), pin)
	}
	assert.Len(t, parsed(t, script("hostKey\tssh-rsa nonsense")).Unsure, 1)
	assert.Equal(t, "nonsense", pinned("nonsense"), "shown as it is, and so matches nothing")
}

type broken struct{ out string }

func (b broken) Run(_ context.Context, c remote.Command) (remote.Result, error) {
	if b.out == "" {
		return remote.Result{}, fmt.Errorf("link lost")
	}
	_, err := c.Stdout.Write([]byte(b.out))
	return remote.Result{}, err
}

func TestAMachineThatFailsIsAnError(t *testing.T) {
	t.Parallel()
	n := Node{Name: "a", Role: "worker"}
	readNode(t.Context(), broken{}, &n)
	assert.Equal(t, "link lost", n.Error)
	n = Node{Name: "a", Role: "worker"}
	readNode(t.Context(), broken{"clock\t1.0\nkernel\t6.1\n"}, &n)
	assert.Contains(t, n.Error, "cut off")
	assert.Empty(t, n.Kernel, "half of it must not look like the whole")
}

func TestStampIsOfTheFirstByte(t *testing.T) {
	t.Parallel()
	s := &stamped{}
	_, _ = s.Write([]byte("a"))
	first := s.first
	_, _ = s.Write([]byte("b"))
	assert.Equal(t, first, s.first)
	assert.True(t, bytes.Equal([]byte("ab"), s.buffer.Bytes()))
}
