package query

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"time"
)

// lokiURL is where Loki answers, see embedded/charts/loki.
const lokiURL = "https://loki.loki.svc:3100"

// Entry is one log record.
type Entry struct {
	At     time.Time
	Labels map[string]string
	Line   string
}

// Logs asks Loki for a tenant's records in [from, to), oldest first, at most limit. query is LogQL.
func (s *Stores) Logs(ctx context.Context, tenant, query string, from, to time.Time, limit int) ([]Entry, error) {
	v := url.Values{
		"query": {query}, "start": {strconv.FormatInt(from.UnixNano(), 10)}, "end": {strconv.FormatInt(to.UnixNano(), 10)},
		"limit": {strconv.Itoa(limit)}, "direction": {"forward"},
	}
	body, err := s.get(ctx, lokiURL+"/loki/api/v1/query_range?"+v.Encode(), http.Header{"X-Scope-Orgid": {tenant}})
	if err != nil {
		return nil, fmt.Errorf("ask Loki: %w", err)
	}
	var answer struct {
		Data struct {
			ResultType string `json:"resultType"`
			Result     []struct {
				Stream map[string]string `json:"stream"`
				Values [][]any           `json:"values"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("Loki's answer: %w", err)
	}
	if answer.Data.ResultType != "streams" {
		return nil, fmt.Errorf("Loki answers with %q, expected log streams", answer.Data.ResultType)
	}
	var out []Entry
	for _, st := range answer.Data.Result {
		for _, v := range st.Values {
			e, err := entry(st.Stream, v)
			if err != nil {
				return nil, fmt.Errorf("Loki's answer: %w", err)
			}
			out = append(out, e)
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].At.Before(out[j].At) })
	return out, nil
}

// entry reads [time, line] or [time, line, metadata].
func entry(labels map[string]string, v []any) (Entry, error) {
	if len(v) < 2 {
		return Entry{}, fmt.Errorf("an entry has %d parts, expected 2", len(v))
	}
	at, ok := v[0].(string)
	line, ok2 := v[1].(string)
	ns, err := strconv.ParseInt(at, 10, 64)
	if !ok || !ok2 || err != nil {
		return Entry{}, fmt.Errorf("an entry is not a time and a line")
	}
	return Entry{At: time.Unix(0, ns).UTC(), Labels: labels, Line: line}, nil
}
