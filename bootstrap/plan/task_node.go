package plan

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubectl/pkg/drain"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// LabelNode sets a node's labels and taints through the API.
type LabelNode struct {
	Cluster inventory.ClusterName
	Node    string
	// Labels to set; a label of the cluster that is not named here is left alone.
	Labels map[string]string
	// Taints replaces all taints but those that Kubernetes manages itself (node.kubernetes.io/*); nil leaves them.
	Taints *[]inventory.Taint
}

// Do implements Task.
func (t LabelNode) Do(ctx context.Context, env Env, _ func(string)) error {
	client, err := env.Client(t.Cluster)
	if err != nil {
		return err
	}
	if err := waitForNode(ctx, client, t.Node, func(*corev1.Node) bool { return true }); err != nil {
		return fmt.Errorf("node %s is not registered: %w", t.Node, err)
	}
	node, err := client.CoreV1().Nodes().Get(ctx, t.Node, metav1.GetOptions{})
	if err != nil {
		return err
	}
	patch := map[string]any{}
	if len(t.Labels) > 0 {
		patch["metadata"] = map[string]any{"labels": t.Labels}
	}
	if t.Taints != nil {
		// a merge patch replaces the list as a whole, so the version read guards what others wrote meanwhile
		patch["spec"] = map[string]any{"taints": wantedTaints(node.Spec.Taints, *t.Taints)}
		meta, _ := patch["metadata"].(map[string]any)
		if meta == nil {
			meta = map[string]any{}
			patch["metadata"] = meta
		}
		meta["resourceVersion"] = node.ResourceVersion
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Nodes().Patch(ctx, t.Node, types.MergePatchType, data, metav1.PatchOptions{})
	return err
}

func wantedTaints(now []corev1.Taint, want []inventory.Taint) []corev1.Taint {
	out := []corev1.Taint{}
	for _, t := range now {
		if managedTaint(t.Key) {
			out = append(out, t)
		}
	}
	for _, t := range want {
		out = append(out, corev1.Taint{Key: t.Key, Value: t.Value, Effect: corev1.TaintEffect(t.Effect)})
	}
	return out
}

// DrainNode cordons a node and evicts its pods, as kubectl drain does, honouring PodDisruptionBudgets.
type DrainNode struct {
	Cluster inventory.ClusterName
	Node    string
	Timeout time.Duration
}

// Do implements Task.
func (t DrainNode) Do(ctx context.Context, env Env, log func(string)) error {
	client, err := env.Client(t.Cluster)
	if err != nil {
		return err
	}
	node, err := client.CoreV1().Nodes().Get(ctx, t.Node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		log("the node is not in the cluster any more")
		return nil
	}
	if err != nil {
		return err
	}
	out := lineWriter{log}
	h := &drain.Helper{
		Ctx: ctx, Client: client, Force: true, GracePeriodSeconds: -1, IgnoreAllDaemonSets: true,
		DeleteEmptyDirData: true, Timeout: t.Timeout, Out: out, ErrOut: out,
		OnPodDeletionOrEvictionFinished: func(p *corev1.Pod, _ bool, err error) {
			if err == nil {
				log("evicted " + p.Namespace + "/" + p.Name)
			}
		},
	}
	if err := drain.RunCordonOrUncordon(h, node, true); err != nil {
		return fmt.Errorf("cordon %s: %w", t.Node, err)
	}
	if !nodeReady(node) {
		// its kubelet can not end pods any more: eviction would wait for the timeout
		log("the node is not ready; its pods go with the node object")
		return nil
	}
	if err := drain.RunNodeDrain(h, t.Node); err != nil {
		return fmt.Errorf("drain %s: %w; a PodDisruptionBudget may hold it: `kubectl get pdb -A`, then apply again", t.Node, err)
	}
	return nil
}

// DeleteNode removes a node object.
type DeleteNode struct {
	Cluster inventory.ClusterName
	Node    string
}

// Do implements Task.
func (t DeleteNode) Do(ctx context.Context, env Env, _ func(string)) error {
	client, err := env.Client(t.Cluster)
	if err != nil {
		return err
	}
	err = client.CoreV1().Nodes().Delete(ctx, t.Node, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// waitForNode watches until the node exists and ok holds, or ctx ends.
func waitForNode(ctx context.Context, client kubernetes.Interface, name string, ok func(*corev1.Node) bool) error {
	opts := metav1.ListOptions{FieldSelector: "metadata.name=" + name}
	for {
		list, err := client.CoreV1().Nodes().List(ctx, opts)
		if err != nil {
			return err
		}
		if len(list.Items) == 1 && ok(&list.Items[0]) {
			return nil
		}
		opts.ResourceVersion = list.ResourceVersion
		w, err := client.CoreV1().Nodes().Watch(ctx, opts)
		if err != nil {
			return err
		}
		done := watchNode(ctx, w, ok)
		w.Stop()
		if done {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		opts.ResourceVersion = ""
	}
}

func watchNode(ctx context.Context, w watch.Interface, ok func(*corev1.Node) bool) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case e, open := <-w.ResultChan():
			if !open {
				return false
			}
			if n, is := e.Object.(*corev1.Node); is && e.Type != watch.Deleted && ok(n) {
				return true
			}
		}
	}
}

func nodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// lineWriter hands what a library prints to the step's log, line by line.
type lineWriter struct{ log func(string) }

func (w lineWriter) Write(p []byte) (int, error) {
	for _, l := range splitLines(string(p)) {
		w.log(l)
	}
	return len(p), nil
}
