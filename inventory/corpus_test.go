package inventory

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "rewrite the files of testdata with what comes out; read the diff")

// corpora are tables of variants, and the files that they are variants of.
var corpora = []struct{ refuse, accept, base string }{
	{"testdata/refuse.yaml", "testdata/accept.yaml", "testdata/base.yaml"},
	{"testdata/refuse_machines.yaml", "testdata/accept_machines.yaml", "testdata/machines.yaml"},
}

// variant is a file with one place changed.
type variant struct {
	Name, Old, New string
	Beyond         string   `yaml:",omitempty"` // why no schema can refuse it
	Errors         []string `yaml:",omitempty"`
	Warnings       []string `yaml:",omitempty"`
}

func variants(t *testing.T, file string) []variant {
	t.Helper()
	var out []variant
	require.NoError(t, yaml.Unmarshal(read1(t, file), &out))
	return out
}

// save writes the table back under its leading comment.
func save(t *testing.T, file string, all []variant) {
	t.Helper()
	var out bytes.Buffer
	for _, line := range strings.SplitAfter(string(read1(t, file)), "\n") {
		if !strings.HasPrefix(line, "#") {
			break
		}
		out.WriteString(line)
	}
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	require.NoError(t, e.Encode(all))
	require.NoError(t, os.WriteFile(file, out.Bytes(), 0o644))
}

func read1(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	return data
}

func (c variant) text(t *testing.T, file string) []byte {
	t.Helper()
	base := string(read1(t, file))
	require.Contains(t, base, c.Old, "the place to change")
	return []byte(strings.Replace(base, c.Old, c.New, 1))
}

// report is how errors stand in the table.
func report[E Error | Warning](list []E) []string {
	var out []string
	for _, e := range list {
		out = append(out, strings.TrimPrefix(Error(e).Error(), "inventory.yaml:"))
	}
	return out
}

func TestRefuse(t *testing.T) {
	schema := compiled(t)
	for _, corpus := range corpora {
		all := variants(t, corpus.refuse)
		require.Greater(t, len(all), 50)
		for i, c := range all {
			t.Run(c.Name, func(t *testing.T) {
				text := c.text(t, corpus.base)
				inv, err := Parse(text, "inventory.yaml")
				assert.Nil(t, inv)
				var errs Errors
				require.ErrorAs(t, err, &errs)
				if *update {
					all[i].Errors = report(errs)
				} else {
					assert.Equal(t, c.Errors, report(errs))
				}
				assert.NotContains(t, err.Error(), "CANARY", "a secret must not be shown")
				assert.NotContains(t, err.Error(), "1234567", "a secret must not be shown")
				refused := schema.Validate(instance(t, text))
				if c.Beyond != "" {
					assert.NoError(t, refused, "the schema can refuse it after all")
				} else {
					assert.Error(t, refused, "the schema accepts what the parser refuses")
				}
			})
		}
		if *update {
			save(t, corpus.refuse, all)
		}
	}
}

func TestAccept(t *testing.T) {
	schema := compiled(t)
	for _, corpus := range corpora {
		all := variants(t, corpus.accept)
		require.NotEmpty(t, all)
		for i, c := range all {
			t.Run(c.Name, func(t *testing.T) {
				text := c.text(t, corpus.base)
				_, warnings, err := read(text, "inventory.yaml", false)
				require.NoError(t, err)
				if *update {
					all[i].Warnings = report(warnings)
				} else {
					assert.Equal(t, c.Warnings, report(warnings))
				}
				assert.NoError(t, schema.Validate(instance(t, text)))
				again(t, text, schema)
			})
		}
		if *update {
			save(t, corpus.accept, all)
		}
	}
}

// again checks that what is shown parses to the same, and keeps the schema.
func again(t testing.TB, data []byte, schema *jsonschema.Schema) {
	t.Helper()
	inv, err := Parse(data, "/site/inventory.yaml")
	require.NoError(t, err)
	shown, err := inv.YAML()
	require.NoError(t, err)
	second, err := Parse(shown, "/site/inventory.yaml")
	require.NoError(t, err, "%s", shown)
	inv.root, second.root = nil, nil
	require.Equal(t, inv, second, "%s", shown)
	if schema != nil {
		require.NoError(t, schema.Validate(instance(t, shown)), "%s", shown)
	}
	asJSON, err := inv.JSON()
	require.NoError(t, err)
	third, err := Parse(asJSON, "/site/inventory.yaml")
	require.NoError(t, err, "%s", asJSON)
	third.root = nil
	require.Equal(t, inv, third, "%s", asJSON)
}

func TestFullFile(t *testing.T) {
	t.Setenv("HOME", "/home/ops")
	data := read1(t, "testdata/full.yaml")
	schema := compiled(t)
	require.NoError(t, schema.Validate(instance(t, data)))
	again(t, data, schema)
	inv, err := Parse(data, "/site/inventory.yaml")
	require.NoError(t, err)
	golden(t, "testdata/full.shown.yaml", must(inv.YAML()))
}

func TestFullMachines(t *testing.T) {
	t.Setenv("HOME", "/home/ops")
	data := read1(t, "testdata/full_machines.yaml")
	schema := compiled(t)
	require.NoError(t, schema.Validate(instance(t, data)))
	again(t, data, schema)
	inv, err := Parse(data, "/site/inventory.yaml")
	require.NoError(t, err)
	golden(t, "testdata/full_machines.shown.yaml", must(inv.YAML()))
}

func TestBaseShown(t *testing.T) {
	t.Parallel()
	inv, err := Parse(read1(t, "testdata/base.yaml"), "/site/inventory.yaml")
	require.NoError(t, err)
	golden(t, "testdata/base.shown.yaml", must(inv.YAML()))
	golden(t, "testdata/base.shown.json", must(inv.JSON()))
}

func TestSchemaIsPublished(t *testing.T) {
	t.Parallel()
	golden(t, "testdata/schema.json", must(Schema()))
}

// TestSchemaDescribes: every field of the schema that has a comment carries it.
func TestSchemaDescribes(t *testing.T) {
	t.Parallel()
	var s struct {
		Properties map[string]struct{ Description string }
		Defs       map[string]struct {
			AdditionalProperties any
			Properties           map[string]struct{ Description string }
		} `json:"$defs"`
	}
	require.NoError(t, json.Unmarshal(must(Schema()), &s))
	assert.Contains(t, s.Properties["bundle"].Description, "offline bundle")
	assert.Contains(t, s.Defs["SSH"].Properties["user"].Description, "default root")
	assert.Contains(t, s.Defs["OpenStackMachine"].Properties["server"].Description, "adopts an existing server", "types of every file")
	assert.Len(t, s.Defs, 47)
	for name, d := range s.Defs {
		assert.Equal(t, false, d.AdditionalProperties, name)
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(file, got, 0o644))
	}
	assert.Equal(t, string(read1(t, file)), string(got), "run with -update and read the diff")
}

func must(data []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return data
}

// compiled is the published schema under a validator that is not ours, with formats asserted as editors do.
func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(must(Schema())))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	require.NoError(t, c.AddResource("inventory.json", doc))
	s, err := c.Compile("inventory.json")
	require.NoError(t, err)
	return s
}

// instance is a file as a JSON schema validator sees it.
func instance(t testing.TB, data []byte) any {
	t.Helper()
	var n yaml.Node
	require.NoError(t, yaml.Unmarshal(data, &n))
	return plainValue(t, n.Content[0])
}

// plainValue turns YAML into JSON values as an editor's YAML plugin does: keys are text, tags are dropped, of a key given
// twice the last counts.
func plainValue(t testing.TB, n *yaml.Node) any {
	switch n = target(n); n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Tag == "!!merge" {
				for _, src := range sources(n.Content[i+1]) {
					if merged, ok := plainValue(t, src).(map[string]any); ok {
						for k, v := range merged {
							if _, has := m[k]; !has {
								m[k] = v
							}
						}
					}
				}
			}
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if k := n.Content[i]; k.Tag != "!!merge" {
				name := k.Value
				if k.Kind != yaml.ScalarNode || k.Tag == "!!null" {
					name = "key" // a reader makes some text of it
				}
				m[name] = plainValue(t, n.Content[i+1])
			}
		}
		return m
	case yaml.SequenceNode:
		s := []any{}
		for _, x := range n.Content {
			s = append(s, plainValue(t, x))
		}
		return s
	}
	if n.Tag == "!!timestamp" || n.Tag == "!!binary" || !strings.HasPrefix(n.Tag, "!!") {
		return n.Value
	}
	var x any
	if err := n.Decode(&x); err != nil {
		return n.Value
	}
	if f, ok := x.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
		return n.Value
	}
	return x
}

func TestErrorsAreSorted(t *testing.T) {
	t.Parallel()
	_, err := Parse([]byte("kind: x\napiVersion: y\nzz: 1\n"), "a.yaml")
	var errs Errors
	require.ErrorAs(t, err, &errs)
	require.Len(t, errs, 6)
	for i := 1; i < len(errs); i++ {
		assert.False(t, errs[i].before(errs[i-1]))
	}
}
