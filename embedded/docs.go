package embedded

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/catamaran-k8s/catamaran/embedded/helm"
)

// ValuesDoc describes what components.NAME.values can hold: the commented defaults, then each value with its type and
// meaning, as the strict schema has them.
func ValuesDoc(name string) (string, error) {
	if _, ok := componentNamed(name); !ok {
		return "", unknownChart(name)
	}
	chart, err := embeddedChart(name)
	if err != nil {
		return "", err
	}
	defaults, _ := chart.File("values.yaml")
	raw, ok := chart.File("values.schema.json")
	if !ok {
		return "", fmt.Errorf("embedded chart %s has no values.schema.json", name)
	}
	var root schema
	if err := json.Unmarshal(raw, &root); err != nil {
		return "", fmt.Errorf("embedded chart %s: values.schema.json: %w", name, err)
	}
	var b strings.Builder
	b.Write(defaults)
	b.WriteString("\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(path, kind, meaning string) { fmt.Fprintf(w, "# %s\t%s\t%s\n", path, kind, meaning) } //nolint:errcheck // Flush tells
	row("VALUE", "TYPE", "MEANING")
	root.describe("", row)
	if err := w.Flush(); err != nil {
		return "", err
	}
	return b.String(), nil
}

func unknownChart(name string) error {
	if near := helm.Nearest(name, componentNames()); near != "" {
		return fmt.Errorf("there is no embedded chart %q: did you mean %s?", name, near)
	}
	return fmt.Errorf("there is no embedded chart %q; there are %s", name, strings.Join(componentNames(), ", "))
}

// schema is the part of JSON schema that our charts use.
type schema struct {
	Type        any               `json:"type"`
	Enum        []any             `json:"enum"`
	Description string            `json:"description"`
	Properties  map[string]schema `json:"properties"`
}

func (s schema) describe(path string, row func(path, kind, meaning string)) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p, at := s.Properties[name], strings.TrimPrefix(path+"."+name, ".")
		row(at, p.kind(), p.Description)
		p.describe(at, row)
	}
}

func (s schema) kind() string {
	words := func(values []any) string {
		parts := make([]string, 0, len(values))
		for _, v := range values {
			parts = append(parts, fmt.Sprint(v))
		}
		return strings.Join(parts, "|")
	}
	if s.Enum != nil {
		return words(s.Enum)
	}
	if list, ok := s.Type.([]any); ok {
		return words(list)
	}
	return fmt.Sprint(s.Type)
}
