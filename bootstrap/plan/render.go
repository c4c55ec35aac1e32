package plan

import (
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/hexops/gotextdiff"
	"github.com/hexops/gotextdiff/myers"
	"github.com/hexops/gotextdiff/span"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// RenderOptions say how a plan is shown.
type RenderOptions struct {
	Color bool
	// Brief leaves out file diffs.
	Brief bool
}

// RenderJSON writes the plan for machines.
func RenderJSON(w io.Writer, p Plan) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(p)
}

// Render writes the plan for people: warnings, machines that could not be seen, then each cluster's steps with their
// reasons and file diffs.
func Render(w io.Writer, p Plan, o RenderOptions) error {
	out := &painter{w: w, color: o.Color}
	for _, n := range sortedKeys(p.Unreachable) {
		out.line(red, "unreachable: %s", p.Unreachable[n])
	}
	for _, warning := range p.Warnings {
		out.line(yellow, "warning: %s", warning)
	}
	out.changes(p)
	if p.Empty() {
		out.line(green, "%s: nothing to do", p.Site)
		return out.err
	}
	for _, c := range []inventory.ClusterName{"", inventory.Service, inventory.Workload} {
		out.cluster(p, c, o)
	}
	if len(p.Steps) == 0 {
		return out.err
	}
	nodes := map[string]bool{}
	for _, s := range p.Steps {
		if s.Node != "" {
			nodes[s.Node] = true
		}
	}
	out.line(bold, "%d steps on %d nodes", len(p.Steps), len(nodes))
	return out.err
}

// changes shows what the providers do before any step.
func (p *painter) changes(pl Plan) {
	for _, c := range []inventory.ClusterName{inventory.Service, inventory.Workload} {
		first := true
		for _, change := range pl.Changes {
			if change.Cluster != c {
				continue
			}
			if first {
				p.line(bold, "%s: machines", c)
				first = false
			}
			p.line("", "  %-7s %-16s %-26s %s", change.Verb, change.Kind, change.Name, p.paint(dim, change.Reason))
		}
	}
	if len(pl.Pending) > 0 {
		p.line("", "machines of %s will be made first; their steps are planned once they exist", strings.Join(pl.Pending, ", "))
	}
	if len(pl.Changes) > 0 {
		p.line(bold, "%d changes of machines", len(pl.Changes))
	}
}

func (p *painter) cluster(pl Plan, c inventory.ClusterName, o RenderOptions) {
	first := true
	for _, s := range pl.Steps {
		if s.Cluster != c {
			continue
		}
		if first {
			first = false
			name := string(c)
			if c == "" {
				name = pl.Site
			}
			p.line(bold, "%s", name)
		}
		where := s.Node
		if where == "" {
			where = "-"
		}
		p.line("", "  %-16s %-34s %s", where, s.Title, p.paint(dim, s.Reason))
		if o.Brief {
			continue
		}
		for _, f := range s.Files {
			p.file(f)
		}
	}
}

// file shows what a file change does.
func (p *painter) file(f FileChange) {
	what := "new"
	if f.Exists {
		what = "changed"
	}
	p.line(cyan, "      %s %s (%s)", f.Path, f.Mode, what)
	if f.Secret || f.Before == f.After {
		return
	}
	for _, l := range strings.Split(strings.TrimSuffix(Diff(f), "\n"), "\n") {
		color := ""
		switch {
		case strings.HasPrefix(l, "+"):
			color = green
		case strings.HasPrefix(l, "-"):
			color = red
		}
		p.line(color, "      %s", l)
	}
}

// Diff is the unified diff of a file change, without its two header lines; empty when the content stays.
func Diff(f FileChange) string {
	edits := myers.ComputeEdits(span.URIFromPath(f.Path), f.Before, f.After)
	_, body, _ := strings.Cut(fmt.Sprint(gotextdiff.ToUnified("before", "after", f.Before, edits)), "\n")
	_, body, _ = strings.Cut(body, "\n")
	return body
}

// ANSI colours.
const (
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	cyan   = "\x1b[36m"
	plain  = "\x1b[0m"
)

// painter writes lines and keeps the first error.
type painter struct {
	w     io.Writer
	color bool
	err   error
}

func (p *painter) paint(color, s string) string {
	if !p.color || color == "" {
		return s
	}
	return color + s + plain
}

func (p *painter) line(color, format string, args ...any) {
	if p.err != nil {
		return
	}
	_, p.err = fmt.Fprintln(p.w, p.paint(color, fmt.Sprintf(format, args...)))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
