package helm

import (
	"context"
	"fmt"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
)

// How much of a failure is shown: enough to see the cause, not so much that it scrolls away.
const (
	podsShown   = 3
	eventsShown = 3
	linesShown  = int64(10)
)

// diagnosis finds out why a workload does not become ready. It never fails: what it can not find out it leaves out.
type diagnosis struct {
	clients kubernetes.Interface
}

func (d diagnosis) details(ctx context.Context, u Unready) []string {
	selector := d.selector(ctx, u)
	if selector == nil {
		if u.Kind == "Pod" {
			pod, err := d.clients.CoreV1().Pods(u.Namespace).Get(ctx, u.Name, metav1.GetOptions{})
			if err != nil {
				return nil
			}
			return d.pod(ctx, pod)
		}
		return d.events(ctx, u.Namespace, u.Kind, u.Name)
	}
	list, err := d.clients.CoreV1().Pods(u.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil
	}
	var out []string
	shown, hidden := 0, 0
	for i := range list.Items {
		pod := &list.Items[i]
		if podState(pod).Ready {
			continue
		}
		if shown == podsShown {
			hidden++
			continue
		}
		shown++
		out = append(out, d.pod(ctx, pod)...)
	}
	if hidden > 0 {
		out = append(out, fmt.Sprintf("and %d more pods", hidden))
	}
	if len(list.Items) == 0 {
		// no pod was made: what refused it stands in the events of who makes pods
		out = append(out, d.events(ctx, u.Namespace, u.Kind, u.Name)...)
		sets, err := d.clients.AppsV1().ReplicaSets(u.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
		if err != nil {
			return out
		}
		for _, s := range sets.Items {
			out = append(out, d.events(ctx, u.Namespace, "ReplicaSet", s.Name)...)
		}
	}
	return out
}

// selector is that of the workload's pods; nil for what has no pods.
func (d diagnosis) selector(ctx context.Context, u Unready) labels.Selector {
	var s *metav1.LabelSelector
	get := metav1.GetOptions{}
	switch u.Kind {
	case "Deployment":
		if o, err := d.clients.AppsV1().Deployments(u.Namespace).Get(ctx, u.Name, get); err == nil {
			s = o.Spec.Selector
		}
	case "DaemonSet":
		if o, err := d.clients.AppsV1().DaemonSets(u.Namespace).Get(ctx, u.Name, get); err == nil {
			s = o.Spec.Selector
		}
	case "StatefulSet":
		if o, err := d.clients.AppsV1().StatefulSets(u.Namespace).Get(ctx, u.Name, get); err == nil {
			s = o.Spec.Selector
		}
	case "ReplicaSet":
		if o, err := d.clients.AppsV1().ReplicaSets(u.Namespace).Get(ctx, u.Name, get); err == nil {
			s = o.Spec.Selector
		}
	case "Job":
		if o, err := d.clients.BatchV1().Jobs(u.Namespace).Get(ctx, u.Name, get); err == nil {
			s = o.Spec.Selector
		}
	}
	if s == nil {
		return nil
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil
	}
	return selector
}

func (d diagnosis) pod(ctx context.Context, pod *corev1.Pod) []string {
	where := ""
	if pod.Spec.NodeName != "" {
		where = " on " + pod.Spec.NodeName
	}
	head := fmt.Sprintf("pod %s%s", pod.Name, where)
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return []string{fmt.Sprintf("%s is not scheduled: %s", head, c.Message)}
		}
	}
	var out []string
	statuses := append(append([]corev1.ContainerStatus(nil), pod.Status.InitContainerStatuses...), pod.Status.ContainerStatuses...)
	for _, s := range statuses {
		if line, crashed := containerTrouble(s); line != "" {
			out = append(out, fmt.Sprintf("%s, container %s: %s", head, s.Name, line))
			if crashed {
				out = append(out, d.logs(ctx, pod, s)...)
			}
		}
	}
	if len(out) == 0 {
		out = append(out, fmt.Sprintf("%s is %s", head, pod.Status.Phase))
	}
	return append(out, d.events(ctx, pod.Namespace, "Pod", pod.Name)...)
}

// containerTrouble says what is wrong with a container, and whether its log can tell more.
func containerTrouble(s corev1.ContainerStatus) (line string, crashed bool) {
	switch {
	case s.State.Waiting != nil && s.State.Waiting.Reason == "PodInitializing", s.State.Waiting != nil && s.State.Waiting.Reason == "ContainerCreating":
		return "", false
	case s.State.Waiting != nil:
		line = strings.TrimSuffix(s.State.Waiting.Reason+": "+s.State.Waiting.Message, ": ")
		if last := s.LastTerminationState.Terminated; last != nil {
			line += fmt.Sprintf(" (ended with %d, %s, %d restarts)", last.ExitCode, last.Reason, s.RestartCount)
		}
		return line, s.LastTerminationState.Terminated != nil
	case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
		return fmt.Sprintf("ended with %d, %s %s", s.State.Terminated.ExitCode, s.State.Terminated.Reason, s.State.Terminated.Message), true
	case s.State.Running != nil && !s.Ready:
		return fmt.Sprintf("runs, but its readiness probe does not pass (%d restarts)", s.RestartCount), s.RestartCount > 0
	}
	return "", false
}

func (d diagnosis) logs(ctx context.Context, pod *corev1.Pod, s corev1.ContainerStatus) []string {
	lines := linesShown
	for _, previous := range []bool{s.State.Terminated == nil, false} {
		data, err := d.clients.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name,
			&corev1.PodLogOptions{Container: s.Name, TailLines: &lines, Previous: previous}).DoRaw(ctx)
		text := strings.TrimSpace(string(data))
		if err == nil && text != "" {
			return []string{"its last lines:\n  " + strings.ReplaceAll(text, "\n", "\n  ")}
		}
	}
	return nil
}

// events returns the newest warnings about an object.
func (d diagnosis) events(ctx context.Context, namespace, kind, name string) []string {
	list, err := d.clients.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: fields.Set{
		"involvedObject.kind": kind, "involvedObject.name": name, "type": corev1.EventTypeWarning,
	}.String()})
	if err != nil {
		return nil
	}
	items := list.Items
	sort.SliceStable(items, func(i, j int) bool { return eventTime(items[i]).After(eventTime(items[j]).Time) })
	var out []string
	for _, e := range items[:min(len(items), eventsShown)] {
		out = append(out, fmt.Sprintf("event: %s: %s", e.Reason, strings.TrimSpace(e.Message)))
	}
	return out
}

func eventTime(e corev1.Event) metav1.Time {
	if !e.LastTimestamp.IsZero() {
		return e.LastTimestamp
	}
	if !e.EventTime.IsZero() {
		return metav1.Time{Time: e.EventTime.Time}
	}
	return e.CreationTimestamp
}
