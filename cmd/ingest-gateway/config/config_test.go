package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/config"
)

const least = `
tenants: [umea]
chain: {retention: 90d}
metrics: {thanosURL: "https://thanos-receive.thanos.svc:19291"}
s3: {endpoint: "https://versitygw.versitygw.svc:7070", bucket: evidence}
loki: {url: "https://loki.loki.svc:3100"}
`

func TestTheLeastFile(t *testing.T) {
	t.Parallel()
	c, err := config.Parse([]byte(least))
	require.NoError(t, err)
	assert.Equal(t, config.Duration(90*24*time.Hour), c.Chain.Retention)
	assert.Equal(t, ":24224", c.Forward.Listen)
	assert.Equal(t, []string{"tenant_id"}, c.Metrics.DropLabels)
}

func TestJSONAndSizes(t *testing.T) {
	t.Parallel()
	c, err := config.Parse([]byte(`{"tenants":["umea"],"chain":{"retention":"48h","objectBytes":"4MiB","bufferBytes":1000},
		"metrics":{"thanosURL":"https://t:1"},"s3":{"endpoint":"https://s:1","bucket":"b"},"loki":{"url":"https://l:1"}}`))
	require.NoError(t, err)
	assert.EqualValues(t, 4<<20, c.Chain.ObjectBytes)
	assert.EqualValues(t, 1000, c.Chain.BufferBytes)
}

func TestWrongFiles(t *testing.T) {
	t.Parallel()
	for want, change := range map[string][2]string{
		"field objectbytes not found": {"retention: 90d", "retention: 90d, objectbytes: 1"},
		"RFC 1123":                    {"[umea]", "[Umeå]"},
		"named twice":                 {"[umea]", "[umea, umea]"},
		"at least one":                {"[umea]", "[]"},
		"at least 24h":                {"90d", "1h"},
		"loki.url":                    {"https://loki.loki.svc:3100", "http://loki.loki.svc:3100"},
		"s3.endpoint":                 {"https://versitygw.versitygw.svc:7070", "https://u:p@versitygw"},
		"tenant_id must be":           {"thanosURL:", "dropLabels: [replica], thanosURL:"},
		"forward.depth":               {"tenants:", "forward: {depth: 0}\ntenants:"},
		"not a size":                  {"retention: 90d", "retention: 90d, objectBytes: 1MB"},
		"not a duration":              {"90d", "soon"},
		"more than one document":      {"tenants:", "---\ntenants: [a]\n---\ntenants:"},
		"s3.trust":                    {"bucket:", "trust: anybody, bucket:"},
		"s3.caFile":                   {"bucket:", "caFile: /ca.crt, bucket:"},
	} {
		_, err := config.Parse([]byte(strings.Replace(least, change[0], change[1], 1)))
		assert.ErrorContains(t, err, want)
	}
	_, err := config.Parse(nil)
	assert.ErrorContains(t, err, "empty")
}
