package telemetry

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An alert on a metric that nobody exposes never fires, and nobody notices.
func TestRulesAndDashboardsAskForWhatThereIs(t *testing.T) {
	t.Parallel()
	there := map[string]bool{}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		New("v0", []string{"umea"}, time.Now()).registry.Describe(descriptions)
	}()
	quoted := regexp.MustCompile(`fqName: "(\w+)"`)
	for d := range descriptions {
		there[quoted.FindStringSubmatch(d.String())[1]] = true
	}
	// the service makes this one
	there["ingest_gateway_certificate_not_after_timestamp_seconds"] = true

	asked := map[string]bool{}
	charts := filepath.Join("..", "..", "..", "embedded", "charts")
	require.NoError(t, filepath.WalkDir(charts, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, name := range regexp.MustCompile(`ingest_gateway_[a-z_]+`).FindAllString(string(text), -1) {
			if name != "ingest_gateway_" { // a scraper's pattern for all of them
				asked[name] = true
			}
		}
		return err
	}))
	assert.Greater(t, len(asked), 3)
	for name := range asked {
		base := name
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			base = strings.TrimSuffix(base, part)
		}
		assert.True(t, there[name] || there[base], "no metric is called %s", name)
	}
}
