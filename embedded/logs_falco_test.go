package embedded

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// A checker for Falco's rules, as far as they can be checked without Falco: the YAML, keys and priorities, that macros and
// lists are there before they are used, that conditions are made of known fields and operators in a possible order, and that
// outputs name known fields. (The stand-in in test/lab/standin/falco parses and evaluates the same conditions for real.)

// falcoFields are the fields of Falco 0.45 that our rules may use. evt.dir is not among them: it means nothing any more.
func falcoFields() []string {
	return []string{
		"evt.type", "evt.is_open_read", "evt.is_open_write", "evt.res", "evt.time", "fd.name", "fd.directory", "fd.typechar", "fd.num", "fs.path.name",
		"fs.path.source", "fs.path.target", "proc.name", "proc.cmdline", "proc.exepath", "proc.pname", "proc.pid", "thread.ismain", "user.name", "user.uid",
		"container.id", "container.name", "k8s.ns.name", "k8s.pod.name",
	}
}

func checkFalco(text string) []string {
	var problems []string
	failed := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	var items []map[string]any
	if err := yaml.UnmarshalStrict([]byte(text), &items); err != nil {
		return []string{err.Error()}
	}
	keys := map[string][]string{
		"list": {"list", "items"}, "macro": {"macro", "condition"},
		"rule": {"rule", "desc", "condition", "output", "priority", "source", "tags"},
	}
	priorities := []string{"EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFORMATIONAL", "DEBUG"}
	known := map[string]string{} // macros and lists so far
	output := regexp.MustCompile(`%([a-z][a-z0-9_.]*[a-z0-9])`)
	for i, item := range items {
		kind := ""
		for k := range keys {
			if _, ok := item[k]; ok {
				kind = k
			}
		}
		name, _ := item[kind].(string)
		if kind == "" || name == "" {
			failed("item %d is no rule, macro or list", i+1)
			continue
		}
		for k := range item {
			if !slices.Contains(keys[kind], k) {
				failed("%s: there is no key %s", name, k)
			}
		}
		for _, k := range keys[kind] {
			if item[k] == nil {
				failed("%s: %s is missing", name, k)
			}
		}
		if known[kind+name] != "" || known["name "+name] != "" {
			failed("%s is there twice", name)
		}
		known["name "+name] = kind
		if condition, ok := item["condition"].(string); ok {
			for _, p := range checkCondition(condition, known) {
				failed("%s: %s", name, p)
			}
		}
		if kind != "rule" {
			continue
		}
		if p, _ := item["priority"].(string); !slices.Contains(priorities, p) {
			failed("%s: %q is no priority", name, p)
		}
		text, _ := item["output"].(string)
		for _, m := range output.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(falcoFields(), m[1]) {
				failed("%s: output has the field %s, which is not known", name, m[1])
			}
		}
		if condition, _ := item["condition"].(string); !strings.Contains(condition, "evt.type") && !strings.Contains(condition, "catamaran_") {
			failed("%s: it looks at every event: a condition needs evt.type", name)
		}
	}
	return problems
}

// checkCondition goes through the words of a condition: what may come next depends on what was before.
func checkCondition(text string, known map[string]string) []string {
	word := regexp.MustCompile(`\s*('[^']*'|"[^"]*"|>=|<=|!=|[=<>(),]|[^\s=<>!(),]+)`)
	var problems []string
	failed := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	comparisons := []string{"=", "!=", ">=", "<=", ">", "<", "contains", "icontains", "startswith", "endswith", "glob", "in", "pmatch", "intersects"}
	depth, expect, inList := 0, "term", false
	for _, m := range word.FindAllStringSubmatch(strings.TrimSpace(text), -1) {
		w := m[1]
		switch expect {
		case "term":
			switch {
			case w == "(":
				depth++
			case w == "not":
			case slices.Contains(falcoFields(), w):
				expect = "comparison"
			case strings.Contains(w, "."):
				failed("there is no field %s", w)
				expect = "comparison"
			case known["name "+w] == "macro":
				expect = "and"
			default:
				failed("%s is no field and no macro", w)
				expect = "and"
			}
		case "comparison":
			if !slices.Contains(comparisons, w) {
				failed("%s is no comparison", w)
			}
			expect = "value"
			if w == "in" || w == "pmatch" || w == "intersects" {
				expect = "list"
			}
		case "list":
			if w != "(" {
				failed("a list begins with (, not with %s", w)
			}
			expect, inList = "value", true
		case "value":
			if inList && strings.HasPrefix(w, "catamaran_") && known["name "+w] != "list" {
				failed("there is no list %s", w)
			}
			expect = "and"
			if inList {
				expect = "comma"
			}
		case "comma":
			switch w {
			case ",":
				expect = "value"
			case ")":
				expect, inList = "and", false
			default:
				failed("in a list comes , or ), not %s", w)
			}
		case "and":
			switch w {
			case "and", "or":
				expect = "term"
			case ")":
				depth--
			default:
				failed("%s where a conjunction or ) was expected", w)
			}
		}
	}
	if depth != 0 || expect != "and" {
		failed("it is not complete")
	}
	return problems
}

// What the stand-in and the checker see is what is installed.
func TestFalcoRules(t *testing.T) {
	t.Parallel()
	good := data(t, rendered(t, "falco", nil), "catamaran_rules.yaml")
	require.Empty(t, checkFalco(good))
	cases := map[string]struct{ old, new, want string }{
		"a field that is gone":   {"evt.type = procexit", "evt.dir = < and evt.type = procexit", "there is no field evt.dir"},
		"a field in the output":  {"%proc.pname", "%proc.parent", "field proc.parent"},
		"a macro":                {"catamaran_renamed and", "catamaran_rename and", "catamaran_rename is no field and no macro"},
		"a list":                 {"in (catamaran_log_agent)", "in (catamaran_agent)", "no list catamaran_agent"},
		"a parenthesis":          {"in (catamaran_log_agent)", "in (catamaran_log_agent", "in a list comes"},
		"an operator":            {"proc.cmdline contains", "proc.cmdline has", "has is no comparison"},
		"and":                    {"thread.ismain = true and", "thread.ismain = true", "where a conjunction or ) was expected"},
		"a priority":             {"priority: WARNING", "priority: LOUD", `"LOUD" is no priority`},
		"a key":                  {"source: syscall", "sources: syscall", "no key sources"},
		"a rule without an end":  {"output: >", "outputs: >", "output is missing"},
		"a rule that is doubled": {"rule: Catamaran static manifest changed", "rule: Catamaran pki changed", "is there twice"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, good, c.old)
			assert.Contains(t, strings.Join(checkFalco(strings.ReplaceAll(good, c.old, c.new)), "\n"), c.want)
		})
	}
}
