package flow

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// writer is a pod that prints numbered lines: MARKER NUMBER PADDING.
type writer struct {
	name, node string
	lines      int
}

// script prints LINES lines at RATE a second by the machine's clock: what a busy processor held up is made up for.
const script = `
hundredths() { read -r up rest </proc/uptime; now=${up%.*}${up#*.}; }
hundredths; start=$now; n=0
while [ $n -lt $LINES ]; do
  hundredths
  want=$(( (now - start) * RATE / 100 ))
  [ $want -le $LINES ] || want=$LINES
  while [ $n -lt $want ]; do n=$((n+1)); echo "$MARKER $n $PADDING"; done
  sleep 0.1
done
`

// padding makes lines as long as those of a web server's access log.
const padding = "GET /api/v1/orders/4711/items?limit=50 200 1532 0.021 curl/8.14.1 0123456789abcdef0123456789abcdef"

// images with a shell that the platform brings to every node, the best first.
func images() []string {
	return []string{"docker.io/library/busybox:", "registry.k8s.io/e2e-test-images/agnhost:", "docker.io/prom/prometheus:"}
}

// shell finds an image with a shell that a node has.
func shell(n *corev1.Node) (string, error) {
	for _, want := range images() {
		for _, image := range n.Status.Images {
			for _, name := range image.Names {
				if strings.HasPrefix(name, want) && !strings.Contains(name, "@") {
					return name, nil
				}
			}
		}
	}
	return "", fmt.Errorf("%s has no image with a shell, expected one of %s", n.Name, strings.Join(images(), ", "))
}

// writers are at most two, on the first and on the last node, so that there is more than one agent and more than one stream.
func makeWriters(nodes []string, o Options) []writer {
	if len(nodes) > 2 {
		nodes = []string{nodes[0], nodes[len(nodes)-1]}
	}
	total := int(float64(o.Rate) * o.Duration.Seconds())
	var out []writer
	for i, n := range nodes {
		out = append(out, writer{name: fmt.Sprintf("writer-%d", i), node: n, lines: total / len(nodes)})
	}
	return out
}

// account is the writers' service account.
const account = "writer"

func makeNamespace(ctx context.Context, api kubernetes.Interface, name string) error {
	_, err := api.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		"pod-security.kubernetes.io/enforce": "restricted",
	}}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	// the controller makes "default" some time later, on a busy cluster much later, and no pod is let in before
	_, err = api.CoreV1().ServiceAccounts(name).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{})
	return err
}

func (w writer) start(ctx context.Context, api kubernetes.Interface, namespace string, rate int) error {
	node, err := api.CoreV1().Nodes().Get(ctx, w.node, metav1.GetOptions{})
	if err != nil {
		return err
	}
	image, err := shell(node)
	if err != nil {
		return err
	}
	yes, no, uid := true, false, int64(65532)
	_, err = api.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: w.name},
		Spec: corev1.PodSpec{
			ServiceAccountName: account, AutomountServiceAccountToken: &no,
			NodeName: w.node, RestartPolicy: corev1.RestartPolicyNever, EnableServiceLinks: &no,
			TerminationGracePeriodSeconds: new(int64),
			Tolerations:                   []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: &yes, RunAsUser: &uid, RunAsGroup: &uid,
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "writer", Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
				Command: []string{"sh", "-c", script},
				Env: []corev1.EnvVar{
					{Name: "MARKER", Value: namespace},
					{Name: "RATE", Value: fmt.Sprint(rate)},
					{Name: "LINES", Value: fmt.Sprint(w.lines)},
					{Name: "PADDING", Value: padding},
				},
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("16Mi")},
					Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("32Mi")},
				},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}, metav1.CreateOptions{})
	return err
}

// await waits until every writer is in a phase that is wanted. One that failed is an error.
func (f *Flow) await(ctx context.Context, within time.Duration, phases ...corev1.PodPhase) error {
	var last string
	err := wait.PollUntilContextTimeout(ctx, time.Second, within, true, func(ctx context.Context) (bool, error) {
		pods, err := f.workload().CoreV1().Pods(f.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			last = err.Error()
			return false, nil //nolint:nilerr // asked again
		}
		arrived := 0
		for _, p := range pods.Items {
			last = fmt.Sprintf("%s is %s", p.Name, p.Status.Phase)
			if p.Status.Phase == corev1.PodFailed {
				return false, fmt.Errorf("%s failed: %s %s", p.Name, p.Status.Reason, p.Status.Message)
			}
			for _, want := range phases {
				if p.Status.Phase == want {
					arrived++
				}
			}
		}
		return arrived == len(f.writers), nil
	})
	if err != nil {
		return fmt.Errorf("the writers are not %v after %s (%s): %w", phases, within, last, err)
	}
	return nil
}
