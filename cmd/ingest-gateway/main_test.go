package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/config"
)

func TestCommandLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	good := write("good.yaml", readme(t))
	bad := write("bad.yaml", "tenantz: []")
	noBuckets := write("buckets.yaml", "endpoint: https://x:1")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 0, "usage:"},
		{[]string{"version"}, 0, "development"},
		{[]string{"check", "--config", good}, 0, ""},
		{[]string{"check", "--config", bad}, 2, "tenantz"},
		{[]string{"check", "--config", filepath.Join(dir, "none")}, 2, "none"},
		{[]string{"serve", "--config", good}, 1, "/etc/catamaran/door"},
		{[]string{"buckets", "--config", noBuckets}, 2, "name at least one"},
		{[]string{"serve", "--config", good, "more"}, 2, `what is "more"`},
		{[]string{"serve", "--what"}, 2, "what"},
		{[]string{"dance"}, 2, "usage:"},
	} {
		var out bytes.Buffer
		assert.Equal(t, c.code, run(t.Context(), c.args, &out, &out), "%v: %s", c.args, out.String())
		assert.Contains(t, out.String(), c.want, "%v", c.args)
	}
}

// The README's file is valid and shows the defaults.
func TestTheReadmesConfiguration(t *testing.T) {
	t.Parallel()
	got, err := config.Parse([]byte(readme(t)))
	require.NoError(t, err)
	want := config.Default()
	want.Tenants, want.Chain.Retention = got.Tenants, got.Chain.Retention
	want.Metrics.ThanosURL, want.S3.Endpoint, want.S3.Bucket, want.Loki.URL = got.Metrics.ThanosURL, got.S3.Endpoint, got.S3.Bucket, got.Loki.URL
	assert.Equal(t, want, got)
}

func readme(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("README.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(b)
	require.NotNil(t, block)
	return string(block[1])
}
