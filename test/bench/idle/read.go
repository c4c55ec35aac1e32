package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/catamaran-k8s/catamaran/embedded"
)

// part says whose a pod is.
type part string

const (
	kubernetesPart part = "Kubernetes" // and what a cluster needs whatever runs there
	platformPart   part = "platform"
	otherPart      part = "-" // nothing that the promise is about
)

// partsOf says it of the namespaces that the product makes. Components that are off unless they are asked for are not in
// the promise, as long as they are no part of the platform.
func partsOf(components []embedded.Component) map[string]part {
	out := map[string]part{"kube-system": kubernetesPart}
	for _, c := range components {
		switch {
		case c.Platform:
			out[c.Namespace] = platformPart
		case c.Default || c.DecidedBy != "":
			out[c.Namespace] = kubernetesPart
		}
	}
	return out
}

// amount is processor time and memory: cores and bytes.
type amount struct{ cpu, memory float64 }

func (a amount) plus(b amount) amount { return amount{a.cpu + b.cpu, a.memory + b.memory} }

// most has the larger of each.
func (a amount) most(b amount) amount { return amount{max(a.cpu, b.cpu), max(a.memory, b.memory)} }

// usage collects what was used at several times.
type usage struct {
	samples int
	cpu     float64 // of all samples together
	memory  float64 // the most
}

func (u *usage) add(a amount) {
	u.samples++
	u.cpu += a.cpu
	u.memory = max(u.memory, a.memory)
}

// of is the mean processor time and the most memory.
func (u usage) of() amount {
	if u.samples == 0 {
		return amount{}
	}
	return amount{u.cpu / float64(u.samples), u.memory}
}

// pod is a pod that runs.
type pod struct {
	namespace, name, node string
	part                  part
	// everyNode says that it is one of a DaemonSet, or a static pod: another node has another one.
	everyNode        bool
	requests, limits amount
	used             usage
}

// cluster is what was read of one.
type cluster struct {
	pods []*pod
	// rest is what each node uses beside its pods: kubelet, containerd, the machine itself.
	rest map[string]*usage
}

type reader struct{ client *kubernetes.Clientset }

// cluster reads what runs. Pods of the promise that should run and do not are an error: the rest would be measured too small.
func (r reader) cluster(ctx context.Context, parts map[string]part) (*cluster, error) {
	list, err := r.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	c := &cluster{rest: map[string]*usage{}}
	var waiting []string
	platform := 0
	for i := range list.Items {
		p := &list.Items[i]
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		own, ok := parts[p.Namespace]
		if !ok {
			own = otherPart
		}
		if !ready(p) {
			if own != otherPart {
				waiting = append(waiting, p.Namespace+"/"+p.Name)
			}
			continue
		}
		if own == platformPart {
			platform++
		}
		c.pods = append(c.pods, &pod{
			namespace: p.Namespace, name: p.Name, node: p.Spec.NodeName, part: own, everyNode: everyNode(p),
			requests: reserved(p, func(r corev1.ResourceRequirements) corev1.ResourceList { return r.Requests }),
			limits:   reserved(p, func(r corev1.ResourceRequirements) corev1.ResourceList { return r.Limits }),
		})
	}
	if len(waiting) > 0 {
		return nil, fmt.Errorf("not ready: %s: see why, and measure again", strings.Join(waiting, ", "))
	}
	if platform == 0 {
		return nil, errors.New("no pod of the platform runs: is it installed?")
	}
	return c, nil
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func everyNode(p *corev1.Pod) bool {
	for _, o := range p.OwnerReferences {
		if o.Kind == "DaemonSet" || o.Kind == "Node" {
			return true
		}
	}
	return false
}

// reserved is what the scheduler reckons for a pod: its containers together, or an init container that wants more.
func reserved(p *corev1.Pod, of func(corev1.ResourceRequirements) corev1.ResourceList) amount {
	var sum, first amount
	for _, c := range p.Spec.Containers {
		sum = sum.plus(inNumbers(of(c.Resources)))
	}
	for _, c := range p.Spec.InitContainers {
		first = first.most(inNumbers(of(c.Resources)))
	}
	return sum.most(first)
}

func inNumbers(l corev1.ResourceList) amount {
	return amount{l.Cpu().AsApproximateFloat64(), l.Memory().AsApproximateFloat64()}
}

// metrics are the lists of the metrics API, as far as they are read.
type metrics struct {
	Items []struct {
		Metadata   metav1.ObjectMeta `json:"metadata"`
		Usage      measured          `json:"usage"`
		Containers []struct {
			Usage measured `json:"usage"`
		} `json:"containers"`
	} `json:"items"`
}

type measured struct {
	CPU    resource.Quantity `json:"cpu"`
	Memory resource.Quantity `json:"memory"`
}

func (m measured) amount() amount {
	return amount{m.CPU.AsApproximateFloat64(), m.Memory.AsApproximateFloat64()}
}

// sample adds what is used now.
func (r reader) sample(ctx context.Context, c *cluster) error {
	pods, err := r.metrics(ctx, "pods")
	if err != nil {
		return err
	}
	nodes, err := r.metrics(ctx, "nodes")
	if err != nil {
		return err
	}
	used, rest := map[string]amount{}, map[string]amount{}
	for _, m := range pods.Items {
		var sum amount
		for _, container := range m.Containers {
			sum = sum.plus(container.Usage.amount())
		}
		used[m.Metadata.Namespace+"/"+m.Metadata.Name] = sum
	}
	for _, n := range nodes.Items {
		rest[n.Metadata.Name] = n.Usage.amount()
	}
	for _, p := range c.pods {
		a, ok := used[p.namespace+"/"+p.name]
		if !ok {
			return fmt.Errorf("the metrics API knows nothing of pod %s/%s: is it new, or gone?", p.namespace, p.name)
		}
		p.used.add(a)
		left, ok := rest[p.node]
		if !ok {
			return fmt.Errorf("the metrics API knows nothing of node %s", p.node)
		}
		rest[p.node] = amount{left.cpu - a.cpu, left.memory - a.memory}
	}
	for name, a := range rest {
		if c.rest[name] == nil {
			c.rest[name] = &usage{}
		}
		// a node and its pods are not measured in the same moment
		c.rest[name].add(a.most(amount{}))
	}
	return nil
}

func (r reader) metrics(ctx context.Context, of string) (metrics, error) {
	var m metrics
	data, err := r.client.RESTClient().Get().AbsPath("/apis/metrics.k8s.io/v1beta1/" + of).DoRaw(ctx)
	if err != nil {
		return m, fmt.Errorf("metrics of %s: %w", of, err)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("metrics of %s: %w", of, err)
	}
	return m, nil
}
