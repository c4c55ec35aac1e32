package helm

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func pod(name string, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n", Labels: map[string]string{"app": "a"}},
		Spec:       corev1.PodSpec{NodeName: "node-1"}, Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	change(p)
	return p
}

func container(state corev1.ContainerState) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: state, RestartCount: 4,
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 2, Reason: "Error"}}}}
	}
}

// What is told of pods that do not come up. Only the API objects are made up; how they get into such a state is the
// business of a cluster.
func TestDiagnosis(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		pods []*corev1.Pod
		want []string
	}{
		"not scheduled": {
			[]*corev1.Pod{pod("a-1", func(p *corev1.Pod) {
				p.Spec.NodeName = ""
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/3 nodes are available"}}
			})},
			[]string{"pod a-1 is not scheduled: 0/3 nodes are available"},
		},
		"crashing, with its last lines": {
			[]*corev1.Pod{pod("a-1", container(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off"}}))},
			[]string{"pod a-1 on node-1, container main: CrashLoopBackOff: back-off (ended with 2, Error, 4 restarts)", "its last lines:\n  fake logs"},
		},
		"without an image": {
			[]*corev1.Pod{pod("a-1", func(p *corev1.Pod) {
				p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "init", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "not found"}}}}
			})},
			[]string{"pod a-1 on node-1, container init: ErrImagePull: not found"},
		},
		"not answering its probe": {
			[]*corev1.Pod{pod("a-1", func(p *corev1.Pod) {
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
			})},
			[]string{"pod a-1 on node-1, container main: runs, but its readiness probe does not pass (0 restarts)"},
		},
		"many": {
			[]*corev1.Pod{pod("a-1", func(*corev1.Pod) {}), pod("a-2", func(*corev1.Pod) {}), pod("a-3", func(*corev1.Pod) {}), pod("a-4", func(*corev1.Pod) {}), pod("a-5", func(*corev1.Pod) {}),
				pod("a-0", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })},
			[]string{"pod a-1 on node-1 is Pending", "pod a-2 on node-1 is Pending", "pod a-3 on node-1 is Pending", "and 2 more pods"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clients := fake.NewClientset(&appsv1.Deployment{
				ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "n"},
				Spec:       appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}},
			})
			for _, p := range c.pods {
				_, err := clients.CoreV1().Pods("n").Create(t.Context(), p, metav1.CreateOptions{})
				require.NoError(t, err)
			}
			got := diagnosis{clients}.details(t.Context(), Unready{Kind: "Deployment", Namespace: "n", Name: "a"})
			assert.Equal(t, c.want, got)
		})
	}
}

// Where no pod was made, the reason stands in the events of who makes them, the newest first.
func TestDiagnosisOfMissingPods(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"app": "a"}
	event := func(name, message string, age time.Duration) *corev1.Event {
		return &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n"}, Type: corev1.EventTypeWarning, Reason: "FailedCreate", Message: message,
			InvolvedObject: corev1.ObjectReference{Kind: "ReplicaSet", Name: "a-1"}, LastTimestamp: metav1.NewTime(time.Unix(1_000_000, 0).Add(-age)),
		}
	}
	clients := fake.NewClientset(
		&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "n"}, Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}}},
		&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "a-1", Namespace: "n", Labels: labels}},
		event("1", "older", time.Hour), event("2", "violates PodSecurity", 0))
	got := diagnosis{clients}.details(t.Context(), Unready{Kind: "Deployment", Namespace: "n", Name: "a"})
	// the fake API does not know field selectors: the Deployment's own (none) come back as well
	assert.Contains(t, got, "event: FailedCreate: violates PodSecurity")
	assert.Empty(t, diagnosis{clients}.details(t.Context(), Unready{Kind: "Deployment", Namespace: "other", Name: "gone"}))
}
