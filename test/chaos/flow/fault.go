package flow

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// Fault is something that goes wrong with a site while records flow.
type Fault struct {
	Name string
	// lasts is how long its cause stays, about.
	lasts time.Duration
	// agent is the node whose agent dies of it, the one case in which lines may be delivered twice.
	agent string
	// do makes it and returns when its cause is gone: at once after a kill, after its time when something is away for a while.
	do func(ctx context.Context, s *Site) error
}

// mending bounds what is done to undo a fault.
const mending = 2 * time.Minute

// The platform's parts, by the namespaces of their charts.
func gateway() part { return part{inventory.Service, "ingest-gateway", ""} }
func loki() part    { return part{inventory.Service, "loki", ""} }
func objects() part { return part{inventory.Service, "versitygw", ""} }

func agent(node string) part { return part{inventory.Workload, "fluentd", node} }

// Brief are three faults that fit into a minute and a half.
func Brief() []Fault {
	return []Fault{KillGateway(), StopLoki(10 * time.Second), KillStore()}
}

// All are all faults: each program killed, each taken away or cut off for a while, the agent of the last of some nodes killed.
func All(nodes []string, away time.Duration) []Fault {
	return []Fault{
		KillGateway(),
		StopLoki(away),
		KillStore(),
		KillGateway(),
		KillLoki(),
		KillAgent(nodes[len(nodes)-1]),
		StopStore(away),
		DeleteGateway(),
		Cut(away),
		KillGateway(),
	}
}

func kill(name string, p part) Fault {
	return Fault{Name: name, agent: p.node, do: func(ctx context.Context, s *Site) error { return s.signal(ctx, p, "KILL") }}
}

// KillGateway kills the ingest gateway's process.
func KillGateway() Fault { return kill("gateway: SIGKILL", gateway()) }

// KillLoki kills Loki's process.
func KillLoki() Fault { return kill("Loki: SIGKILL", loki()) }

// KillStore kills the object store's process.
func KillStore() Fault { return kill("S3: SIGKILL", objects()) }

// KillAgent kills the log agent of a node of the workload cluster.
func KillAgent(node string) Fault { return kill("log agent of "+node+": SIGKILL", agent(node)) }

// DeleteGateway deletes the ingest gateway's pod: another one takes its place.
func DeleteGateway() Fault {
	return Fault{Name: "gateway: pod deleted", do: func(ctx context.Context, s *Site) error {
		pods, err := s.running(ctx, gateway())
		if err != nil {
			return err
		}
		if len(pods) == 0 {
			return errors.New("the ingest gateway has no running pod to delete")
		}
		for _, p := range pods {
			if err := s.clients[inventory.Service].CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{}); err != nil {
				return err
			}
		}
		return nil
	}}
}

// StopLoki takes Loki away for a while.
func StopLoki(d time.Duration) Fault {
	return Fault{Name: fmt.Sprintf("Loki: away for %s", d), lasts: d, do: func(ctx context.Context, s *Site) error { return s.stop(ctx, loki(), d) }}
}

// StopStore takes the object store away for a while.
func StopStore(d time.Duration) Fault {
	return Fault{Name: fmt.Sprintf("S3: away for %s", d), lasts: d, do: func(ctx context.Context, s *Site) error { return s.stop(ctx, objects(), d) }}
}

// stop scales the part's stateful set, which has the namespace's name, to nothing; d begins when its pods are gone.
func (s *Site) stop(ctx context.Context, p part, d time.Duration) (err error) {
	sets := s.clients[p.cluster].AppsV1().StatefulSets(p.namespace)
	scale, err := sets.GetScale(ctx, p.namespace, metav1.GetOptions{})
	if err != nil {
		return err
	}
	was := scale.Spec.Replicas
	if was == 0 {
		return fmt.Errorf("%s is away already", p.namespace)
	}
	set := func(ctx context.Context, n int32) error {
		_, err := sets.UpdateScale(ctx, p.namespace, &autoscalingv1.Scale{
			ObjectMeta: metav1.ObjectMeta{Name: p.namespace, Namespace: p.namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: n},
		}, metav1.UpdateOptions{})
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mending)
		defer cancel()
		if back := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) { return set(ctx, was) == nil, nil }); back != nil {
			err = errors.Join(err, fmt.Errorf("%s could not be scaled back to %d: do it by hand", p.namespace, was))
		}
	}()
	if err := set(ctx, 0); err != nil {
		return err
	}
	err = wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, mending, true, func(ctx context.Context) (bool, error) {
		pods, err := s.pods(ctx, p)
		left := slices.DeleteFunc(pods, func(pod corev1.Pod) bool { return pod.Status.Phase == corev1.PodSucceeded })
		return err == nil && len(left) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("the pods of %s do not end: %w", p.namespace, err)
	}
	return pause(ctx, d)
}

// Cut lets nothing of the workload cluster's nodes and pods through to the service cluster's nodes for a while.
func Cut(d time.Duration) Fault {
	return Fault{Name: fmt.Sprintf("network between the clusters: cut for %s", d), lasts: d, do: func(ctx context.Context, s *Site) error { return s.cut(ctx, d) }}
}

// table is the one that the cut makes on nodes; priority before everything of the product and of Kubernetes.
const table = "inet catamaran_chaos"

func (s *Site) cut(ctx context.Context, d time.Duration) (err error) {
	inv := s.site.Inventory
	rules, err := cutRules(inv.Clusters.Workload, d+mending)
	if err != nil {
		return err
	}
	nodes := inv.Clusters.Service.PresentNodes()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mending)
		defer cancel()
		for _, n := range nodes {
			_, e := s.root(ctx, n.Name, "nft delete table "+table)
			err = errors.Join(err, e)
		}
	}()
	for _, n := range nodes {
		if _, err := s.root(ctx, n.Name, "nft -f - <<'EOF'\n"+rules+"EOF\n"); err != nil {
			return err
		}
	}
	return pause(ctx, d)
}

// cutRules drop what comes from a cluster, until the kernel forgets the addresses by itself: also when whoever made the rules
// does not live to remove them.
func cutRules(c *inventory.Cluster, forget time.Duration) (string, error) {
	from := []string{c.Network.PodCIDR}
	for _, n := range c.PresentNodes() {
		from = append(from, n.Address)
	}
	elements := map[string][]string{}
	for _, text := range from {
		host, _, _ := strings.Cut(text, "/")
		a, err := netip.ParseAddr(host)
		if err != nil {
			return "", fmt.Errorf("%q is no address that could be cut off: %w", text, err)
		}
		family := "ip"
		if a.Is6() {
			family = "ip6"
		}
		elements[family] = append(elements[family], fmt.Sprintf("%s timeout %ds", text, int(forget.Seconds())))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "table %s {\n", table)
	for _, f := range []struct{ name, kind string }{{"ip", "ipv4_addr"}, {"ip6", "ipv6_addr"}} {
		if len(elements[f.name]) == 0 {
			continue
		}
		fmt.Fprintf(&b, "  set %s_cut { type %s; flags interval, timeout; elements = { %s } }\n", f.name, f.kind, strings.Join(elements[f.name], ", "))
		fmt.Fprintf(&b, "  chain %s_in { type filter hook prerouting priority -310; %s saddr @%s_cut drop; }\n", f.name, f.name, f.name)
	}
	b.WriteString("}\n")
	return b.String(), nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
