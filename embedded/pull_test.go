package embedded

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
)

const (
	registryUser     = "puller"
	registryPassword = "Canary_Password_9127"
)

// ociRegistry is a registry over TLS that asks for a password; requests counts what it was asked.
var (
	ociRegistry *httptest.Server
	requests    atomic.Int64
)

// TestMain starts the registry before anything is verified: Go reads the machine's trusted certificates once, and the
// registry's must be among them.
func TestMain(m *testing.M) {
	code, err := withRegistry(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withRegistry(m *testing.M) (int, error) {
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	ociRegistry = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if user, password, _ := r.BasicAuth(); user != registryUser || password != registryPassword {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	defer ociRegistry.Close()
	ociRegistry.Config.ErrorLog = log.New(io.Discard, "", 0)
	dir, err := os.MkdirTemp("", "catamaran-embedded-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	trusted := filepath.Join(dir, "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ociRegistry.Certificate().Raw})
	if err := os.WriteFile(trusted, cert, 0o600); err != nil {
		return 0, err
	}
	if err := os.Setenv("SSL_CERT_FILE", trusted); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// push packages the chart in a folder and uploads it the way that Helm does.
func push(t *testing.T, chart, repository, version string) {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	w := tar.NewWriter(z)
	require.NoError(t, filepath.WalkDir(chart, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(filepath.Dir(chart), path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}))
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())

	artifact := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	artifact = mutate.ConfigMediaType(artifact, "application/vnd.cncf.helm.config.v1+json")
	artifact, err := mutate.AppendLayers(artifact, static.NewLayer(packed.Bytes(), "application/vnd.cncf.helm.chart.content.v1.tar+gzip"))
	require.NoError(t, err)
	ref, err := name.ParseReference(registryHost() + "/" + repository + "/own:" + version)
	require.NoError(t, err)
	require.NoError(t, remote.Write(ref, artifact, remote.WithTransport(ociRegistry.Client().Transport),
		remote.WithAuth(&authn.Basic{Username: registryUser, Password: registryPassword})))
}

func registryHost() string { return strings.TrimPrefix(ociRegistry.URL, "https://") }

func ociSite(t *testing.T, repository, version, more string) *inventory.Inventory {
	t.Helper()
	return site(t, fmt.Sprintf("releases:\n  - {name: own, namespace: own, cluster: workload, chart: \"oci://%s/%s/own\", version: %s%s}\n",
		registryHost(), repository, version, more))
}

// Not in parallel: the requests are counted.
func TestOCIChart(t *testing.T) {
	chart := writeChart(t, t.TempDir())
	push(t, chart, "charts", "1.5.0")
	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte(registryPassword+"\n"), 0o600))
	signedIn := ", username: " + registryUser + ", password: {file: " + password + "}"

	inv := ociSite(t, "charts", "1.5.0", signedIn)
	r := named(t, releases(t, inv, inventory.Workload), "own")
	assert.Equal(t, "1.2.3+build.5", r.Version, "what Chart.yaml says")
	assert.Equal(t, ChartSource{OCI: inv.Releases[0].Chart}, r.Chart)

	before := requests.Load()
	again := named(t, releases(t, inv, inventory.Workload), "own")
	assert.Equal(t, r.Digest, again.Digest)
	assert.Equal(t, before, requests.Load(), "what was pulled is kept")

	// the tag moves: this site keeps what it has, until the file is removed
	require.NoError(t, os.WriteFile(filepath.Join(chart, "templates", "NOTES.txt"), []byte("moved"), 0o600))
	push(t, chart, "charts", "1.5.0")
	assert.Equal(t, r.Digest, named(t, releases(t, inv, inventory.Workload), "own").Digest)
	require.NoError(t, os.Remove(cacheFile(inv, &inv.Releases[0])))
	assert.NotEqual(t, r.Digest, named(t, releases(t, inv, inventory.Workload), "own").Digest)

	for name, c := range map[string]struct{ repository, version, more, want string }{
		"nobody":           {"charts", "1.5.0", "", "/charts/own:1.5.0 to an anonymous user; set username and password of the release"},
		"a wrong password": {"charts", "1.5.0", ", username: other, password: {file: " + password + "}", `user "other"; check username and password`},
		"no such version":  {"charts", "9.9.9", signedIn, "check chart and version of the release"},
		"no such chart":    {"nothing", "1.5.0", signedIn, "check chart and version of the release"},
		"a missing secret": {"charts", "1.5.0", ", username: a, password: {file: /nonexistent}", "password: stat /nonexistent"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Releases(t.Context(), ociSite(t, c.repository, c.version, c.more), inventory.Workload)
			require.Error(t, err)
			for _, part := range strings.Split(c.want, "|") {
				require.ErrorContains(t, err, part)
			}
			assert.NotContains(t, err.Error(), registryPassword)
		})
	}
}
