package helm

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const strict = `{
  "type": "object", "additionalProperties": false, "required": ["name"],
  "properties": {
    "name": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]+$"},
    "port": {"type": "integer", "minimum": 1, "maximum": 9, "multipleOf": 2},
    "level": {"enum": ["low", "high"]},
    "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "list": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2, "uniqueItems": true},
    "storage": {"type": "object", "additionalProperties": false, "properties": {"size": {"type": "string"}, "class": {"type": "string"}}}
  }
}`

func TestCheckValues(t *testing.T) {
	t.Parallel()
	c := load(t, text("values.yaml", "name: abc\n"), text("values.schema.json", strict))
	require.NoError(t, c.CheckValues(nil))
	require.NoError(t, c.CheckValues(map[string]any{"port": 4, "level": "low", "share": 0.5, "list": []string{"a"}, "storage": map[string]any{"size": "1Gi"}}))
	cases := map[string]struct {
		values map[string]any
		want   []Problem
	}{
		"unknown, far from all":  {map[string]any{"zzzzzzzz": 1}, []Problem{{"zzzzzzzz", "there is no such value; known here: level, list, name, port, share, storage"}}},
		"unknown, near to one":   {map[string]any{"prot": 1, "storage": map[string]any{"siz": "x"}}, []Problem{{"prot", "there is no such value; did you mean port?"}, {"storage.siz", "there is no such value; did you mean size?"}}},
		"missing":                {map[string]any{"name": nil}, []Problem{{"name", "it is missing"}}},
		"type":                   {map[string]any{"port": "Canary_4711"}, []Problem{{"port", "expected integer, got string"}}},
		"type of an item":        {map[string]any{"list": []any{1}}, []Problem{{"list.0", "expected string, got number"}}},
		"too short":              {map[string]any{"name": "a"}, []Problem{{"name", "expected at least 2 characters, got 1"}}},
		"too long":               {map[string]any{"name": "abcde"}, []Problem{{"name", "expected at most 4 characters, got 5"}}},
		"pattern":                {map[string]any{"name": "A1"}, []Problem{{"name", "expected text that matches ^[a-z]+$"}}},
		"too small":              {map[string]any{"port": 0}, []Problem{{"port", "expected at least 1"}}},
		"too large, and odd":     {map[string]any{"port": 11}, []Problem{{"port", "expected a multiple of 2"}, {"port", "expected at most 9"}}},
		"no word of the list":    {map[string]any{"level": "middle"}, []Problem{{"level", `expected one of "low", "high"`}}},
		"exclusive bounds":       {map[string]any{"share": 1}, []Problem{{"share", "expected less than 1"}}},
		"exclusive bounds below": {map[string]any{"share": 0}, []Problem{{"share", "expected more than 0"}}},
		"no items":               {map[string]any{"list": []any{}}, []Problem{{"list", "expected at least 1 items, got 0"}}},
		"many items, one twice":  {map[string]any{"list": []any{"a", "a", "b"}}, []Problem{{"list", "expected at most 2 items, got 3"}, {"list", "expected no item twice"}}},
		"no map":                 {map[string]any{"storage": "big"}, []Problem{{"storage", "expected object, got string"}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var refused *ValuesError
			require.ErrorAs(t, c.CheckValues(tc.values), &refused)
			assert.Equal(t, tc.want, refused.Problems)
			assert.NotContains(t, refused.Error(), "Canary")
		})
	}
	err := &ValuesError{Problems: []Problem{{"a.b", "bad"}, {"", "worse"}}}
	assert.Equal(t, "components.x.values.a.b: bad\ncomponents.x.values: worse", err.Under("components.x.values"))
	assert.Equal(t, "a.b: bad\nvalues: worse", err.Error())
}

func TestCheckValuesOfSubcharts(t *testing.T) {
	t.Parallel()
	c := load(t,
		text("Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\ndependencies: [{name: sub, version: 1.0.0}]\n"),
		text("charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 1.0.0\n"),
		text("charts/sub/values.yaml", "size: 1\n"),
		text("charts/sub/values.schema.json", `{"properties": {"size": {"type": "integer"}}}`))
	require.NoError(t, c.CheckValues(nil))
	assert.EqualError(t, c.CheckValues(map[string]any{"sub": map[string]any{"size": "big"}}), "sub.size: expected integer, got string")
}

// A plan must not depend on the internet.
func TestSchemaIsNotFetched(t *testing.T) {
	t.Parallel()
	c := load(t, text("values.schema.json", `{"$ref": "https://example.org/schema.json"}`))
	require.ErrorContains(t, c.CheckValues(nil), "https://example.org/schema.json, which is not fetched")
	require.ErrorContains(t, load(t, text("values.schema.json", `{"type": 5}`)).CheckValues(nil), "values.schema.json of chart app")
	assert.ErrorContains(t, load(t, text("values.schema.json", `{`)).CheckValues(nil), "can not be read")
}

func TestNearest(t *testing.T) {
	t.Parallel()
	words := []string{"flannel", "local-path", "metrics-server", "smoke"}
	for word, want := range map[string]string{
		"flanel": "flannel", "Flannel": "flannel", "metric-server": "metrics-server", "smok": "smoke", "smkoe": "smoke", "prometheus": "", "": "", "xyz": "",
	} {
		assert.Equal(t, want, Nearest(word, words), word)
	}
}
