package query

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const (
	// thanosURL is where Thanos Query answers, see embedded/charts/thanos.
	thanosURL = "https://thanos-query.thanos.svc:10902"
	// gatewayURL is where the ingest gateway tells its own figures, see embedded/charts/ingest-gateway.
	gatewayURL = "https://ingest-gateway-metrics.ingest-gateway.svc:9090/metrics"
	// sequenceMetric is the number of the newest object of each tenant.
	sequenceMetric = "ingest_gateway_chain_sequence"
)

// Sample is one series' value.
type Sample struct {
	Labels map[string]string
	At     time.Time // when it was evaluated
	Value  float64
}

// Metrics evaluates PromQL now. The result must be an instant vector.
func (s *Stores) Metrics(ctx context.Context, query string) ([]Sample, error) {
	body, err := s.get(ctx, thanosURL+"/api/v1/query?"+url.Values{"query": {query}}.Encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask Thanos: %w", err)
	}
	var answer struct {
		Data struct {
			ResultType string `json:"resultType"`
			Result     []struct {
				Metric map[string]string  `json:"metric"`
				Value  [2]json.RawMessage `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("Thanos's answer: %w", err)
	}
	if answer.Data.ResultType != "vector" {
		return nil, fmt.Errorf("Thanos answers with %q, expected a vector", answer.Data.ResultType)
	}
	out := make([]Sample, 0, len(answer.Data.Result))
	for _, r := range answer.Data.Result {
		var at float64
		var text string
		if err := json.Unmarshal(r.Value[0], &at); err != nil {
			return nil, fmt.Errorf("Thanos's answer: %w", err)
		}
		if err := json.Unmarshal(r.Value[1], &text); err != nil {
			return nil, fmt.Errorf("Thanos's answer: %w", err)
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("Thanos's answer: %w", err)
		}
		out = append(out, Sample{Labels: r.Metric, At: time.UnixMilli(int64(at * 1000)).UTC(), Value: value})
	}
	return out, nil
}

// Sequences asks the gateway for the number of the newest object of each tenant's chain.
func (s *Stores) Sequences(ctx context.Context) (map[string]uint64, error) {
	body, err := s.get(ctx, gatewayURL, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the ingest gateway: %w", err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("the ingest gateway's figures: %w", err)
	}
	family := families[sequenceMetric]
	if family == nil {
		return nil, fmt.Errorf("the ingest gateway does not tell %s", sequenceMetric)
	}
	out := map[string]uint64{}
	for _, m := range family.GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "tenant" {
				out[l.GetValue()] = uint64(m.GetGauge().GetValue())
			}
		}
	}
	return out, nil
}
