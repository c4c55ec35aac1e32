package inventory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// YAML is the inventory as a file that parses to the same inventory: in the types' order, paths absolute, and with the
// defaults if it was parsed. Secrets are named by their place only, as in any inventory.
func (inv *Inventory) YAML() ([]byte, error) {
	n, err := encode(reflect.ValueOf(inv.asFile()))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(n); err != nil {
		return nil, err
	}
	return out.Bytes(), e.Close()
}

// JSON is YAML as indented JSON.
func (inv *Inventory) JSON() ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(inv.asFile()); err != nil {
		return nil, err
	}
	// YAML readers refuse some characters that JSON writes as they are; both understand them as escapes
	return unprintable.ReplaceAllFunc(out.Bytes(), func(c []byte) []byte {
		r, _ := utf8.DecodeRune(c)
		return fmt.Appendf(nil, `\u%04x`, r)
	}), nil
}

// asFile is the inventory with the nodes that the file lists: those of the pools come back when it is read.
func (inv *Inventory) asFile() Inventory {
	out := *inv
	for _, c := range []**Cluster{&out.Clusters.Service, &out.Clusters.Workload} {
		if *c == nil {
			continue
		}
		listed := (*c).asListed()
		if len(listed) == len((*c).Nodes) {
			continue
		}
		written := **c
		if written.Nodes = listed; len(listed) == 0 {
			written.Nodes = nil
		}
		*c = &written
	}
	return out
}

// asListed are the nodes that the file lists.
func (c *Cluster) asListed() []Node {
	return slices.DeleteFunc(slices.Clone(c.Nodes), func(n Node) bool { return n.Pool != "" })
}

var unprintable = regexp.MustCompile(`[\x{7f}-\x{9f}\x{feff}\x{fffe}\x{ffff}]`)

// encode is the decoder's other direction: the same names in the types' order. The YAML library reads no json tags.
func encode(v reflect.Value) (*yaml.Node, error) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
		}
		return encode(v.Elem())
	case reflect.Struct:
		return encodeStruct(v)
	case reflect.Map:
		keys := v.MapKeys()
		sort.Slice(keys, func(i, j int) bool { return keys[i].String() < keys[j].String() })
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, k := range keys {
			if err := encodePair(n, k.String(), v.MapIndex(k)); err != nil {
				return nil, err
			}
		}
		return flow(n), nil
	case reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			x, err := encode(v.Index(i))
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, x)
		}
		return flow(n), nil
	}
	if d, ok := v.Interface().(Duration); ok {
		return text(d.String()), nil
	}
	switch v.Kind() {
	case reflect.String:
		return text(v.String()), nil
	case reflect.Bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v.Bool())}, nil
	case reflect.Int:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.FormatInt(v.Int(), 10)}, nil
	case reflect.Float64:
		// an exponent, so that a large whole number is read as what it is here
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!float", Value: strconv.FormatFloat(v.Float(), 'e', -1, 64)}, nil
	}
	return nil, fmt.Errorf("a value of type %s has no place in an inventory", v.Type())
}

func encodeStruct(v reflect.Value) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := fieldName(f)
		if name == "" || v.Field(i).IsZero() && omits(f) {
			continue
		}
		if err := encodePair(n, name, v.Field(i)); err != nil {
			return nil, err
		}
	}
	return flow(n), nil
}

var omitted = regexp.MustCompile(`,omit(empty|zero)`)

func omits(f reflect.StructField) bool { return omitted.MatchString(f.Tag.Get("json")) }

func encodePair(n *yaml.Node, key string, v reflect.Value) error {
	x, err := encode(v)
	if err != nil {
		return err
	}
	n.Content = append(n.Content, text(key), x)
	return nil
}

// flow writes an empty mapping or list on the line of its key.
func flow(n *yaml.Node) *yaml.Node {
	if len(n.Content) == 0 {
		n.Style = yaml.FlowStyle
	}
	return n
}

var (
	plain  = regexp.MustCompile(`^(~/)?[A-Za-z0-9/][A-Za-z0-9/._ -]*(:[A-Za-z0-9/._-]+)*$`)
	simple = regexp.MustCompile(`^[ -~]([\n -~]*[ -~])?\n?$`)
)

// text is a string that reads as this string: bare where nothing can be made of it but text, as a block where it has
// lines, else in quotes.
func text(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s, Style: yaml.DoubleQuotedStyle}
	switch {
	case plain.MatchString(s) && isBare(s):
		n.Style = 0
	case bytes.IndexByte([]byte(s), '\n') > 0 && s[0] != ' ' && simple.MatchString(s):
		n.Style = yaml.LiteralStyle
	}
	return n
}

// isBare asks the YAML library itself what it would read, trailing blanks and all.
func isBare(s string) bool {
	var n yaml.Node
	err := yaml.Unmarshal([]byte(s), &n)
	if err != nil || len(n.Content) != 1 {
		return false
	}
	c := n.Content[0]
	return c.Kind == yaml.ScalarNode && c.Tag == "!!str" && c.Value == s && !yaml11[s]
}

// yaml11 are the words that older YAML readers take for booleans.
var yaml11 = map[string]bool{ //nolint:gochecknoglobals // a constant table
	"y": true, "Y": true, "n": true, "N": true, "yes": true, "Yes": true, "YES": true, "no": true, "No": true, "NO": true,
	"on": true, "On": true, "ON": true, "off": true, "Off": true, "OFF": true,
}
