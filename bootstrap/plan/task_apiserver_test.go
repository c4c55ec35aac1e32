package plan

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// restartScript is the script's part that restarts, on a folder of the test's, with stand-ins for what it waits for: the
// machine's processes are none of its own, and the API server is a word.
func restartScript(t *testing.T, manifest, rest string) (string, error) {
	t.Helper()
	const whole = "manifest=/etc/kubernetes/manifests/kube-apiserver.yaml\n"
	require.Contains(t, apiServer, whole)
	c := exec.Command("sh", "-c", "set -eu\numask 077\n"+strings.Replace(apiServer, whole, "running() { cat \"$manifest.pod\"; }\nk() { echo ok; }\nmanifest='"+manifest+"'\n", 1)+rest)
	out, err := c.CombinedOutput()
	return string(out), err
}

const apiServerManifest = `apiVersion: v1
kind: Pod
metadata:
  annotations:
    kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint: 10.77.0.21:6443
  labels:
    component: kube-apiserver
`

func TestARestartIsAnotherManifest(t *testing.T) {
	t.Parallel()
	manifest := filepath.Join(t.TempDir(), "kube-apiserver.yaml")
	require.NoError(t, os.WriteFile(manifest, []byte(apiServerManifest), 0o600))
	require.NoError(t, os.WriteFile(manifest+".pod", []byte("one\n"), 0o600))
	seen := map[string]bool{apiServerManifest: true}
	for range 2 {
		out, err := restartScript(t, manifest, "another; echo two > \"$manifest.pod\"; back\n")
		require.NoError(t, err, out)
		require.NoError(t, os.WriteFile(manifest+".pod", []byte("one\n"), 0o600))
		text, err := os.ReadFile(manifest)
		require.NoError(t, err)
		assert.False(t, seen[string(text)], "each restart gives the pod another name")
		seen[string(text)] = true
		assert.Equal(t, 1, strings.Count(string(text), "catamaran.dev/restarted"), "marks do not add up")
		var kept []string
		for _, line := range strings.SplitAfter(string(text), "\n") {
			if !strings.Contains(line, "catamaran.dev/restarted") {
				kept = append(kept, line)
			}
		}
		assert.Equal(t, apiServerManifest, strings.Join(kept, ""), "nothing else was touched")
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(manifest), ".*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestAManifestOfSomebodyElseIsNotTouched(t *testing.T) {
	t.Parallel()
	manifest := filepath.Join(t.TempDir(), "kube-apiserver.yaml")
	const strange = "{apiVersion: v1, kind: Pod}\n"
	require.NoError(t, os.WriteFile(manifest, []byte(strange), 0o600))
	require.NoError(t, os.WriteFile(manifest+".pod", nil, 0o600))
	out, err := restartScript(t, manifest, "another\n")
	require.Error(t, err)
	assert.Contains(t, out, "written by somebody else")
	text, err := os.ReadFile(manifest)
	require.NoError(t, err)
	assert.Equal(t, strange, string(text))
}

// While the old one still runs beside the new one, it may be the old one that answers.
func TestItWaitsUntilTheOldAPIServerIsGone(t *testing.T) {
	t.Parallel()
	manifest := filepath.Join(t.TempDir(), "kube-apiserver.yaml")
	require.NoError(t, os.WriteFile(manifest, []byte(apiServerManifest), 0o600))
	require.NoError(t, os.WriteFile(manifest+".pod", []byte("one\n"), 0o600))
	out, err := restartScript(t, manifest, `looks=0
printf 'one\ntwo\n' > "$manifest.pod"
sleep() { looks=$((looks + 1)); if [ "$looks" = 3 ]; then echo two > "$manifest.pod"; fi; }
back
echo "after $looks looks"
`)
	require.NoError(t, err, out)
	assert.Contains(t, out, "after 3 looks")
}

func TestScriptsForAPIServersArePortable(t *testing.T) {
	t.Parallel()
	for _, check := range [][]string{{"dash", "-n"}, {"bash", "--posix", "-n"}} {
		c := exec.Command(check[0], check[1:]...)
		c.Stdin = strings.NewReader(apiServer + reconfigureControlPlane + reconfigureKubelet)
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%v: %s", check, out)
	}
}
