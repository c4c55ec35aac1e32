package kubeadm

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
)

func TestKubeadmAcceptsWhatIsRendered(t *testing.T) {
	t.Parallel()
	kubeadm := program(t, "kubeadm")
	s := newSite(t)
	validate := func(t *testing.T, content string) (string, error) {
		out, err := exec.Command(kubeadm, "config", "validate", "--config", write(t, t.TempDir(), "kubeadm.yaml", content)).CombinedOutput()
		return string(out), err
	}
	for name, content := range s.documents(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := validate(t, content)
			require.NoError(t, err, "%s\n%s", out, content)
			require.Equal(t, "ok", strings.TrimSpace(out), "no warning either")
		})
	}
	t.Run("an unknown field in each kind is refused", func(t *testing.T) {
		t.Parallel()
		for kind, name := range map[string]string{
			"InitConfiguration": "init, vip", "ClusterConfiguration": "init, vip", "JoinConfiguration": "join worker, vip",
			"KubeletConfiguration": "init, vip", "KubeProxyConfiguration": "init, vip",
		} {
			content := s.documents(t)[name]
			doc := document(t, content, kind)
			out, err := validate(t, strings.Replace(content, doc, doc+"noSuchField: 1\n", 1))
			require.True(t, err != nil || strings.Contains(out, "noSuchField"), "%s: %s", kind, out)
		}
	})
}

func TestKubeletReadsItsConfiguration(t *testing.T) {
	t.Parallel()
	kubelet := program(t, "kubelet")
	content := document(t, newSite(t).documents(t)["shared, vip"], "KubeletConfiguration")
	// the machine on which the tests run may have cgroup v1
	content = strings.Replace(content, "failCgroupV1: true", "failCgroupV1: false", 1)
	start := func(t *testing.T, content string) string {
		dir := t.TempDir()
		// as the machine on which the tests run is none of ours, everything that it would touch lies in a folder
		return run(t, kubelet, "--config", write(t, dir, "config.yaml", content), "--root-dir", dir, "--cert-dir", dir,
			"--kubeconfig", dir+"/none", "--bootstrap-kubeconfig", dir+"/none-either").says(t)
	}
	out := start(t, content)
	require.Contains(t, out, "unable to load bootstrap kubeconfig", "it took the configuration and went on")
	for _, effective := range []string{"maxPods: 60", "protectKernelDefaults: true", "tlsMinVersion: VersionTLS12", "seccompDefault: true", "nodefs.available: 10%"} {
		require.Contains(t, out, effective)
	}
	require.Contains(t, start(t, content+"noSuchField: 1\n"), "noSuchField")
	require.Contains(t, start(t, strings.Replace(content, "mode: Webhook", "mode: Nonsense", 1)), "Nonsense")
}

func TestKubeProxyReadsItsConfiguration(t *testing.T) {
	t.Parallel()
	proxy := program(t, "kube-proxy")
	dir := t.TempDir()
	content := document(t, newSite(t).documents(t)["shared, vip"], "KubeProxyConfiguration")
	out, err := exec.Command(proxy, "--config", write(t, dir, "config.yaml", content), "--write-config-to", dir+"/written").CombinedOutput()
	require.NoError(t, err, "%s", out)
	written, err := os.ReadFile(dir + "/written")
	require.NoError(t, err)
	for _, want := range []string{"mode: nftables", "clusterCIDR: 10.100.0.0/16", "maxPerCore: 0", "metricsBindAddress: 127.0.0.1:10249"} {
		require.Contains(t, string(written), want)
	}
	out, err = exec.Command(proxy, "--config", write(t, dir, "config.yaml", content+"noSuchField: 1\n"), "--write-config-to", dir+"/written").CombinedOutput()
	require.True(t, err != nil || strings.Contains(string(out), "noSuchField"), "%s", out)
}

// TestModes keeps the documents apart: what one mode renders is not what another does.
func TestModes(t *testing.T) {
	t.Parallel()
	docs := newSite(t).documents(t)
	require.Contains(t, docs["init, vip"], "controlPlaneEndpoint: 10.77.0.10:6443")
	require.Contains(t, docs["init, "+string(inventory.EndpointNode)], "controlPlaneEndpoint: 10.77.0.11:6443")
}
