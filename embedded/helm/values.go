package helm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"helm.sh/helm/v3/pkg/chartutil"
)

// Normal returns a deep copy of values as JSON knows them: maps, slices, strings, booleans, int64 for whole numbers and
// float64 for others. Values of equal meaning come out equal, and large whole numbers do not turn into 1e+06.
func Normal(values map[string]any) (map[string]any, error) {
	if values == nil {
		return map[string]any{}, nil
	}
	data, err := json.Marshal(values)
	if err != nil {
		return nil, errors.New("values hold something that JSON does not know (such as a key that is not a string, or NaN)")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	return numbers(v).(map[string]any), nil
}

func numbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
		return v.String()
	}
	return v
}

// Merge returns base with over laid on it: maps are merged, anything else in over replaces what base has. A null in
// over stays, since it removes a chart's default. Neither argument is changed.
func Merge(base, over map[string]any) map[string]any {
	out := make(map[string]any, len(base)+len(over))
	for k, v := range base {
		out[k] = v
	}
	for k, v := range over {
		a, okA := out[k].(map[string]any)
		b, okB := v.(map[string]any)
		if okA && okB {
			out[k] = Merge(a, b)
		} else {
			out[k] = v
		}
	}
	return out
}

// AllValues returns values together with the chart's defaults, as templates see them.
func (c *Chart) AllValues(values map[string]any) (map[string]any, error) {
	parsed, err := c.parse()
	if err != nil {
		return nil, err
	}
	v, err := Normal(values)
	if err != nil {
		return nil, err
	}
	if err := chartutil.ProcessDependenciesWithMerge(parsed, v); err != nil {
		return nil, err
	}
	all, err := chartutil.CoalesceValues(parsed, v)
	if err != nil {
		return nil, err
	}
	return Normal(all)
}
