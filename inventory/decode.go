package inventory

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"
	"go.yaml.in/yaml/v3"
)

// decoder walks YAML nodes and Go types together, so that every error has a line, and checks each single value.
type decoder struct {
	file    string
	errs    Errors
	spent   int // see spend
	stopped bool
}

const (
	// maxWork bounds what a file may expand to: one for each value, and one for each 64 bytes of text. 1000 nodes of a
	// site with all fields set are about 50,000.
	maxWork = 200_000
	// maxDepth bounds nesting; the inventory's own types need 7, the rest is for charts' values.
	maxDepth = 64
	// maxErrors bounds a report.
	maxErrors = 200
)

// place is a field's place in the file. It becomes text only for errors.
type place struct {
	parent *place
	key    string
	index  int // -1: key counts
	depth  int
}

func (p *place) field(key string) *place { return &place{p, key, -1, p.depth + 1} }
func (p *place) item(i int) *place       { return &place{p, "", i, p.depth + 1} }

func (p *place) String() string {
	switch {
	case p.parent == nil:
		return ""
	case p.index >= 0:
		return fmt.Sprintf("%s[%d]", p.parent, p.index)
	}
	key := p.key
	if len(key) > 320 {
		key = strings.ToValidUTF8(key[:320], "") + "..."
	}
	if p.parent.parent == nil {
		return key
	}
	return p.parent.String() + "." + key
}

func (d *decoder) fail(n *yaml.Node, at *place, hint, format string, args ...any) {
	if d.stopped {
		return
	}
	if len(d.errs) == maxErrors {
		d.stop(n, "there are more than %d errors; the rest is not shown", maxErrors)
		return
	}
	d.errs = append(d.errs, Error{File: d.file, Line: n.Line, Column: n.Column, Field: at.String(), Message: fmt.Sprintf(format, args...), Hint: hint})
}

// stop gives up on the file.
func (d *decoder) stop(n *yaml.Node, format string, args ...any) {
	if !d.stopped {
		d.stopped = true
		d.errs = append(d.errs, Error{File: d.file, Line: n.Line, Column: n.Column, Message: fmt.Sprintf(format, args...)})
	}
}

// spend counts work after aliases were followed: a small file must not grow without bound.
func (d *decoder) spend(n *yaml.Node, depth int) bool {
	d.spent += 1 + len(n.Value)/64
	switch {
	case d.spent > maxWork:
		d.stop(n, "the file expands to more than %d values: are aliases nested?", maxWork)
	case depth > maxDepth:
		d.stop(n, "the file nests deeper than %d levels: does an alias hold itself?", maxDepth)
	}
	return !d.stopped
}

func (d *decoder) decode(n *yaml.Node, v reflect.Value, at *place, c checks) {
	n = target(n)
	if !d.spend(n, at.depth) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		d.decode(n, p.Elem(), at, c)
		v.Set(p)
	case reflect.Struct:
		d.structure(n, v, at)
	case reflect.Map:
		d.mapping(n, v, at, c)
	case reflect.Slice:
		d.sequence(n, v, at, c)
	case reflect.Interface:
		if x := d.value(n, at); x != nil {
			v.Set(reflect.ValueOf(x))
		}
	default:
		d.scalar(n, v, at, c)
	}
}

// target follows an alias.
func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	n = target(n)
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null"
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, at *place, c checks) {
	r := rules[c.self]
	bad := func(expected string) {
		if r.quiet {
			d.fail(n, at, r.hint, "expected %s", r.expected)
			return
		}
		hint := ""
		if expected == "text" && n.Kind == yaml.ScalarNode && !isNull(n) {
			hint = "put it in quotes"
		}
		d.fail(n, at, hint, "expected %s, found %s", expected, nodeWord(n))
	}
	if n.Kind != yaml.ScalarNode {
		bad(kindWord(v))
		return
	}
	switch {
	case v.Type() == reflect.TypeFor[Duration]():
		d.duration(n, v, at)
	case v.Kind() == reflect.String:
		if !isText(n, c.loose) {
			bad("text")
			return
		}
		if why := r.refuse(n.Value); why != "" {
			d.fail(n, at, r.hint, "%s", why)
			return
		}
		v.SetString(n.Value)
	case v.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if err != nil || n.Tag != "!!bool" || len(n.Value) < 4 {
			bad("true or false")
			return
		}
		v.SetBool(b)
	case v.Kind() == reflect.Int:
		i, err := strconv.Atoi(n.Value)
		if err != nil || n.Tag != "!!int" || strconv.Itoa(i) != n.Value {
			bad("a whole number")
			return
		}
		if why := r.refuseNumber(i); why != "" {
			d.fail(n, at, r.hint, "%s", why)
			return
		}
		v.SetInt(int64(i))
	}
}

// isText tells whether a scalar is text. A number is not, or else 1.10 would be taken for 1.1 by the next program that
// reads the file; loose fields are maps of settings, where {vm.swappiness: 10} means what it says.
func isText(n *yaml.Node, loose bool) bool {
	switch n.Tag {
	case "!!str":
		return true
	case "!!timestamp":
		return n.Style&yaml.TaggedStyle == 0
	case "!!int", "!!float", "!!bool":
		return loose && n.Style == 0
	}
	return false
}

func (d *decoder) duration(n *yaml.Node, v reflect.Value, at *place) {
	r := rules["duration"]
	dur, err := time.ParseDuration(n.Value)
	why := r.refuse(n.Value)
	if why == "" && (err != nil || dur <= 0) || !isText(n, false) {
		why = fmt.Sprintf("expected %s, found %s", r.expected, quote(n.Value))
	}
	if why != "" {
		d.fail(n, at, r.hint, "%s", why)
		return
	}
	v.SetInt(int64(dur))
}

func (d *decoder) sequence(n *yaml.Node, v reflect.Value, at *place, c checks) {
	if n.Kind != yaml.SequenceNode || n.Tag != "!!seq" {
		d.fail(n, at, "", "expected a list, found %s", nodeWord(n))
		return
	}
	s := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, x := range n.Content {
		d.decode(x, s.Index(i), at.item(i), c.element(v.Type()))
	}
	v.Set(s)
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, at *place, c checks) {
	if n.Kind != yaml.MappingNode || n.Tag != "!!map" {
		d.fail(n, at, "", "expected a mapping, found %s", nodeWord(n))
		return
	}
	m := reflect.MakeMap(v.Type())
	d.pairs(n, at, func(k, val *yaml.Node) {
		at := at.field(k.Value)
		if r := rules[c.key]; c.key != "" {
			if why := r.refuse(k.Value); why != "" {
				d.fail(k, at, r.hint, "%s as the key", why)
				return
			}
		}
		e := reflect.New(v.Type().Elem()).Elem()
		if e.Kind() != reflect.Struct || !isNull(val) {
			d.decode(val, e, at, c.element(v.Type()))
		}
		m.SetMapIndex(reflect.ValueOf(k.Value), e)
	})
	v.Set(m)
}

// presetter is a type with defaults that differ from an explicit zero.
type presetter interface{ preset() }

func (d *decoder) structure(n *yaml.Node, v reflect.Value, at *place) {
	t := v.Type()
	if n.Kind != yaml.MappingNode || n.Tag != "!!map" {
		if t == reflect.TypeFor[Secret]() {
			d.fail(n, at, "a secret itself never stands in an inventory", "expected a mapping with file or env")
			return
		}
		d.fail(n, at, "", "expected a mapping, found %s", nodeWord(n))
		return
	}
	if p, ok := v.Addr().Interface().(presetter); ok {
		p.preset()
	}
	names, set := known(t), map[string]bool{}
	d.pairs(n, at, func(k, val *yaml.Node) {
		i, ok := names[k.Value]
		if !ok {
			hint := ""
			if near := nearest(k.Value, names); near != "" {
				hint = fmt.Sprintf("did you mean %s?", near)
			}
			d.fail(k, at.field(k.Value), hint, "unknown key")
			return
		}
		if isNull(val) {
			return // a key without a value is a key that is not there
		}
		set[k.Value] = true
		d.decode(val, v.Field(i), at.field(k.Value), checksOf(t.Field(i).Tag))
	})
	d.missing(n, t, at, set)
}

// missing reports required fields that are not set.
func (d *decoder) missing(n *yaml.Node, t reflect.Type, at *place, set map[string]bool) {
	for i := range t.NumField() {
		name, c := fieldName(t.Field(i)), checksOf(t.Field(i).Tag)
		if !c.required || set[name] {
			continue
		}
		r := rules[c.self]
		expected := r.expected
		if r.enum != nil {
			expected = either(r.enum)
		}
		if expected == "" {
			d.fail(n, at.field(name), "", "missing")
			continue
		}
		d.fail(n, at.field(name), r.hint, "missing; expected %s", expected)
	}
	switch choiceOf(t) {
	case atLeastOne:
		if len(set) == 0 {
			d.fail(n, at, "", "expected at least one of %s", strings.Join(fieldNames(t), " and "))
		}
	case exactlyOne:
		if len(set) != 1 {
			d.fail(n, at, "", "expected exactly one of %s", strings.Join(fieldNames(t), " and "))
		}
	case atMostOne:
		if len(set) > 1 {
			d.fail(n, at, "machines come from one place", "expected one of %s", either(fieldNames(t)))
		}
	case anyNumber:
	}
}

// fieldName is the name of a field in the file, or nothing.
func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "-" {
		return ""
	}
	return name
}

func fieldNames(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		if name := fieldName(t.Field(i)); name != "" {
			out = append(out, name)
		}
	}
	return out
}

// known are the names of a struct's fields in the file, with their index.
func known(t reflect.Type) map[string]int {
	out := map[string]int{}
	for i := range t.NumField() {
		if name := fieldName(t.Field(i)); name != "" {
			out[name] = i
		}
	}
	return out
}

// value decodes what has no type of ours (charts' values) into what JSON can say: maps, lists, text, int, float64,
// bool and nil.
func (d *decoder) value(n *yaml.Node, at *place) any {
	n = target(n)
	if !d.spend(n, at.depth) {
		return nil
	}
	switch {
	case n.Kind == yaml.MappingNode && n.Tag == "!!map":
		m := map[string]any{}
		d.pairs(n, at, func(k, val *yaml.Node) { m[k.Value] = d.value(val, at.field(k.Value)) })
		return m
	case n.Kind == yaml.SequenceNode && n.Tag == "!!seq":
		s := make([]any, len(n.Content))
		for i, x := range n.Content {
			s[i] = d.value(x, at.item(i))
		}
		return s
	case n.Kind != yaml.ScalarNode:
		d.fail(n, at, "", "the tag %s is not understood", quote(n.Tag))
		return nil
	case isText(n, false):
		return n.Value
	}
	var x any
	switch n.Tag {
	case "!!null", "!!bool", "!!int", "!!float":
		if err := n.Decode(&x); err != nil {
			d.fail(n, at, "", "%s is not what its tag %s says", quote(n.Value), n.Tag)
			return nil
		}
	default:
		d.fail(n, at, "", "the tag %s is not understood: put text in quotes", quote(n.Tag))
	}
	switch x := x.(type) {
	case int64:
		return float64(x) // int is as wide on all machines that we run on
	case uint64:
		return float64(x)
	case float64:
		switch {
		case math.IsNaN(x) || math.IsInf(x, 0):
			d.fail(n, at, "", "JSON, and so a chart, has no word for %s", n.Value)
			return nil
		case x == math.Trunc(x) && math.Abs(x) < 1<<53:
			return int(x) // JSON knows one kind of number: 1.0 is 1
		}
	}
	return x
}

// pairs calls f for each key of a mapping, merge keys (<<) after the mapping's own, and refuses a key given twice.
func (d *decoder) pairs(n *yaml.Node, at *place, f func(k, v *yaml.Node)) {
	d.merged(n, at, at.depth, map[string]bool{}, f)
}

func (d *decoder) merged(n *yaml.Node, at *place, depth int, seen map[string]bool, f func(k, v *yaml.Node)) {
	var merge *yaml.Node
	own := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := target(n.Content[i]), n.Content[i+1]
		if !d.spend(k, depth) {
			return
		}
		if k.Kind != yaml.ScalarNode || k.Tag == "!!null" {
			d.fail(n.Content[i], at, "", "a key must be text, found %s", nodeWord(k))
			continue
		}
		if first, twice := own[k.Value]; twice {
			d.fail(n.Content[i], at.field(k.Value), "", "the key stands twice, first in line %d", first.Line)
			continue
		}
		own[k.Value] = n.Content[i]
		if k.Tag == "!!merge" {
			merge = v
			continue
		}
		if !seen[k.Value] {
			seen[k.Value] = true
			f(k, v)
		}
	}
	for _, src := range sources(merge) {
		if src.Kind != yaml.MappingNode {
			d.fail(src, at, "", "<< merges mappings, found %s", nodeWord(src))
			continue
		}
		if !d.spend(src, depth+1) {
			return
		}
		d.merged(src, at, depth+1, seen, f)
	}
}

// sources are the mappings that a merge key names.
func sources(merge *yaml.Node) []*yaml.Node {
	if merge == nil {
		return nil
	}
	merge = target(merge)
	if merge.Kind != yaml.SequenceNode {
		return []*yaml.Node{merge}
	}
	out := make([]*yaml.Node, len(merge.Content))
	for i, n := range merge.Content {
		out[i] = target(n)
	}
	return out
}

func kindWord(v reflect.Value) string {
	switch {
	case v.Type() == reflect.TypeFor[Duration]():
		return "a duration"
	case v.Kind() == reflect.Bool:
		return "true or false"
	case v.Kind() == reflect.Int:
		return "a whole number"
	}
	return "text"
}

func nodeWord(n *yaml.Node) string {
	switch {
	case isNull(n):
		return "nothing"
	case n.Kind == yaml.MappingNode && n.Tag == "!!map":
		return "a mapping"
	case n.Kind == yaml.SequenceNode && n.Tag == "!!seq":
		return "a list"
	case n.Kind != yaml.ScalarNode || n.Style&yaml.TaggedStyle != 0:
		return "the tag " + quote(n.Tag)
	case n.Tag == "!!int", n.Tag == "!!float", n.Tag == "!!bool":
		return n.Value
	}
	return quote(n.Value)
}

// nearest is the known name with the smallest edit distance, if that is at most a third of the word, and one.
func nearest(word string, names map[string]int) string {
	if len(word) > 64 {
		return ""
	}
	best, distance := "", len(word)/3+2
	for n := range names {
		if d := levenshtein.ComputeDistance(strings.ToLower(word), strings.ToLower(n)); d < distance || d == distance && n < best {
			best, distance = n, d
		}
	}
	return best
}
