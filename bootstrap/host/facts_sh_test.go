package host

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// query asks for everything that there is to ask.
func query(dir string) Query {
	return Query{
		Files: []string{"/etc/passwd", "/no/such/file", filepath.Join(dir, "it's here")}, Content: []string{filepath.Join(dir, "shown"), filepath.Join(dir, "large")},
		Sysctls: []string{"net.ipv4.ip_forward", "no.such.sysctl"}, Modules: []string{"overlay", "no_such_module"},
		Units: []string{"containerd.service"}, Peers: []string{"127.0.0.1:1"}, AtStart: []string{filepath.Join(dir, "shown"), "/no/such/file"},
	}
}

func TestFactsScriptIsPortable(t *testing.T) {
	t.Parallel()
	for _, check := range [][]string{{"sh", "-n"}, {"dash", "-n"}, {"bash", "--posix", "-n"}, {"shellcheck", "-s", "sh", "-"}} {
		c := exec.Command(check[0], check[1:]...)
		c.Stdin = strings.NewReader(Script(Query{Files: []string{"/etc/fstab"}, Sysctls: []string{"kernel.panic"}}))
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%v (package %s): %s", err, check[0], out)
	}
}

// TestFactsOfThisMachine runs the real script in each shell that machines have.
func TestFactsOfThisMachine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "it's here"), []byte("x"), 0o640))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "shown"), []byte("<sums\n>content\nend\tok\n\x00"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "large"), make([]byte, 65537), 0o600))
	// a stand-in for an API server: a process of its name
	server := filepath.Join(dir, "kube-apiserver")
	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(sleep, server)) // a copy may be busy: other tests start programs meanwhile
	process := &exec.Cmd{Path: server, Args: []string{"sleep", "3600"}}
	require.NoError(t, process.Start())
	began := time.Now()
	t.Cleanup(func() { _, _ = process.Process.Kill(), process.Wait() })
	for _, shell := range [][]string{{"sh"}, {"dash"}, {"bash", "--posix"}} {
		c := exec.Command(shell[0], append(shell[1:], "-c", Script(query(dir)))...)
		var stderr bytes.Buffer
		c.Stderr = &stderr
		begin := time.Now()
		out, err := c.Output()
		require.NoError(t, err, shell)
		t.Logf("%v: %s, %d bytes", shell, time.Since(begin).Round(time.Millisecond), len(out))
		require.Empty(t, stderr.String(), shell)
		f, err := Parse(out, time.Now())
		require.NoError(t, err)

		hostname, err := os.Hostname()
		require.NoError(t, err)
		require.Equal(t, hostname, f.Hostname)
		require.WithinDuration(t, time.Now(), f.Clock, time.Minute)
		require.Positive(t, f.CPUs)
		require.Positive(t, f.DiskGiB)
		require.NotEmpty(t, f.Interfaces)
		require.Contains(t, f.Sysctls, "net.ipv4.ip_forward")
		require.NotContains(t, f.Sysctls, "no.such.sysctl")
		require.Equal(t, "missing", f.Modules["no_such_module"])
		require.Equal(t, "refused", f.Peers["127.0.0.1:1"])
		require.Equal(t, File{Mode: "0640", Owner: "root", Size: 1, SHA256: SHA256("x")}, f.Files[filepath.Join(dir, "it's here")])
		require.Equal(t, "<sums\n>content\nend\tok\n\x00", f.Files[filepath.Join(dir, "shown")].Content, "content can not pretend to be the script's own words")
		require.Empty(t, f.Files[filepath.Join(dir, "large")].Content, "too large to show")
		require.NotEmpty(t, f.Files[filepath.Join(dir, "large")].SHA256)
		require.NotContains(t, f.Files, "/no/such/file")
		require.WithinDuration(t, began, f.APIServerStarted, time.Minute)
		written, err := os.Stat(filepath.Join(dir, "shown"))
		require.NoError(t, err)
		require.Len(t, f.Written, 1)
		require.WithinDuration(t, written.ModTime(), f.Written[filepath.Join(dir, "shown")], time.Millisecond)
	}
}

// TestFactsWriteNothing runs the script where every file system but /run is read-only, on what looks like a control plane.
func TestFactsWriteNothing(t *testing.T) {
	t.Parallel()
	require.Zero(t, os.Getuid(), "this test mounts file systems in a namespace of its own: run it as root")
	dir := t.TempDir()
	tools := filepath.Join(dir, "bin")
	require.NoError(t, os.Mkdir(tools, 0o755))
	// stand-ins: kubectl writes its cache where it is told to, as the real one does
	for name, script := range map[string]string{
		"kubectl": `while [ $# -gt 0 ]; do [ "$1" = --cache-dir ] && cache="$2"; shift; done; mkdir -p "$cache" && echo '{"items":[]}' > "$cache/x"; cat "$cache/x"`,
		"etcdctl": `case "$*" in *'endpoint health'*) echo '[]' ;; *) echo '{"members":[]}' ;; esac`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(tools, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	script := filepath.Join(dir, "facts")
	require.NoError(t, os.WriteFile(script, []byte(Script(Query{Files: []string{"/etc/passwd"}})), 0o600))
	c := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-ec", `
mount -t tmpfs private /run
mkdir -p "$1/kubernetes/manifests"; : > "$1/kubernetes/admin.conf"; : > "$1/kubernetes/manifests/kube-apiserver.yaml"
mkdir /run/up /run/work
mount -t overlay -o "lowerdir=$1:/etc,upperdir=/run/up,workdir=/run/work" overlay /etc
for m in $(cut -d ' ' -f 5 /proc/self/mountinfo | grep -v -e '^/run$' -e '^/proc' -e '^/sys' -e '^/dev'); do mount -o remount,bind,ro "$m" 2>/dev/null || true; done
if touch /var/lib/probe 2>/dev/null || touch /root/probe 2>/dev/null || touch /etc/probe 2>/dev/null || touch /tmp/probe 2>/dev/null; then echo "the file systems are not read-only" >&2; exit 1; fi
rm -rf /run/up /run/work
HOME=/root PATH="$1/bin:$PATH" sh "$1/facts"
ls -A /run >&2
`, "sh", dir)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	require.NoError(t, err, "%s", stderr.String())
	f, err := Parse(out, time.Now())
	require.NoError(t, err)
	require.NotNil(t, f.Leftovers, "it saw the control plane")
	require.Contains(t, string(out), `{"items":[]}`, "kubectl could work")
	require.NotContains(t, stderr.String(), "catamaran", "the temporary folder is gone: %s", stderr.String())
	require.NotContains(t, stderr.String(), "Read-only", "%s", stderr.String())
}

// A list that the API server did not give is said, and nothing of the cluster is taken from the others.
func TestFactsSayWhichListFailed(t *testing.T) {
	t.Parallel()
	require.Zero(t, os.Getuid(), "this test mounts file systems in a namespace of its own: run it as root")
	dir := t.TempDir()
	// a stand-in
	kubectl := `case "$*" in *owner=helm*) echo "Unable to connect to the server: timeout" >&2; exit 1 ;; *) echo '{"items":[{"metadata":{"name":"n"}}]}' ;; esac`
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bin/kubectl"), []byte("#!/bin/sh\n"+kubectl+"\n"), 0o755))
	script := filepath.Join(dir, "facts")
	require.NoError(t, os.WriteFile(script, []byte(Script(Query{})), 0o600))
	out, err := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-ec", `
mount -t tmpfs private /run
mkdir -p /run/up /run/work "$1/kubernetes/manifests"; : > "$1/kubernetes/admin.conf"; : > "$1/kubernetes/manifests/kube-apiserver.yaml"
mount -t overlay -o "lowerdir=$1:/etc,upperdir=/run/up,workdir=/run/work" overlay /etc
PATH="$1/bin:$PATH" sh "$1/facts"
`, "sh", dir).Output()
	require.NoError(t, err)
	f, err := Parse(out, time.Now())
	require.NoError(t, err)
	require.Nil(t, f.Cluster)
	require.Equal(t, "list of releases: Unable to connect to the server: timeout", f.ClusterError)
}
