package host

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run the test with -update to make it")
	require.Equal(t, string(want), got)
}

func capture(t testing.TB, name string) string {
	data, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return string(data)
}

var received = time.Date(2026, 11, 24, 11, 0, 0, 0, time.UTC)

// TestParse reads what the script printed on a fresh Debian 12, and on a member of a cluster.
func TestParse(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"fresh", "member"} {
		f, err := Parse([]byte(capture(t, name+".txt")), received)
		require.NoError(t, err)
		got, err := json.MarshalIndent(f, "", "  ")
		require.NoError(t, err)
		golden(t, name+".json", string(got)+"\n")
	}
}

func TestParseDetails(t *testing.T) {
	t.Parallel()
	f, err := Parse([]byte(capture(t, "member.txt")), received)
	require.NoError(t, err)
	require.Equal(t, "4096 131072 33554432", f.Sysctls["net.ipv4.tcp_rmem"], "tabs of the kernel's are no difference")
	require.Equal(t, "1.37.2", f.Versions["kubelet"])
	require.NotContains(t, f.Versions, "kubeadm", "it was changed since it was installed")
	require.NotContains(t, f.Files, "/usr/bin/kubeadm")
	require.Equal(t, "2.4.2", f.Versions["containerd"])
	require.Equal(t, []string{"catamaran-sc-1-init"}, f.Running)
	require.Len(t, f.Blobs, 2)
	require.True(t, f.SwapActive && f.CgroupV2)
	require.Equal(t, []ReleaseFacts{
		{Namespace: "default", Name: "app", Revision: 10, Status: "failed", Version: "1.0.0", Digest: "sha256:app"},
		{Namespace: "kube-system", Name: "flannel", Revision: 2, Status: "deployed", Version: "0.2.0", Digest: "sha256:new"},
	}, f.Cluster.Releases)
	end := time.Date(2027, 6, 1, 12, 0, 0, 0, time.UTC)
	require.Equal(t, []SecretFacts{
		{Namespace: "ingest-gateway", Name: "ingest-gateway-door", Digest: "0f3a", NotAfter: end},
		{Namespace: "ingest-gateway", Name: "ingest-gateway-s3", Digest: "77b1"},
		{Namespace: "loki", Name: "loki-tls", NotAfter: end},
	}, f.Cluster.Secrets)
	require.Equal(t, []string{"node-role.kubernetes.io/control-plane=:NoSchedule"}, f.Cluster.Nodes[0].Taints)
	require.Equal(t, "8211f1d0f64f3269", f.Cluster.Etcd[0].ID)
	require.True(t, f.Cluster.Etcd[0].Healthy)
	require.False(t, f.Cluster.Etcd[1].Healthy)
	require.True(t, f.Cluster.Etcd[1].Learner)
	require.Contains(t, f.Certificates["/etc/kubernetes/admin.conf"], "BEGIN CERTIFICATE")
	require.NotContains(t, f.Certificates, "/etc/kubernetes/kubelet.conf")
}

func TestParseRefusesWhatIsBroken(t *testing.T) {
	t.Parallel()
	whole := capture(t, "member.txt")
	t.Run("cut off anywhere", func(t *testing.T) {
		end := strings.LastIndex(whole, "end\tok")
		for i := 0; i <= end; i += 7 {
			_, err := Parse([]byte(whole[:i]), received)
			require.Error(t, err, "after %d bytes", i)
		}
	})
	for name, c := range map[string]struct{ old, by, word string }{
		"clock":                 {"clock\t1795520269.", "clock\tnow.", "clock"},
		"no clock":              {"clock\t", "cluck\t", "clock"},
		"no hostname":           {"hostname\tsc-1", "hostname\t", "hostname"},
		"memory":                {"memoryKiB\t24684084", "memoryKiB\tmuch", "memoryKiB"},
		"no memory":             {"memoryKiB\t", "memory\t", "memory"},
		"disk":                  {"disk\t264212084 ", "disk\tlarge ", "disk"},
		"content":               {"c2MtY3AtMQo=", "!!!", "content /etc/hostname"},
		"a certificate of conf": {"<conf /etc/kubernetes/admin.conf\n", "<conf /etc/kubernetes/admin.conf\n!", "conf /etc/kubernetes/admin.conf"},
		"nodes":                 {`"items"`, `items`, "nodes"},
		"members":               {`"members"`, `members`, "members"},
		"a member's ID":         {"9372538179322589801", "-1", "members"},
		"health":                {`[{"endpoint"`, `[{endpoint`, "health"},
		"a release's revision":  {"flannel\t2", "flannel\ttwo", "releases"},
		"a secret's end":        {"2027-06-01T12:00:00Z", "soon", "secret ingest-gateway-door"},
		"a block without end":   {">listeners\n", "", "cut off"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, whole, c.old)
			_, err := Parse([]byte(strings.Replace(whole, c.old, c.by, 1)), received)
			require.ErrorContains(t, err, c.word)
		})
	}
}

// The API server's age is the machine's own arithmetic: when it began since the start, and for how long the machine is up.
func TestParseAPIServer(t *testing.T) {
	t.Parallel()
	whole := capture(t, "member.txt")
	lines := "apiServer\t1795520000.250000000\t1000.25\t50000\napiServer\t1795520000.350000000\t1000.35\t40000\n" +
		"written\t/etc/kubernetes/audit/policy.yaml\t1795519500.750000000\n"
	f, err := Parse([]byte(lines+whole), received)
	require.NoError(t, err)
	require.Equal(t, time.Unix(1795519500, 0).UTC(), f.APIServerStarted, "the younger of two")
	require.Equal(t, map[string]time.Time{"/etc/kubernetes/audit/policy.yaml": time.Unix(1795519500, 750e6).UTC()}, f.Written)
	for _, broken := range []string{"apiServer\tnow\t1\t1\n", "apiServer\t1\tlong\t1\n", "apiServer\t1\t1\tthen\n", "apiServer\t1\t1\n"} {
		_, err := Parse([]byte(broken+whole), received)
		require.ErrorContains(t, err, "apiServer", broken)
	}
	_, err = Parse([]byte("written\t/x\tonce\n"+whole), received)
	require.ErrorContains(t, err, "written")
}

func TestClusterThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	whole := capture(t, "member.txt")
	begin, end := strings.Index(whole, "<nodes\n")+len("<nodes\n"), strings.Index(whole, ">nodes\n")
	f, err := Parse([]byte(strings.Replace(whole[:begin], "<apiError\n", "<apiError\nconnection refused\n", 1)+"\n"+whole[end:]), received)
	require.NoError(t, err)
	require.Nil(t, f.Cluster)
	require.Equal(t, "connection refused", f.ClusterError)
}

// One list that failed makes all the rest unknown: no release is installed again because its list did not come.
func TestClusterThatAnswersInPart(t *testing.T) {
	t.Parallel()
	f, err := Parse([]byte(strings.Replace(capture(t, "member.txt"), "<apiError\n", "<apiError\nlist of releases: timed out\n", 1)), received)
	require.NoError(t, err)
	require.Nil(t, f.Cluster)
	require.Equal(t, "list of releases: timed out", f.ClusterError)
}

func TestVersionIn(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"Kubernetes v1.37.2": "1.37.2", "containerd github.com/containerd/containerd v1.6.20 abc": "1.6.20", "runc version 1.5.2": "1.5.2", "": "", "no version": "",
	} {
		require.Equal(t, want, versionIn(s), s)
	}
}

// FuzzParse wants no panic, and nothing accepted that does not end as it should.
func FuzzParse(f *testing.F) {
	f.Add([]byte(capture(f, "fresh.txt")))
	f.Add([]byte(capture(f, "member.txt")))
	f.Add([]byte("<sums\n" + strings.Repeat("x", 70) + "\n>sums\n<programs\na\n>programs\nend\tok\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		facts, err := Parse(out, received)
		if (facts == nil) == (err == nil) {
			t.Fatal("either facts or an error")
		}
		if err == nil && !strings.Contains(string(out), "end\t") {
			t.Fatal("cut off, and accepted")
		}
	})
}
