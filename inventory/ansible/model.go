// Package ansible reads Ansible inventories in the style of kubespray and writes a Catamaran inventory out of them.
// What it can not carry over it says; it never asks Ansible, and evaluates no template.
package ansible

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// limits keep a small file with a large range from becoming a large inventory.
const (
	maxSize   = 4 << 20
	maxHosts  = 5000
	maxGroups = 1000
	maxDepth  = 50 // of groups in groups
)

// variable is a value and where it stands.
type variable struct {
	value any // text, or what YAML makes of it
	line  int
}

func (v variable) String() string {
	if s, ok := v.value.(string); ok {
		return s
	}
	return fmt.Sprint(v.value)
}

type group struct {
	hosts    []string // in the file's order
	children []string
	vars     map[string]variable
}

// file is an Ansible inventory as it was read.
type file struct {
	path     string
	groups   map[string]*group
	hosts    []string // in the file's order
	hostVars map[string]map[string]variable
	hostLine map[string]int
	warnings []inventory.Warning
}

func newFile(path string) *file {
	return &file{path: path, groups: map[string]*group{}, hostVars: map[string]map[string]variable{}, hostLine: map[string]int{}}
}

func (f *file) fail(line int, format string, args ...any) error {
	return inventory.Error{File: f.path, Line: line, Message: fmt.Sprintf(format, args...)}
}

func (f *file) warn(line int, field, hint, format string, args ...any) {
	f.warnings = append(f.warnings, inventory.Warning{File: f.path, Line: line, Field: field, Hint: hint, Message: fmt.Sprintf(format, args...)})
}

// group returns a group, made on first use.
func (f *file) group(name string) *group {
	g, ok := f.groups[name]
	if !ok {
		g = &group{vars: map[string]variable{}}
		f.groups[name] = g
	}
	return g
}

func (f *file) addHost(name string, line int) error {
	if _, known := f.hostVars[name]; known {
		return nil
	}
	if len(f.hosts) == maxHosts {
		return f.fail(line, "there are more than %d hosts", maxHosts)
	}
	f.hosts, f.hostLine[name] = append(f.hosts, name), line
	f.hostVars[name] = map[string]variable{}
	return nil
}

// members are the hosts of a group and of the groups in it.
func (f *file) members(name string) []string {
	if name == "all" {
		return f.hosts
	}
	in := map[string]bool{}
	seen := map[string]bool{}
	var walk func(string, int)
	walk = func(name string, depth int) {
		g := f.groups[name]
		if g == nil || seen[name] || depth > maxDepth {
			return
		}
		seen[name] = true
		for _, h := range g.hosts {
			in[h] = true
		}
		for _, c := range g.children {
			walk(c, depth+1)
		}
	}
	walk(name, 0)
	var out []string
	for _, h := range f.hosts {
		if in[h] {
			out = append(out, h)
		}
	}
	return out
}

// depths is how far each group is from all: variables of a deeper group win.
func (f *file) depths() map[string]int {
	depth := map[string]int{}
	names := make([]string, 0, len(f.groups))
	for n := range f.groups {
		if n != "all" {
			depth[n] = 1
		}
		names = append(names, n)
	}
	sort.Strings(names)
	for range maxDepth {
		changed := false
		for _, n := range names {
			for _, c := range f.groups[n].children {
				if d := depth[n] + 1; d > depth[c] && d <= maxDepth {
					depth[c], changed = d, true
				}
			}
		}
		if !changed {
			break
		}
	}
	return depth
}

// scope are the variables that hold for a host, or for a group as a whole.
type scope map[string]variable

// first is the first of several names for the same thing that is set.
func (s scope) first(names ...string) (string, variable, bool) {
	for _, n := range names {
		if v, ok := s[n]; ok {
			return n, v, true
		}
	}
	return "", variable{}, false
}

// scopes computes the variables of every host: all, then groups from the outside in (by name where equally deep), then
// the host's own, later over earlier.
func (f *file) scopes() map[string]scope {
	depth := f.depths()
	names := make([]string, 0, len(f.groups))
	for n := range f.groups {
		names = append(names, n)
	}
	sort.Slice(names, func(i, j int) bool {
		a, b := names[i], names[j]
		if (a == "all") != (b == "all") {
			return a == "all"
		}
		if depth[a] != depth[b] {
			return depth[a] < depth[b]
		}
		return a < b
	})
	out := map[string]scope{}
	for _, h := range f.hosts {
		out[h] = scope{}
	}
	for _, n := range names {
		if len(f.groups[n].vars) == 0 {
			continue
		}
		for _, h := range f.members(n) {
			for k, v := range f.groups[n].vars {
				out[h][k] = v
			}
		}
	}
	for h, vars := range f.hostVars {
		for k, v := range vars {
			out[h][k] = v
		}
	}
	return out
}

// expand turns a range such as node[01:03].example.com or rack-[a:c] into names.
func expand(pattern string) ([]string, error) {
	open := strings.IndexByte(pattern, '[')
	if open < 0 {
		return []string{pattern}, nil
	}
	length := strings.IndexByte(pattern[open:], ']')
	if length < 0 {
		return nil, fmt.Errorf("the range in %q does not end", pattern)
	}
	head, inner, tail := pattern[:open], pattern[open+1:open+length], pattern[open+length+1:]
	middle, err := rangeOf(inner)
	if err != nil {
		return nil, err
	}
	tails, err := expand(tail)
	if err != nil {
		return nil, err
	}
	if len(middle)*len(tails) > maxHosts {
		return nil, fmt.Errorf("the range in %q is longer than %d", pattern, maxHosts)
	}
	var out []string
	for _, m := range middle {
		for _, t := range tails {
			out = append(out, head+m+t)
		}
	}
	return out, nil
}

func rangeOf(inner string) ([]string, error) {
	parts := strings.Split(inner, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return nil, fmt.Errorf("expected a range such as [1:3] or [a:c], found [%s]", inner)
	}
	step := 1
	if len(parts) == 3 {
		if step = number(parts[2]); step < 1 {
			return nil, fmt.Errorf("the range [%s] has no positive step", inner)
		}
	}
	from, to := parts[0], parts[1]
	if from == "" {
		from = "0"
	}
	width, first, last := 0, number(from), number(to)
	letters := first < 0 && last < 0 && len(from) == 1 && len(to) == 1 && isLetter(from[0]) && isLetter(to[0])
	if letters {
		first, last = int(from[0]), int(to[0])
	} else if len(from) > 1 && from[0] == '0' {
		width = len(from)
	}
	if first < 0 || last < first || (last-first)/step >= maxHosts {
		return nil, fmt.Errorf("expected a range such as [1:3] or [a:c] of at most %d, found [%s]", maxHosts, inner)
	}
	var out []string
	for i := first; i <= last; i += step {
		if letters {
			out = append(out, string(rune(i)))
			continue
		}
		out = append(out, fmt.Sprintf("%0*d", width, i))
	}
	return out, nil
}

func isLetter(b byte) bool { return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' }

// number reads decimal digits; -1: it is none, or larger than any range here.
func number(s string) int {
	if s == "" || len(s) > 9 {
		return -1
	}
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// appendNew appends what is not there yet.
func appendNew(list []string, names ...string) []string {
	for _, n := range names {
		if !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}
