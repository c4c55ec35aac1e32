package helm

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
)

// Problem is one value that a chart's schema refuses. It never holds the value itself, which may be a secret.
type Problem struct {
	Path    string // dotted, empty for the values as a whole
	Message string
}

// ValuesError lists all values that a chart's schema refuses.
type ValuesError struct {
	Chart    string
	Problems []Problem
}

// Error joins the problems, one a line.
func (e *ValuesError) Error() string { return e.Under("") }

// Under is Error with every path put below prefix, such as components.flannel.values.
func (e *ValuesError) Under(prefix string) string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		lines = append(lines, joinPath(prefix, p.Path)+": "+p.Message)
	}
	return strings.Join(lines, "\n")
}

func joinPath(a, b string) string {
	switch {
	case a == "" && b == "":
		return "values"
	case a == "":
		return b
	case b == "":
		return a
	}
	return a + "." + b
}

// CheckValues validates values, with the chart's defaults, against the schemas of the chart and its subcharts.
// What does not fit comes back as a *ValuesError.
func (c *Chart) CheckValues(values map[string]any) error {
	parsed, err := c.parse()
	if err != nil {
		return err
	}
	v, err := Normal(values)
	if err != nil {
		return err
	}
	if err := chartutil.ProcessDependenciesWithMerge(parsed, v); err != nil {
		return err
	}
	all, err := chartutil.CoalesceValues(parsed, v)
	if err != nil {
		return err
	}
	normal, err := Normal(all)
	if err != nil {
		return err
	}
	problems, err := check(parsed, normal, "")
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return &ValuesError{Chart: c.name, Problems: problems}
	}
	return nil
}

func check(ch *chart.Chart, values map[string]any, prefix string) ([]Problem, error) {
	var problems []Problem
	if len(ch.Schema) > 0 {
		found, err := checkSchema(ch.Name(), ch.Schema, values)
		if err != nil {
			return nil, err
		}
		for _, p := range found {
			if prefix != "" {
				p.Path = joinPath(prefix, p.Path)
			}
			problems = append(problems, p)
		}
	}
	for _, sub := range ch.Dependencies() {
		under := joinPath(prefix, sub.Name())
		switch v := values[sub.Name()].(type) {
		case nil:
		case map[string]any:
			more, err := check(sub, v, under)
			if err != nil {
				return nil, err
			}
			problems = append(problems, more...)
		default:
			problems = append(problems, Problem{under, "is the values of a subchart, so it must be a map"})
		}
	}
	return problems, nil
}

// offline refuses to fetch schemas: a plan must not depend on the internet.
type offline struct{}

func (offline) Load(url string) (any, error) {
	return nil, fmt.Errorf("it refers to %s, which is not fetched: put that schema into the chart", url)
}

func checkSchema(name string, schema []byte, values map[string]any) ([]Problem, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, fmt.Errorf("values.schema.json of chart %s can not be read: %w", name, err)
	}
	const at = "file:///values.schema.json"
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(offline{})
	if err := compiler.AddResource(at, doc); err != nil {
		return nil, fmt.Errorf("values.schema.json of chart %s: %w", name, err)
	}
	compiled, err := compiler.Compile(at)
	if err != nil {
		return nil, fmt.Errorf("values.schema.json of chart %s: %w", name, err)
	}
	err = compiled.Validate(values)
	if err == nil {
		return nil, nil
	}
	var failed *jsonschema.ValidationError
	if !errors.As(err, &failed) {
		return nil, fmt.Errorf("values.schema.json of chart %s can not be used: %w", name, err)
	}
	var problems []Problem
	var walk func(e *jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		if len(e.Causes) == 0 {
			problems = append(problems, explain(e, doc)...)
		}
		for _, c := range e.Causes {
			walk(c)
		}
	}
	walk(failed)
	slices.SortFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(problems), nil
}

// explain says what is expected where. It must not show what was found: that may be a secret.
func explain(e *jsonschema.ValidationError, schema any) []Problem {
	at := strings.Join(e.InstanceLocation, ".")
	var problems []Problem
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		known := properties(schema, e.InstanceLocation)
		for _, p := range k.Properties {
			problems = append(problems, Problem{joinPath(at, p), unknown(p, known)})
		}
	case *kind.Required:
		for _, p := range k.Missing {
			problems = append(problems, Problem{joinPath(at, p), "it is missing"})
		}
	default:
		problems = append(problems, Problem{at, expected(e)})
	}
	return problems
}

func unknown(property string, known []string) string {
	if near := Nearest(property, known); near != "" {
		return fmt.Sprintf("there is no such value; did you mean %s?", near)
	}
	if len(known) > 0 {
		return "there is no such value; known here: " + strings.Join(known, ", ")
	}
	return "there is no such value"
}

func expected(e *jsonschema.ValidationError) string {
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		return fmt.Sprintf("expected %s, got %s", strings.Join(k.Want, " or "), k.Got)
	case *kind.Enum:
		return "expected one of " + list(k.Want)
	case *kind.Const:
		return "expected " + list([]any{k.Want})
	case *kind.Pattern:
		return "expected text that matches " + k.Want
	case *kind.Format:
		return "expected the format " + k.Want
	case *kind.Minimum:
		return "expected at least " + k.Want.RatString()
	case *kind.Maximum:
		return "expected at most " + k.Want.RatString()
	case *kind.ExclusiveMinimum:
		return "expected more than " + k.Want.RatString()
	case *kind.ExclusiveMaximum:
		return "expected less than " + k.Want.RatString()
	case *kind.MultipleOf:
		return "expected a multiple of " + k.Want.RatString()
	case *kind.MinLength:
		return fmt.Sprintf("expected at least %d characters, got %d", k.Want, k.Got)
	case *kind.MaxLength:
		return fmt.Sprintf("expected at most %d characters, got %d", k.Want, k.Got)
	case *kind.MinItems:
		return fmt.Sprintf("expected at least %d items, got %d", k.Want, k.Got)
	case *kind.MaxItems:
		return fmt.Sprintf("expected at most %d items, got %d", k.Want, k.Got)
	case *kind.UniqueItems:
		return "expected no item twice"
	}
	return fmt.Sprintf("does not fit the schema (%s)", strings.Join(e.ErrorKind.KeywordPath(), "/"))
}

func list(values []any) string {
	parts := make([]string, 0, len(values))
	for _, v := range values {
		data, _ := json.Marshal(v) // from a parsed schema, so it can be marshalled
		parts = append(parts, string(data))
	}
	return strings.Join(parts, ", ")
}

// properties lists what the schema knows at a location, as far as plain "properties" lead there.
func properties(schema any, location []string) []string {
	node, _ := schema.(map[string]any)
	for _, key := range location {
		props, _ := node["properties"].(map[string]any)
		if node, _ = props[key].(map[string]any); node == nil {
			return nil
		}
	}
	props, _ := node["properties"].(map[string]any)
	names := make([]string, 0, len(props))
	for k := range props {
		names = append(names, k)
	}
	sort.Strings(names)
	return names
}

// Nearest returns the word of words that word was probably meant to be, or nothing when none is near.
func Nearest(word string, words []string) string {
	best, at := "", 1+max(1, len(word)/3)
	for _, w := range words {
		if d := distance(strings.ToLower(word), strings.ToLower(w)); d < at {
			best, at = w, d
		}
	}
	return best
}

// distance is the number of single-character edits between a and b, two neighbours swapped counting as one (optimal
// string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			row[j] = 1 + min(last[j], row[j-1], last[j-1])
			if a[i-1] == b[j-1] {
				row[j] = min(row[j], last[j-1])
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], 1+before[j-2])
			}
		}
	}
	return row[len(b)]
}
