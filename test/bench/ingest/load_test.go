package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSample(t *testing.T) {
	t.Parallel()
	const text = `# HELP ingest_gateway_loki_requests_total Push requests by answer.
# TYPE ingest_gateway_loki_requests_total counter
ingest_gateway_loki_requests_total{status="204",tenant="umea"} 1.2e+01
ingest_gateway_loki_requests_total{status="429",tenant="umea"} 3
ingest_gateway_loki_requests_total_more{status="429",tenant="umea"} 50
`
	assert.InDelta(t, 15, sample(text, "loki_requests_total", ""), 0)
	assert.InDelta(t, 12, sample(text, "loki_requests_total", `status="204"`), 0)
	assert.Zero(t, sample(text, "loki_requests", ""))
}
