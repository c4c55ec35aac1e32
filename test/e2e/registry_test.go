package e2e

import (
	"crypto/subtle"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	ocilayer "github.com/google/go-containerregistry/pkg/registry"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/registry"

	"github.com/catamaran-k8s/catamaran/inventory"
)

const registryUser = "puller"

// chartRegistry serves one chart of the site's own, over TLS and behind a password. It runs on loopback: only the
// operator's machine pulls charts.
type chartRegistry struct {
	server    *httptest.Server
	reference string // oci://...
	ca        string // file
}

func newRegistry(_ *inventory.Inventory, dir, password string) (*chartRegistry, error) {
	handler := ocilayer.New(ocilayer.Logger(log.New(io.Discard, "", 0)))
	r := &chartRegistry{ca: filepath.Join(dir, "registry-ca.pem")}
	r.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if user, got, _ := q.BasicAuth(); user != registryUser || subtle.ConstantTimeCompare([]byte(got), []byte(password)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="e2e"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, q)
	}))
	host := strings.TrimPrefix(r.server.URL, "https://")
	r.reference = "oci://" + host + "/charts/own"
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.server.Certificate().Raw})
	if err := os.WriteFile(r.ca, cert, 0o600); err != nil {
		return nil, err
	}
	data, err := ownChart(dir)
	if err != nil {
		return nil, err
	}
	client, err := registry.NewClient(registry.ClientOptWriter(io.Discard), registry.ClientOptHTTPClient(r.server.Client()),
		registry.ClientOptBasicAuth(registryUser, password), registry.ClientOptCredentialsFile(filepath.Join(dir, "none")))
	if err != nil {
		return nil, err
	}
	if _, err := client.Push(data, host+"/charts/own:1.0.0"); err != nil {
		return nil, fmt.Errorf("push the site's own chart: %w", err)
	}
	return r, nil
}

// ownChart packages a chart that keeps a value in a Secret.
func ownChart(dir string) ([]byte, error) {
	c := &chart.Chart{
		Metadata: &chart.Metadata{APIVersion: chart.APIVersionV2, Name: "own", Version: "1.0.0"},
		Templates: []*chart.File{{Name: "templates/secret.yaml", Data: []byte(
			"apiVersion: v1\nkind: Secret\nmetadata: {name: own}\nstringData: {token: {{ .Values.token | quote }}}\n")}},
	}
	archive, err := chartutil.Save(c, dir)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(archive)
}

func (r *chartRegistry) close() error {
	r.server.Close()
	return nil
}
