package helm

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	helmregistry "helm.sh/helm/v3/pkg/registry"
)

// ociRegistry serves without TLS, and asks for a password when one is given.
func ociRegistry(t *testing.T, password string) string {
	t.Helper()
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, given, _ := r.BasicAuth(); given != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func push(t *testing.T, data []byte, ref, password string) {
	t.Helper()
	options := []helmregistry.ClientOption{
		helmregistry.ClientOptPlainHTTP(), helmregistry.ClientOptWriter(io.Discard), helmregistry.ClientOptCredentialsFile(filepath.Join(t.TempDir(), "none")),
	}
	if password != "" {
		options = append(options, helmregistry.ClientOptBasicAuth("me", password))
	}
	client, err := helmregistry.NewClient(options...)
	require.NoError(t, err)
	_, err = client.Push(data, ref)
	require.NoError(t, err)
}

func TestPull(t *testing.T) {
	t.Parallel()
	const password = "Canary_Password_8123"
	host := ociRegistry(t, password)
	data := archive(t, files())
	push(t, data, host+"/charts/app:1.0.0", password)
	good := PullOptions{Username: "me", Password: password, PlainHTTP: true}
	got, err := Pull(t.Context(), "oci://"+host+"/charts/app", "1.0.0", good)
	require.NoError(t, err)
	assert.Equal(t, data, got)

	cases := map[string]struct {
		reference, version string
		options            PullOptions
		want               string
	}{
		"not OCI":          {"https://" + host + "/charts/app", "1.0.0", good, "does not begin with oci://"},
		"no such version":  {"oci://" + host + "/charts/app", "2.0.0", good, "registry " + host + " has no " + host + "/charts/app:2.0.0"},
		"no such chart":    {"oci://" + host + "/charts/none", "1.0.0", good, "check chart and version"},
		"nobody":           {"oci://" + host + "/charts/app", "1.0.0", PullOptions{PlainHTTP: true}, "anonymous user; set username and password"},
		"a wrong password": {"oci://" + host + "/charts/app", "1.0.0", PullOptions{Username: "me", Password: "Canary_Wrong", PlainHTTP: true}, `user "me"; check username and password`},
		"TLS to plain":     {"oci://" + host + "/charts/app", "1.0.0", PullOptions{Username: "me", Password: password}, "charts are pulled over TLS"},
		"nobody there":     {"oci://127.0.0.1:1/charts/app", "1.0.0", good, "connection refused"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Pull(t.Context(), c.reference, c.version, c.options)
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), "Canary")
		})
	}
}

// A registry that takes the request and never answers must not hold up a run that is stopped.
func TestPullIsStopped(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 10)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := Pull(ctx, "oci://"+strings.TrimPrefix(s.URL, "http://")+"/charts/app", "1.0.0", PullOptions{PlainHTTP: true})
		done <- err
	}()
	<-asked
	cancel()
	select {
	case err := <-done:
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "was stopped")
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on after its context ended")
	}
}
