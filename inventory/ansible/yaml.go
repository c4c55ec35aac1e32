package ansible

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// parseYAML reads the YAML form: groups with hosts, children and vars.
func parseYAML(text []byte, path string) (f *file, err error) {
	defer func() {
		if r := recover(); r != nil { // the library panics where it meets what it thinks impossible
			f, err = nil, inventory.Error{File: path, Message: fmt.Sprintf("the YAML can not be read: %v", r)}
		}
	}()
	f = newFile(path)
	var doc yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, f.fail(yamlLine(err), "%s", yamlPrefix.ReplaceAllString(err.Error(), ""))
	}
	if len(doc.Content) == 0 {
		return f, nil
	}
	r := yamlReader{file: f}
	return f, r.groups(doc.Content[0], "", 0)
}

var yamlPrefix = regexp.MustCompile(`^yaml: (line (\d+): )?`)

func yamlLine(err error) int {
	line, _ := strconv.Atoi(yamlPrefix.FindStringSubmatch(err.Error())[2]) // 0 without a line
	return line
}

// maxNodes bounds what a file may expand to when aliases are followed.
const maxNodes = 200_000

type yamlReader struct {
	*file
	spent int
}

// pairs calls do for each key of a mapping; no value is an empty mapping.
func (r *yamlReader) pairs(n *yaml.Node, what string, do func(k, v *yaml.Node) error) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return r.fail(n.Line, "%s: expected a mapping", what)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if r.spent++; r.spent > maxNodes {
			return r.fail(n.Line, "the file expands to more than %d values", maxNodes)
		}
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Tag == "!!null" || k.Tag == "!!merge" {
			return r.fail(k.Line, "%s: expected a name as the key", what)
		}
		if v.Kind == yaml.AliasNode {
			v = v.Alias
		}
		if err := do(k, v); err != nil {
			return err
		}
	}
	return nil
}

func (r *yamlReader) groups(n *yaml.Node, parent string, depth int) error {
	if depth > maxDepth {
		return r.fail(n.Line, "groups nest deeper than %d", maxDepth)
	}
	return r.pairs(n, "groups", func(k, v *yaml.Node) error {
		name := k.Value
		g := r.group(name)
		if len(r.file.groups) > maxGroups {
			return r.fail(k.Line, "there are more than %d groups", maxGroups)
		}
		if parent != "" {
			p := r.group(parent)
			p.children = appendNew(p.children, name)
		}
		return r.pairs(v, name, func(k, v *yaml.Node) error {
			switch k.Value {
			case "hosts":
				return r.pairs(v, name+".hosts", func(k, v *yaml.Node) error { return r.host(g, k, v) })
			case "vars":
				return r.vars(g.vars, v, name+".vars")
			case "children":
				return r.groups(v, name, depth+1)
			}
			r.warn(k.Line, name+"."+k.Value, "a group has hosts, vars and children", "not understood, ignored")
			return nil
		})
	})
}

func (r *yamlReader) host(g *group, k, v *yaml.Node) error {
	names, err := expand(k.Value)
	if err != nil {
		return r.fail(k.Line, "%v", err)
	}
	vars := map[string]variable{}
	if err := r.vars(vars, v, k.Value); err != nil {
		return err
	}
	have := map[string]bool{}
	for _, h := range g.hosts {
		have[h] = true
	}
	for _, n := range names {
		if r.spent++; r.spent > maxNodes {
			return r.fail(k.Line, "the file expands to more than %d values", maxNodes)
		}
		if err := r.addHost(n, k.Line); err != nil {
			return err
		}
		for name, value := range vars {
			r.hostVars[n][name] = value
		}
		if !have[n] {
			g.hosts, have[n] = append(g.hosts, n), true
		}
	}
	return nil
}

func (r *yamlReader) vars(into map[string]variable, n *yaml.Node, what string) error {
	return r.pairs(n, what, func(k, v *yaml.Node) error {
		value := variable{line: k.Line}
		switch {
		case v.Kind == yaml.ScalarNode && v.Tag == "!!null":
			return nil
		case v.Kind == yaml.ScalarNode:
			value.value = v.Value
		default:
			value.value = flat(v)
		}
		into[k.Value] = value
		return nil
	})
}

// flat is a mapping of texts, such as loadbalancer_apiserver; anything else that is not text is not used here.
func flat(n *yaml.Node) any {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	out := map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k, v := n.Content[i], n.Content[i+1]; k.Kind == yaml.ScalarNode && v.Kind == yaml.ScalarNode {
			out[k.Value] = v.Value
		}
	}
	return out
}

// isYAML tells the two forms apart by the name's end, else by the first line that says something: an INI inventory
// begins with a section or a host, a YAML one with a key or a marker.
func isYAML(text, path string) bool {
	switch {
	case strings.HasSuffix(path, ".yaml"), strings.HasSuffix(path, ".yml"), strings.HasSuffix(path, ".json"):
		return true
	case strings.HasSuffix(path, ".ini"):
		return false
	}
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		return line == "---" || line[0] == '{' || strings.HasSuffix(line, ":")
	}
	return false
}
