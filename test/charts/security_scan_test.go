package charts

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/catamaran-k8s/catamaran/embedded/helm"
)

func scanObjects(t *testing.T, values map[string]any) []*unstructured.Unstructured {
	t.Helper()
	given := helm.Merge(map[string]any{"nodeNames": []any{"wc-1"}, "network": map[string]any{"nodes": []any{"10.77.0.21/32"}}}, values)
	chart := securityChart(t, "trivy")
	require.NoError(t, chart.CheckValues(given))
	out, err := chart.Render(helm.RenderOptions{Name: "trivy", Namespace: "trivy", KubeVersion: "1.37.2", Values: given})
	require.NoError(t, err)
	return objects(t, out.Manifest)
}

// Every branch of the charts is accepted by the API server, pods included; and none of their namespaces could be stricter.
func TestScanChartsAreAccepted(t *testing.T) {
	t.Parallel()
	for name, values := range map[string]map[string]any{
		"no database":             nil,
		"a database's image":      {"database": map[string]any{"image": "registry.example.org/trivy-db:2026-11-24"}, "size": "standard"},
		"a database to download":  {"database": map[string]any{"repository": "ghcr.io/aquasecurity/trivy-db:2"}, "size": "large", "ignoreUnfixed": true},
		"a server":                {"database": map[string]any{"image": "registry.example.org/trivy-db:2026-11-24"}, "server": true},
		"a server that downloads": {"database": map[string]any{"repository": "ghcr.io/aquasecurity/trivy-db:2"}, "server": true, "size": "large"},
		"odd nodes":               {"nodeNames": []any{"123", strings.Repeat("a", 63), "wc-1.example.org"}, "network": map[string]any{"nodes": []any{}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pods, strict := 0, enforcing(t, "baseline")
			namespace := enforcing(t, "privileged")
			for _, object := range scanObjects(t, values) {
				if object.GetNamespace() == "trivy" {
					object.SetNamespace(namespace)
				}
				require.NoError(t, dryRun(t, object), "%s %s", object.GetKind(), object.GetName())
				if pod := templateOf(t, object, namespace); pod != nil {
					pods++
					assert.NoError(t, dryRun(t, pod), object.GetName())
					if object.GetKind() == "Deployment" {
						// the server could run anywhere
						pod.SetNamespace(enforcing(t, "restricted"))
						assert.NoError(t, dryRun(t, pod), object.GetName())
						continue
					}
					pod.SetNamespace(strict)
					err := dryRun(t, pod)
					require.Error(t, err)
					assert.Contains(t, err.Error(), "hostPath volumes")
					assert.Equal(t, 1, strings.Count(err.Error(), "("), "one reason: %v", err)
				}
			}
			assert.Positive(t, pods)
		})
	}
}

// Gatekeeper in each size; its kinds are written where Gatekeeper itself is (TestGatekeeper).
func TestGatekeeperIsAccepted(t *testing.T) {
	t.Parallel()
	for _, values := range []map[string]any{
		{"size": "small"}, {"size": "large", "exemptNamespaces": []any{"shop"}, "reads": []any{map[string]any{"group": "networking.k8s.io", "resources": []any{"ingresses"}}}},
	} {
		namespace, pods := enforcing(t, "restricted"), 0
		require.NoError(t, securityChart(t, "gatekeeper").CheckValues(values))
		out, err := securityChart(t, "gatekeeper").Render(helm.RenderOptions{Name: "gatekeeper", Namespace: gatekeeperNamespace, KubeVersion: "1.37.2", Values: values})
		require.NoError(t, err)
		for _, object := range objects(t, out.Manifest) {
			if object.GroupVersionKind().Group == "templates.gatekeeper.sh" {
				continue
			}
			if object.GetNamespace() == gatekeeperNamespace {
				object.SetNamespace(namespace)
			}
			require.NoError(t, dryRun(t, object), "%s %s", object.GetKind(), object.GetName())
			if pod := templateOf(t, object, namespace); pod != nil {
				pods++
				assert.NoError(t, dryRun(t, pod), object.GetName())
			}
		}
		assert.Equal(t, map[any]int{"small": 1, "large": 2}[values["size"]], pods)
	}
}

// file is one of an image's.
type file struct {
	name    string
	content []byte
}

func imageOf(t *testing.T, files ...file) v1.Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.content)), Typeflag: tar.TypeReg}))
		_, err := w.Write(f.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	require.NoError(t, err)
	image, err := mutate.AppendLayers(empty.Image, layer)
	require.NoError(t, err)
	config, err := image.ConfigFile()
	require.NoError(t, err)
	config = config.DeepCopy()
	config.Architecture, config.OS = "amd64", "linux"
	image, err = mutate.ConfigFile(image, config)
	require.NoError(t, err)
	return image
}

// startContainerd runs the node's runtime without anything that needs a node, and returns its socket.
func startContainerd(t *testing.T, dir string) string {
	t.Helper()
	socket := filepath.Join(dir, "c.sock")
	config := fmt.Sprintf(`version = 3
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]
[grpc]
  address = %q
  uid = %d
  gid = %d
[ttrpc]
  address = %q
`, filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket, os.Getuid(), os.Getgid(), filepath.Join(dir, "t.sock"))
	path := filepath.Join(dir, "containerd.toml")
	require.NoError(t, os.WriteFile(path, []byte(config), 0o600))
	var said bytes.Buffer
	cmd := exec.Command(program(t, "containerd"), "--config", path)
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL) // it may have ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("containerd said\n%s", said.String())
		}
	})
	ctr := program(t, "ctr")
	require.Eventually(t, func() bool {
		return exec.CommandContext(t.Context(), ctr, "--address", socket, "version").Run() == nil
	}, patience, 100*time.Millisecond)
	return socket
}

// scan is what the chart's job does on a node: its script, its arguments and the real Trivy.
type scan struct {
	dir, socket, database string
	images                string // lines of pod-images
	// server is where the chart's Trivy server answers, with its token; none where the node has the database itself.
	server, token string
	// trivy is the program; the real one if empty.
	trivy string
}

// run returns the report and how the job ends.
func (s scan) run(t *testing.T, values map[string]any) ([]map[string]any, error) {
	t.Helper()
	work, etc := filepath.Join(s.dir, "work"), filepath.Join(s.dir, "scan")
	for _, d := range []string{work, etc} {
		require.NoError(t, os.MkdirAll(d, 0o700))
	}
	moved := strings.NewReplacer("/scratch", work, "/database", s.database, "/etc/catamaran/scan", etc, "/run/containerd/containerd.sock", s.socket, scanServer, s.server)
	objects := scanObjects(t, values)
	for name, text := range configMap(t, objects, "scan") {
		require.NoError(t, os.WriteFile(filepath.Join(etc, name), []byte(moved.Replace(text)), 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(work, "images"), []byte(s.images), 0o600))
	var containers []any
	for _, o := range objects {
		if o.GetKind() == "CronJob" {
			var err error
			containers, _, err = unstructured.NestedSlice(o.Object, "spec", "jobTemplate", "spec", "template", "spec", "containers")
			require.NoError(t, err)
		}
	}
	require.Len(t, containers, 1)
	container := containers[0].(map[string]any)
	var command []string
	for _, list := range []string{"command", "args"} {
		words, _, err := unstructured.NestedStringSlice(container, list)
		require.NoError(t, err)
		for _, w := range words {
			command = append(command, moved.Replace(w))
		}
	}
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	trivy := s.trivy
	if trivy == "" {
		trivy = program(t, "trivy")
	}
	cmd.Env = []string{"PATH=" + filepath.Dir(trivy) + ":" + os.Getenv("PATH"), "GOMEMLIMIT=268435456"}
	for _, e := range container["env"].([]any) {
		if value, ok := e.(map[string]any)["value"].(string); ok {
			cmd.Env = append(cmd.Env, e.(map[string]any)["name"].(string)+"="+moved.Replace(value))
		}
	}
	if s.token != "" {
		cmd.Env = append(cmd.Env, "TRIVY_TOKEN="+s.token)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, failed := cmd.Output()
	assert.Empty(t, stderr.String(), "everything is a line of JSON")
	var report []map[string]any
	for line := range strings.Lines(string(out)) {
		var l map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &l), line)
		assert.Equal(t, "wc-1", l["node"], line)
		report = append(report, l)
	}
	return report, failed
}

// The whole way on a node, with real programs and a made-up database: images in containerd, Trivy, lines of JSON.
func TestScan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket := startContainerd(t, dir)
	// a small program that has a module which the database speaks of
	small, err := os.ReadFile(program(t, "trivy-db"))
	require.NoError(t, err)
	for ref, image := range map[string]v1.Image{
		"example.org/alpine:1": imageOf(t, file{"etc/alpine-release", []byte("3.22.1\n")}, file{"etc/os-release", []byte("ID=alpine\nVERSION_ID=3.22.1\n")},
			file{"lib/apk/db/installed", []byte("P:busybox\nV:1.37.0-r0\nA:x86_64\no:busybox\n\n")}),
		"example.org/small:1": imageOf(t, file{"opt/bin/small", small}),
		"example.org/clean:1": imageOf(t, file{"etc/motd", []byte("hello")}, file{"app.jar", []byte("an archive that nobody could look up")}),
	} {
		tag, err := name.NewTag(ref)
		require.NoError(t, err)
		archive := filepath.Join(dir, "image.tar")
		require.NoError(t, tarball.WriteToFile(archive, tag, image))
		says(t, program(t, "ctr"), "--address", socket, "--namespace", "k8s.io", "images", "import", "--no-unpack", archive)
	}
	database := filepath.Join(dir, "database")
	require.NoError(t, os.Mkdir(database, 0o700))
	runs := func(image, pod string) string { return image + " " + image + " " + pod + "\n" }
	images := runs("example.org/alpine:1", "shop/a/c") + runs("example.org/clean:1", "shop/c/c") + runs("example.org/small:1", "shop/s/c")
	values := map[string]any{"database": map[string]any{"image": "registry.example.org/trivy-db:1"}}

	report, err := scan{dir: dir, socket: socket, database: database, images: images}.run(t, values)
	require.Error(t, err)
	assert.Equal(t, []map[string]any{{"kind": "scan", "status": "no database", "node": "wc-1", "images": 3.0}}, report)

	says(t, program(t, "trivy-db"), database)
	report, err = scan{dir: dir, socket: socket, database: database, images: images}.run(t, values)
	require.NoError(t, err, "%v", report)
	kinds := map[string][]map[string]any{}
	for _, l := range report {
		kinds[l["kind"].(string)] = append(kinds[l["kind"].(string)], l)
	}
	require.Len(t, kinds["vulnerability"], 2)
	assert.Subset(t, kinds["vulnerability"][0], map[string]any{
		"severity": "HIGH", "id": "CVE-1999-99002", "package": "busybox", "installed": "1.37.0-r0", "fixed": "9.9.9-r9", "image": "example.org/alpine:1",
		"pod": "shop/a/c", "title": `made up by the lab: every "busybox"`,
	})
	assert.Subset(t, kinds["vulnerability"][1], map[string]any{
		"severity": "CRITICAL", "id": "CVE-1999-99003", "package": "go.etcd.io/bbolt", "where": "opt/bin/small", "pod": "shop/s/c",
	})
	require.Len(t, kinds["image"], 3)
	for i, counts := range [][2]float64{{0, 1}, {0, 0}, {1, 0}} {
		assert.Subset(t, kinds["image"][i], map[string]any{"status": "scanned", "critical": counts[0], "high": counts[1]})
	}
	require.Len(t, kinds["scan"], 2)
	assert.Subset(t, kinds["scan"][0], map[string]any{"status": "started", "images": 3.0, "java": false})
	assert.Equal(t, "2026-01-01T00:00:00Z", kinds["scan"][0]["database"].(map[string]any)["UpdatedAt"])
	assert.Subset(t, kinds["scan"][1], map[string]any{"status": "complete", "failed": 0.0})

	// one that is gone, and the rest is looked at all the same, for less
	gone := runs("example.org/gone:1", "shop/g/c") + runs("example.org/alpine:1", "shop/a/c")
	report, err = scan{dir: dir, socket: socket, database: database, images: gone}.run(t, helm.Merge(values, map[string]any{"severities": []any{"CRITICAL"}}))
	require.Error(t, err)
	require.Len(t, report, 4)
	assert.Subset(t, report[1], map[string]any{"kind": "image", "status": "failed", "pod": "shop/g/c"})
	assert.Contains(t, report[1]["error"], "image not found in containerd store: example.org/gone:1")
	assert.Subset(t, report[2], map[string]any{"kind": "image", "status": "scanned", "high": 0.0})
	assert.Subset(t, report[3], map[string]any{"status": "incomplete", "images": 2.0, "failed": 1.0})
}

// What the kernel does to a Trivy that needs more memory than its limit is done by a stand-in to itself.
func TestScanThatIsKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	database, killed := filepath.Join(dir, "database"), filepath.Join(dir, "bin", "trivy")
	for _, d := range []string{database, filepath.Dir(killed)} {
		require.NoError(t, os.Mkdir(d, 0o700))
	}
	says(t, program(t, "trivy-db"), database)
	for script, want := range map[string]string{
		"kill -KILL $$":      "killed, as it is for using more memory than its limit (resources.limits.memory)",
		"exit 3":             "ended with status 3",
		"echo no >&2; false": "no",
	} {
		require.NoError(t, os.WriteFile(killed, []byte("#!/bin/sh\n"+script+"\n"), 0o700))
		report, err := scan{dir: dir, database: database, images: "r example.org/large:1 shop/l/c\n", trivy: killed}.run(t, map[string]any{
			"database": map[string]any{"image": "registry.example.org/trivy-db:1"},
		})
		require.Error(t, err)
		require.Len(t, report, 3)
		assert.Subset(t, report[1], map[string]any{"kind": "image", "status": "failed", "image": "example.org/large:1"})
		assert.Equal(t, want, strings.TrimSpace(report[1]["error"].(string)))
		assert.Subset(t, report[2], map[string]any{"kind": "scan", "status": "incomplete", "failed": 1.0})
	}
}

// scanServer is where the chart's nodes ask.
const scanServer = "http://trivy.trivy.svc:4954"

// startScanServer runs the container of the chart's Deployment, and returns where it answers.
func startScanServer(t *testing.T, database, token string, values map[string]any) string {
	t.Helper()
	ports, err := freePorts(1)
	require.NoError(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", ports[0])
	moved := strings.NewReplacer("/database", database, "0.0.0.0:4954", address)
	var args []string
	for _, o := range scanObjects(t, values) {
		if o.GetKind() == "Deployment" {
			containers, _, err := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
			require.NoError(t, err)
			require.Len(t, containers, 1)
			words, _, err := unstructured.NestedStringSlice(containers[0].(map[string]any), "args")
			require.NoError(t, err)
			for _, w := range words {
				args = append(args, moved.Replace(w))
			}
		}
	}
	require.NotEmpty(t, args)
	launch(t, []string{"HOME=" + t.TempDir(), "TRIVY_TOKEN=" + token}, program(t, "trivy"), args...)
	await(t, http.DefaultClient, "http://"+address+"/healthz")
	return "http://" + address
}

// The same with a server that has the database: the node has none, and finds as much; who has another token is told nothing.
func TestScanAsksTheServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket := startContainerd(t, dir)
	tag, err := name.NewTag("example.org/alpine:1")
	require.NoError(t, err)
	archive := filepath.Join(dir, "image.tar")
	require.NoError(t, tarball.WriteToFile(archive, tag, imageOf(t, file{"etc/alpine-release", []byte("3.22.1\n")},
		file{"etc/os-release", []byte("ID=alpine\nVERSION_ID=3.22.1\n")}, file{"lib/apk/db/installed", []byte("P:busybox\nV:1.37.0-r0\nA:x86_64\no:busybox\n\n")})))
	says(t, program(t, "ctr"), "--address", socket, "--namespace", "k8s.io", "images", "import", "--no-unpack", archive)
	database, none := filepath.Join(dir, "database"), filepath.Join(dir, "none")
	for _, d := range []string{database, none} {
		require.NoError(t, os.Mkdir(d, 0o700))
	}
	says(t, program(t, "trivy-db"), database)
	values := map[string]any{"database": map[string]any{"image": "registry.example.org/trivy-db:1"}, "server": true}
	const token = "Canary_Token_5501"
	s := scan{dir: dir, socket: socket, database: none, images: strings.Repeat("example.org/alpine:1 ", 2) + "shop/a/c\n", token: token}
	s.server = startScanServer(t, database, token, values)

	report, err := s.run(t, values)
	require.NoError(t, err, "%v", report)
	require.Len(t, report, 4)
	assert.Equal(t, map[string]any{"server": s.server}, report[0]["database"])
	assert.Subset(t, report[1], map[string]any{"kind": "vulnerability", "severity": "HIGH", "id": "CVE-1999-99002", "package": "busybox"})
	assert.Subset(t, report[2], map[string]any{"kind": "image", "status": "scanned", "high": 1.0})
	assert.Subset(t, report[3], map[string]any{"kind": "scan", "status": "complete"})

	s.token = "another"
	report, err = s.run(t, values)
	require.Error(t, err)
	require.Len(t, report, 3)
	assert.Subset(t, report[1], map[string]any{"kind": "image", "status": "failed"})
	assert.Contains(t, report[1]["error"], "invalid token")
	for _, line := range report {
		assert.NotContains(t, fmt.Sprint(line), token)
	}
}
