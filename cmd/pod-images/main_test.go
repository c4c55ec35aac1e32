package main

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// server answers with a page a call, and gives the folder of a service account for it.
func server(t *testing.T, pages ...string) (a *api, asked *[]string) {
	t.Helper()
	asked = &[]string{}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" || r.URL.Path != "/api/v1/pods" || len(*asked) == len(pages) {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		_, _ = w.Write([]byte(pages[len(*asked)]))
		*asked = append(*asked, r.URL.Query().Get("fieldSelector")+" "+r.URL.Query().Get("continue"))
	}))
	t.Cleanup(s.Close)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte("secret\n"), 0o600))
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o600))
	a, err := newAPI(s.URL, dir)
	require.NoError(t, err)
	return a, asked
}

// page is an answer of the API: pods of one container each, by name, image and imageID; without an image it waits.
func page(t *testing.T, next string, pods ...[3]string) string {
	t.Helper()
	var items []any
	for _, p := range pods {
		state := map[string]any{"running": map[string]any{"startedAt": "2026-01-01T00:00:00Z"}}
		if p[1] == "" {
			state = map[string]any{"waiting": map[string]any{}}
		}
		status := map[string]any{"name": "c", "image": p[1], "imageID": p[2], "state": state}
		items = append(items, map[string]any{
			"metadata": map[string]any{"namespace": "shop", "name": p[0]}, "status": map[string]any{"containerStatuses": []any{status}},
		})
	}
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{"continue": next}, "items": items})
	require.NoError(t, err)
	return string(text)
}

func TestImages(t *testing.T) {
	t.Parallel()
	a, asked := server(t,
		page(t, "more", [3]string{"b", "example.org/app:1", "example.org/app@sha256:11"}, [3]string{"a", "example.org/app:1", "example.org/app@sha256:11"}),
		page(t, "", [3]string{"c", "docker.io/imported:2", "sha256:22"}, [3]string{"waits", "", ""}))
	list, err := a.images(t.Context(), "wc-1")
	require.NoError(t, err)
	assert.Equal(t, []string{
		"docker.io/imported:2 docker.io/imported:2 shop/c/c", //nolint:dupword // what runs, and what was asked for
		"example.org/app@sha256:11 example.org/app:1 shop/a/c",
	}, list)
	assert.Equal(t, []string{"status.phase=Running,spec.nodeName=wc-1 ", "status.phase=Running,spec.nodeName=wc-1 more"}, *asked)
}

func TestImagesOfAllNodes(t *testing.T) {
	t.Parallel()
	a, asked := server(t, page(t, ""))
	list, err := a.images(t.Context(), "")
	require.NoError(t, err)
	assert.Empty(t, list)
	assert.Equal(t, []string{"status.phase=Running "}, *asked)
}

func TestRefused(t *testing.T) {
	t.Parallel()
	a, _ := server(t)
	_, err := a.images(t.Context(), "")
	require.EqualError(t, err, "listing pods: HTTP 403: no\n")
	assert.NotContains(t, err.Error(), "secret")
	_, err = newAPI("https://127.0.0.1", t.TempDir())
	assert.ErrorContains(t, err, "the pod has no service account")
}
