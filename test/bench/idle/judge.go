package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/catamaran-k8s/catamaran/inventory"
)

const mebibyte = 1 << 20

// promise is what size small says of one thing.
type promise struct {
	what  string
	bound amount
	// below says that the bound itself is too much.
	below bool
	// of is what the thing takes, each pod and each node's rest counted by the functions.
	of func(c *cluster, pod func(*pod) amount, rest func(usage) amount) amount
}

// promises are those of the issue: the service cluster on one machine with 2 CPUs and 4 GiB, Kubernetes included; the
// platform's part of a workload cluster, once and on each node.
func promises(name inventory.ClusterName) []promise {
	if name == inventory.Service {
		return []promise{{"all of it on one machine, Kubernetes included", amount{2, 4096 * mebibyte}, false, onOneMachine}}
	}
	return []promise{
		{"the platform, once a cluster", amount{0.5, 1024 * mebibyte}, true, onceACluster},
		{"the platform, on the node that has most", amount{0.2, 256 * mebibyte}, true, onANode},
	}
}

// onOneMachine is what the cluster would take if it were one machine: what there is once, and of what every node has (pods
// of DaemonSets, static pods, the machine's own programs) that of the node that has most.
func onOneMachine(c *cluster, of func(*pod) amount, rest func(usage) amount) amount {
	var once amount
	nodes := map[string]amount{}
	for name, u := range c.rest {
		nodes[name] = rest(*u)
	}
	for _, p := range c.pods {
		switch {
		case p.part == otherPart:
		case p.everyNode:
			nodes[p.node] = nodes[p.node].plus(of(p))
		default:
			once = once.plus(of(p))
		}
	}
	var most amount
	for _, a := range nodes {
		most = most.most(a)
	}
	return once.plus(most)
}

func onceACluster(c *cluster, of func(*pod) amount, _ func(usage) amount) amount {
	var sum amount
	for _, p := range c.pods {
		if p.part == platformPart && !p.everyNode {
			sum = sum.plus(of(p))
		}
	}
	return sum
}

func onANode(c *cluster, of func(*pod) amount, _ func(usage) amount) amount {
	nodes := map[string]amount{}
	var most amount
	for _, p := range c.pods {
		if p.part == platformPart && p.everyNode {
			nodes[p.node] = nodes[p.node].plus(of(p))
			most = most.most(nodes[p.node])
		}
	}
	return most
}

func (p promise) holds(a amount) bool {
	if p.below {
		return a.cpu < p.bound.cpu && a.memory < p.bound.memory
	}
	return a.cpu <= p.bound.cpu && a.memory <= p.bound.memory
}

// judge says whether the promise is kept: by what is used, and by what is requested, since a pod whose request has no room
// does not start, however little it would use.
func (p promise) judge(c *cluster) (string, bool) {
	used := p.of(c, func(q *pod) amount { return q.used.of() }, usage.of)
	wanted := p.of(c, func(q *pod) amount { return q.requests }, func(usage) amount { return amount{} })
	ok := p.holds(used) && p.holds(wanted)
	return fmt.Sprintf("promise: %s: %s%.1f CPU, %.0f MiB; used %.3f CPU, %.0f MiB; requested %.3f CPU, %.0f MiB: %s", p.what,
		map[bool]string{true: "under "}[p.below], p.bound.cpu, p.bound.memory/mebibyte,
		used.cpu, used.memory/mebibyte, wanted.cpu, wanted.memory/mebibyte, map[bool]string{true: "met", false: "MISSED"}[ok]), ok
}

// line is one of the table.
type line struct {
	namespace              string
	part                   part
	pods                   int
	used, requests, limits amount
}

func (l *line) add(p *pod) {
	l.pods++
	l.used, l.requests, l.limits = l.used.plus(p.used.of()), l.requests.plus(p.requests), l.limits.plus(p.limits)
}

// lines are the sums of the namespaces, Kubernetes' first, and those of the parts behind them.
func lines(c *cluster) []line {
	by := map[string]*line{}
	sums := []*line{{namespace: "pods of Kubernetes", part: kubernetesPart}, {namespace: "pods of the platform", part: platformPart}}
	for _, p := range c.pods {
		l := by[p.namespace]
		if l == nil {
			l = &line{namespace: p.namespace, part: p.part}
			by[p.namespace] = l
		}
		l.add(p)
		for _, sum := range sums {
			if sum.part == p.part {
				sum.add(p)
			}
		}
	}
	var out []line
	for _, l := range by {
		out = append(out, *l)
	}
	order := map[part]int{kubernetesPart: 0, platformPart: 1, otherPart: 2}
	slices.SortFunc(out, func(a, b line) int {
		return cmp.Or(cmp.Compare(order[a.part], order[b.part]), cmp.Compare(a.namespace, b.namespace))
	})
	for _, name := range slices.Sorted(maps.Keys(c.rest)) {
		out = append(out, line{namespace: name + " beside its pods", part: kubernetesPart, used: c.rest[name].of()})
	}
	return append(out, *sums[0], *sums[1])
}

func table(to io.Writer, name inventory.ClusterName, c *cluster) error {
	w := tabwriter.NewWriter(to, 0, 4, 2, ' ', tabwriter.AlignRight)
	row := func(format string, args ...any) { fmt.Fprintf(w, format+"\t\n", args...) } //nolint:errcheck // Flush tells
	row("\n%s\tpart\tpods\tCPU\tworking set\trequested CPU\tmemory\tlimit CPU\tmemory", name)
	for _, l := range lines(c) {
		row("%s\t%s\t%d\t%.1f m\t%.0f MiB\t%.0f m\t%.0f MiB\t%.0f m\t%.0f MiB", l.namespace, l.part, l.pods, l.used.cpu*1000, l.used.memory/mebibyte,
			l.requests.cpu*1000, l.requests.memory/mebibyte, l.limits.cpu*1000, l.limits.memory/mebibyte)
	}
	return w.Flush()
}
