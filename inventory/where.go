package inventory

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Where says where in the file a field stands, such as components.falco.values.driver or releases[0].chart, so that
// whoever finds it wrong later can point at it. Of a field that is not in the file, it is the place of the nearest
// field around it. What an alias or a merge key brought in stands where it is used, and a node of a pool where the pool
// does. 0, 0: not read from a file.
func (inv *Inventory) Where(field string) (line, column int) {
	if inv.root == nil {
		return 0, 0
	}
	n := find(inv.root, inv.written(field), 0)
	return n.Line, n.Column
}

// Errorf is an error about a field, with its position.
func (inv *Inventory) Errorf(field, hint, format string, args ...any) Error {
	e := Error{File: inv.Path, Field: inv.written(field), Message: fmt.Sprintf(format, args...), Hint: hint}
	e.Line, e.Column = inv.Where(field)
	return e
}

// find walks from a node along a field's path as far as it goes.
func find(n *yaml.Node, field string, depth int) *yaml.Node {
	if field == "" || depth > maxDepth {
		return n
	}
	if n.Kind == yaml.AliasNode {
		return n
	}
	if rest, ok := strings.CutPrefix(field, "["); ok && n.Kind == yaml.SequenceNode {
		number, rest, _ := strings.Cut(rest, "]")
		i, err := strconv.Atoi(number)
		if err != nil || i < 0 || i >= len(n.Content) {
			return n
		}
		return find(n.Content[i], strings.TrimPrefix(rest, "."), depth+1)
	}
	if n.Kind != yaml.MappingNode {
		return n
	}
	// keys may hold dots themselves (net.ipv4.ip_forward): the longest that fits is meant
	var best *yaml.Node
	length := -1
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := target(n.Content[i]).Value
		if rest, ok := strings.CutPrefix(field, key); ok && len(key) > length && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			best, length = n.Content[i+1], len(key)
		}
	}
	if best == nil {
		return n
	}
	return find(best, strings.TrimPrefix(field[length:], "."), depth+1)
}

var nodeField = regexp.MustCompile(`^clusters\.(service|workload)\.nodes\[([0-9]{1,9})\](.*)$`)

// written is the field of the file that a field was made of: of a node that came from a pool, the pool's. A pool has no field
// for what is each node's own, such as its address; then it is the pool itself.
func (inv *Inventory) written(field string) string {
	m := nodeField.FindStringSubmatch(field)
	if m == nil {
		return field
	}
	c := inv.Cluster(ClusterName(m[1]))
	i, err := strconv.Atoi(m[2])
	if c == nil || err != nil || i >= len(c.Nodes) || c.Nodes[i].Pool == "" {
		return field
	}
	j := slices.IndexFunc(c.Pools, func(p Pool) bool { return p.Name == c.Nodes[i].Pool })
	if j < 0 {
		return field
	}
	pool := fmt.Sprintf("clusters.%s.pools[%d]", m[1], j)
	key, _, _ := strings.Cut(strings.TrimPrefix(m[3], "."), ".")
	key, _, _ = strings.Cut(key, "[")
	if _, has := known(reflect.TypeFor[Pool]())[key]; has {
		return pool + m[3]
	}
	return pool
}
